//! Property names in schemas: `@@odata.type` in a definition is the name `@odata.type`.
//!
//! A schema is no template, so nothing in it is computed. But it stands among inputs, where a name cannot begin with a
//! single `@`, and so the escape is taken away from the names that the schema speaks of.

use loom_expression::{Array, Object, Value};

/// The schema with the escapes taken away in `properties` and `required`, however deep they stand.
pub(crate) fn unescaped(schema: &Value) -> Value {
    match (schema.as_object(), schema.as_array()) {
        (Some(rules), _) => {
            rules.iter().map(|(rule, value)| (&**rule, keyword(rule, value))).collect::<Object>().into()
        }
        // `items`, `allOf` and their like hold lists of schemas.
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
        // The names in here are those of schemas, or patterns.
        ("definitions" | "patternProperties", Some(members), _) => {
            members.iter().map(|(name, schema)| (&**name, unescaped(schema))).collect::<Object>().into()
        }
        // These hold values, not schemas.
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
    fn names_lose_their_escape_and_values_stay() {
        check(
            r#"{"properties":{"@@odata.type":{"type":"string","enum":["@@a"]},"x@odata.bind":{}},"required":["@@odata.type"]}"#,
            r#"{"properties":{"@odata.type":{"type":"string","enum":["@@a"]},"x@odata.bind":{}},"required":["@odata.type"]}"#,
        );
        check(
            r#"{"items":{"allOf":[{"required":["@@a","b"]}]},"default":{"properties":{"@@d":1}}}"#,
            r#"{"items":{"allOf":[{"required":["@a","b"]}]},"default":{"properties":{"@@d":1}}}"#,
        );
        // A property may have the name of a rule.
        check(
            r#"{"properties":{"properties":{"properties":{"@@a":{}}},"required":{"type":"array"}}}"#,
            r#"{"properties":{"properties":{"properties":{"@a":{}}},"required":{"type":"array"}}}"#,
        );
        check(r#"{"dependencies":{"@@a":["@@b"]}}"#, r#"{"dependencies":{"@a":["@b"]}}"#);
    }
}
