//! JSON Schema, draft 4, for ParseJson and Request triggers.
//!
//! Validates a [`Value`] directly, and reports mismatches with the messages, order and shape of the language's
//! `outputs.errors`. Regular expressions are rejected, as in the language. References are resolved only within the schema.

mod format;
mod kinds;
mod place;
mod problem;
mod sound;

use loom_expression::{Object, Value, ValueRef};

use crate::event::shown;
use place::{Path, Pointer};
use sound::{DEPTH_MAX, TYPES};

pub use problem::Problem;

#[cfg(test)]
mod tests;

/// One violation of a schema.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mismatch {
    /// A message in the language's wording.
    pub message: String,
    /// The path of the value, such as `a.b[0]`.
    pub path: String,
    /// The offending string, number or boolean, or the names that are missing.
    pub value: Option<Value>,
    /// The violated schema, as a pointer into the root schema.
    pub schema_id: String,
    /// The violated keyword.
    pub error_type: &'static str,
    /// The violations of the parts of an `allOf`, `anyOf` or `oneOf`.
    pub children: Vec<Mismatch>,
}

impl Mismatch {
    /// The violation as an item of `outputs.errors`.
    pub fn to_value(&self) -> Value {
        let children: Vec<Value> = self.children.iter().map(Mismatch::to_value).collect();
        let members = [
            ("message", Some(Value::from(self.message.as_str()))),
            ("lineNumber", Some(Value::from(0i64))),
            ("linePosition", Some(Value::from(0i64))),
            ("path", Some(Value::from(self.path.as_str()))),
            ("value", self.value.clone()),
            ("schemaId", Some(Value::from(self.schema_id.as_str()))),
            ("errorType", Some(Value::from(self.error_type))),
            ("childErrors", Some(Value::from(children))),
        ];
        let present = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
        present.collect::<Object>().into()
    }
}

/// Validates `value` against `schema` and returns all violations, in document order.
///
/// # Errors
/// [`Problem`] when any part of the schema is invalid or uses regular expressions, whether or not the value is validated
/// against that part, or when the validation visits more than `nodes_max` nodes.
pub fn validate(schema: &Value, value: &Value, nodes_max: u64) -> Result<Vec<Mismatch>, Problem> {
    sound::check(schema)?;
    let mut checker =
        Checker { root: schema, mismatches: Vec::new(), depth: 0, nodes_left: nodes_max, nodes_max };
    checker.check(schema, value, &Path::Root, &Pointer::Root)?;
    Ok(checker.mismatches)
}

struct Checker<'a> {
    root: &'a Value,
    mismatches: Vec<Mismatch>,
    depth: u32,
    nodes_left: u64,
    nodes_max: u64,
}

/// A value that is validated, and where it is.
#[derive(Clone, Copy)]
struct Spot<'p> {
    value: &'p Value,
    path: &'p Path<'p>,
    id: &'p Pointer<'p>,
}

