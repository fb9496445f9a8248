//! XML: conversion to and from objects, and XPath.
//!
//! Documents are parsed by `roxmltree`, which limits the expansion of entities and does not load external entities.

mod convert;
pub(crate) mod xpath;

use std::fmt::Write as _;

use roxmltree::{Document, Node, ParsingOptions};

pub(crate) use self::{
    convert::{decoded_name, encoded_name, from_object, to_object},
    xpath::{Evaluated, Found, XPathError, evaluate},
};

/// The content type of XML envelopes.
pub(crate) const CONTENT_TYPE: &str = "application/xml;charset=utf-8";

/// How deeply elements may nest. Recursive functions over documents rely on this limit.
const DEPTH_MAX: usize = 256;

/// The maximum number of nodes in a document.
const NODES_MAX: u32 = 5_000_000;

/// Parses a document.
///
/// # Errors
/// What is wrong, as a clause without a full stop.
pub fn parse(text: &str) -> Result<Document<'_>, String> {
    check_depth(text)?;
    let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    check_nesting(&document)?;
    Ok(document)
}

/// Checks the depth of a parsed document. Unlike [`check_depth`], this includes elements that come from entities.
fn check_nesting(document: &Document<'_>) -> Result<(), String> {
    // Descendants are in document order, each after its parent, so the open elements form a stack.
    let mut open = vec![document.root().id()];
    for node in document.root().descendants().skip(1) {
        let parent = node.parent().map(|parent| parent.id());
        while open.len() > 1 && open.last().copied() != parent {
            open.pop();
        }
        if node.has_children() {
            // The root node is not an element.
            if open.len() > DEPTH_MAX {
                return Err(too_deep());
            }
            open.push(node.id());
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("elements nest deeper than {DEPTH_MAX} levels")
}

/// Checks the depth in the text before parsing, because the parser may recurse: each `<` of an element adds a level, each
/// `</` or `/>` ends one.
fn check_depth(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    let skip =
        |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |found| from + found + end.len());
    while let Some(found) = text[at..].find('<') {
        at += found;
        let rest = &text[at..];
        if rest.starts_with("<!--") {
            at = skip(at, "-->");
        } else if rest.starts_with("<![CDATA[") {
            at = skip(at, "]]>");
        } else if rest.starts_with("<?") {
            at = skip(at, "?>");
        } else if rest.starts_with("<!") {
            at = skip(at, ">");
        } else {
            let closes = rest.starts_with("</");
            let mut quote = None;
            let mut end = at + 1;
            while let Some(&byte) = bytes.get(end) {
                match (quote, byte) {
                    (None, b'"' | b'\'') => quote = Some(byte),
                    (Some(open), byte) if open == byte => quote = None,
                    (None, b'>') => break,
                    _ => {}
                }
                end += 1;
            }
            if closes {
                depth = depth.saturating_sub(1);
            } else if bytes.get(end.saturating_sub(1)) != Some(&b'/') {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(too_deep());
                }
            }
            at = end.min(text.len());
        }
    }
    Ok(())
}

/// The name as written, with its prefix.
fn qualified_name<'i>(node: Node<'_, 'i>) -> &'i str {
    let document = node.document().input_text();
    // The range of an element starts at its `<`.
    let tag = document.get(node.range().start + 1..).unwrap_or_default();
    let end = tag.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).unwrap_or(tag.len());
    // The range of an element that comes from an entity does not point at its tag.
    let name = &tag[..end];
    let local = name.rsplit(':').next().unwrap_or_default();
    if local == node.tag_name().name() { name } else { "" }
}

/// The element as self-contained XML text, in which prefixes that are declared by ancestors are declared again.
fn outer_xml(node: Node<'_, '_>) -> String {
    let source = node.document().input_text();
    if node.is_root() {
        return source.to_owned();
    }
    let text = &source[node.range()];
    let name = qualified_name(node);
    let used = |uri: &str| {
        node.descendants().any(|inner| {
            inner.tag_name().namespace() == Some(uri)
                || inner.attributes().any(|attribute| attribute.namespace() == Some(uri))
        })
    };
    let head = text.split('>').next().unwrap_or_default();
    let mut declared = String::new();
    for namespace in node.namespaces() {
        let attribute = match namespace.name() {
            Some("xml") => continue,
            Some(prefix) => format!("xmlns:{prefix}="),
            None => "xmlns=".to_owned(),
        };
        if !head.contains(&attribute) && used(namespace.uri()) {
            let _ = write!(declared, " {attribute}\"{}\"", escaped(namespace.uri(), true));
        }
    }
    format!("<{name}{declared}{}", &text[1 + name.len()..])
}

/// Escapes the reserved characters of XML in a text as entities.
pub(crate) fn escaped(text: &str, in_attribute: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if in_attribute => out.push_str("&quot;"),
            '\n' if in_attribute => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            '\t' if in_attribute => out.push_str("&#x9;"),
            // Characters that XML cannot represent are dropped.
            c if c.is_control() && !matches!(c, '\n' | '\t' | '\u{7f}'..='\u{9f}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Replaces entities and character references with their characters; `None` if an entity is unknown.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = at + rest[at..].find(';')?;
        match &rest[at + 1..end] {
            "amp" => out.push('&'),
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            reference => {
                let digits = reference.strip_prefix('#')?;
                let code = match digits.strip_prefix(['x', 'X']) {
                    Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                out.push(char::from_u32(code)?);
            }
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests;
