//! Reads the inputs that arguments name: files, directories, standard input, JSON.

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

/// The maximum nesting depth of JSON.
const DEPTH_MAX: usize = 200;

/// Files of a project that are not definitions.
const NOT_DEFINITIONS: [&str; 8] = [
    "parameters.json",
    "connections.json",
    "local.settings.json",
    "host.json",
    "resilience.json",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
];

/// What a JSON file in a directory of workflows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A definition, or meant to be one.
    Definition,
    /// Another file that belongs beside definitions: settings, parameters of a template, test cases.
    Companion,
    /// Neither. It is skipped, which the user must learn: it may be a definition with a misspelt property.
    Unknown,
}

/// Directories that do not contain the user's own files.
const FOREIGN: [&str; 2] = ["node_modules", "target"];

/// Reads the bytes of a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_stdin();
    }
    if path.is_dir() {
        bail!("{} is a directory, expected a file", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Warns if every user of this machine can read a file with a key or a token. Access by the group may be intended.
pub(crate) fn warn_if_others_can_read(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS_READ: u32 = 0o004;
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & OTHERS_READ != 0) {
            eprintln!(
                "loom: warning: every user of this machine can read {0}; run `chmod 600 {0}`",
                path.display()
            );
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// The path from which a workflow gets its name. `workflow.json` is named after its directory, also if the path does not contain
/// the directory, as after `cd orders`.
pub(crate) fn naming_path(path: &Path) -> PathBuf {
    let named = path.parent().is_some_and(|parent| parent.file_name().is_some());
    let is_standard = path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("workflow.json"));
    if named || !is_standard {
        return path.to_path_buf();
    }
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether a file exists. It is an error if this cannot be determined.
pub(crate) fn there_is(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot access {}", path.display())),
    }
}

/// Fails early if a file cannot be read.
pub(crate) fn readable(path: &Path) -> Result<()> {
    fs::File::open(path).with_context(|| format!("cannot read {}", path.display())).map(drop)
}

/// Reads all of standard input.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}

/// Reads a text file, without its byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    let text = text::decode(&bytes).with_context(|| format!("{} is not a text file", path.display()))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Reads a JSON file; `-` is standard input.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    parse_json(&name, &read(path)?)
}

/// Parses JSON as leniently as definitions: a byte order mark, UTF-16, comments and trailing commas are accepted.
pub(crate) fn parse_json(name: &str, bytes: &[u8]) -> Result<Value> {
    let source = text::decode(bytes).with_context(|| format!("{name} is not a text file"))?;
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

/// Explains why a string is not JSON, with its line and a caret under the position.
pub(crate) fn not_json(name: &str, source: &str) -> Error {
    match text::read(source, &limits()) {
        Err(error) => shown(name, source, *error),
        Ok(_) => anyhow!("{name} is not strict JSON: comments and trailing commas are not allowed here"),
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
    anyhow!("{name} is not valid JSON: {}\n{place}", error.message)
}

/// Reads the value of `--input`: JSON, `@file` or `-` for standard input.
pub(crate) fn read_input(argument: &str) -> Result<Value> {
    read_argument("--input", argument)
}

/// Like [`read_input`], for another option.
pub(crate) fn read_argument(option: &str, argument: &str) -> Result<Value> {
    if let Some(path) = argument.strip_prefix('@') {
        return read_json(Path::new(path));
    }
    if argument == "-" {
        return read_json(Path::new("-"));
    }
    parse_json(option, argument.as_bytes()).map_err(|error| {
        if Path::new(argument).is_file() {
            anyhow!("{error:#}\n  = help: use `{option} @{argument}` to read the file")
        } else {
            // The reader's own hint about a bare word says the same.
            let known = if error.to_string().contains("double quotes") {
                ""
            } else {
                "a string needs double quotes inside the shell's quotes; "
            };
            anyhow!("{error:#}\n  = help: {known}use `{option} @FILE` to read a file")
        }
    })
}

/// Expands arguments to files: each directory is replaced with the files below it, at any depth, that `chosen` accepts.
///
/// # Errors
/// If a directory cannot be read or has no such file.
pub(crate) fn meant(
    named: &[PathBuf],
    what: &str,
    mut chosen: impl FnMut(&Path, &[u8]) -> bool,
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
            bail!("no {what} found in {}", path.display());
        }
        files.extend(found);
    }
    Ok(files)
}

/// Collects all `*.json` below a directory, except hidden files and [`FOREIGN`] directories.
fn below(directory: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = if directory == Path::new(".") { PathBuf::from(&*name) } else { entry.path() };
        // Symbolic links to directories are not followed: they could form a cycle.
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.starts_with('.') || (is_directory && FOREIGN.contains(&&*name)) {
            continue;
        }
        if is_directory {
            below(&path, found)?;
        } else if is_json(&path) {
            found.insert(path);
        }
    }
    Ok(())
}

/// Whether a file is JSON by its name and is not one of a project's other files.
pub(crate) fn may_be_a_definition(path: &Path) -> bool {
    is_json(path) && !NOT_DEFINITIONS.iter().any(|name| path.ends_with(name))
}

/// The files of a directory of workflows that may be definitions: `*.json` and `NAME/workflow.json`.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn workflows_in(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let unread = || format!("cannot read {}", directory.display());
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.is_dir() {
            let inner = path.join("workflow.json");
            if there_is(&inner)? {
                found.insert(inner);
            }
        } else if may_be_a_definition(&path) {
            found.insert(path);
        }
    }
    Ok(found)
}

/// The role of a file in a directory of workflows. A `workflow.json` is a definition, whatever it contains.
pub(crate) fn role(path: &Path, bytes: &[u8]) -> Role {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !may_be_a_definition(path) {
        Role::Companion
    } else if name == "workflow.json" || looks_like_a_definition(bytes) {
        Role::Definition
    } else if name.ends_with(".parameters.json") || looks_like_cases(path, bytes) {
        Role::Companion
    } else {
        Role::Unknown
    }
}

/// Reports a file of [`Role::Unknown`].
pub(crate) fn report_skipped(path: &Path) {
    eprintln!(
        "loom: skipped {}: it is not a definition (it has none of `definition`, `actions`, `triggers` and `resources`)",
        path.display()
    );
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Whether JSON in a directory is meant to be a workflow. Invalid JSON is, so that its error is reported.
fn looks_like_a_definition(bytes: &[u8]) -> bool {
    let Some(value) = leniently(bytes) else { return true };
    let has = |value: &Value| {
        ["definition", "actions", "triggers", "resources"].iter().any(|name| value.get(name).is_some())
    };
    has(&value) || value.get("properties").is_some_and(has)
}

/// Whether JSON in a directory is meant to be test cases. A file named `*.test.json` is, whatever it contains.
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
