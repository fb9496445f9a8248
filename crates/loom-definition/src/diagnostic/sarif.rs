//! Writes diagnostics as SARIF 2.1.0, which code hosts and editors display.

use std::fmt::Write;

use loom_expression::{Object, Value};

use super::{Diagnostic, Severity, codes};
use crate::text::position;

/// A file with its diagnostics, for [`sarif`].
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    /// The path or URI to report.
    pub name: &'a str,
    /// The text that the spans refer to.
    pub source: &'a str,
    /// The diagnostics of the file.
    pub diagnostics: &'a [Diagnostic],
}

/// A SARIF 2.1.0 log with one run and one result per diagnostic. Columns count Unicode code points.
pub fn sarif(files: &[SourceFile<'_>]) -> Value {
    let mut used: Vec<&'static str> =
        files.iter().flat_map(|file| file.diagnostics.iter().map(|diagnostic| diagnostic.code)).collect();
    used.sort_unstable();
    used.dedup();
    let rules = used.iter().map(|code| rule(code)).collect::<Vec<_>>();
    let results = files
        .iter()
        .flat_map(|file| file.diagnostics.iter().map(|diagnostic| result(file, diagnostic, &used)))
        .collect::<Vec<_>>();
    let driver = object([
        ("name", Value::from("loom")),
        ("version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("rules", Value::from(rules)),
    ]);
    let run = object([
        ("tool", object([("driver", driver)])),
        ("columnKind", Value::from("unicodeCodePoints")),
        ("results", Value::from(results)),
    ]);
    object([
        ("$schema", Value::from("https://json.schemastore.org/sarif-2.1.0.json")),
        ("version", Value::from("2.1.0")),
        ("runs", Value::from(vec![run])),
    ])
}

fn rule(code: &'static str) -> Value {
    let mut members = vec![("id", Value::from(code))];
    if let Some(info) = codes::explain(code) {
        members.push(("shortDescription", text(info.title)));
        members.push(("fullDescription", text(info.explanation)));
    }
    object(members)
}

fn result(file: &SourceFile<'_>, diagnostic: &Diagnostic, used: &[&'static str]) -> Value {
    let message = match &diagnostic.hint {
        Some(hint) => format!("{} ({hint})", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let rule_index = used.binary_search(&diagnostic.code).unwrap_or(0);
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut place = location(file, &diagnostic.span, None);
    if let Some(object) = place.as_object() {
        let mut object = object.clone();
        let logical = object_value("fullyQualifiedName", Value::from(diagnostic.pointer.as_str()));
        object.insert("logicalLocations", Value::from(vec![logical]));
        place = Value::from(object);
    }
    let mut members = vec![
        ("ruleId", Value::from(diagnostic.code)),
        ("ruleIndex", Value::from(rule_index as i64)),
        ("level", Value::from(level)),
        ("message", text(&message)),
        ("locations", Value::from(vec![place])),
    ];
    if !diagnostic.related.is_empty() {
        let related = diagnostic
            .related
            .iter()
            .map(|(span, label)| location(file, span, Some(label)))
            .collect::<Vec<_>>();
        members.push(("relatedLocations", Value::from(related)));
    }
    object(members)
}

fn location(file: &SourceFile<'_>, span: &std::ops::Range<usize>, label: Option<&str>) -> Value {
    let start = position(file.source, span.start);
    let end = position(file.source, span.end);
    let region = object([
        ("startLine", Value::from(start.line as i64)),
        ("startColumn", Value::from(start.column as i64)),
        ("endLine", Value::from(end.line as i64)),
        ("endColumn", Value::from(end.column as i64)),
        ("byteOffset", Value::from(span.start as i64)),
        ("byteLength", Value::from((span.end.saturating_sub(span.start)) as i64)),
    ]);
    let physical =
        object([("artifactLocation", object_value("uri", Value::from(uri(file.name)))), ("region", region)]);
    let mut members = vec![("physicalLocation", physical)];
    if let Some(label) = label {
        members.push(("message", text(label)));
    }
    object(members)
}

/// A path as a URI reference, percent-encoded where necessary.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'\\' => out.push('/'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte as char),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'+' | b'@' => out.push(byte as char),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

fn text(text: &str) -> Value {
    object_value("text", Value::from(text))
}

fn object_value(name: &str, value: Value) -> Value {
    let mut object = Object::new();
    object.insert(name, value);
    Value::from(object)
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut object = Object::new();
    for (name, value) in members {
        object.insert(name, value);
    }
    Value::from(object)
}
