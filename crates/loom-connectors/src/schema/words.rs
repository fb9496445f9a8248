//! Schemas in words, for people who want to know what an operation takes and returns.

use loom_expression::Value;

use super::{bounds, is_internal, parts, properties, required_names, types};
use crate::{
    Error,
    bounds::Budget,
    document::{Document, Node},
    field::{Field, Location},
};

/// How deep properties are listed.
const LISTED_DEPTH_MAX: usize = 6;

/// How many properties are listed.
const LISTED_MAX: usize = 2_000;

/// The title and the description of a parameter or a property, on one line.
pub(crate) fn words(node: &Node) -> String {
    let title = node.text("x-ms-summary").or_else(|| node.text("title")).unwrap_or_default().trim();
    let description = node.text("description").unwrap_or_default();
    let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    match (title.is_empty(), description.is_empty()) {
        (_, true) => title.to_owned(),
        (true, _) => description,
        (false, false) if description.to_lowercase().starts_with(&title.to_lowercase()) => description,
        (false, false) => format!("{}: {description}", title.trim_end_matches(['.', ':'])),
    }
}

/// A field without a name.
pub(crate) fn field(document: &Document, node: &Node, budget: &mut Budget) -> Result<Field, Error> {
    let node = document.resolve(node.clone())?;
    let allowed = node.value.get("enum").and_then(Value::as_array);
    Ok(Field {
        name: String::new(),
        location: Location::Body,
        kind: kind(document, &node, budget)?,
        required: false,
        internal: is_internal(&node) || node.flag("x-ms-notification-url"),
        description: words(&node),
        default: super::default_of(document, &node),
        allowed: allowed.into_iter().flatten().cloned().collect(),
        bounds: bounds(&node).map(|bound| bound.to_string()).collect(),
    })
}

/// `string`, `integer (int32)`, `array of object`.
fn kind(document: &Document, node: &Node, budget: &mut Budget) -> Result<String, Error> {
    budget.enter()?;
    let names = types(node);
    let format = node.text("format").map(|format| format!(" ({format})")).unwrap_or_default();
    let kind = match names.as_slice() {
        ["array", ..] => match node.get("items") {
            Some(items) => format!("array of {}", kind(document, &document.resolve(items)?, budget)?),
            None => "array".to_owned(),
        },
        [] if node.get("properties").is_some() || node.get("allOf").is_some() => "object".to_owned(),
        [] => "any".to_owned(),
        several => format!("{}{format}", several.join(" or ")),
    };
    budget.leave();
    Ok(kind)
}

/// The properties of a body, by their flat names.
pub(crate) fn body_fields(
    document: &Document,
    node: &Node,
    name: &str,
    required: bool,
    depth: usize,
    budget: &mut Budget,
    fields: &mut Vec<Field>,
) -> Result<(), Error> {
    let inner = properties(document, node, budget)?;
    let is_dynamic = parts(document, node, budget)?.iter().any(|part| {
        part.get("x-ms-dynamic-schema").is_some() || part.get("x-ms-dynamic-properties").is_some()
    });
    if inner.is_empty() || is_dynamic || depth >= LISTED_DEPTH_MAX || fields.len() >= LISTED_MAX {
        let mut own = field(document, node, budget)?;
        name.clone_into(&mut own.name);
        own.required = required;
        if is_dynamic {
            own.kind.push_str(" (with properties that the service defines)");
        }
        fields.push(own);
        return Ok(());
    }
    let needed = required_names(document, node, budget)?;
    for (property, schema) in inner {
        let required = required && needed.contains(&property);
        let name = format!("{name}/{property}");
        body_fields(document, &schema, &name, required, depth + 1, budget, fields)?;
    }
    Ok(())
}
