//! Unescapes property names in schemas: `@@odata.type` in a definition is the name `@odata.type`.
//!
//! A schema contains no expressions. But it is part of an action's inputs, where a name that begins with `@` must be
//! escaped as `@@`, so the names in the schema are unescaped here.

use loom_expression::{Array, Object, Value};

/// Unescapes the property names in a schema and in all schemas inside it.
pub(crate) fn unescaped(schema: &Value) -> Value {
    match (schema.as_object(), schema.as_array()) {
        (Some(rules), _) => {
            rules.iter().map(|(rule, value)| (&**rule, keyword(rule, value))).collect::<Object>().into()
        }
        // `items`, `allOf` and similar keywords contain arrays of schemas.
        (None, Some(schemas)) => schemas.iter().map(unescaped).collect::<Array>().into(),
        (None, None) => schema.clone(),
    }
}

fn keyword(rule: &str, value: &Value) -> Value {
    match (rule, value.as_object(), value.as_array()) {
        ("properties", Some(members), _) => {
            members.iter().map(|(name, schema)| (plain(name), unescaped(schema))).collect::<Object>().into()
        }
        ("required", _, Some(names)) => names.iter().map(plain_text).collect::<Array>().into(),
        ("dependencies", Some(members), _) => members
            .iter()
            .map(|(name, dependency)| {
                let dependency = match dependency.as_array() {
                    Some(names) => names.iter().map(plain_text).collect::<Array>().into(),
                    None => unescaped(dependency),
                };
                (plain(name), dependency)
            })
            .collect::<Object>()
            .into(),
        // The names in these are names of schemas, or patterns.
        ("definitions" | "patternProperties", Some(members), _) => {
            members.iter().map(|(name, schema)| (&**name, unescaped(schema))).collect::<Object>().into()
        }
        // These contain values, not schemas.
        ("enum" | "default" | "const" | "examples", _, _) => value.clone(),
        _ => unescaped(value),
    }
}

fn plain(name: &str) -> &str {
    if name.starts_with("@@") { &name[1..] } else { name }
}

fn plain_text(name: &Value) -> Value {
    name.as_str().map_or_else(|| name.clone(), |name| Value::from(plain(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, expected: &str) {
        assert_eq!(unescaped(&Value::from_json_str(schema).unwrap()).to_json_text(), expected);
    }

    #[test]
    fn names_are_unescaped_and_values_are_not() {
        check(
            r#"{"properties":{"@@odata.type":{"type":"string","enum":["@@a"]},"x@odata.bind":{}},"required":["@@odata.type"]}"#,
            r#"{"properties":{"@odata.type":{"type":"string","enum":["@@a"]},"x@odata.bind":{}},"required":["@odata.type"]}"#,
        );
        check(
            r#"{"items":{"allOf":[{"required":["@@a","b"]}]},"default":{"properties":{"@@d":1}}}"#,
            r#"{"items":{"allOf":[{"required":["@a","b"]}]},"default":{"properties":{"@@d":1}}}"#,
        );
        // A property may have the name of a keyword.
        check(
            r#"{"properties":{"properties":{"properties":{"@@a":{}}},"required":{"type":"array"}}}"#,
            r#"{"properties":{"properties":{"properties":{"@a":{}}},"required":{"type":"array"}}}"#,
        );
        check(r#"{"dependencies":{"@@a":["@@b"]}}"#, r#"{"dependencies":{"@a":["@b"]}}"#);
    }
}
