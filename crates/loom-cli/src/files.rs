//! Reading what arguments name: files, standard input, JSON.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use loom_expression::Value;

/// The bytes of a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_stdin();
    }
    if path.is_dir() {
        bail!("{} is a folder, and a file is wanted", path.display());
    }
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// Says early that a file cannot be read.
pub(crate) fn readable(path: &Path) -> Result<()> {
    fs::File::open(path).with_context(|| format!("could not read {}", path.display())).map(drop)
}

/// All of standard input.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("could not read standard input")?;
    Ok(bytes)
}

/// A file of JSON.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let bytes = read(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Value::parse_json(bytes).map_err(|error| anyhow!("{} is not JSON: {error}", path.display()))
}

/// The value of an argument: JSON text, `@file` or `-` for standard input.
pub(crate) fn read_input(argument: &str) -> Result<Value> {
    if let Some(path) = argument.strip_prefix('@') {
        return read_json(Path::new(path));
    }
    if argument == "-" {
        return read_json(Path::new("-"));
    }
    Value::from_json_str(argument).map_err(|error| {
        anyhow!("--input is not JSON: {error}; texts need quotes of their own, and `@file` reads a file")
    })
}
