//! Arguments that a description accepts, made from its examples, defaults, enums and bounds.

use loom_expression::{Object, Value, envelope};

use crate::{
    Error,
    bounds::Budget,
    document::{Document, Node},
    operation::Operation,
    schema::{self, Checker},
};

/// How deep optional properties are filled in.
const OPTIONAL_DEPTH_MAX: usize = 4;

/// Arguments for an operation: the required ones, or all.
pub(crate) fn arguments(document: &Document, operation: &Operation, optional: bool) -> Result<Object, Error> {
    let mut maker = Maker { document, optional, budget: Budget::new() };
    let mut arguments = Object::new();
    for parameter in &operation.parameters {
        if parameter.notification || (!parameter.required && (!optional || parameter.internal)) {
            continue;
        }
        if parameter.internal && parameter.default(document).is_some() {
            continue;
        }
        let own = maker.given(parameter.node(), &parameter.schema)?;
        let value = match own.or_else(|| parameter.default(document)) {
            Some(value) => value,
            None => maker.value(&parameter.schema, 0)?.unwrap_or_else(|| "text".into()),
        };
        arguments.insert(parameter.name.as_str(), value);
    }
    if let Some(body) =
        operation.body.as_ref().filter(|body| !operation.has_form() && (body.required || optional))
    {
        let own = maker.given(body.node(), &body.schema)?;
        let value = match own {
            Some(value) => Some(value),
            None => maker.value(&body.schema, 0)?,
        };
        let value = value
            .filter(|value| value.as_object().is_none_or(|members| !members.is_empty()) || body.required);
        if let Some(value) = value {
            arguments.insert(body.name.as_str(), value);
        }
    }
    Ok(arguments)
}

struct Maker<'a> {
    document: &'a Document,
    optional: bool,
    budget: Budget,
}

