//! The data operations: ParseJson, Query, Select, Join and Table.

use std::{borrow::Cow, fmt::Write as _};

use loom_definition::model::{Column, TableFormat};
use loom_expression::{Array, Condition, Error, Labels, Object, Template, Value, ValueRef, envelope};

use crate::{event::Code, schema, scope::Scope};

/// Why a data operation failed.
pub(crate) enum Failure {
    /// Its inputs could not be evaluated.
    Template(Error),
    /// The condition of a Query failed for one of its items.
    Filter { expression: String, error: Error },
    /// Its inputs are invalid.
    Refused { code: Code, message: String, outputs: Option<Value> },
}

impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Failure {
        Failure::Template(*error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Template(error)
    }
}

fn refused(code: &'static str, message: impl Into<String>) -> Failure {
    Failure::Refused { code: Cow::Borrowed(code), message: message.into(), outputs: None }
}

pub(crate) fn parse_json(content: &Template, schema: &Value, scope: &Scope<'_>) -> Result<Value, Failure> {
    let content = content.evaluate(scope)?;
    let value = match content.as_ref() {
        ValueRef::Null => {
            return Err(refused("InvalidTemplate", "The content to parse is null."));
        }
        ValueRef::String("") => {
            return Err(refused("InvalidTemplate", "The content to parse is empty."));
        }
        ValueRef::String(text) => parse_text(text, scope)?,
        ValueRef::Object(_) if envelope::content_type(&content).is_some() => {
            let message = format!(
                "The content to parse must be JSON, but it is binary content of type '{}'. Convert it first, such as with json().",
                envelope::content_type(&content).unwrap_or_default()
            );
            return Err(refused("BadRequest", message));
        }
        _ => content.clone(),
    };
    // A parsed value comes from any part of an envelope; a value that is used as it is has its own labels.
    let parsed = content.address() != value.address();
    // A node of a value takes about as long as a step.
    if !scope.takes(value.bytes() / 32) {
        return Err(too_long());
    }
    let value = value.labelled(if parsed { content.labels_within() } else { Labels::NONE });
    let errors =
        schema::validate(schema, &value, scope.environment.budgets.schema_nodes_max).map_err(|problem| {
            let (code, message) = match problem {
                schema::Problem::Invalid(why) => ("ActionSchemaInvalid", why),
                schema::Problem::Unsupported(why) => ("ActionSchemaNotSupported", why),
                schema::Problem::TooCostly(why) => ("SchemaNodesExceeded", why),
            };
            refused(code, message)
        })?;
    if errors.is_empty() {
        return Ok(value);
    }
    let errors: Vec<Value> = errors.iter().map(schema::Mismatch::to_value).collect();
    // The errors quote the content: its values, and the names of its properties.
    let errors = Value::from(errors).labelled(content.labels_within());
    let outputs: Object = [("errors", errors)].into_iter().collect();
    Err(Failure::Refused {
        code: Cow::Borrowed("ValidationFailed"),
        message: "The schema validation failed.".to_owned(),
        outputs: Some(outputs.into()),
    })
}

/// The decision is made again, so its result does not matter.
fn too_long() -> Failure {
    refused("EvaluationStepsExceeded", String::new())
}

fn parse_text(text: &str, scope: &Scope<'_>) -> Result<Value, Failure> {
    if !scope.takes(text.len() as u64 / 8) {
        return Err(too_long());
    }
    Value::read_json_start_within(text, scope.environment.budgets.json_values_max).map_err(|error| {
        if error.is_too_large {
            return refused("JsonValuesExceeded", format!("The content cannot be parsed: {error}."));
        }
        refused("InvalidJSON", format!("The content is not valid JSON: {error}."))
    })
}

/// Pays for a string that has grown by `bytes`.
fn pay_text(scope: &Scope<'_>, bytes: usize) -> Result<(), Failure> {
    scope.budget.pay(1)?;
    scope.budget.pay_text(bytes).map_err(Failure::from)
}

/// The array an operation works on.
fn source(from: &Template, scope: &Scope<'_>) -> Result<Array, Failure> {
    let value = from.evaluate(scope)?;
    value.as_array().cloned().ok_or_else(|| {
        refused(
            "InvalidTemplate",
            format!("The 'from' property must be an array, but it is of type '{}'.", value.kind()),
        )
    })
}

pub(crate) fn query(from: &Template, filter: &Condition, scope: &Scope<'_>) -> Result<Value, Failure> {
    let items = source(from, scope)?;
    let mut kept = Vec::new();
    // Which items pass reveals what they were compared with.
    let mut labels = items.labels();
    for item in &items {
        let keeps = filter
            .evaluate_value(&scope.with_item(item))
            .map_err(|error| Failure::Filter { expression: filter.source(), error })?;
        labels |= keeps.labels();
        if keeps.as_bool() == Some(true) {
            kept.push(item.clone());
        }
    }
    Ok(Value::from(kept).labelled(labels))
}

