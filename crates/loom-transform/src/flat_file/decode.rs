//! Decodes flat-file text to XML.

use std::fmt::Write as _;

use super::notes::{Field, Order, Record, may_end_early, suppresses_empty};
use crate::{
    Error,
    tree::{Attribute, Content, Element, Shape},
    xml_data::escaped,
};

pub(super) fn decode(shape: &Shape, text: &str) -> Result<String, Error> {
    let text = text.trim_start_matches('\u{feff}');
    let root = &shape.roots[0];
    let decoder = Decoder { shape, suppress: suppresses_empty(shape) };
    let mut xml = String::with_capacity(text.len() * 2);
    match &root.content {
        Content::Record { .. } => {
            let rest = decoder.record(root, text, None, &mut xml)?;
            if !rest.trim().is_empty() {
                return Err(failed(&format!("unexpected data after '{}': {}", root.name, excerpt(rest))));
            }
        }
        _ => decoder.field(root, text, None, &mut xml),
    }
    Ok(xml)
}

fn failed(what: &str) -> Error {
    Error::new("FlatFileDecodingFailed", format!("The flat file cannot be decoded: {what}."))
}

fn excerpt(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("{shown:?}")
}

struct Decoder<'s> {
    shape: &'s Shape,
    suppress: bool,
}

impl Decoder<'_> {
    /// Writes the start tag of an element, which declares the namespace if it differs from the one in scope.
    fn open(element: &Element, around: Option<&str>, xml: &mut String) {
        let namespace = element.namespace.as_deref();
        let _ = write!(xml, "<{}", element.name);
        if namespace != around {
            let _ = write!(xml, " xmlns=\"{}\"", escaped(namespace.unwrap_or_default()));
        }
    }

    fn field(&self, element: &Element, text: &str, around: Option<&str>, xml: &mut String) {
        let value = unpadded(text, &Field::of(&element.notes, self.shape));
        if value.is_empty() && self.suppress {
            return;
        }
        Self::open(element, around, xml);
        let _ = write!(xml, ">{}</{}>", escaped(&value), element.name);
    }

    /// Writes a record and returns the text after it.
    fn record<'t>(
        &self,
        element: &Element,
        text: &'t str,
        around: Option<&str>,
        xml: &mut String,
    ) -> Result<&'t str, Error> {
        let Content::Record { attributes, children, .. } = &element.content else {
            return Err(failed(&format!(
                "the schema nests '{}' inside itself, which flat files do not support",
                element.name
            )));
        };
        let record = Record::of(element, self.shape);
        let text = text.strip_prefix(record.tag.as_str()).ok_or_else(|| {
            failed(&format!(
                "expected the tag '{}' of '{}', found {}",
                record.tag,
                element.name,
                excerpt(text)
            ))
        })?;
        let mut inside = String::new();
        let (attributes, rest) = if record.positional {
            self.positional(element, attributes, children, text, &mut inside)?
        } else {
            (self.delimited(element, &record, attributes, children, text, &mut inside)?, "")
        };
        if inside.is_empty() && attributes.is_empty() && self.suppress && around.is_some() {
            return Ok(rest);
        }
        Self::open(element, around, xml);
        let _ = write!(xml, "{attributes}>{inside}</{}>", element.name);
        Ok(rest)
    }

    fn positional<'t>(
        &self,
        element: &Element,
        attributes: &[Attribute],
        children: &[Element],
        text: &'t str,
        inside: &mut String,
    ) -> Result<(String, &'t str), Error> {
        let mut rest = text;
        let mut written = String::new();
        let around = element.namespace.as_deref();
        let missing = |name: &str| failed(&format!("'{}' ends before its field '{name}'", element.name));
        for attribute in attributes {
            let field = Field::of(&attribute.notes, self.shape);
            let (value, behind) = cut(rest, &field);
            let value = value.ok_or_else(|| missing(&attribute.name))?;
            let _ = write!(written, " {}=\"{}\"", attribute.name, escaped(&unpadded(value, &field)));
            rest = behind;
        }
        for child in children {
            let mut count = 0;
            while child.most.is_none_or(|most| count < most) {
                if rest.is_empty() && (count >= child.least || may_end_early(self.shape)) {
                    break;
                }
                if let Content::Record { .. } = child.content {
                    let tag = Record::of(child, self.shape).tag;
                    if count >= child.least && !rest.starts_with(&tag) {
                        break;
                    }
                    let behind = self.record(child, rest, around, inside)?;
                    if behind.len() == rest.len() {
                        break;
                    }
                    rest = behind;
                } else {
                    let field = Field::of(&child.notes, self.shape);
                    let (value, behind) = cut(rest, &field);
                    self.field(child, value.ok_or_else(|| missing(&child.name))?, around, inside);
                    rest = behind;
                }
                count += 1;
            }
        }
        Ok((written, rest))
    }

    fn delimited(
        &self,
        element: &Element,
        record: &Record,
        attributes: &[Attribute],
        children: &[Element],
        text: &str,
        inside: &mut String,
    ) -> Result<String, Error> {
        let parts = self.parts(element, record, attributes, children, text)?;
        let mut parts = parts.iter().map(String::as_str).peekable();
        let mut written = String::new();
        let around = element.namespace.as_deref();
        for attribute in attributes {
            let Some(part) = parts.next() else { break };
            let value = unpadded(part, &Field::of(&attribute.notes, self.shape));
            let _ = write!(written, " {}=\"{}\"", attribute.name, escaped(&value));
        }
        for (at, child) in children.iter().enumerate() {
            let needed: usize = children[at + 1..].iter().map(|child| child.least).sum();
            let tag = match child.content {
                Content::Record { .. } => Record::of(child, self.shape).tag,
                _ => String::new(),
            };
            let mut count = 0;
            while child.most.is_none_or(|most| count < most) {
                let Some(part) = parts.peek().copied() else { break };
                let enough = count >= child.least;
                if (!tag.is_empty() && !part.starts_with(&tag))
                    || (tag.is_empty() && enough && parts.len() <= needed)
                {
                    break;
                }
                if let Content::Record { .. } = child.content {
                    let rest = self.record(child, part, around, inside)?;
                    if !rest.trim().is_empty() {
                        return Err(failed(&format!(
                            "unexpected data after '{}': {}",
                            child.name,
                            excerpt(rest)
                        )));
                    }
                } else {
                    self.field(child, part, around, inside);
                }
                parts.next();
                count += 1;
            }
            if count < child.least {
                let found =
                    parts.peek().map_or_else(|| "the end of the record".to_owned(), |part| excerpt(part));
                return Err(failed(&format!(
                    "expected '{}' in '{}', found {found}",
                    child.name, element.name
                )));
            }
        }
        match parts.find(|part| !part.is_empty()) {
            Some(part) => {
                Err(failed(&format!("unexpected data at the end of '{}': {}", element.name, excerpt(part))))
            }
            None => Ok(written),
        }
    }

    /// Splits the text of a delimited record at its delimiters.
    fn parts(
        &self,
        element: &Element,
        record: &Record,
        attributes: &[Attribute],
        children: &[Element],
        text: &str,
    ) -> Result<Vec<String>, Error> {
        let mut delimiter = record.delimiter.as_str();
        if delimiter.is_empty() {
            if attributes.len() + children.len() > 1 {
                let message = format!("the record '{}' has no child_delimiter in the schema", element.name);
                return Err(failed(&message));
            }
            return Ok(vec![text.to_owned()]);
        }
        // A file written on another system may have other line ends than the schema says.
        if delimiter == "\r\n" && !text.contains("\r\n") {
            delimiter = "\n";
        }
        let mut text = text;
        match record.order {
            Order::Prefix => {
                if !text.is_empty() {
                    text = text.strip_prefix(delimiter).ok_or_else(|| {
                        failed(&format!(
                            "expected the delimiter of '{}', found {}",
                            element.name,
                            excerpt(text)
                        ))
                    })?;
                }
            }
            Order::Postfix => text = text.strip_suffix(delimiter).unwrap_or(text),
            Order::Infix => {}
        }
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let notes = children.iter().map(|child| &child.notes);
        let mut notes = notes.chain(attributes.iter().map(|attribute| &attribute.notes));
        let wrap = notes.find_map(|notes| Field::of(notes, self.shape).wrap);
        Ok(split(text, delimiter, wrap, record.escape))
    }
}

