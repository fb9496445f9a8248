//! The index of a description's operations: their names, methods and paths.

use std::{fmt, sync::Arc};

use crate::{
    Error,
    bounds::OPERATIONS_MAX,
    document::{Document, Node},
    error::kind_of,
};

/// One operation in the index.
pub struct Entry {
    id: String,
    method: &'static str,
    path: Arc<str>,
    pub(crate) item: Node,
    pub(crate) node: Node,
}

/// An operation that a method and a path lead to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Matched {
    /// The operation's name.
    pub operation: String,
    /// The values in the path, as they were written: still encoded.
    pub arguments: Vec<(String, String)>,
}

/// The methods of a path, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl Entry {
    /// The operation's name: its `operationId`, or the method and the path when it has none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The method, in upper case.
    pub fn method(&self) -> String {
        self.method.to_ascii_uppercase()
    }

    /// The path with `{name}` for its parameters.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A short title; empty when there is none.
    pub fn summary(&self) -> &str {
        self.node.text("summary").unwrap_or_default()
    }

    /// Whether the operation is a trigger.
    pub fn is_trigger(&self) -> bool {
        self.node.get("x-ms-trigger").is_some()
    }

    /// Whether the description hides the operation from authors.
    pub fn is_internal(&self) -> bool {
        crate::schema::is_internal(&self.node)
    }

    pub(crate) fn is_method(&self, method: &str) -> bool {
        self.method.eq_ignore_ascii_case(method)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Lists the operations. Only names are read.
pub(crate) fn index(document: &Document) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let root = document.root();
    let Some(paths) = root.get("paths") else { return Ok(entries) };
    let shape = |found| Error::Shape { place: "paths".to_owned(), expected: "an object", found };
    let all = paths.value.as_object().ok_or_else(|| shape(kind_of(&paths.value).to_owned()))?;
    for (path, item) in all {
        let item = paths.beside(item);
        let item = if item.value.get("$ref").is_some() { document.resolve(item)? } else { item };
        for method in METHODS {
            let Some(node) = item.get(method) else { continue };
            if entries.len() >= OPERATIONS_MAX {
                return Err(Error::TooLarge { what: "operations", limit: OPERATIONS_MAX });
            }
            let id = node.text("operationId").map(str::trim).filter(|id| !id.is_empty());
            let id = id.map_or_else(|| format!("{} {path}", method.to_ascii_uppercase()), str::to_owned);
            entries.push(Entry { id, method, path: Arc::clone(path), item: item.clone(), node });
        }
    }
    Ok(entries)
}

/// The operation that a method and a path below the service's address lead to. A path without parameters takes precedence over one
/// with.
pub(crate) fn find(entries: &[Entry], method: &str, path: &str) -> Option<Matched> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let candidates = entries.iter().filter(|entry| entry.is_method(method));
    candidates
        .filter_map(|entry| Some((entry, matched(&entry.path, path)?)))
        .min_by_key(|(_, arguments)| arguments.len())
        .map(|(entry, arguments)| Matched { operation: entry.id.clone(), arguments })
}

/// The values of a template's parameters, when a path matches it.
fn matched(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let template = template.split('?').next().unwrap_or_default();
    let mut arguments = Vec::new();
    let mut wanted = template.trim_matches('/').split('/');
    let mut found = path.trim_matches('/').split('/');
    loop {
        let (wanted, found) = match (wanted.next(), found.next()) {
            (None, None) => return Some(arguments),
            (Some(wanted), Some(found)) => (wanted, found),
            _ => return None,
        };
        let Some((before, rest)) = wanted.split_once('{') else {
            if wanted.eq_ignore_ascii_case(found) {
                continue;
            }
            return None;
        };
        // A segment has at most one parameter, with text around it.
        let (name, after) = rest.split_once('}')?;
        let value = found.strip_prefix(before)?;
        if after.contains('{') {
            return None;
        }
        let value = value.strip_suffix(after)?;
        if value.is_empty() {
            return None;
        }
        arguments.push((name.to_owned(), value.to_owned()));
    }
}