impl<'a> Checker<'a> {
    fn check(
        &mut self,
        schema: &'a Value,
        value: &Value,
        path: &Path<'_>,
        id: &Pointer<'_>,
    ) -> Result<(), Problem> {
        self.pay(1)?;
        let Some(rules) = schema.as_object() else { return Ok(()) };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Problem::Invalid(format!("the schema at {id} is nested too deeply")));
        }
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let target = sound::resolve(self.root, reference)?;
            self.check(target, value, path, &Pointer::Referred(reference))?;
        } else {
            self.apply(rules, Spot { value, path, id })?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Applies the rules in the language's order: the type, whose mismatch skips the rules for its kind; the rules for the
    /// kind of value, and `enum` and `const`; combined schemas; the rules that apply at the end of an object or array.
    fn apply(&mut self, rules: &'a Object, spot: Spot<'_>) -> Result<(), Problem> {
        let fits = self.check_type(rules, spot);
        if fits {
            match spot.value.as_ref() {
                ValueRef::Object(object) => self.check_members(rules, object, spot)?,
                ValueRef::Array(_) => self.check_items(rules, spot)?,
                ValueRef::String(text) => {
                    // A message about a string quotes it.
                    self.pay(text.len() as u64 / 256)?;
                    self.check_text(rules, text, spot);
                }
                ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => {
                    self.check_number(rules, spot);
                }
                ValueRef::Null | ValueRef::Bool(_) => {}
            }
            self.check_choices(rules, spot)?;
        }
        self.check_combinations(rules, spot)?;
        match spot.value.as_ref() {
            ValueRef::Object(object) if fits => self.end_object(rules, object, spot),
            ValueRef::Array(items) if fits => self.end_array(rules, items.len(), spot),
            _ => {}
        }
        Ok(())
    }

    /// Counts nodes towards the limit.
    fn pay(&mut self, nodes: u64) -> Result<(), Problem> {
        match self.nodes_left.checked_sub(nodes) {
            Some(left) => {
                self.nodes_left = left;
                Ok(())
            }
            None => Err(Problem::TooCostly(format!(
                "The validation exceeds {} nodes of the value and its schema (setting schema-nodes-max). Use fewer \
                 combined schemas, validate less at once, or raise the setting.",
                self.nodes_max
            ))),
        }
    }

    fn report(&mut self, spot: Spot<'_>, error_type: &'static str, message: String) {
        let value = match spot.value.as_ref() {
            ValueRef::Null | ValueRef::Object(_) | ValueRef::Array(_) => None,
            _ => Some(spot.value.clone()),
        };
        self.report_with(spot, error_type, message, value);
    }

    fn report_with(
        &mut self,
        spot: Spot<'_>,
        error_type: &'static str,
        message: String,
        value: Option<Value>,
    ) {
        self.mismatches.push(Mismatch {
            message,
            path: spot.path.to_string(),
            value,
            schema_id: spot.id.to_string(),
            error_type,
            children: Vec::new(),
        });
    }

    fn check_type(&mut self, rules: &Object, spot: Spot<'_>) -> bool {
        let Some(wanted) = rules.get("type") else { return true };
        let names: Vec<&str> = match wanted.as_ref() {
            ValueRef::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => wanted.as_str().into_iter().collect(),
        };
        if names.iter().any(|name| has_type(name, spot.value)) {
            return true;
        }
        // In the language's order, each type once.
        let expected: Vec<String> =
            TYPES.iter().filter(|name| names.contains(name)).map(|name| capitalised(name)).collect();
        let found = json_type(spot.value);
        let message = format!("Invalid type. Expected {} but got {found}.", expected.join(", "));
        self.report(spot, "type", message);
        false
    }

    fn check_choices(&mut self, rules: &Object, spot: Spot<'_>) -> Result<(), Problem> {
        let compared = ["enum", "const"].into_iter().filter_map(|keyword| rules.get(keyword));
        // Comparing each choice with the value costs in proportion to the smaller of the two.
        let compared: u64 = compared
            .map(|choices| {
                choices.as_array().map_or(1, |choices| choices.len() as u64)
                    + choices.bytes().min(spot.value.bytes()) / 64
            })
            .sum();
        self.pay(compared)?;
        if let Some(allowed) = rules.get("enum").and_then(Value::as_array)
            && !allowed.iter().any(|choice| choice.wdl_equals(spot.value))
        {
            self.report(spot, "enum", format!("Value {} is not defined in enum.", shown(spot.value)));
        }
        if let Some(only) = rules.get("const")
            && !only.wdl_equals(spot.value)
        {
            self.report(spot, "const", format!("Value {} does not match const.", shown(spot.value)));
        }
        Ok(())
    }

    fn check_combinations(&mut self, rules: &'a Object, spot: Spot<'_>) -> Result<(), Problem> {
        if let Some((failing, children)) = self.tried(rules, "allOf", spot, false)?
            && !failing.is_empty()
        {
            let indexes = joined(&failing);
            let message =
                format!("JSON does not match all schemas from 'allOf'. Invalid schema indexes: {indexes}.");
            self.report_combined(spot, "allOf", message, children);
        }
        if let Some((fitting, children)) = self.tried(rules, "anyOf", spot, true)?
            && fitting.is_empty()
        {
            let message = "JSON does not match any schemas from 'anyOf'.".to_owned();
            self.report_combined(spot, "anyOf", message, children);
        }
        if let Some((fitting, children)) = self.tried(rules, "oneOf", spot, true)? {
            match fitting.len() {
                0 => {
                    let message = "JSON is valid against no schemas from 'oneOf'.".to_owned();
                    self.report_combined(spot, "oneOf", message, children);
                }
                1 => {}
                _ => {
                    let indexes = joined(&fitting);
                    let message = format!(
                        "JSON is valid against more than one schema from 'oneOf'. Valid schema indexes: {indexes}."
                    );
                    self.report_combined(spot, "oneOf", message, children);
                }
            }
        }
        if let Some(schema) = rules.get("not")
            && self.misfits(schema, spot, &Pointer::Key(spot.id, "not"))?.is_empty()
        {
            let message = "JSON is valid against schema from 'not'.".to_owned();
            self.report_combined(spot, "not", message, Vec::new());
        }
        let dependencies = rules.get("dependencies").and_then(Value::as_object);
        for (key, wanted) in dependencies.into_iter().flatten() {
            if wanted.as_object().is_none()
                || spot.value.as_object().is_none_or(|object| object.get(key).is_none())
            {
                continue;
            }
            let holder = Pointer::Key(spot.id, "dependencies");
            let children = self.misfits(wanted, spot, &Pointer::Key(&holder, key))?;
            if !children.is_empty() {
                let message = format!("Dependencies for property '{key}' failed.");
                self.report_combined(spot, "dependencies", message, children);
            }
        }
        Ok(())
    }

    /// Validates against each schema under `keyword`: the indexes of those that match (with `fitting`) or do not match, and
    /// all violations, those of the last schema first. None without the keyword.
    fn tried(
        &mut self,
        rules: &'a Object,
        keyword: &'static str,
        spot: Spot<'_>,
        fitting: bool,
    ) -> Result<Option<Tried>, Problem> {
        let Some(schemas) = rules.get(keyword).and_then(Value::as_array) else { return Ok(None) };
        let holder = Pointer::Key(spot.id, keyword);
        let (mut indexes, mut misfits) = (Vec::new(), Vec::new());
        for (index, schema) in schemas.iter().enumerate() {
            let found = self.misfits(schema, spot, &Pointer::Index(&holder, index))?;
            if found.is_empty() == fitting {
                indexes.push(index);
            }
            misfits.push(found);
        }
        Ok(Some((indexes, misfits.into_iter().rev().flatten().collect())))
    }

    /// The violations of a schema, without reporting them.
    fn misfits(
        &mut self,
        schema: &'a Value,
        spot: Spot<'_>,
        id: &Pointer<'_>,
    ) -> Result<Vec<Mismatch>, Problem> {
        let before = self.mismatches.len();
        self.check(schema, spot.value, spot.path, id)?;
        Ok(self.mismatches.split_off(before))
    }

    fn report_combined(
        &mut self,
        spot: Spot<'_>,
        error_type: &'static str,
        message: String,
        children: Vec<Mismatch>,
    ) {
        self.report_with(spot, error_type, message, None);
        if let Some(last) = self.mismatches.last_mut() {
            last.children = children;
        }
    }
}

/// The indexes of schemas, and violations.
type Tried = (Vec<usize>, Vec<Mismatch>);

fn joined(indexes: &[usize]) -> String {
    indexes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn has_type(name: &str, value: &Value) -> bool {
    matches!(
        (name, value.as_ref()),
        ("any", _)
            | ("string", ValueRef::String(_))
            | ("number", ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_))
            | ("boolean", ValueRef::Bool(_))
            | ("object", ValueRef::Object(_))
            | ("array", ValueRef::Array(_))
            | ("null", ValueRef::Null)
    ) || (name == "integer" && is_whole(value))
}

/// Whether a number has no fraction, in whatever notation.
fn is_whole(value: &Value) -> bool {
    match value.as_ref() {
        ValueRef::Int(_) => true,
        ValueRef::Float(number) => number.is_finite() && number.fract() == 0.0,
        ValueRef::Decimal(number) => number.is_integer(),
        _ => false,
    }
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