impl Maker<'_> {
    /// An example of the description that its own schema accepts.
    fn given(&self, node: &Node, schema: &Node) -> Result<Option<Value>, Error> {
        for name in ["example", "x-example", "x-ms-test-value"] {
            let Some(example) = node.get(name) else { continue };
            let mut checker = Checker::new(self.document, &|_| true, None, Budget::new());
            let checked = checker.check(&example.value, schema, "example", &mut Vec::new())?;
            let is_empty = checked.as_str().is_some_and(str::is_empty);
            let fits_pattern = schema.get("pattern").is_none() && schema.get("format").is_none();
            if checker.problems.is_empty() && !is_empty && fits_pattern && !schema::is_expression(&checked) {
                return Ok(Some(checked));
            }
        }
        Ok(None)
    }

    /// `None` for a value that has to be left out: a circle of required properties, for example.
    fn value(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, Error> {
        if depth > 24 || self.budget.enter().is_err() {
            return Ok(None);
        }
        let value = self.inner(node, depth);
        self.budget.leave();
        value
    }

    fn inner(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, Error> {
        let node = self.document.resolve(node.clone())?;
        if let Some(given) = self.given(&node, &node)? {
            return Ok(Some(given));
        }
        for name in ["default", "const"] {
            if let Some(value) = node.get(name) {
                let is_empty = value.value.as_str().is_some_and(str::is_empty);
                if !is_empty && !schema::is_expression(&value.value) {
                    return Ok(Some(value.value));
                }
            }
        }
        let allowed = node.value.get("enum").and_then(Value::as_array);
        if let Some(first) = allowed.and_then(|allowed| {
            allowed.iter().find(|value| !value.is_null() && !schema::is_expression(value))
        }) {
            return Ok(Some(first.clone()));
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = node.items(choice).into_iter().next() {
                return self.value(&first, depth + 1);
            }
        }
        let kind = match node.value.get("type") {
            Some(kind) if kind.as_str().is_some() => kind.as_str().map(str::to_owned),
            Some(kinds) => kinds
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .map(str::to_owned),
            None => None,
        };
        let has_shape = node.get("properties").is_some() || node.get("allOf").is_some();
        let kind = kind.unwrap_or_else(|| if has_shape { "object".to_owned() } else { "any".to_owned() });
        Ok(Some(match kind.as_str() {
            "boolean" => true.into(),
            "integer" => Value::from(bounded(&node, 1.0).ceil() as i64),
            "number" => Value::from(bounded(&node, 1.5)),
            "array" => return self.list(&node, depth),
            "object" => return self.object(&node, depth),
            "file" => envelope::encode("text/plain", b"content"),
            "string" => text(&node),
            _ if node.text("format") == Some("binary") => envelope::encode("text/plain", b"content"),
            _ => return Ok(Some(Object::new().into())),
        }))
    }

    fn list(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, Error> {
        let least = node.value.get("minItems").and_then(Value::as_i64).unwrap_or(1).clamp(0, 100);
        let most = node.value.get("maxItems").and_then(Value::as_i64).unwrap_or(i64::MAX);
        let count = least.max(1).min(most.max(0));
        let item = match node.get("items") {
            Some(items) => self.value(&items, depth + 1)?,
            None => Some("text".into()),
        };
        Ok(Some(match item {
            Some(item) => (0..count).map(|_| item.clone()).collect(),
            None => Vec::new().into(),
        }))
    }

    fn object(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, Error> {
        let required = schema::required_names(self.document, node, &mut self.budget)?;
        let mut members = Object::new();
        for (name, property) in schema::properties(self.document, node, &mut self.budget)? {
            let is_required = required.contains(&name);
            if property.flag("readOnly") || property.flag("x-ms-notification-url") {
                continue;
            }
            let is_hidden = schema::is_internal(&property);
            if !is_required && (!self.optional || depth >= OPTIONAL_DEPTH_MAX || is_hidden) {
                continue;
            }
            if is_hidden
                && property.get("default").is_some_and(|default| !schema::is_expression(&default.value))
            {
                continue;
            }
            match self.value(&property, depth + 1)? {
                Some(value) => {
                    members.insert(name, value);
                }
                // What contains a circle of required properties is omitted as a whole.
                None if is_required => return Ok(None),
                None => {}
            }
        }
        Ok(Some(members.into()))
    }
}

/// A number within the bounds of a schema, `preferred` if they allow it.
fn bounded(node: &Node, preferred: f64) -> f64 {
    let limit = |name: &str| {
        node.value
            .get(name)
            .and_then(|value| value.as_f64().or_else(|| value.as_i64().map(|number| number as f64)))
    };
    let least = limit("minimum").or_else(|| limit("exclusiveMinimum").map(|least| least + 1.0));
    let most = limit("maximum").or_else(|| limit("exclusiveMaximum").map(|most| most - 1.0));
    let step = if node.flag("exclusiveMinimum") { 1.0 } else { 0.0 };
    let value = least.map_or(preferred, |least| preferred.max(least + step));
    let value = most.map_or(value, |most| value.min(most));
    match limit("multipleOf").filter(|step| *step > 0.0) {
        Some(step) => (value / step).ceil() * step,
        None => value,
    }
}

fn text(node: &Node) -> Value {
    let digits =
        node.text("pattern").is_some_and(|pattern| pattern.contains("0-9") || pattern.contains("\\d"));
    let text = match node.text("format").unwrap_or_default() {
        "binary" => return envelope::encode("text/plain", b"content"),
        "byte" => "Y29udGVudA==",
        "date-time" => "2026-01-31T12:00:00Z",
        "date" | "date-no-tz" => "2026-01-31",
        "time" => "12:00:00Z",
        "uuid" | "guid" => "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "uri" | "url" => "https://example.com/item",
        "email" => "ada@example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "hostname" => "example.com",
        "duration" => "PT1H",
        _ if digits => "1",
        _ => "text",
    };
    let length = |name: &str| {
        node.value.get(name).and_then(Value::as_i64).and_then(|length| usize::try_from(length).ok())
    };
    let mut text = text.to_owned();
    let least = length("minLength").unwrap_or(0).min(10_000);
    while text.chars().count() < least {
        text.push(if digits { '1' } else { 'x' });
    }
    if let Some(most) = length("maxLength") {
        text = text.chars().take(most).collect();
    }
    text.into()
}
