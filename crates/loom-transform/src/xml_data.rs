//! `XmlParse` and `XmlCompose`: XML to JSON and back, with the types and the order that a schema gives.
//!
//! The JSON has the members that `json(xml(…))` gives (`@name` for attributes, `#text` beside them), but numbers and
//! booleans where the schema says so, and an array wherever an element may repeat.

use std::{fmt::Write as _, path::Path};

use loom_expression::{Object, Value, ValueRef};
use uppsala::{Document, NodeId};

use crate::{
    Error,
    tree::{Content, Element, Shape, Simple},
    xml_schema::{Schema, document},
};

/// Text with the characters that XML reserves as entities.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 cannot hold other control characters, not even as references.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{7f}'..='\u{9f}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Reads a document that conforms to a schema.
///
/// # Errors
/// Those of [`Schema::read`] and [`Schema::validate`].
pub fn parse(xml: &str, schema: &str, directory: Option<&Path>) -> Result<Value, Error> {
    Schema::read(schema, directory)?.validate(xml)?;
    let shape = Shape::read(schema)?;
    let document = document(xml)?;
    let Some(root) = document.document_element() else { return Ok(Value::NULL) };
    let name = name_of(&document, root);
    let declared = shape.roots.iter().find(|element| element.name == local(&name));
    let value = read(&document, root, declared);
    Ok([(name, value)].into_iter().collect::<Object>().into())
}

