//! Objects to XML and back: `@name` for attributes, `#text` for text, `?xml` for the declaration, arrays for
//! repeated elements.

use std::{collections::HashMap, fmt::Write as _};

use roxmltree::{Document, Node, NodeType};

use super::{escaped, qualified_name, unescaped};
use crate::{Array, Object, Value, ValueRef};

/// An object with one root property as XML text.
///
/// # Errors
/// Why there is no XML for it, as the end of a sentence.
pub(crate) fn from_object(object: &Object) -> Result<String, String> {
    let mut text = String::new();
    let mut roots = 0;
    for (name, value) in object {
        if &**name == "?xml" {
            text.push_str("<?xml");
            for (attribute, value) in value.as_object().into_iter().flatten() {
                let attribute = attribute.strip_prefix('@').unwrap_or(attribute);
                let _ = write!(text, " {attribute}=\"{}\"", escaped(&plain(value), true));
            }
            text.push_str("?>");
            continue;
        }
        roots += 1;
        if value.as_array().is_some() {
            return Err(format!("the root property '{name}' is an array, which would give several roots"));
        }
        if name.starts_with(['@', '#', '?']) {
            return Err(format!("'{name}' cannot be the root element"));
        }
        element(name, value, &mut text)?;
    }
    match roots {
        1 => Ok(text),
        0 => Err("the object has no root property".to_owned()),
        _ => Err("the object has more than one root property".to_owned()),
    }
}

/// A plain value's JSON text without quotes.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => String::new(),
        None => value.to_json_text(),
    }
}

fn element(name: &str, value: &Value, out: &mut String) -> Result<(), String> {
    let name = encoded_name(name);
    match value.as_ref() {
        ValueRef::Null => {
            let _ = write!(out, "<{name} />");
        }
        ValueRef::Object(object) => {
            out.push('<');
            out.push_str(&name);
            let mut content = String::new();
            for (key, value) in object {
                if let Some(attribute) = key.strip_prefix('@') {
                    let attribute = encoded_name(attribute);
                    let _ = write!(out, " {attribute}=\"{}\"", escaped(&plain(value), true));
                    continue;
                }
                match value.as_array() {
                    Some(items) => members(key, items, &mut content)?,
                    None => member(key, value, &mut content)?,
                }
            }
            if content.is_empty() {
                out.push_str(" />");
            } else {
                let _ = write!(out, ">{content}</{name}>");
            }
        }
        ValueRef::Array(items) => members(&name, items, out)?,
        _ => {
            let _ = write!(out, "<{name}>{}</{name}>", escaped(&plain(value), false));
        }
    }
    Ok(())
}

fn members(key: &str, items: &Array, out: &mut String) -> Result<(), String> {
    items.iter().try_for_each(|item| member(key, item, out))
}

fn member(key: &str, value: &Value, out: &mut String) -> Result<(), String> {
    match key {
        "#text" | "#significant-whitespace" | "#whitespace" => out.push_str(&escaped(&plain(value), false)),
        "#cdata-section" => {
            out.push_str("<![CDATA[");
            // The end mark cannot stand inside a section, so it is split over two.
            out.push_str(&plain(value).replace("]]>", "]]]]><![CDATA[>"));
            out.push_str("]]>");
        }
        "#comment" => {
            let _ = write!(out, "<!--{}-->", plain(value).replace("--", "- -"));
        }
        _ if key.starts_with('#') => return Err(format!("there is no XML for the property '{key}'")),
        _ if key.starts_with('?') => {
            let _ = write!(out, "<{key} {}?>", plain(value).replace("?>", ""));
        }
        _ => element(key, value, out)?,
    }
    Ok(())
}

/// A name with the characters that XML names cannot have written as `_xHHHH_`.
pub(crate) fn encoded_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.chars().enumerate() {
        let starts = c.is_alphabetic() || c == '_' || c == ':';
        if starts || (at > 0 && (c.is_alphanumeric() || matches!(c, '-' | '.' | '\u{b7}'))) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "_x{unit:04X}_");
            }
        }
    }
    out
}

