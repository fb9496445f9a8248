//! What an operation returns: the schema of its response.

use std::sync::Arc;

use loom_expression::Value;

use crate::{
    Error,
    bounds::Budget,
    document::{Document, Node},
    field::Field,
    operation::Operation,
    schema,
};

/// The schema of the body of a response; of any success without a status.
fn schema_of(document: &Document, operation: &Operation, status: Option<u16>) -> Result<Option<Node>, Error> {
    let Some(responses) = operation.node.get("responses") else { return Ok(None) };
    let Some(all) = responses.value.as_object() else { return Ok(None) };
    let found = if let Some(status) = status {
        let exact = responses.get(&status.to_string());
        exact.or_else(|| responses.get(&format!("{}XX", status / 100))).or_else(|| responses.get("default"))
    } else {
        let success = all
            .iter()
            .filter(|(status, _)| status.starts_with('2'))
            .min_by_key(|(status, _)| Arc::clone(status));
        success.map(|(_, response)| responses.beside(response)).or_else(|| responses.get("default"))
    };
    let Some(response) = found else { return Ok(None) };
    let response = document.resolve(response)?;
    if let Some(schema) = response.get("schema") {
        return Ok(Some(schema));
    }
    let Some(content) = response.get("content") else { return Ok(None) };
    let media = content.value.as_object().and_then(|content| {
        let json = content.iter().find(|(kind, _)| kind.contains("json"));
        json.or_else(|| content.iter().next()).map(|(_, media)| media.clone())
    });
    Ok(media.and_then(|media| content.beside(&media).get("schema")))
}

/// The properties of the body of a response with success.
pub(crate) fn fields(document: &Document, operation: &Operation) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    if let Some(schema) = schema_of(document, operation, None)? {
        schema::body_fields(document, &schema, "body", true, 0, &mut Budget::new(), &mut fields)?;
    }
    Ok(fields)
}

/// The body in the type of its schema: services send JSON with the content type of text.
pub(crate) fn by_schema(document: &Document, operation: &Operation, status: u16, body: Value) -> Value {
    let Some(text) = body.as_str().filter(|text| text.trim_start().starts_with(['{', '['])) else {
        return body;
    };
    let schema = schema_of(document, operation, Some(status)).ok().flatten();
    let schema = schema.and_then(|schema| document.resolve(schema).ok());
    let wants_json = schema.is_some_and(|schema| matches!(schema.text("type"), Some("object" | "array")));
    if !wants_json {
        return body;
    }
    match Value::read_json(text) {
        Ok(value) => value.labelled(body.labels()),
        Err(_) => body,
    }
}
