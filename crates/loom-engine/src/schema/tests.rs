use loom_expression::Value;

use super::{Problem, validate};

fn value(json: &str) -> Value {
    Value::from_json_str(json).unwrap()
}

fn messages(schema: &str, document: &str) -> Vec<String> {
    let found = validate(&value(schema), &value(document)).unwrap();
    found.into_iter().map(|mismatch| format!("{} {}", mismatch.path, mismatch.message)).collect()
}

#[test]
fn formats_that_are_known_are_looked_at() {
    for (format, fitting, unfit) in [
        ("date-time", "2024-02-29T23:59:59.1234567+02:00", "2024-02-29 23:59:59Z"),
        ("date-time", "2024-02-29T23:59:59", "2024-02-30T00:00:00Z"),
        ("date", "2000-02-29", "1900-02-29"),
        ("time", "23:59:59", "24:00:00"),
        ("email", "a@b", "a.b"),
        ("uri", "urn:isbn:1", "/only/a/path"),
        ("uri", "https://a/b?c#d", "https://a/b c"),
        ("uri-reference", "../a", "a b"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "10.0.0.1"),
        ("hostname", "a-b.example", "-a.example"),
    ] {
        let schema = format!("{{\"format\": \"{format}\"}}");
        assert!(messages(&schema, &format!("\"{fitting}\"")).is_empty(), "{format}: {fitting}");
        let message = format!(" String '{unfit}' does not validate against format '{format}'.");
        assert_eq!(messages(&schema, &format!("\"{unfit}\"")), [message]);
    }
    assert!(messages(r#"{"format": "of our own"}"#, "\"x\"").is_empty());
    assert!(messages(r#"{"format": "date"}"#, "5").is_empty());
}

#[test]
fn lengths_count_characters() {
    assert!(messages(r#"{"maxLength": 1}"#, "\"🌍\"").is_empty());
}

#[test]
fn a_broken_part_is_found_where_no_value_meets_it() {
    for broken in [
        r#"{"properties": {"a": {"type": "nosuch"}}}"#,
        r#"{"items": {"minLength": -1}}"#,
        r#"{"definitions": {"a": {"multipleOf": 0}}}"#,
        r#"{"properties": []}"#,
        r##"{"properties": {"a": {"$ref": "#/definitions/none"}}}"##,
        r#"{"anyOf": {"type": "string"}}"#,
    ] {
        let found = validate(&value(broken), &Value::NULL);
        assert!(matches!(found, Err(Problem::Invalid(_))), "{broken}: {found:?}");
    }
    let pattern = validate(&value(r#"{"items": [{"not": {"pattern": "a"}}]}"#), &Value::NULL);
    assert!(matches!(pattern, Err(Problem::Unsupported(_))));
    assert_eq!(
        validate(&value(r#"{"properties": {"pattern": {"type": "string"}}}"#), &Value::NULL),
        Ok(vec![])
    );
}

#[test]
fn a_reference_to_itself_ends() {
    let schema = value(r##"{"properties": {"a": {"$ref": "#"}}, "type": "object"}"##);
    let found = validate(&schema, &value(r#"{"a": {"a": {"a": 1}}}"#)).unwrap();
    assert_eq!((found[0].path.as_str(), found[0].schema_id.as_str()), ("a.a.a", "#"));
    let turning = validate(&value(r##"{"$ref": "#"}"##), &Value::NULL);
    assert!(matches!(turning, Err(Problem::Invalid(_))));
}

#[test]
fn names_in_paths_are_quoted_where_they_must() {
    let schema = r#"{"additionalProperties": {"additionalProperties": {"type": "null"}}}"#;
    assert_eq!(
        messages(schema, r#"{"@odata.x": {"$id": 1}, "it's": {"a-b": 1}}"#),
        [
            "['@odata.x'].$id Invalid type. Expected Null but got Integer.",
            "['it\\'s'].a-b Invalid type. Expected Null but got Integer.",
        ]
    );
}
