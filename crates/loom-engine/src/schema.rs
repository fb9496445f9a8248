//! JSON Schema, draft 4, as ParseJson and Request triggers use it.
//!
//! Works on [`Value`] as it is, and reports mismatches in the words and shape that the language's `outputs.errors` has.
//! Regular expressions are refused, as the language refuses them. References stay inside the schema.

use loom_expression::{Object, Value, ValueRef};

use crate::event::shown;

/// One place where a value does not fit its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// In words.
    pub message: String,
    /// Where, as `a.b[0]`.
    pub path: String,
    /// The value there.
    pub value: Value,
    /// Which rule, as a pointer into the schema.
    pub schema_id: String,
    /// The rule's keyword.
    pub error_type: &'static str,
}

impl Mismatch {
    /// The shape of `outputs.errors[]`.
    pub fn to_value(&self) -> Value {
        let members = [
            ("message", Value::from(self.message.as_str())),
            ("lineNumber", Value::from(0i64)),
            ("linePosition", Value::from(0i64)),
            ("path", Value::from(self.path.as_str())),
            ("value", self.value.clone()),
            ("schemaId", Value::from(self.schema_id.as_str())),
            ("errorType", Value::from(self.error_type)),
            ("childErrors", Value::from(Vec::<Value>::new())),
        ];
        members.into_iter().collect::<Object>().into()
    }
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not a schema.
    Invalid(String),
    /// It uses what the language does not support.
    Unsupported(String),
}

/// All places where `value` does not fit `schema`.
///
/// # Errors
/// [`Problem`] when the schema itself is broken or uses regular expressions.
pub fn validate(schema: &Value, value: &Value) -> Result<Vec<Mismatch>, Problem> {
    let mut checker = Checker { root: schema, mismatches: Vec::new(), depth: 0 };
    checker.check(schema, value, "", "#")?;
    Ok(checker.mismatches)
}

/// The deepest nesting of schemas followed, so that a reference to itself ends.
const DEPTH_MAX: u32 = 200;

struct Checker<'a> {
    root: &'a Value,
    mismatches: Vec<Mismatch>,
    depth: u32,
}

