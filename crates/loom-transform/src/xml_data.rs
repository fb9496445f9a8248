//! The actions `XmlParse` and `XmlCompose`: convert XML to JSON and back, with the types and the order of a schema.
//!
//! The JSON has the same properties as the result of `json(xml(…))` (`@name` for attributes, `#text` for text beside
//! them), but numbers and booleans where the schema declares them, and an array wherever an element may repeat.

use std::{fmt::Write as _, path::Path};

use loom_expression::{Object, Value, ValueRef};
use uppsala::{Document, NodeId};

use crate::{
    Error,
    tree::{Content, Element, Shape, Simple},
    xml_schema::{Schema, document},
};

/// Escapes the reserved characters of XML as entities.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 cannot represent the other control characters, not even as references.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{7f}'..='\u{9f}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Converts a document that conforms to a schema to JSON. `directory` is where the schema's includes and imports are.
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

/// Converts a document to JSON without a schema: all text becomes strings, and only repeated elements become arrays.
///
/// # Errors
/// `InvalidXml` if the text is not XML.
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
        // XML allows the numbers `INF`, `NaN` and `.5`, JSON does not. The first two stay strings, `.5` becomes 0.5.
        Simple::Number => number()
            .or_else(|| trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
            .unwrap_or_else(|| Value::from(text)),
    }
}

/// Converts JSON to a document that conforms to a schema, with the elements in the schema's order and namespace.
/// `content` has the root element as its only property, or is the root's own content if the schema declares one root.
///
/// # Errors
/// `XmlComposeFailed` if the JSON has properties that the schema does not declare, or the root is ambiguous; the errors
/// of [`Schema::validate`] if the document does not conform.
pub fn compose(content: &Value, schema: &str, directory: Option<&Path>) -> Result<String, Error> {
    let schema_read = Schema::read(schema, directory)?;
    let shape = Shape::read(schema)?;
    let Some(members) = content.as_object() else {
        let message = format!("The content must be an object, found a value of type '{}'.", content.kind());
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
            let names = names.join("' or '");
            let message = format!("The content must have exactly one property, the root element: '{names}'.");
            return Err(Error::new("XmlComposeFailed", message));
        }
    };
    let mut xml = String::new();
    write(root, &value, None, &mut xml)?;
    schema_read.validate(&xml)?;
    Ok(xml)
}

/// The property with the local name of an element.
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
                let message = format!(
                    "Unknown element '{name}' in '{}': the schema does not declare it.",
                    element.name
                );
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

/// A scalar as XML Schema writes it.
fn plain(value: &Value) -> String {
    match value.as_ref() {
        ValueRef::Null => String::new(),
        ValueRef::Bool(value) => value.to_string(),
        _ => value.text().into_owned(),
    }
}

#[cfg(test)]
mod tests;