/// A name with `_xHHHH_` put back.
pub(crate) fn decoded_name(name: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let escape = rest
            .strip_prefix("_x")
            .and_then(|tail| Some((tail.get(..4)?, tail.get(4..)?.strip_prefix('_')?)))
            .and_then(|(digits, after)| Some((u16::from_str_radix(digits, 16).ok()?, after)));
        if let Some((unit, after)) = escape {
            units.push(unit);
            rest = after;
        } else if let Some(c) = rest.chars().next() {
            units.extend(c.encode_utf16(&mut [0; 2]).iter());
            rest = &rest[c.len_utf8()..];
        }
    }
    String::from_utf16_lossy(&units)
}

/// A document as an object: the declaration, if there is one, and the root element.
pub(crate) fn to_object(document: &Document<'_>) -> Value {
    let mut object = Object::new();
    if let Some(declaration) = declaration(document.input_text()) {
        object.insert("?xml", declaration);
    }
    let mut groups = Groups::default();
    for child in document.root().children() {
        groups.put(child);
    }
    groups.finish(&mut object);
    Value::from(object)
}

fn declaration(text: &str) -> Option<Object> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let inside = text.strip_prefix("<?xml")?.split_once("?>")?.0;
    Some(raw_attributes(inside).into_iter().map(|(name, value)| (format!("@{name}"), value)).collect())
}

/// Names and values of attributes as they stand in a tag.
fn raw_attributes(mut text: &str) -> Vec<(&str, String)> {
    let mut attributes = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let rest = rest.trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            break;
        };
        let Some((value, after)) = rest[1..].split_once(quote) else {
            break;
        };
        attributes.push((name.trim(), unescaped(value).unwrap_or_else(|| value.to_owned())));
        text = after;
    }
    attributes
}

/// What stands in an element (or a document), grouped by name in order of first appearance.
#[derive(Default)]
struct Groups {
    names: HashMap<String, usize>,
    groups: Vec<(String, Vec<Value>)>,
}

impl Groups {
    fn put(&mut self, node: Node<'_, '_>) {
        let (name, value) = match node.node_type() {
            NodeType::Element => (decoded_name(qualified_name(node)), content(node)),
            NodeType::Text => {
                let text = node.text().unwrap_or_default();
                let source = node.document().input_text().get(node.range()).unwrap_or_default();
                let section = is_section(source);
                if text.trim().is_empty() && !section {
                    return;
                }
                let name = if section { "#cdata-section" } else { "#text" };
                (name.to_owned(), Value::from(text))
            }
            NodeType::PI => {
                let Some(pi) = node.pi() else { return };
                (format!("?{}", pi.target), Value::from(pi.value.unwrap_or_default()))
            }
            NodeType::Comment | NodeType::Root => return,
        };
        let at = *self.names.entry(name).or_insert_with_key(|name| {
            self.groups.push((name.clone(), Vec::new()));
            self.groups.len() - 1
        });
        self.groups[at].1.push(value);
    }

    /// Adds the groups to an object; a name that came more than once makes an array.
    fn finish(self, object: &mut Object) {
        object.extend(self.groups.into_iter().map(|(name, mut values)| {
            let value =
                if values.len() == 1 { values.pop().unwrap_or_default() } else { Value::from(values) };
            (name, value)
        }));
    }
}

/// Whether the text is one CDATA section, or several with nothing between. Text beside a section joins with it.
fn is_section(source: &str) -> bool {
    source.starts_with("<![CDATA[")
        && source.ends_with("]]>")
        && source.split("]]>").all(|part| part.is_empty() || part.starts_with("<![CDATA["))
}

fn content(node: Node<'_, '_>) -> Value {
    let mut object = Object::new();
    let source = node.document().input_text();
    let name = qualified_name(node);
    let tag = source.get(node.range().start + 1 + name.len()..).unwrap_or_default();
    for (attribute, value) in raw_attributes(tag_inside(tag)) {
        object.insert(format!("@{}", decoded_name(attribute)), value);
    }
    let plain = object.is_empty();
    let mut groups = Groups::default();
    for child in node.children() {
        groups.put(child);
    }
    groups.finish(&mut object);
    match (plain, object.len(), object.get("#text")) {
        (true, 0, _) => Value::NULL,
        (true, 1, Some(text)) if text.as_str().is_some() => text.clone(),
        _ => Value::from(object),
    }
}

/// The tag up to its `>`, which may also stand inside quotes.
fn tag_inside(tag: &str) -> &str {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, b'>') => return &tag[..at],
            _ => {}
        }
    }
    tag
}
