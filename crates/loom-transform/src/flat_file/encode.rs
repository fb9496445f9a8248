//! Encodes XML as flat-file text.

use uppsala::{Document, NodeId};

use super::notes::{Field, Order, Record};
use crate::{
    Error,
    tree::{Content, Element, Notes, Shape},
    xml_schema::document,
};

pub(super) fn encode(shape: &Shape, xml: &str) -> Result<String, Error> {
    let document = document(xml)?;
    let node = document.document_element().ok_or_else(|| failed("the content has no root element"))?;
    let name = document.element(node).map(|element| element.name.local_name.to_string()).unwrap_or_default();
    let root =
        shape.roots.iter().find(|root| root.name == name).ok_or_else(|| {
            failed(&format!("expected the element '{}', found '{name}'", shape.roots[0].name))
        })?;
    Encoder { shape, document: &document }.element(root, node, "")
}

fn failed(what: &str) -> Error {
    Error::new("FlatFileEncodingFailed", format!("The XML content cannot be encoded: {what}."))
}

struct Encoder<'e> {
    shape: &'e Shape,
    document: &'e Document<'e>,
}

impl Encoder<'_> {
    fn children(&self, node: NodeId, name: &str) -> Vec<NodeId> {
        let named = |child: &NodeId| {
            self.document.element(*child).is_some_and(|element| *element.name.local_name == *name)
        };
        self.document.children_iter(node).filter(named).collect()
    }

    fn element(&self, element: &Element, node: NodeId, delimiter: &str) -> Result<String, Error> {
        let Content::Record { attributes, children, .. } = &element.content else {
            let text = self.document.text_content_deep(node);
            return self.field(&element.name, &text, &element.notes, delimiter);
        };
        let record = Record::of(element, self.shape);
        let inner = if record.positional { "" } else { record.delimiter.as_str() };
        let mut parts = Vec::new();
        for attribute in attributes {
            let text = self.document.get_attribute(node, &attribute.name).unwrap_or_default();
            parts.push(self.field(&attribute.name, text, &attribute.notes, inner)?);
        }
        for child in children {
            let found = self.children(node, &child.name);
            if found.len() < child.least {
                return Err(failed(&format!("expected the element '{}' in '{}'", child.name, element.name)));
            }
            if child.most.is_some_and(|most| found.len() > most) {
                return Err(failed(&format!("too many elements '{}' in '{}'", child.name, element.name)));
            }
            // A missing optional field leaves an empty part; a missing record leaves none.
            if found.is_empty() && !matches!(child.content, Content::Record { .. }) {
                parts.push(self.field(&child.name, "", &child.notes, inner)?);
            }
            for node in found {
                parts.push(self.element(child, node, inner)?);
            }
        }
        let known = |name: &str| children.iter().any(|child| child.name == name);
        for child in self.document.children_iter(node) {
            let Some(found) = self.document.element(child) else { continue };
            if !known(&found.name.local_name) {
                let message = format!("unexpected element '{}' in '{}'", found.name.local_name, element.name);
                return Err(failed(&message));
            }
        }
        if record.suppress_trailing {
            while parts.last().is_some_and(String::is_empty) {
                parts.pop();
            }
        }
        let body = if record.positional {
            parts.concat()
        } else if record.delimiter.is_empty() && parts.len() > 1 {
            return Err(failed(&format!(
                "the record '{}' has no child_delimiter in the schema",
                element.name
            )));
        } else {
            let joined = parts.join(&record.delimiter);
            match record.order {
                _ if parts.is_empty() => joined,
                Order::Infix => joined,
                Order::Prefix => format!("{}{joined}", record.delimiter),
                Order::Postfix => format!("{joined}{}", record.delimiter),
            }
        };
        Ok(format!("{}{body}", record.tag))
    }

    fn field(&self, name: &str, text: &str, notes: &Notes, delimiter: &str) -> Result<String, Error> {
        let field = Field::of(notes, self.shape);
        if let Some(length) = field.length {
            let count = text.chars().count();
            if count > length {
                let message =
                    format!("the value of '{name}' must have at most {length} characters (got {count})");
                return Err(failed(&message));
            }
            let pad: String = std::iter::repeat_n(field.pad, length - count).collect();
            let gap = " ".repeat(field.offset);
            return Ok(if field.right { format!("{gap}{pad}{text}") } else { format!("{gap}{text}{pad}") });
        }
        let special = |text: &str| !delimiter.is_empty() && text.contains(delimiter);
        match field.wrap {
            Some(wrap) if special(text) || text.contains(wrap) => {
                let doubled = text.replace(wrap, &format!("{wrap}{wrap}"));
                Ok(format!("{wrap}{doubled}{wrap}"))
            }
            None if special(text) => {
                let message = format!(
                    "the value of '{name}' contains the delimiter {delimiter:?}; set a wrap_char for the field in the schema"
                );
                Err(failed(&message))
            }
            _ => Ok(text.to_owned()),
        }
    }
}
