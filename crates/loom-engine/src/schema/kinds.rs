//! The rules for single kinds of values: objects, arrays, strings and numbers.

use loom_expression::{Object, Value, ValueRef};

use super::{
    Checker, Spot, format,
    place::{Path, Pointer},
    problem::Problem,
};
use crate::event::shown;

impl<'a> Checker<'a> {
    pub(super) fn check_members(
        &mut self,
        rules: &'a Object,
        object: &Object,
        spot: Spot<'_>,
    ) -> Result<(), Problem> {
        let properties = rules.get("properties").and_then(Value::as_object);
        let holder = Pointer::Key(spot.id, "properties");
        for (key, member) in object {
            let path = Path::Member(spot.path, key);
            if let Some(schema) = properties.and_then(|known| known.get(key)) {
                self.check(schema, member, &path, &Pointer::Key(&holder, key))?;
                continue;
            }
            let Some(extra) = rules.get("additionalProperties") else { continue };
            if extra.as_bool() == Some(false) {
                let message = format!(
                    "Property '{key}' has not been defined and the schema does not allow additional properties."
                );
                let spot = Spot { path: &path, ..spot };
                self.report_with(spot, "additionalProperties", message, Some(Value::from(&**key)));
            } else {
                self.check(extra, member, &path, &Pointer::Key(spot.id, "additionalProperties"))?;
            }
        }
        Ok(())
    }

    pub(super) fn end_object(&mut self, rules: &Object, object: &Object, spot: Spot<'_>) {
        let missing = missing(rules, object);
        if !missing.is_empty() {
            let message = format!("Required properties are missing from object: {}.", missing.join(", "));
            let missing: Vec<Value> = missing.into_iter().map(Value::from).collect();
            self.report_with(spot, "required", message, Some(Value::from(missing)));
        }
        let counted = ("minProperties", "maxProperties");
        self.check_count(rules, counted, "Object property count", object.len(), spot);
        let dependencies = rules.get("dependencies").and_then(Value::as_object);
        for (key, wanted) in dependencies.into_iter().flatten() {
            let Some(names) = wanted.as_array().filter(|_| object.get(key).is_some()) else { continue };
            let names = names.iter().filter_map(Value::as_str);
            let missing: Vec<&str> = names.filter(|name| object.get(name).is_none()).collect();
            if !missing.is_empty() {
                let missing = missing.join(", ");
                let message =
                    format!("Dependencies for property '{key}' failed. Missing required keys: {missing}.");
                self.report_with(spot, "dependencies", message, Some(Value::from(&**key)));
            }
        }
    }

    pub(super) fn check_items(&mut self, rules: &'a Object, spot: Spot<'_>) -> Result<(), Problem> {
        let Some(items) = spot.value.as_array() else { return Ok(()) };
        let schemas = rules.get("items");
        let positional = schemas.and_then(Value::as_array);
        let unique = rules.get("uniqueItems").and_then(Value::as_bool) == Some(true);
        if unique {
            self.pay(spot.value.bytes() / 64)?;
        }
        let repeated = if unique { items.repeated() } else { Vec::new() };
        let mut repeated = repeated.into_iter().peekable();
        let holder = Pointer::Key(spot.id, "items");
        for (index, item) in items.iter().enumerate() {
            let path = Path::Item(spot.path, index);
            match (positional.map(|schemas| schemas.get(index)), rules.get("additionalItems")) {
                (Some(Some(schema)), _) => {
                    self.check(schema, item, &path, &Pointer::Index(&holder, index))?;
                }
                (Some(None), Some(extra)) if extra.as_bool() == Some(false) => {
                    let message = format!(
                        "Index {} has not been defined and the schema does not allow additional items.",
                        index + 1
                    );
                    self.report(Spot { value: item, path: &path, ..spot }, "additionalItems", message);
                }
                (Some(None), Some(extra)) => {
                    self.check(extra, item, &path, &Pointer::Key(spot.id, "additionalItems"))?;
                }
                (Some(None), None) => {}
                (None, _) => {
                    if let Some(schema) = schemas {
                        self.check(schema, item, &path, &holder)?;
                    }
                }
            }
            if repeated.next_if_eq(&index).is_some() {
                let message = format!("Non-unique array item at index {index}.");
                let spot = Spot { path: &path, ..spot };
                self.report_with(spot, "uniqueItems", message, Some(item.clone()));
            }
        }
        Ok(())
    }

    pub(super) fn end_array(&mut self, rules: &Object, count: usize, spot: Spot<'_>) {
        self.check_count(rules, ("minItems", "maxItems"), "Array item count", count, spot);
    }

