//! Requests as JSON, as workflows and the API write them: `{"operation": "append", "key": "log", "value": 1, "max": 100}`.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use loom_expression::{Labels, Object, Value, nearest};

use crate::{Condition, Error, Expiry, Operation, Request, Revision};

/// The operations, with the properties that each of them has besides `operation`, `key` and the conditions.
const OPERATIONS: [(&str, &[&str]); 17] = [
    ("get", &[]),
    ("exists", &[]),
    ("set", &["value", "ttl"]),
    ("delete", &[]),
    ("append", &["value", "values", "max", "ttl"]),
    ("range", &["from", "to"]),
    ("trim", &["from", "to", "ttl"]),
    ("length", &[]),
    ("hashSet", &["field", "value", "fields", "ttl"]),
    ("hashGet", &["field"]),
    ("hashDelete", &["field", "fields", "ttl"]),
    ("hashAll", &[]),
    ("setAdd", &["value", "values", "ttl"]),
    ("setRemove", &["value", "values", "ttl"]),
    ("setMembers", &[]),
    ("setHas", &["value"]),
    ("increment", &["by", "ttl"]),
];

/// The properties that every operation has.
const COMMON: [&str; 4] = ["operation", "key", "ifRevision", "ifAbsent"];

impl Request {
    /// Reads a request from an object. `key` is the key without its namespace. `duration` reads `ttl` when it is a string.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] or [`Error::InvalidKey`].
    pub fn from_json(
        request: &Value,
        key: &str,
        duration: impl Fn(&str) -> Option<Duration>,
    ) -> Result<Request, Error> {
        let fields = Fields::of(request)?;
        let name = fields.text("operation")?;
        let known = OPERATIONS.iter().find(|(known, _)| *known == &*name);
        let Some((name, properties)) = known else {
            let names = OPERATIONS.iter().map(|(name, _)| *name);
            return Err(unknown("operation", &name, "", nearest(&name, names)));
        };
        let properties = || COMMON.iter().chain(properties.iter()).copied();
        if let Some(stranger) = fields.0.keys().find(|field| !properties().any(|known| known == &***field)) {
            let of = format!(" of `{name}`");
            return Err(unknown("property", stranger, &of, nearest(stranger, properties())));
        }
        let request = Request::new(key, fields.operation(name)?)?;
        Ok(request.if_only(fields.condition()?).expiring(fields.expiry(duration)?))
    }
}

fn unknown(what: &str, name: &str, of: &str, hint: Option<&str>) -> Error {
    let hint = hint.map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default();
    let name: String = name.chars().take(64).collect();
    invalid(format!("unknown {what} `{name}`{of}{hint}"))
}

fn invalid(why: String) -> Error {
    Error::InvalidRequest { why }
}

/// The properties of a request.
struct Fields<'a>(&'a Object);

