//! The schema of an operation's arguments as JSON Schema, for language models.

use std::sync::Arc;

use loom_expression::{Object, Value};

use super::{
    default_of, is_binary, is_expression, is_internal, properties, required_names, types, words::words,
};
use crate::{
    Error,
    bounds::Budget,
    document::{Document, Node},
    operation::Operation,
};

/// How deep schemas are written out; deeper ones accept anything.
const WRITTEN_DEPTH_MAX: usize = 8;

/// The constraints that JSON Schema has, too.
const CONSTRAINTS: [&str; 10] = [
    "enum",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "pattern",
];

/// An object with a property for each parameter, and one for the body. What has a constant value, and the address for
/// notifications, is omitted.
pub(crate) fn of_arguments(document: &Document, operation: &Operation) -> Result<Value, Error> {
    let mut budget = Budget::new();
    let mut members = Object::new();
    let mut required: Vec<Value> = Vec::new();
    for parameter in &operation.parameters {
        if parameter.internal || parameter.notification {
            continue;
        }
        let mut schema = of_node(document, &parameter.schema, 0, &mut budget)?;
        let said = words(parameter.node());
        if !said.is_empty() {
            schema.insert("description", said);
        }
        members.insert(parameter.name.as_str(), schema);
        if parameter.required {
            required.push(Value::from(parameter.name.as_str()));
        }
    }
    if let Some(body) = operation.body.as_ref().filter(|_| !operation.has_form()) {
        let name = if members.contains_key(&body.name) { "body" } else { body.name.as_str() };
        let mut schema = of_node(document, &body.schema, 0, &mut budget)?;
        let said = words(body.node());
        if !said.is_empty() {
            schema.insert("description", said);
        }
        members.insert(name, schema);
        if body.required {
            required.push(Value::from(name));
        }
    }
    Ok(object_of(members, required).into())
}

fn object_of(members: Object, required: Vec<Value>) -> Object {
    let mut schema = Object::new();
    schema.insert("type", "object");
    schema.insert("properties", members);
    if !required.is_empty() {
        schema.insert("required", required);
    }
    schema
}

fn of_node(document: &Document, node: &Node, depth: usize, budget: &mut Budget) -> Result<Object, Error> {
    budget.enter()?;
    let node = document.resolve(node.clone())?;
    let mut schema = Object::new();
    let inner = properties(document, &node, budget)?;
    let names = types(&node);
    if depth < WRITTEN_DEPTH_MAX && !inner.is_empty() {
        let needed = required_names(document, &node, budget)?;
        let (mut members, mut required) = (Object::new(), Vec::new());
        for (name, property) in inner {
            if is_internal(&property) || property.flag("readOnly") || property.flag("x-ms-notification-url") {
                continue;
            }
            members.insert(name.as_str(), of_node(document, &property, depth + 1, budget)?);
            if needed.contains(&name) {
                required.push(Value::from(name));
            }
        }
        schema = object_of(members, required);
    } else if is_binary(document, &node) {
        schema.insert("type", "string");
    } else {
        match names.as_slice() {
            [] => {}
            [one] => {
                schema.insert("type", *one);
            }
            several => {
                schema.insert("type", several.iter().map(|name| Value::from(*name)).collect::<Vec<_>>());
            }
        }
        if let Some(items) = node.get("items").filter(|_| depth < WRITTEN_DEPTH_MAX) {
            schema.insert("items", of_node(document, &items, depth + 1, budget)?);
        }
    }
    for name in CONSTRAINTS {
        if let Some(value) = node.value.get(name) {
            schema.insert(Arc::<str>::from(name), value.clone());
        }
    }
    let said = words(&node);
    if !said.is_empty() {
        schema.insert("description", said);
    }
    if let Some(default) = default_of(document, &node).filter(|default| !is_expression(default)) {
        schema.insert("default", default);
    }
    budget.leave();
    Ok(schema)
}