    fn check_count(
        &mut self,
        rules: &Object,
        (minimum, maximum): (&'static str, &'static str),
        what: &str,
        count: usize,
        spot: Spot<'_>,
    ) {
        let value = || i64::try_from(count).ok().map(Value::from);
        if let Some(most) = bound(rules, maximum).filter(|most| count > *most) {
            let message = format!("{what} {count} exceeds maximum count of {most}.");
            self.report_with(spot, maximum, message, value());
        }
        if let Some(least) = bound(rules, minimum).filter(|least| count < *least) {
            let message = format!("{what} {count} is less than minimum count of {least}.");
            self.report_with(spot, minimum, message, value());
        }
    }

    pub(super) fn check_text(&mut self, rules: &Object, text: &str, spot: Spot<'_>) {
        let quoted = || if spot.value.contains_secret() { shown(spot.value) } else { text.to_owned() };
        if let Some(most) = bound(rules, "maxLength").filter(|most| text.chars().count() > *most) {
            let message = format!("String '{}' exceeds maximum length of {most}.", quoted());
            self.report(spot, "maxLength", message);
        }
        if let Some(least) = bound(rules, "minLength").filter(|least| text.chars().count() < *least) {
            let message = format!("String '{}' is less than minimum length of {least}.", quoted());
            self.report(spot, "minLength", message);
        }
        if let Some(format) = rules.get("format").and_then(Value::as_str)
            && !format::accepts(format, text)
        {
            let message = format!("String '{}' does not validate against format '{format}'.", quoted());
            self.report(spot, "format", message);
        }
    }

    pub(super) fn check_number(&mut self, rules: &Object, spot: Spot<'_>) {
        let Some(number) = spot.value.as_f64() else { return };
        let kind = if spot.value.as_i64().is_some() { "Integer" } else { "Float" };
        let text = || format!("{kind} {}", shown(spot.value));
        let limit = |keyword: &str| rules.get(keyword).and_then(Value::as_f64);
        let exclusive = |keyword: &str| rules.get(keyword).and_then(Value::as_bool) == Some(true);
        if let Some(most) = limit("maximum") {
            if number > most {
                self.report(spot, "maximum", format!("{} exceeds maximum value of {most}.", text()));
            } else if (number - most).abs() == 0.0 && exclusive("exclusiveMaximum") {
                let message =
                    format!("{} equals maximum value of {most} and exclusive maximum is true.", text());
                self.report(spot, "maximum", message);
            }
        }
        if let Some(least) = limit("minimum") {
            if number < least {
                self.report(spot, "minimum", format!("{} is less than minimum value of {least}.", text()));
            } else if (number - least).abs() == 0.0 && exclusive("exclusiveMinimum") {
                let message =
                    format!("{} equals minimum value of {least} and exclusive minimum is true.", text());
                self.report(spot, "minimum", message);
            }
        }
        if let Some(step) = rules.get("multipleOf")
            && !is_multiple(spot.value, step)
        {
            let message = format!("{} is not a multiple of {}.", text(), step.text());
            self.report(spot, "multipleOf", message);
        }
    }
}

/// The required names that an object does not have: those in the `required` list, and those of properties with
/// `"required": true`, the form of draft 3.
fn missing<'r>(rules: &'r Object, object: &Object) -> Vec<&'r str> {
    let listed = rules.get("required").and_then(Value::as_array).into_iter().flatten();
    let properties = rules.get("properties").and_then(Value::as_object).into_iter().flatten();
    let marked = properties
        .filter(|(_, schema)| {
            let says = schema.as_object().and_then(|rules| rules.get("required"));
            says.and_then(Value::as_bool) == Some(true)
        })
        .map(|(name, _)| &**name);
    let names = listed.filter_map(Value::as_str).chain(marked);
    names.filter(|name| object.get(name).is_none()).collect()
}

fn bound(rules: &Object, keyword: &str) -> Option<usize> {
    rules.get(keyword).and_then(super::sound::count)
}

/// Compares integers exactly, other numbers within their precision.
fn is_multiple(value: &Value, step: &Value) -> bool {
    if let (ValueRef::Int(value), ValueRef::Int(step)) = (value.as_ref(), step.as_ref()) {
        return value.checked_rem(step).unwrap_or(0) == 0;
    }
    let (Some(value), Some(step)) = (value.as_f64(), step.as_f64()) else { return true };
    let quotient = value / step;
    if !quotient.is_finite() {
        return value % step == 0.0;
    }
    (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0)
}
