//! Reading case files.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use loom_actions::Project;
use loom_definition::text::{self, Limits, Node};
use loom_expression::{JsonError, Object, Value};

/// The cases of one file.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// The path of the file, as it was given.
    pub name: String,
    /// Its directory; `definitionFile` is relative to this.
    pub directory: PathBuf,
    /// Its cases, in order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its id, or `#` and its position in the file, from 1.
    pub id: String,
    /// The line at which it begins, from 1, if known.
    pub line: Option<usize>,
    /// Its purpose.
    pub note: Option<String>,
    /// Whether its expectation is inferred, not documented.
    pub inferred: bool,
    /// What it tests.
    pub body: Body,
}

/// What a case tests.
#[derive(Clone, Debug)]
pub enum Body {
    /// An expression: the case itself, with `expression`, `context` and an expectation.
    Expression(Object),
    /// A workflow: the case itself.
    Workflow(Object),
    /// Neither, with the reason.
    Unreadable(String),
}

/// Why a file contains no cases.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The file is not JSON.
    #[error("{path} is not valid JSON")]
    NotJson {
        /// The file.
        path: String,
        /// The position and cause.
        source: JsonError,
    },
    /// The file is JSON, but has no cases.
    #[error("{path} must contain an array of cases, or an object with an array `cases`")]
    NoCases {
        /// The file.
        path: String,
    },
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ReadError`]. An invalid case is not an error here; it fails when it is run.
    pub fn read(path: &Path) -> Result<CaseFile, ReadError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| ReadError::Unreadable { path: name.clone(), source })?;
        let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
        CaseFile::parse(&bytes, name, directory)
    }

    /// Parses the contents of a file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse(bytes: &[u8], name: String, directory: PathBuf) -> Result<CaseFile, ReadError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let value =
            Value::parse_json(bytes).map_err(|source| ReadError::NotJson { path: name.clone(), source })?;
        CaseFile::of(&value, name, directory)
    }

    /// The cases of a file that has been parsed.
    ///
    /// # Errors
    /// [`ReadError::NoCases`].
    pub fn of(value: &Value, name: String, directory: PathBuf) -> Result<CaseFile, ReadError> {
        let list = value.as_array().or_else(|| value.get("cases").and_then(Value::as_array));
        let Some(list) = list else { return Err(ReadError::NoCases { path: name }) };
        let cases = list.iter().enumerate().map(|(index, case)| read_case(index, case)).collect();
        Ok(CaseFile { name, directory, cases })
    }

    /// The directories of the projects that contain the definitions of its cases.
    pub fn projects(&self) -> BTreeSet<PathBuf> {
        let files = self.cases.iter().filter_map(|case| match &case.body {
            Body::Workflow(case) => case.get("definitionFile").and_then(Value::as_str),
            Body::Expression(_) | Body::Unreadable(_) => None,
        });
        files.filter_map(|file| Project::directory_of(&self.directory.join(file))).collect()
    }

    /// Sets the line at which each case begins, given the contents of the file.
    #[must_use]
    pub fn with_lines(mut self, bytes: &[u8]) -> CaseFile {
        let Ok(source) = text::decode(bytes) else { return self };
        let limits = Limits { bytes: usize::MAX, ..Limits::default() };
        let Ok(read) = text::read(&source, &limits) else { return self };
        let list = read.root.items().or_else(|| read.root.get("cases").and_then(Node::items));
        let (mut from, mut line) = (0, 1);
        // In file order, so that no part of the text is counted twice.
        for (case, node) in self.cases.iter_mut().zip(list.unwrap_or_default()) {
            let begin = node.place.range().start;
            line += source[from..begin].bytes().filter(|byte| *byte == b'\n').count();
            from = begin;
            case.line = Some(line);
        }
        self
    }
}

fn read_case(index: usize, case: &Value) -> Case {
    let member = |name: &str| case.get(name).and_then(Value::as_str).map(str::to_owned);
    let body = match case.as_object() {
        None => Body::Unreadable("a case must be an object".to_owned()),
        Some(object) if object.contains_key("expression") => Body::Expression(object.clone()),
        Some(object) if object.contains_key("definition") || object.contains_key("definitionFile") => {
            Body::Workflow(object.clone())
        }
        Some(_) => {
            let why =
                "a case must have `definition` or `definitionFile` (to test a workflow), or `expression`";
            Body::Unreadable(why.to_owned())
        }
    };
    Case {
        id: member("id").unwrap_or_else(|| format!("#{}", index + 1)),
        line: None,
        note: member("why").or_else(|| member("note")),
        inferred: member("confidence").as_deref() == Some("inferred"),
        body,
    }
}
