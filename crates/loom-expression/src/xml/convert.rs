//! Converts objects to XML and back, as Json.NET does: `@name` for attributes, `#text` for text, `?xml` for the
//! declaration, arrays for repeated elements.

use std::{collections::HashMap, fmt::Write as _};

use roxmltree::{Document, Node, NodeType};

use super::{escaped, qualified_name, unescaped};
use crate::{Array, Object, Value, ValueRef, value::float_text};

/// The namespace of attributes that control the conversion, such as `json:Array="true"`.
const JSON_NAMESPACE: &str = "http://james.newtonking.com/projects/json";

/// The names of attributes in that namespace that start with `$` in an object.
const JSON_NAMES: [&str; 5] = ["id", "ref", "type", "value", "values"];

/// Converts an object with one root property to XML text.
///
/// # Errors
/// Why it cannot be converted, as a clause without a full stop.
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
        if name.starts_with('?') {
            member(name, value, &mut text)?;
            continue;
        }
        roots += 1;
        if name.starts_with(['@', '#']) {
            return Err(format!("'{name}' cannot be the root element"));
        }
        match value.as_array() {
            Some(items) if items.len() == 1 => element(name, items.first().unwrap_or(value), &mut text)?,
            Some(items) => {
                let count = items.len();
                return Err(format!("the root property '{name}' must have exactly one item (got {count})"));
            }
            None => element(name, value, &mut text)?,
        }
    }
    match roots {
        1 => Ok(text),
        count => Err(format!("the object must have exactly one root property (got {count})")),
    }
}

/// The JSON text of a scalar without quotes, and of a whole float without a decimal point.
fn plain(value: &Value) -> String {
    match value.as_ref() {
        ValueRef::String(text) => text.to_owned(),
        ValueRef::Null => String::new(),
        ValueRef::Float(float) => float_text(float),
        _ => value.to_json_text(),
    }
}

/// Writes an attribute.
///
/// # Errors
/// If the value is an array or an object.
fn attribute(name: &str, value: &Value, out: &mut String) -> Result<(), String> {
    if value.as_array().is_some() || value.as_object().is_some() {
        return Err(format!(
            "the attribute '{name}' must not be an array or an object, found a value of type '{}'",
            value.kind()
        ));
    }
    let _ = write!(out, " {name}=\"{}\"", escaped(&plain(value), true));
    Ok(())
}

/// The name in the JSON namespace that a property such as `$id` stands for.
fn json_name(key: &str) -> Option<&str> {
    key.strip_prefix('$').filter(|name| JSON_NAMES.contains(name))
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
            // Properties such as `$id` become attributes only before the first property that is not an attribute.
            let (mut leading, mut declared) = (true, false);
            for (key, value) in object {
                if let Some(name) = key.strip_prefix('@') {
                    attribute(&encoded_name(name), value, out)?;
                    continue;
                }
                if let Some(name) = json_name(key) {
                    if leading && !declared {
                        declared = true;
                        let _ = write!(out, " xmlns:json=\"{JSON_NAMESPACE}\"");
                    }
                    match value.as_array() {
                        Some(items) => members(&format!("json:{name}"), items, &mut content)?,
                        None if leading => attribute(&format!("json:{name}"), value, out)?,
                        None => attribute(name, value, out)?,
                    }
                    continue;
                }
                leading = false;
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
        // An array inside an array is an element that contains its items.
        ValueRef::Array(items) => {
            let mut content = String::new();
            members(&name, items, &mut content)?;
            if content.is_empty() {
                let _ = write!(out, "<{name} />");
            } else {
                let _ = write!(out, "<{name}>{content}</{name}>");
            }
        }
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
            // A section cannot contain its own end mark, so the mark is split across two sections.
            out.push_str(&plain(value).replace("]]>", "]]]]><![CDATA[>"));
            out.push_str("]]>");
        }
        _ if key.starts_with('?') => {
            let _ = write!(out, "<{key} {}?>", plain(value).replace("?>", ""));
        }
        _ => element(key, value, out)?,
    }
    Ok(())
}

/// Encodes a string as an XML name, with `_xHHHH_` for characters that a name cannot contain.
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

/// Decodes `_xHHHH_` in a name.
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

/// Converts a document to an object with the root element and, if present, the declaration.
pub(crate) fn to_object(document: &Document<'_>) -> Value {
    let mut object = Object::new();
    if let Some(declaration) = declaration(document.input_text()) {
        object.insert("?xml", declaration);
    }
    let mut groups = Groups::default();
    for child in document.root().children() {
        groups.put(child, false);
    }
    groups.finish(&mut object);
    Value::from(object)
}

fn declaration(text: &str) -> Option<Object> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let inside = text.strip_prefix("<?xml")?.split_once("?>")?.0;
    Some(raw_attributes(inside).into_iter().map(|(name, value)| (format!("@{name}"), value)).collect())
}

/// The names and values of the attributes in the text of a tag.
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

/// The content of an element or a document, grouped by name in order of first appearance.
#[derive(Default)]
struct Groups {
    names: HashMap<String, usize>,
    groups: Vec<Group>,
}