impl<'a> Checker<'a> {
    fn check(&mut self, schema: &'a Value, value: &Value, path: &str, id: &str) -> Result<(), Problem> {
        let Some(rules) = schema.as_object() else {
            return match schema.as_ref() {
                ValueRef::Null | ValueRef::Bool(true) => Ok(()),
                _ => Err(Problem::Invalid(format!("the schema at {id} is not an object"))),
            };
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Problem::Invalid(format!("the schema at {id} is nested too deeply")));
        }
        if let Some(reference) = rules.get("$ref") {
            let target = self.resolve(reference, id)?;
            self.check(target, value, path, id)?;
            self.depth -= 1;
            return Ok(());
        }
        if rules.get("pattern").is_some() || rules.get("patternProperties").is_some() {
            return Err(Problem::Unsupported(format!(
                "the schema at {id} uses 'pattern' or 'patternProperties', which are not supported"
            )));
        }
        self.check_type(rules, value, path, id)?;
        self.check_choices(rules, value, path, id)?;
        match value.as_ref() {
            ValueRef::Object(object) => self.check_object(rules, object, value, path, id)?,
            ValueRef::Array(_) => self.check_array(rules, value, path, id)?,
            ValueRef::String(text) => self.check_text(rules, text, value, path, id)?,
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => {
                self.check_number(rules, value, path, id)?;
            }
            ValueRef::Null | ValueRef::Bool(_) => {}
        }
        self.depth -= 1;
        Ok(())
    }

    fn resolve(&self, reference: &Value, id: &str) -> Result<&'a Value, Problem> {
        let invalid = || Problem::Invalid(format!("the reference at {id} leads nowhere in the schema"));
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).ok_or_else(invalid)?;
        let mut target = self.root;
        for part in pointer.split('/').skip(1) {
            let key = part.replace("~1", "/").replace("~0", "~");
            target = match target.as_ref() {
                ValueRef::Object(object) => object.get(&key).ok_or_else(invalid)?,
                ValueRef::Array(items) => {
                    key.parse::<usize>().ok().and_then(|index| items.get(index)).ok_or_else(invalid)?
                }
                _ => return Err(invalid()),
            };
        }
        Ok(target)
    }

    fn report(&mut self, value: &Value, path: &str, id: &str, error_type: &'static str, message: String) {
        self.mismatches.push(Mismatch {
            message,
            path: path.to_owned(),
            value: value.clone(),
            schema_id: id.to_owned(),
            error_type,
        });
    }

    fn check_type(&mut self, rules: &Object, value: &Value, path: &str, id: &str) -> Result<(), Problem> {
        let Some(wanted) = rules.get("type") else { return Ok(()) };
        let names: Vec<&str> = match wanted.as_ref() {
            ValueRef::String(name) => vec![name],
            ValueRef::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => {
                return Err(Problem::Invalid(format!(
                    "the type at {id} is neither a name nor a list of names"
                )));
            }
        };
        for name in &names {
            if !TYPES.contains(name) {
                return Err(Problem::Invalid(format!("the type '{name}' at {id} does not exist")));
            }
        }
        if names.iter().any(|name| has_type(name, value)) {
            return Ok(());
        }
        let expected: Vec<String> = names.iter().map(|name| capitalised(name)).collect();
        let message = format!("Invalid type. Expected {} but got {}.", expected.join(", "), json_type(value));
        self.report(value, path, id, "type", message);
        Ok(())
    }

    fn check_choices(
        &mut self,
        rules: &'a Object,
        value: &Value,
        path: &str,
        id: &str,
    ) -> Result<(), Problem> {
        if let Some(allowed) = rules.get("enum") {
            let allowed = list(allowed, "enum", id)?;
            if !allowed.iter().any(|choice| choice.wdl_equals(value)) {
                let message = format!("Value {} is not defined in enum.", shown(value));
                self.report(value, path, id, "enum", message);
            }
        }
        if let Some(schemas) = rules.get("allOf") {
            for (index, schema) in list(schemas, "allOf", id)?.iter().enumerate() {
                self.check(schema, value, path, &format!("{id}/allOf/{index}"))?;
            }
        }
        for (keyword, exactly_one) in [("anyOf", false), ("oneOf", true)] {
            let Some(schemas) = rules.get(keyword) else { continue };
            let mut fitting = 0;
            for (index, schema) in list(schemas, keyword, id)?.iter().enumerate() {
                if self.fits(schema, value, path, &format!("{id}/{keyword}/{index}"))? {
                    fitting += 1;
                }
            }
            if fitting == 0 {
                let error_type = if exactly_one { "oneOf" } else { "anyOf" };
                self.report(
                    value,
                    path,
                    id,
                    error_type,
                    format!("JSON does not match any schemas from '{keyword}'."),
                );
            } else if exactly_one && fitting > 1 {
                let message = "JSON is valid against more than one schema from 'oneOf'.".to_owned();
                self.report(value, path, id, "oneOf", message);
            }
        }
        if let Some(schema) = rules.get("not")
            && self.fits(schema, value, path, &format!("{id}/not"))?
        {
            self.report(value, path, id, "not", "JSON is valid against schema from 'not'.".to_owned());
        }
        Ok(())
    }

    /// Whether a value fits, without keeping what does not.
    fn fits(&mut self, schema: &'a Value, value: &Value, path: &str, id: &str) -> Result<bool, Problem> {
        let before = self.mismatches.len();
        self.check(schema, value, path, id)?;
        let fits = self.mismatches.len() == before;
        self.mismatches.truncate(before);
        Ok(fits)
    }

    fn check_object(
        &mut self,
        rules: &'a Object,
        object: &Object,
        value: &Value,
        path: &str,
        id: &str,
    ) -> Result<(), Problem> {
        if let Some(required) = rules.get("required") {
            let names = list(required, "required", id)?.iter().filter_map(Value::as_str);
            let missing: Vec<&str> = names.filter(|name| object.get(name).is_none()).collect();
            if !missing.is_empty() {
                let message = format!("Required properties are missing from object: {}.", missing.join(", "));
                let missing: Vec<Value> = missing.into_iter().map(Value::from).collect();
                self.report(&Value::from(missing), path, id, "required", message);
            }
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        for (key, member) in object {
            let inner = join_path(path, key);
            match (properties.and_then(|known| known.get(key)), rules.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, member, &inner, &format!("{id}/properties/{key}"))?,
                (None, Some(extra)) => match extra.as_ref() {
                    ValueRef::Bool(false) => {
                        let message = format!(
                            "Property '{key}' has not been defined and the schema does not allow additional properties."
                        );
                        self.report(member, &inner, id, "additionalProperties", message);
                    }
                    ValueRef::Object(_) => {
                        self.check(extra, member, &inner, &format!("{id}/additionalProperties"))?;
                    }
                    _ => {}
                },
                (None, None) => {}
            }
        }
        if let Some(dependencies) = rules.get("dependencies").and_then(Value::as_object) {
            for (key, wanted) in dependencies.iter().filter(|(key, _)| object.get(key).is_some()) {
                let Some(names) = wanted.as_array() else {
                    self.check(wanted, value, path, &format!("{id}/dependencies/{key}"))?;
                    continue;
                };
                let names = names.iter().filter_map(Value::as_str);
                let missing: Vec<&str> = names.filter(|name| object.get(name).is_none()).collect();
                if !missing.is_empty() {
                    let message = format!(
                        "Dependencies for property '{key}' failed. Missing required keys: {}.",
                        missing.join(", ")
                    );
                    self.report(value, path, id, "dependencies", message);
                }
            }
        }
        self.check_size(
            rules,
            ("minProperties", "maxProperties"),
            "Object property count",
            object.len(),
            value,
            path,
            id,
        )
    }

    fn check_array(&mut self, rules: &'a Object, value: &Value, path: &str, id: &str) -> Result<(), Problem> {
        let Some(items) = value.as_array() else { return Ok(()) };
        let positional = rules.get("items").and_then(Value::as_array);
        for (index, item) in items.iter().enumerate() {
            let inner = format!("{path}[{index}]");
            match (positional, rules.get("items")) {
                (Some(schemas), _) => match (schemas.get(index), rules.get("additionalItems")) {
                    (Some(schema), _) => self.check(schema, item, &inner, &format!("{id}/items/{index}"))?,
                    (None, Some(extra)) if extra.as_bool() == Some(false) => {
                        let message = format!(
                            "Index {} has not been defined and the schema does not allow additional items.",
                            index + 1
                        );
                        self.report(item, &inner, id, "additionalItems", message);
                    }
                    (None, Some(extra)) if extra.as_object().is_some() => {
                        self.check(extra, item, &inner, &format!("{id}/additionalItems"))?;
                    }
                    (None, _) => {}
                },
                (None, Some(schema)) => self.check(schema, item, &inner, &format!("{id}/items"))?,
                (None, None) => {}
            }
        }
        if rules.get("uniqueItems").and_then(Value::as_bool) == Some(true)
            && let Some(index) = items.first_repeated()
        {
            let message = format!("Non-unique array item at index {index}.");
            self.report(&items[index], &format!("{path}[{index}]"), id, "uniqueItems", message);
        }
        self.check_size(rules, ("minItems", "maxItems"), "Array item count", items.len(), value, path, id)
    }

    fn check_text(
        &mut self,
        rules: &Object,
        text: &str,
        value: &Value,
        path: &str,
        id: &str,
    ) -> Result<(), Problem> {
        let length = text.encode_utf16().count();
        self.check_size(rules, ("minLength", "maxLength"), "String length", length, value, path, id)
    }

    fn check_size(
        &mut self,
        rules: &Object,
        (minimum, maximum): (&'static str, &'static str),
        what: &str,
        size: usize,
        value: &Value,
        path: &str,
        id: &str,
    ) -> Result<(), Problem> {
        let bound = |keyword: &str| match rules.get(keyword) {
            None => Ok(None),
            Some(bound) => match bound.as_i64().and_then(|bound| usize::try_from(bound).ok()) {
                Some(bound) => Ok(Some(bound)),
                None => Err(Problem::Invalid(format!("'{keyword}' at {id} is not a count"))),
            },
        };
        if let Some(bound) = bound(minimum)?.filter(|bound| size < *bound) {
            let message = format!("{what} {size} is less than minimum count of {bound}.");
            self.report(value, path, id, minimum, message);
        }
        if let Some(bound) = bound(maximum)?.filter(|bound| size > *bound) {
            let message = format!("{what} {size} exceeds maximum count of {bound}.");
            self.report(value, path, id, maximum, message);
        }
        Ok(())
    }

    fn check_number(&mut self, rules: &Object, value: &Value, path: &str, id: &str) -> Result<(), Problem> {
        let Some(number) = value.as_f64() else { return Ok(()) };
        let text = shown(value);
        let bound = |keyword: &str| match rules.get(keyword) {
            None => Ok(None),
            Some(bound) => bound
                .as_f64()
                .map(Some)
                .ok_or_else(|| Problem::Invalid(format!("'{keyword}' at {id} is not a number"))),
        };
        let exclusive = |keyword: &str| rules.get(keyword).and_then(Value::as_bool) == Some(true);
        if let Some(bound) = bound("minimum")? {
            if number < bound {
                self.report(
                    value,
                    path,
                    id,
                    "minimum",
                    format!("{text} is less than minimum value of {bound}."),
                );
            } else if (number - bound).abs() == 0.0 && exclusive("exclusiveMinimum") {
                let message =
                    format!("{text} equals minimum value of {bound} and exclusive minimum is true.");
                self.report(value, path, id, "minimum", message);
            }
        }
        if let Some(bound) = bound("maximum")? {
            if number > bound {
                self.report(value, path, id, "maximum", format!("{text} exceeds maximum value of {bound}."));
            } else if (number - bound).abs() == 0.0 && exclusive("exclusiveMaximum") {
                let message =
                    format!("{text} equals maximum value of {bound} and exclusive maximum is true.");
                self.report(value, path, id, "maximum", message);
            }
        }
        if let Some(step) = bound("multipleOf")? {
            if step <= 0.0 {
                return Err(Problem::Invalid(format!("'multipleOf' at {id} is not above zero")));
            }
            let quotient = number / step;
            if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
                let message = format!("{text} is not a multiple of {step}.");
                self.report(value, path, id, "multipleOf", message);
            }
        }
        Ok(())
    }
}

