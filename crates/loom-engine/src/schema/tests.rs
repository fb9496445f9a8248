use loom_expression::{Object, Value};

use super::{Mismatch, Problem, validate};

fn value(json: &str) -> Value {
    Value::from_json_str(json).unwrap()
}

fn messages(schema: &str, document: &str) -> Vec<String> {
    let found = validate_freely(&value(schema), &value(document)).unwrap();
    found.into_iter().map(|mismatch| format!("{} {}", mismatch.path, mismatch.message)).collect()
}

#[test]
fn known_formats_are_validated() {
    for (format, fitting, unfit) in [
        ("date-time", "2024-02-29T23:59:59.1234567+02:00", "2024-02-29 23:59:59Z"),
        ("date-time", "2024-02-29T23:59:59", "2024-02-30T00:00:00Z"),
        ("date", "2000-02-29", "1900-02-29"),
        ("time", "23:59:59", "24:00:00"),
        ("email", "a@b", "a.b"),
        ("email", "o'neil+x@b.c", ".a@b"),
        ("email", "\\\"a b\\\"@[127.0.0.1]", "a..b@c"),
        ("email", "é@ü.example", "a.@b"),
        ("uri", "http://[::1]:80/%41?a[]=1", "http://h/%4"),
        ("uri", "http://u:p@h", "http://h:port/"),
        ("uri", "mailto:a@b", "http:/[::1]"),
        ("uri", "http://h/a", "http://[::ffff:01.2.3.4]"),
        ("uri-reference", "a%20b", "a%2"),
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
fn an_invalid_part_is_found_even_if_no_value_is_validated_against_it() {
    for broken in [
        r#"{"properties": {"a": {"type": "nosuch"}}}"#,
        r#"{"items": {"minLength": -1}}"#,
        r#"{"definitions": {"a": {"multipleOf": 0}}}"#,
        r#"{"properties": []}"#,
        r##"{"properties": {"a": {"$ref": "#/definitions/none"}}}"##,
        r#"{"anyOf": {"type": "string"}}"#,
    ] {
        let found = validate_freely(&value(broken), &Value::NULL);
        assert!(matches!(found, Err(Problem::Invalid(_))), "{broken}: {found:?}");
    }
    let pattern = validate_freely(&value(r#"{"items": [{"not": {"pattern": "a"}}]}"#), &Value::NULL);
    assert!(matches!(pattern, Err(Problem::Unsupported(_))));
    assert_eq!(
        validate_freely(&value(r#"{"properties": {"pattern": {"type": "string"}}}"#), &Value::NULL),
        Ok(vec![])
    );
}

#[test]
fn recursive_references_end() {
    let schema = value(r##"{"properties": {"a": {"$ref": "#"}}, "type": "object"}"##);
    let found = validate_freely(&schema, &value(r#"{"a": {"a": {"a": 1}}}"#)).unwrap();
    assert_eq!((found[0].path.as_str(), found[0].schema_id.as_str()), ("a.a.a", "#"));
    let turning = validate_freely(&value(r##"{"$ref": "#"}"##), &Value::NULL);
    assert!(matches!(turning, Err(Problem::Invalid(_))));
}

#[test]
fn names_in_paths_are_quoted_where_necessary() {
    let schema = r#"{"additionalProperties": {"additionalProperties": {"type": "null"}}}"#;
    assert_eq!(
        messages(schema, r#"{"@odata.x": {"$id": 1}, "it's": {"a-b": 1}}"#),
        [
            "['@odata.x'].$id Invalid type. Expected Null but got Integer.",
            "['it\\'s'].a-b Invalid type. Expected Null but got Integer.",
        ]
    );
}

#[test]
fn whole_numbers_are_integers_in_any_notation() {
    for whole in ["28.0", "1e3", "-0.0", "12345678901234567890123456789012345678901234567890"] {
        assert_eq!(messages(r#"{"type": "integer"}"#, whole), Vec::<String>::new(), "{whole}");
    }
    for fraction in ["1.5", "0.1e-3", "-2.000001"] {
        assert_eq!(messages(r#"{"type": "integer"}"#, fraction).len(), 1, "{fraction}");
    }
    assert_eq!(messages(r#"{"multipleOf": 0.5}"#, "1e308"), Vec::<String>::new());
}

#[test]
fn references_are_pointers_and_may_be_escaped_twice() {
    let schema = r##"{"definitions": {"a%b": {"type": "null"}, "c\"~d/e": {"type": "null"}},
        "items": [{"$ref": "#/definitions/a%25b"}, {"$ref": "#/definitions/c%22~0d~1e"}]}"##;
    assert_eq!(messages(schema, "[null, null]"), Vec::<String>::new());
    assert_eq!(messages(schema, "[1, 1]").len(), 2);
    for (reference, says) in [
        ("#foo", "must be a pointer"),
        ("http://h/s#", "must be a pointer"),
        ("#/definitions/%", "does not exist"),
    ] {
        let schema = format!(r##"{{"definitions": {{"a": {{"id": "#foo"}}}}, "$ref": "{reference}"}}"##);
        let Err(Problem::Invalid(why)) = validate_freely(&value(&schema), &Value::NULL) else {
            panic!("{reference} is followed")
        };
        assert!(why.contains(says), "{why}");
    }
}

/// Validates with the default budget.
fn validate_freely(schema: &Value, value: &Value) -> Result<Vec<Mismatch>, Problem> {
    validate(schema, value, crate::Budgets::default().schema_nodes_max)
}

#[test]
fn exponential_schemas_exceed_the_limit() {
    // Each level of the value is validated against two schemas, both of which validate the next level: 2^60.
    let schema = Value::from_json_str(
        r##"{"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}"##,
    );
    let value =
        (0..60).fold(Value::from(1), |inner, _| [("a", inner)].into_iter().collect::<Object>().into());
    let problem = validate(&schema.unwrap(), &value, 10_000).unwrap_err();
    let Problem::TooCostly(why) = problem else { panic!("{problem:?}") };
    assert!(why.contains("10000 nodes") && why.contains("schema-nodes-max"), "{why}");
    // A validation that visits exactly the maximum is accepted.
    let items: Value = (0..4_000).map(Value::from).collect();
    let schema = Value::from_json_str(r#"{"items": {"type": "integer"}}"#).unwrap();
    assert_eq!(validate(&schema, &items, 4_001), Ok(Vec::new()));
    assert!(matches!(validate(&schema, &items, 4_000), Err(Problem::TooCostly(_))));
}

#[test]
fn long_strings_and_large_enums_count_towards_the_limit() {
    let limits = vec![r#"{"maxLength": 1}"#; 100].join(",");
    let schema = Value::from_json_str(&format!(r#"{{"allOf": [{limits}]}}"#)).unwrap();
    let text = Value::from("x".repeat(1 << 20));
    assert!(matches!(validate(&schema, &text, 100_000), Err(Problem::TooCostly(_))));
    assert_eq!(validate(&schema, &Value::from("xx"), 100_000).unwrap().len(), 1);
    let choices: Value = (0..1_000).map(Value::from).collect();
    let schema: Object =
        [("items", [("enum", choices.clone())].into_iter().collect::<Object>())].into_iter().collect();
    let schema = Value::from(schema);
    assert!(matches!(validate(&schema, &choices, 100_000), Err(Problem::TooCostly(_))));
    assert_eq!(validate(&schema, &choices, 10_000_000), Ok(Vec::new()));
}

#[test]
fn the_deepest_schemas_need_little_stack() {
    let work = || {
        let schema = (0..120).fold(Value::from(Object::new()), |inner, _| {
            [("properties", [("a", inner)].into_iter().collect::<Object>())]
                .into_iter()
                .collect::<Object>()
                .into()
        });
        let value =
            (0..120).fold(Value::from(1), |inner, _| [("a", inner)].into_iter().collect::<Object>().into());
        assert_eq!(validate_freely(&schema, &value), Ok(Vec::new()));
        let turning = Value::from_json_str(r##"{"anyOf": [{"$ref": "#"}]}"##).unwrap();
        assert!(matches!(validate_freely(&turning, &value), Err(Problem::Invalid(_))));
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}