/// Reads a document without a schema: all text stays text, and only elements that repeat become arrays.
///
/// # Errors
/// `InvalidXml` when the text is not XML.
pub fn loosely(xml: &str) -> Result<Value, Error> {
    let document = document(xml)?;
    let Some(root) = document.document_element() else { return Ok(Value::NULL) };
    Ok([(name_of(&document, root), read(&document, root, None))].into_iter().collect::<Object>().into())
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

fn name_of(document: &Document<'_>, node: NodeId) -> String {
    document.element(node).map(|element| element.name.prefixed_name().into_owned()).unwrap_or_default()
}

fn read(document: &Document<'_>, node: NodeId, declared: Option<&Element>) -> Value {
    let (attributes, children, text) = match declared.map(|declared| &declared.content) {
        Some(Content::Simple(simple)) => (&[][..], &[][..], Some(*simple)),
        Some(Content::Record { attributes, children, text }) => (&attributes[..], &children[..], *text),
        Some(Content::Endless) | None => (&[][..], &[][..], None),
    };
    let mut object = Object::new();
    if let Some(element) = document.element(node) {
        for (prefix, uri) in &element.namespace_declarations {
            let name = if prefix.is_empty() { "@xmlns".to_owned() } else { format!("@xmlns:{prefix}") };
            object.insert(&*name, Value::from(&**uri));
        }
        for attribute in &element.attributes {
            let name = attribute.name.prefixed_name();
            if name.starts_with("xmlns") {
                continue;
            }
            let known = attributes.iter().find(|known| known.name == local(&name));
            let simple = known.map_or(Simple::Text, |known| known.simple);
            object.insert(&*format!("@{name}"), typed(&attribute.value, simple));
        }
    }
    let mut inside = String::new();
    let mut grouped: Vec<(String, Vec<Value>)> = Vec::new();
    for child in document.children_iter(node) {
        if document.element(child).is_some() {
            let name = name_of(document, child);
            let known = children.iter().find(|known| known.name == local(&name));
            let value = read(document, child, known);
            match grouped.iter_mut().find(|(found, _)| *found == name) {
                Some((_, values)) => values.push(value),
                None => grouped.push((name, vec![value])),
            }
        } else if let Some(text) = document.text_content(child) {
            inside.push_str(text);
        }
    }
    let simple = text.unwrap_or(Simple::Text);
    if grouped.is_empty() && object.is_empty() {
        let is_record = matches!(declared.map(|declared| &declared.content), Some(Content::Record { .. }));
        let nothing = inside.is_empty() && is_record && text.is_none();
        return if nothing { Value::NULL } else { typed(&inside, simple) };
    }
    for (name, mut values) in grouped {
        let known = children.iter().find(|known| known.name == local(&name));
        let repeats = known.is_some_and(|known| known.most != Some(1));
        let value =
            if repeats || values.len() > 1 { Value::from(values) } else { values.pop().unwrap_or_default() };
        object.insert(&*name, value);
    }
    if !inside.trim().is_empty() {
        object.insert("#text", typed(&inside, simple));
    }
    object.into()
}

fn typed(text: &str, simple: Simple) -> Value {
    let trimmed = text.trim();
    let number = || {
        Value::from_json_str(trimmed.trim_start_matches('+')).ok().filter(|value| value.as_f64().is_some())
    };
    match simple {
        Simple::Text => Value::from(text),
        Simple::Boolean => Value::from(matches!(trimmed, "true" | "1")),
        Simple::Integer => match trimmed.trim_start_matches('+').parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(text),
        },
        // `INF`, `NaN` and `.5` are numbers of XML and not of JSON; they stay text but for the last.
        Simple::Number => number()
            .or_else(|| trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
            .unwrap_or_else(|| Value::from(text)),
    }
}

/// Writes a document that conforms to a schema: elements in its order, under its namespace. `content` has the root
/// element as its only member, or the root's own members where the schema has one root.
///
/// # Errors
/// `XmlComposeFailed` when the JSON has members that the schema does not know, or the root is unclear; those of
/// [`Schema::validate`] when what comes out does not conform.
pub fn compose(content: &Value, schema: &str, directory: Option<&Path>) -> Result<String, Error> {
    let schema_read = Schema::read(schema, directory)?;
    let shape = Shape::read(schema)?;
    let Some(members) = content.as_object() else {
        let message = format!("The content must be an object, found {}.", content.kind());
        return Err(Error::new("XmlComposeFailed", message));
    };
    let named = shape.roots.iter().find_map(|root| {
        let only = members.len() == 1;
        member(content, &root.name).filter(|_| only).map(|value| (root, value))
    });
    let (root, value) = match (named, &shape.roots[..]) {
        (Some(found), _) => found,
        (None, [root]) => (root, content.clone()),
        (None, roots) => {
            let names: Vec<&str> = roots.iter().map(|root| root.name.as_str()).collect();
            let names = names.join("', '");
            let message = format!("The content must have one member, the root element: one of '{names}'.");
            return Err(Error::new("XmlComposeFailed", message));
        }
    };
    let mut xml = String::new();
    write(root, &value, None, &mut xml)?;
    schema_read.validate(&xml)?;
    Ok(xml)
}

/// A member by the local name of an element.
fn member(value: &Value, name: &str) -> Option<Value> {
    let members = value.as_object()?;
    let found = members.iter().find(|(key, _)| local(key) == name)?;
    Some(found.1.clone())
}

fn write(element: &Element, value: &Value, around: Option<&str>, xml: &mut String) -> Result<(), Error> {
    let namespace = element.namespace.as_deref();
    let _ = write!(xml, "<{}", element.name);
    if namespace != around {
        let _ = write!(xml, " xmlns=\"{}\"", escaped(namespace.unwrap_or_default()));
    }
    match &element.content {
        Content::Record { attributes, children, .. } if value.as_object().is_some() => {
            let unknown = value.as_object().into_iter().flat_map(Object::iter).find(|(name, _)| {
                let known = children.iter().any(|child| child.name == local(name));
                !known && !name.starts_with(['@', '#'])
            });
            if let Some((name, _)) = unknown {
                let message = format!("The schema knows no element '{name}' in '{}'.", element.name);
                return Err(Error::new("XmlComposeFailed", message));
            }
            for attribute in attributes {
                let name = format!("@{}", attribute.name);
                let found = member(value, &name).or_else(|| value.get(&name).cloned());
                if let Some(found) = found.filter(|found| !found.is_null()) {
                    let _ = write!(xml, " {}=\"{}\"", attribute.name, escaped(&plain(&found)));
                }
            }
            xml.push('>');
            for child in children {
                match member(value, &child.name) {
                    None => {}
                    Some(found) => match found.as_array() {
                        Some(items) => {
                            for item in items {
                                write(child, item, namespace, xml)?;
                            }
                        }
                        None => write(child, &found, namespace, xml)?,
                    },
                }
            }
            if let Some(text) = member(value, "#text") {
                xml.push_str(&escaped(&plain(&text)));
            }
        }
        _ => {
            let text = member(value, "#text").unwrap_or_else(|| value.clone());
            let _ = write!(xml, ">{}", escaped(&plain(&text)));
        }
    }
    let _ = write!(xml, "</{}>", element.name);
    Ok(())
}

/// The text of a scalar as XML Schema writes it.
fn plain(value: &Value) -> String {
    match value.as_ref() {
        ValueRef::Null => String::new(),
        ValueRef::Bool(value) => value.to_string(),
        _ => value.text().into_owned(),
    }
}

#[cfg(test)]
mod tests;