struct Group {
    name: String,
    values: Vec<Value>,
    /// Whether the document asks for an array even for one element.
    array: bool,
}

impl Groups {
    /// Adds a node. `preserve` keeps white space between elements.
    fn put(&mut self, node: Node<'_, '_>, preserve: bool) {
        match node.node_type() {
            NodeType::Element => {
                let array =
                    node.attribute((JSON_NAMESPACE, "Array")).is_some_and(|value| value.trim() == "true");
                self.add(decoded_name(qualified_name(node)), content(node, preserve), array);
            }
            NodeType::Text => {
                for (section, text) in texts(node) {
                    if section {
                        self.add("#cdata-section".to_owned(), Value::from(text), false);
                    } else if preserve || !text.trim().is_empty() {
                        self.add("#text".to_owned(), Value::from(text), false);
                    }
                }
            }
            NodeType::PI => {
                let Some(pi) = node.pi() else { return };
                self.add(format!("?{}", pi.target), Value::from(pi.value.unwrap_or_default()), false);
            }
            NodeType::Comment | NodeType::Root => {}
        }
    }

    fn add(&mut self, name: String, value: Value, array: bool) {
        let at = *self.names.entry(name).or_insert_with_key(|name| {
            self.groups.push(Group { name: name.clone(), values: Vec::new(), array: false });
            self.groups.len() - 1
        });
        self.groups[at].values.push(value);
        self.groups[at].array |= array;
    }

    /// Adds the groups to an object. A name that occurred more than once becomes an array.
    fn finish(self, object: &mut Object) {
        object.extend(self.groups.into_iter().map(|Group { name, mut values, array }| {
            let single = values.len() == 1 && !array;
            (name, if single { values.pop().unwrap_or_default() } else { Value::from(values) })
        }));
    }
}

/// The parts of a text node in order, and whether each is a CDATA section. The parser joins text with adjacent sections,
/// so the parts are found in the source text.
fn texts(node: Node<'_, '_>) -> Vec<(bool, String)> {
    let whole = node.text().unwrap_or_default();
    split_texts(node)
        .filter(|parts| {
            let mut rest = whole;
            parts.iter().all(|(_, part)| match rest.strip_prefix(part.as_str()) {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            }) && rest.is_empty()
        })
        // Text that comes from an entity cannot be found in the source text.
        .unwrap_or_else(|| vec![(false, whole.to_owned())])
}

fn split_texts(node: Node<'_, '_>) -> Option<Vec<(bool, String)>> {
    let source = node.document().input_text();
    let end = if let Some(next) = node.next_sibling() {
        next.range().start
    } else {
        let parent = node.parent()?.range();
        parent.start + source.get(parent)?.rfind("</")?
    };
    let mut rest = source.get(node.range().start..end)?;
    let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once("<![CDATA[") {
        if !before.is_empty() {
            parts.push((false, unescaped(&lines(before))?));
        }
        let (section, behind) = after.split_once("]]>")?;
        parts.push((true, lines(section)));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push((false, unescaped(&lines(rest))?));
    }
    Some(parts)
}

fn content(node: Node<'_, '_>, preserve: bool) -> Value {
    let mut object = Object::new();
    let source = node.document().input_text();
    let name = qualified_name(node);
    let tag = tag_inside(source.get(node.range().start + 1 + name.len()..).unwrap_or_default());
    // Attributes that only control the conversion do not turn an element of text into an object.
    let (mut plain, mut attributes) = (true, false);
    for (attribute, value) in raw_attributes(tag) {
        attributes = true;
        let (prefix, local) = attribute.split_once(':').unwrap_or(("", attribute));
        if prefix == "xmlns" && value == JSON_NAMESPACE {
            continue;
        }
        if !prefix.is_empty() && node.lookup_namespace_uri(Some(prefix)) == Some(JSON_NAMESPACE) {
            if JSON_NAMES.contains(&local) {
                object.insert(format!("${local}"), value);
            }
            continue;
        }
        plain = false;
        object.insert(format!("@{}", decoded_name(attribute)), value);
    }
    let preserve = match node.attribute(("http://www.w3.org/XML/1998/namespace", "space")) {
        Some("preserve") => true,
        Some(_) => false,
        None => preserve,
    };
    let mut groups = Groups::default();
    for child in node.children() {
        groups.put(child, preserve);
    }
    // A comment is not a property of the object, but it turns the element into an object.
    let plain = plain && !node.children().any(|child| child.is_comment());
    if plain
        && let [only] = groups.groups.as_slice()
        && only.name == "#text"
        && only.values.len() == 1
    {
        return only.values[0].clone();
    }
    let empty = groups.groups.is_empty();
    groups.finish(&mut object);
    match (plain && empty, tag.ends_with('/')) {
        (true, true) if !attributes => Value::NULL,
        (true, false) if object.is_empty() => Value::from(""),
        _ => Value::from(object),
    }
}

/// The text of a tag up to its `>`, ignoring any `>` in quotes.
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
