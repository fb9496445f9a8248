//! Reading what arguments name: files, folders, standard input, JSON.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, anyhow, bail};
use loom_definition::{
    Diagnostic, Severity, render,
    text::{self, Limits},
};
use loom_expression::Value;

/// How deep JSON may nest.
const DEPTH_MAX: usize = 200;

/// Files of a project that are no definitions.
const NOT_DEFINITIONS: [&str; 5] =
    ["parameters.json", "connections.json", "local.settings.json", "host.json", "package.json"];

/// Folders that hold nobody's own files.
const FOREIGN: [&str; 2] = ["node_modules", "target"];

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

/// Says that a file of a key or a token can be read by every user of this machine. A group may be meant to read it.
pub(crate) fn warn_if_others_can_read(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS_READ: u32 = 0o004;
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & OTHERS_READ != 0) {
            eprintln!(
                "loom: warning: {0} can be read by every user of this machine; run `chmod 600 {0}`",
                path.display()
            );
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Whether there is such a file. That it cannot be told is an error, and not a no.
pub(crate) fn there_is(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("could not look for {}", path.display())),
    }
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

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    let text = text::decode(&bytes).with_context(|| format!("{} is not text", path.display()))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// A file of JSON.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    parse_json(&name, &read(path)?)
}

/// JSON, with the liberties that definitions have: a byte order mark, UTF-16, comments, commas before a closing bracket.
pub(crate) fn parse_json(name: &str, bytes: &[u8]) -> Result<Value> {
    let source = text::decode(bytes).with_context(|| format!("{name} is not text"))?;
    if let Ok(value) = Value::from_json_str(&source) {
        return Ok(value);
    }
    text::read(&source, &limits())
        .map(|read| read.root.to_value())
        .map_err(|error| shown(name, &source, *error))
}

pub(crate) fn limits() -> Limits {
    Limits { bytes: usize::MAX, depth: DEPTH_MAX }
}

/// Why a text is not JSON, with its line and a caret under the place.
pub(crate) fn not_json(name: &str, source: &str) -> Error {
    match text::read(source, &limits()) {
        Err(error) => shown(name, source, *error),
        Ok(_) => anyhow!("{name} is not strict JSON: it holds comments, or a comma before a closing bracket"),
    }
}

fn shown(name: &str, source: &str, error: text::ReadError) -> Error {
    let finding = Diagnostic {
        code: "L0003",
        severity: Severity::Error,
        message: String::new(),
        pointer: String::new(),
        span: error.place.range(),
        label: String::new(),
        hint: error.hint,
        related: error.related.into_iter().map(|(place, label)| (place.range(), label)).collect(),
    };
    let place = render(&finding, source, name, false);
    let place = place.split_once('\n').map_or("", |(_, place)| place.trim_end());
    anyhow!("{name} is not JSON: {}\n{place}", error.message)
}

/// The value of an argument: JSON text, `@file` or `-` for standard input.
pub(crate) fn read_input(argument: &str) -> Result<Value> {
    read_argument("--input", argument)
}

/// As [`read_input`], for the option of this name.
pub(crate) fn read_argument(option: &str, argument: &str) -> Result<Value> {
    if let Some(path) = argument.strip_prefix('@') {
        return read_json(Path::new(path));
    }
    if argument == "-" {
        return read_json(Path::new("-"));
    }
    parse_json(option, argument.as_bytes()).map_err(|error| {
        if Path::new(argument).is_file() {
            anyhow!("{error:#}\n  = help: `{option} @{argument}` reads the file")
        } else {
            anyhow!("{error:#}\n  = help: texts need quotes of their own, and `@file` reads a file")
        }
    })
}

/// The files that are meant: those named, and in the place of each folder those in it, at any depth, that `chosen` takes.
///
/// # Errors
/// When a folder cannot be read, or has no such file.
pub(crate) fn meant(
    named: &[PathBuf],
    what: &str,
    chosen: impl Fn(&Path, &[u8]) -> bool,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = BTreeSet::new();
        below(path, &mut found)?;
        found.retain(|file| fs::read(file).is_ok_and(|bytes| chosen(file, &bytes)));
        if found.is_empty() {
            bail!("there is no {what} in {}", path.display());
        }
        files.extend(found);
    }
    Ok(files)
}

/// All `*.json` below a folder. What begins with a dot, and folders of other people's files, are passed over.
fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("could not read {}", folder.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = if folder == Path::new(".") { PathBuf::from(&*name) } else { entry.path() };
        // Links are not followed into folders, so that no circle is walked.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.starts_with('.') || (is_folder && FOREIGN.contains(&&*name)) {
            continue;
        }
        if is_folder {
            below(&path, found)?;
        } else if is_json(&path) {
            found.insert(path);
        }
    }
    Ok(())
}

/// Whether a file is JSON by its name, and none of those that a project keeps beside its definitions.
pub(crate) fn may_be_a_definition(path: &Path) -> bool {
    is_json(path) && !NOT_DEFINITIONS.iter().any(|name| path.ends_with(name))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Whether JSON in a folder is meant to be a workflow. What cannot be read is, so that its mistake is told.
pub(crate) fn looks_like_a_definition(bytes: &[u8]) -> bool {
    let Some(value) = leniently(bytes) else { return true };
    let has = |value: &Value| {
        ["definition", "actions", "triggers", "resources"].iter().any(|name| value.get(name).is_some())
    };
    has(&value) || value.get("properties").is_some_and(has)
}

/// Whether JSON in a folder is meant to be cases for `loom test`. A file that says so in its name is, whatever it holds.
pub(crate) fn looks_like_cases(path: &Path, bytes: &[u8]) -> bool {
    if path.to_string_lossy().to_lowercase().ends_with(".test.json") {
        return true;
    }
    let value = leniently(bytes).unwrap_or_default();
    let cases = value.as_array().or_else(|| value.get("cases").and_then(Value::as_array));
    let is_case = |case: &Value| {
        ["definition", "definitionFile", "expression"].iter().any(|name| case.get(name).is_some())
    };
    cases.is_some_and(|cases| cases.iter().next().is_some_and(is_case))
}

fn leniently(bytes: &[u8]) -> Option<Value> {
    let source: Cow<'_, str> = text::decode(bytes).ok()?;
    Value::from_json_str(&source).ok().or_else(|| Some(text::read(&source, &limits()).ok()?.root.to_value()))
}