/// Splits text at each delimiter that is neither wrapped nor escaped, and removes the wrap and escape characters.
fn split(text: &str, delimiter: &str, wrap: Option<char>, escape: Option<char>) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut wrapped = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let next = &rest[character.len_utf8()..];
        if wrapped {
            if Some(character) == wrap {
                if next.chars().next() == wrap {
                    part.push(character);
                    rest = &next[character.len_utf8()..];
                    continue;
                }
                wrapped = false;
            } else {
                part.push(character);
            }
        } else if let Some(behind) = rest.strip_prefix(delimiter) {
            parts.push(std::mem::take(&mut part));
            rest = behind;
            continue;
        } else if Some(character) == wrap && part.is_empty() {
            wrapped = true;
        } else if Some(character) == escape {
            part.extend(next.chars().next());
            rest = next.char_indices().nth(1).map_or("", |(at, _)| &next[at..]);
            continue;
        } else {
            part.push(character);
        }
        rest = next;
    }
    parts.push(part);
    parts
}

/// The text of a positional field and the text after it; `None` if the text ends before the field starts.
fn cut<'t>(text: &'t str, field: &Field) -> (Option<&'t str>, &'t str) {
    let at = |text: &str, count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let from = at(text, field.offset);
    let behind = &text[from..];
    if behind.is_empty() {
        return (field.length.is_none().then_some(""), "");
    }
    let end = field.length.map_or(behind.len(), |length| at(behind, length));
    (Some(&behind[..end]), &behind[end..])
}

fn unpadded(text: &str, field: &Field) -> String {
    let text =
        if field.right { text.trim_start_matches(field.pad) } else { text.trim_end_matches(field.pad) };
    text.to_owned()
}