pub(crate) fn select(from: &Template, select: &Template, scope: &Scope<'_>) -> Result<Value, Failure> {
    let items = source(from, scope)?;
    let mut mapped = Vec::with_capacity(items.len());
    for item in &items {
        mapped.push(select.evaluate(&scope.with_item(item))?);
    }
    Ok(Value::from(mapped).labelled(items.labels()))
}

pub(crate) fn join(from: &Template, with: &Template, scope: &Scope<'_>) -> Result<Value, Failure> {
    let items = source(from, scope)?;
    let with = with.evaluate(scope)?;
    let Some(separator) = with.as_str() else {
        let message =
            format!("The 'joinWith' property must be a string, but it is of type '{}'.", with.kind());
        return Err(refused("InvalidTemplate", message));
    };
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        let before = text.len();
        text.push_str(&envelope::text(item));
        pay_text(scope, separator.len() + text.len() - before)?;
    }
    Ok(Value::from(text).labelled(items.labels_within() | with.labels()))
}

pub(crate) fn table(
    format: TableFormat,
    from: &Template,
    columns: Option<&[Column]>,
    scope: &Scope<'_>,
) -> Result<Value, Failure> {
    let items = source(from, scope)?;
    let mut labels = items.labels_within();
    let (headers, rows) = match columns {
        Some(columns) => explicit_rows(&items, columns, scope, &mut labels)?,
        None => item_rows(&items, scope)?,
    };
    let text = match format {
        TableFormat::Csv => csv(&headers, &rows),
        TableFormat::Html => html(&headers, &rows),
    };
    Ok(Value::from(text).labelled(labels))
}

type Rows = (Vec<String>, Vec<Vec<String>>);

/// The cells as strings. Their labels are added to `labels`.
fn explicit_rows(
    items: &Array,
    columns: &[Column],
    scope: &Scope<'_>,
    labels: &mut Labels,
) -> Result<Rows, Failure> {
    let mut text = |template: &Template, scope: &Scope<'_>| -> Result<String, Failure> {
        let value = template.evaluate(scope)?;
        *labels |= value.labels_within();
        scope.budget.pay_value(&value)?;
        Ok(envelope::text(&value).into_owned())
    };
    let mut headers = Vec::with_capacity(columns.len());
    for column in columns {
        headers.push(text(&column.header, scope)?);
    }
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        let scope = scope.with_item(item);
        let mut row = Vec::with_capacity(columns.len());
        for column in columns {
            row.push(text(&column.value, &scope)?);
        }
        rows.push(row);
    }
    Ok((headers, rows))
}

fn item_rows(items: &Array, scope: &Scope<'_>) -> Result<Rows, Failure> {
    let mut headers: Vec<String> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for item in items {
        let Some(object) = item.as_object() else {
            let message = format!(
                "Without 'columns', every item of a table must be an object, but one is of type '{}'.",
                item.kind()
            );
            return Err(refused("InvalidTemplate", message));
        };
        for (key, _) in object {
            if known.insert(key.to_string()) {
                headers.push(key.to_string());
            }
        }
    }
    // Items without common properties produce a table of mostly empty cells.
    scope.budget.pay((items.len() as u64).saturating_mul(headers.len() as u64))?;
    for item in items {
        scope.budget.pay_value(item)?;
    }
    let cell = |item: &Value, header: &String| {
        let object = item.as_object();
        object
            .and_then(|object| object.get(header))
            .map(|value| envelope::text(value).into_owned())
            .unwrap_or_default()
    };
    let rows = items.iter().map(|item| headers.iter().map(|header| cell(item, header)).collect()).collect();
    Ok((headers, rows))
}

fn csv(headers: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    if headers.is_empty() {
        return text;
    }
    let lines = std::iter::once(headers).chain(rows.iter().map(Vec::as_slice));
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            if cell.contains([',', '"', '\r', '\n']) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\"{}\"", cell.replace('"', "\"\""));
            } else {
                text.push_str(cell);
            }
        }
        text.push_str("\r\n");
    }
    text
}

fn html(headers: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::from("<table>");
    if !headers.is_empty() {
        text.push_str("<thead><tr>");
        for header in headers {
            html_cell(&mut text, "th", header);
        }
        text.push_str("</tr></thead>");
    }
    text.push_str("<tbody>");
    for row in rows {
        text.push_str("<tr>");
        for cell in row {
            html_cell(&mut text, "td", cell);
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table>");
    text
}

fn html_cell(text: &mut String, tag: &str, content: &str) {
    let _ = write!(text, "<{tag}>");
    for character in content.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            // Latin-1 beyond ASCII, and characters of two UTF-16 code units, are written as numeric references.
            '\u{a0}'..='\u{ff}' | '\u{10000}'.. => {
                let _ = write!(text, "&#{};", u32::from(character));
            }
            other => text.push(other),
        }
    }
    let _ = write!(text, "</{tag}>");
}
