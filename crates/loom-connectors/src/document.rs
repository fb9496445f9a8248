//! A document and the files beside it, with the references between them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use loom_expression::Value;

use crate::{
    Error,
    bounds::{DOCUMENT_BYTES_MAX, FILES_MAX, REFERENCES_MAX},
};

/// Reads the files beside a document.
pub trait Files: Send + Sync {
    /// The bytes of a file, at most `bytes_max`. `name` is relative to the directory of the document, with `/` between its
    /// parts and without `..`; the implementation must not follow links that lead out of the directory.
    ///
    /// # Errors
    /// Why the file cannot be read, as the end of a sentence: `cannot be read: …`.
    fn read(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, String>;
}

/// No files: every reference to one is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: usize) -> Result<Vec<u8>, String> {
        Err("leads to another file, and none is available".to_owned())
    }
}

/// A document with the files that its references have led to so far.
pub(crate) struct Document {
    root: Value,
    files: Arc<dyn Files>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    values: BTreeMap<Arc<str>, Value>,
    bytes: usize,
}

/// A part of a document, and the file that it is in. References in it are relative to that file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// `None` for the document itself.
    file: Option<Arc<str>>,
}

impl Node {
    /// A value that is not in a file, without references.
    pub(crate) fn made(value: Value) -> Node {
        Node { value, file: None }
    }

    /// Another part of the same file.
    pub(crate) fn beside(&self, value: &Value) -> Node {
        Node { value: value.clone(), file: self.file.clone() }
    }

    /// A property, unless it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<Node> {
        self.value.get(name).filter(|value| !value.is_null()).map(|value| self.beside(value))
    }

    /// A property that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// Whether a property is `true`, or the string `true`, as some documents have it.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(is_true)
    }

    /// The items of a property that is an array; none when it is not.
    pub(crate) fn items(&self, name: &str) -> Vec<Node> {
        let items = self.value.get(name).and_then(Value::as_array);
        items.into_iter().flatten().map(|item| self.beside(item)).collect()
    }

    /// The strings in a property that is an array.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let items = self.value.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

pub(crate) fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").finish_non_exhaustive()
    }
}

impl Document {
    pub(crate) fn new(root: Value, files: Arc<dyn Files>) -> Document {
        Document { root, files, read: Mutex::default() }
    }

    pub(crate) fn root(&self) -> Node {
        Node { value: self.root.clone(), file: None }
    }

    /// Follows the references of a node until it has none.
    pub(crate) fn resolve(&self, node: Node) -> Result<Node, Error> {
        let mut node = node;
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = node.text("$ref") else { return Ok(node) };
            node = self.target(reference, node.file.as_ref())?;
        }
        let reference = node.text("$ref").unwrap_or_default().to_owned();
        if reference.is_empty() {
            return Ok(node);
        }
        Err(Error::Reference { reference, reason: "is circular".to_owned() })
    }

    fn target(&self, reference: &str, from: Option<&Arc<str>>) -> Result<Node, Error> {
        let wrong =
            |reason: &str| Error::Reference { reference: reference.to_owned(), reason: reason.to_owned() };
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let file = match file {
            "" => from.cloned(),
            file => Some(beside(file, from.map(|from| &**from)).map_err(wrong)?.into()),
        };
        let whole = match &file {
            None => self.root.clone(),
            Some(name) => self.file(name, reference)?,
        };
        let mut value = &whole;
        let pointer = unescaped(pointer);
        for step in pointer.split('/').skip(1) {
            let name = step.replace("~1", "/").replace("~0", "~");
            let next = value.get(&name).or_else(|| value.index(name.parse().ok()?));
            value = next.ok_or_else(|| wrong("leads nowhere"))?;
        }
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(wrong("must have a JSON pointer after `#`, such as `#/definitions/Name`"));
        }
        Ok(Node { value: value.clone(), file })
    }

    fn file(&self, name: &Arc<str>, reference: &str) -> Result<Value, Error> {
        let wrong = |reason: String| Error::Reference { reference: reference.to_owned(), reason };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = read.values.get(name) {
            return Ok(value.clone());
        }
        if read.values.len() >= FILES_MAX {
            return Err(Error::TooLarge { what: "files that references lead to", limit: FILES_MAX });
        }
        let left = DOCUMENT_BYTES_MAX.saturating_sub(read.bytes);
        let bytes = self.files.read(name, left).map_err(wrong)?;
        if bytes.len() > left {
            return Err(Error::TooLarge { what: "bytes of the files beside it", limit: DOCUMENT_BYTES_MAX });
        }
        let value = parse(&bytes, name)?;
        read.bytes += bytes.len();
        read.values.insert(Arc::clone(name), value.clone());
        Ok(value)
    }
}

/// Reads the JSON of a document.
pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Value, Error> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::TooLarge { what: "bytes", limit: DOCUMENT_BYTES_MAX });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // As lenient as the service, because published descriptions have trailing commas and line breaks in strings.
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => Value::read_json(text),
        Err(_) => Value::parse_json(bytes),
    };
    read.map_err(|error| Error::Json { file: file.to_owned(), reason: error.to_string() })
}

/// The name of a file that a reference leads to, relative to the directory of the document.
fn beside(reference: &str, from: Option<&str>) -> Result<String, &'static str> {
    const OUTSIDE: &str =
        "leads out of the document's directory; only files in it or below can be referred to";
    let name = unescaped(reference);
    let first = name.split('/').next().unwrap_or_default();
    if first.contains(':') || name.starts_with("//") {
        return Err("is an address; only files beside the document can be referred to");
    }
    if name.starts_with('/') || name.contains('\\') || name.contains('\0') {
        return Err(OUTSIDE);
    }
    let directory = from.and_then(|from| from.rsplit_once('/')).map_or("", |(directory, _)| directory);
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            // Every step up is refused, even one that would stay inside, so that no link can make it lead out.
            ".." => return Err(OUTSIDE),
            part if part.contains(':') => return Err(OUTSIDE),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("names no file");
    }
    Ok(parts.join("/"))
}

/// Undoes percent-encoding; what is not UTF-8 afterwards stays as it was.
fn unescaped(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        if let Some(decoded) =
            digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| byte == b'%')
        {
            out.push(decoded);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests;