const TYPES: [&str; 8] = ["string", "number", "integer", "boolean", "object", "array", "null", "any"];

fn list<'a>(value: &'a Value, keyword: &str, id: &str) -> Result<&'a loom_expression::Array, Problem> {
    value.as_array().ok_or_else(|| Problem::Invalid(format!("'{keyword}' at {id} is not an array")))
}

fn has_type(name: &str, value: &Value) -> bool {
    matches!(
        (name, value.as_ref()),
        ("any", _)
            | ("string", ValueRef::String(_))
            | ("number", ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_))
            | ("integer", ValueRef::Int(_))
            | ("boolean", ValueRef::Bool(_))
            | ("object", ValueRef::Object(_))
            | ("array", ValueRef::Array(_))
            | ("null", ValueRef::Null)
    )
}

fn json_type(value: &Value) -> &'static str {
    match value.as_ref() {
        ValueRef::Null => "Null",
        ValueRef::Bool(_) => "Boolean",
        ValueRef::Int(_) => "Integer",
        ValueRef::Float(_) | ValueRef::Decimal(_) => "Number",
        ValueRef::String(_) => "String",
        ValueRef::Array(_) => "Array",
        ValueRef::Object(_) => "Object",
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The path of a member, as Json.NET writes it.
fn join_path(path: &str, key: &str) -> String {
    let plain = key.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}['{key}']"),
    }
}
