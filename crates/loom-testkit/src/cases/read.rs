//! Reading case files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use loom_expression::{JsonError, Object, Value};

/// The cases of one file.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// The file, as it was named.
    pub name: String,
    /// Where it lies; `definitionFile` is relative to this.
    pub folder: PathBuf,
    /// Its cases, in order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its id, or its place in the file.
    pub id: String,
    /// Why it is there.
    pub note: Option<String>,
    /// Whether documentation alone does not settle what it expects.
    pub inferred: bool,
    /// What it is about.
    pub body: Body,
}

/// What a case is about.
#[derive(Clone, Debug)]
pub enum Body {
    /// An expression: the case itself, whose members are `expression`, `context` and what is expected.
    Expression(Object),
    /// A workflow: the case itself.
    Workflow(Object),
    /// It says neither.
    Unreadable(String),
}

/// Why a file holds no cases.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("could not read {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{path} is not JSON")]
    NotJson {
        /// The file.
        path: String,
        /// Where and why.
        source: JsonError,
    },
    /// It is JSON of another form.
    #[error("{path} is neither an array of cases nor an object with `cases`")]
    NoCases {
        /// The file.
        path: String,
    },
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ReadError`]. A case that makes no sense is no error here: it fails when it is played.
    pub fn read(path: &Path) -> Result<CaseFile, ReadError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| ReadError::Unreadable { path: name.clone(), source })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        CaseFile::parse(&bytes, name, folder)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse(bytes: &[u8], name: String, folder: PathBuf) -> Result<CaseFile, ReadError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let value =
            Value::parse_json(bytes).map_err(|source| ReadError::NotJson { path: name.clone(), source })?;
        let list = value.as_array().or_else(|| value.get("cases").and_then(Value::as_array));
        let Some(list) = list else { return Err(ReadError::NoCases { path: name }) };
        let cases = list.iter().enumerate().map(|(index, case)| read_case(index, case)).collect();
        Ok(CaseFile { name, folder, cases })
    }
}

fn read_case(index: usize, case: &Value) -> Case {
    let member = |name: &str| case.get(name).and_then(Value::as_str).map(str::to_owned);
    let body = match case.as_object() {
        None => Body::Unreadable("a case is an object".to_owned()),
        Some(object) if object.contains_key("expression") => Body::Expression(object.clone()),
        Some(object) if object.contains_key("definition") || object.contains_key("definitionFile") => {
            Body::Workflow(object.clone())
        }
        Some(_) => {
            let why = "a case has `definition` or `definitionFile` for a workflow, or `expression`";
            Body::Unreadable(why.to_owned())
        }
    };
    Case {
        id: member("id").unwrap_or_else(|| format!("#{}", index + 1)),
        note: member("why").or_else(|| member("note")),
        inferred: member("confidence").as_deref() == Some("inferred"),
        body,
    }
}