impl Fields<'_> {
    fn of(request: &Value) -> Result<Fields<'_>, Error> {
        let object = request.as_object();
        object
            .map(Fields)
            .ok_or_else(|| invalid(format!("an operation must be an object (got {})", request.kind())))
    }

    fn operation(&self, name: &str) -> Result<Operation, Error> {
        let from_to =
            || Ok::<_, Error>((self.integer("from")?.unwrap_or(0), self.integer("to")?.unwrap_or(-1)));
        Ok(match name {
            "get" => Operation::Get,
            "exists" => Operation::Exists,
            "set" => Operation::Set { value: self.value("value")? },
            "delete" => Operation::Delete,
            "append" => Operation::Append { values: self.values()?, max: self.max()? },
            "range" => {
                let (from, to) = from_to()?;
                Operation::Range { from, to }
            }
            "trim" => {
                let (from, to) = from_to()?;
                Operation::Trim { from, to }
            }
            "length" => Operation::Length,
            "hashSet" => Operation::HashSet { fields: self.fields()? },
            "hashGet" => Operation::HashGet { field: self.text("field")? },
            "hashDelete" => Operation::HashDelete { fields: self.names()? },
            "hashAll" => Operation::HashAll,
            "setAdd" => Operation::SetAdd { members: self.values()? },
            "setRemove" => Operation::SetRemove { members: self.values()? },
            "setMembers" => Operation::SetMembers,
            "setHas" => Operation::SetHas { member: self.value("value")? },
            _ => Operation::Increment {
                by: self.integer("by")?.unwrap_or(1),
                labels: self.0.get("by").map_or(Labels::NONE, Value::labels),
            },
        })
    }

    fn condition(&self) -> Result<Condition, Error> {
        let absent = match self.present("ifAbsent") {
            None => false,
            Some(absent) => absent.as_bool().ok_or_else(|| wrong("ifAbsent", "a boolean", absent))?,
        };
        let revision = match self.present("ifRevision") {
            None => None,
            Some(revision) => {
                let number = revision.as_i64().and_then(|number| u64::try_from(number).ok());
                Some(Revision(number.ok_or_else(|| wrong("ifRevision", "a revision", revision))?))
            }
        };
        match (absent, revision) {
            (true, Some(_)) => {
                Err(invalid("`ifAbsent` and `ifRevision` exclude each other; remove one".to_owned()))
            }
            (true, None) => Ok(Condition::Absent),
            (false, Some(revision)) => Ok(Condition::Revision(revision)),
            (false, None) => Ok(Condition::Any),
        }
    }

    fn expiry(&self, duration: impl Fn(&str) -> Option<Duration>) -> Result<Expiry, Error> {
        let Some(ttl) = self.present("ttl") else { return Ok(Expiry::Unchanged) };
        let expected = "a number of seconds or a duration such as PT1H; 0 means no expiry";
        let time = match (ttl.as_str(), ttl.as_f64()) {
            (Some(text), _) => duration(text),
            (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
            (None, None) => None,
        };
        let time = time.ok_or_else(|| wrong("ttl", expected, ttl))?;
        Ok(if time.is_zero() { Expiry::Never } else { Expiry::After(time) })
    }

    /// A property that is there and not null.
    fn present(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn value(&self, name: &'static str) -> Result<Value, Error> {
        self.0.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn text(&self, name: &'static str) -> Result<Arc<str>, Error> {
        let value = self.present(name).ok_or_else(|| missing(name))?;
        value.as_arc_str().cloned().ok_or_else(|| wrong(name, "a string", value))
    }

    fn integer(&self, name: &'static str) -> Result<Option<i64>, Error> {
        let Some(value) = self.present(name) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| wrong(name, "an integer", value))
    }

    fn max(&self) -> Result<Option<NonZeroU64>, Error> {
        let Some(max) = self.present("max") else { return Ok(None) };
        let number = max.as_i64().and_then(|number| u64::try_from(number).ok()).and_then(NonZeroU64::new);
        number.map(Some).ok_or_else(|| wrong("max", "a positive integer", max))
    }

    /// `values`, or `value` alone.
    fn values(&self) -> Result<Vec<Value>, Error> {
        match (self.0.get("value"), self.present("values")) {
            (Some(_), Some(_)) => {
                Err(invalid("`value` and `values` exclude each other; remove one".to_owned()))
            }
            (Some(value), None) => Ok(vec![value.clone()]),
            (None, Some(values)) => {
                let items = values.as_array().ok_or_else(|| wrong("values", "an array", values))?;
                Ok(items.to_vec())
            }
            (None, None) => Err(missing("value")),
        }
    }

    /// `fields`, or `field` and `value` alone.
    fn fields(&self) -> Result<Object, Error> {
        if let Some(fields) = self.present("fields") {
            if self.0.get("field").is_some() || self.0.get("value").is_some() {
                return Err(invalid(
                    "`fields` excludes `field` and `value`; remove one or the other".to_owned(),
                ));
            }
            return fields.as_object().cloned().ok_or_else(|| wrong("fields", "an object", fields));
        }
        Ok(Object::single(self.text("field")?, self.value("value")?))
    }

    /// `fields`, or `field` alone.
    fn names(&self) -> Result<Vec<Arc<str>>, Error> {
        let Some(fields) = self.present("fields") else { return Ok(vec![self.text("field")?]) };
        let names =
            fields.as_array().and_then(|names| names.iter().map(|name| name.as_arc_str().cloned()).collect());
        names.ok_or_else(|| wrong("fields", "an array of strings", fields))
    }
}

fn missing(name: &str) -> Error {
    invalid(format!("`{name}` is missing"))
}

fn wrong(name: &str, expected: &str, found: &Value) -> Error {
    let found = if found.contains_secret() { format!("{}, a secret", found.kind()) } else { short(found) };
    invalid(format!("`{name}` must be {expected} (got {found})"))
}

fn short(value: &Value) -> String {
    let text = value.to_json_text();
    if text.chars().count() <= 64 { text } else { text.chars().take(63).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, String> {
        let request = Value::from_json_str(text).expect(text);
        let hour = |text: &str| (text == "PT1H").then_some(Duration::from_hours(1));
        Request::from_json(&request, "k", hour).map_err(|why| why.to_string())
    }

    #[test]
    fn every_operation_is_read() {
        for (name, properties) in OPERATIONS {
            let has = |property| properties.contains(&property);
            let mut text = format!(r#"{{"operation":"{name}","key":"k","ifRevision":3"#);
            for (property, value) in [
                ("value", "1"),
                ("field", "\"f\""),
                ("max", "2"),
                ("from", "1"),
                ("to", "2"),
                ("by", "-2"),
                ("ttl", "\"PT1H\""),
            ] {
                if has(property) {
                    text.extend([",\"", property, "\":", value]);
                }
            }
            text.push('}');
            let request = read(&text).expect(&text);
            assert_eq!(request.operation.name(), name);
            assert_eq!(request.condition, Condition::Revision(Revision(3)));
            assert_eq!(request.operation.writes(), has("ttl") || name == "delete", "{name}");
            let expiry = if has("ttl") { Expiry::After(Duration::from_hours(1)) } else { Expiry::Unchanged };
            assert_eq!(request.expiry, expiry);
        }
    }

    #[test]
    fn short_and_long_forms_mean_the_same() {
        let same = |one: &str, other: &str| {
            assert_eq!(format!("{:?}", read(one).expect(one)), format!("{:?}", read(other).expect(other)));
        };
        same(r#"{"operation":"append","value":[1]}"#, r#"{"operation":"append","values":[[1]],"max":null}"#);
        same(
            r#"{"operation":"hashSet","field":"a","value":1}"#,
            r#"{"operation":"hashSet","fields":{"a":1}}"#,
        );
        same(r#"{"operation":"hashDelete","field":"a"}"#, r#"{"operation":"hashDelete","fields":["a"]}"#);
        same(r#"{"operation":"increment"}"#, r#"{"operation":"increment","by":1,"ifAbsent":false}"#);
        same(r#"{"operation":"range"}"#, r#"{"operation":"range","from":0,"to":-1}"#);
        same(
            r#"{"operation":"set","value":null,"ttl":3600}"#,
            r#"{"operation":"set","value":null,"ttl":"PT1H"}"#,
        );
        assert_eq!(read(r#"{"operation":"set","value":1,"ttl":0}"#).expect("a set").expiry, Expiry::Never);
    }

    #[test]
    fn a_wrong_request_says_what_was_expected() {
        for (text, expected) in [
            ("[]", "an operation must be an object (got Array)"),
            ("{}", "`operation` is missing"),
            (r#"{"operation":"apend","value":1}"#, "unknown operation `apend`; did you mean `append`?"),
            (r#"{"operation":"get","tll":1}"#, "unknown property `tll` of `get`"),
            (
                r#"{"operation":"set","value":1,"tll":1}"#,
                "unknown property `tll` of `set`; did you mean `ttl`?",
            ),
            (r#"{"operation":"set"}"#, "`value` is missing"),
            (
                r#"{"operation":"append","value":1,"values":[]}"#,
                "`value` and `values` exclude each other; remove one",
            ),
            (r#"{"operation":"append","values":1}"#, "`values` must be an array (got 1)"),
            (r#"{"operation":"append","value":1,"max":0}"#, "`max` must be a positive integer (got 0)"),
            (r#"{"operation":"increment","by":1.5}"#, "`by` must be an integer (got 1.5)"),
            (r#"{"operation":"hashSet","fields":[1]}"#, "`fields` must be an object (got [1])"),
            (r#"{"operation":"hashDelete","fields":[1]}"#, "`fields` must be an array of strings (got [1])"),
            (r#"{"operation":"get","ifRevision":"x"}"#, "`ifRevision` must be a revision (got \"x\")"),
            (
                r#"{"operation":"get","ifRevision":1,"ifAbsent":true}"#,
                "`ifAbsent` and `ifRevision` exclude each other; remove one",
            ),
            (
                r#"{"operation":"set","value":1,"ttl":"1h"}"#,
                "`ttl` must be a number of seconds or a duration such as PT1H; 0 means no expiry (got \"1h\")",
            ),
            (
                r#"{"operation":"set","value":1,"ttl":-1}"#,
                "`ttl` must be a number of seconds or a duration such as PT1H; 0 means no expiry (got -1)",
            ),
        ] {
            assert_eq!(
                read(text).expect_err(text),
                format!("the operation is not valid: {expected}"),
                "{text}"
            );
        }
    }
}
