//! Validation agrees with an independent implementation of JSON Schema draft 4, for the part of the draft that the language
//! shares: no regular expressions, no formats, numbers whose kind is the same in both, and references within the schema.

use loom_engine::{Budgets, schema};
use loom_expression::Value;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value as Json, json};

const NAMES: [&str; 3] = ["a", "b", "c"];
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// A number that every implementation takes as an integer, or that has a fraction.
fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        (-4i64..5).prop_map(|number| json!(number)),
        (-4i32..5).prop_map(|number| json!(f64::from(number) + 0.5)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    "[a-cé]{0,4}"
}

fn instance() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number(),
        text().prop_map(Json::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            vec((select(&NAMES[..]), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&str, Json)>) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn small() -> impl Strategy<Value = Json> {
    (0u64..4).prop_map(|number| json!(number))
}

/// One keyword without subschemas, or two that belong together.
fn simple() -> impl Strategy<Value = Vec<(&'static str, Json)>> {
    prop_oneof![
        3 => select(&TYPES[..]).prop_map(|name| vec![("type", json!(name))]),
        1 => vec(select(&TYPES[..]), 1..3).prop_map(|mut names| {
            names.sort_unstable();
            names.dedup();
            vec![("type", json!(names))]
        }),
        1 => small().prop_map(|size| vec![("minLength", size)]),
        1 => small().prop_map(|size| vec![("maxLength", size)]),
        1 => small().prop_map(|size| vec![("minItems", size)]),
        1 => small().prop_map(|size| vec![("maxItems", size)]),
        1 => small().prop_map(|size| vec![("minProperties", size)]),
        1 => small().prop_map(|size| vec![("maxProperties", size)]),
        1 => Just(vec![("uniqueItems", json!(true))]),
        1 => (1i64..4).prop_map(|step| vec![("multipleOf", json!(step))]),
        1 => (number(), any::<bool>())
            .prop_map(|(least, exclusive)| vec![("minimum", least), ("exclusiveMinimum", json!(exclusive))]),
        1 => (number(), any::<bool>())
            .prop_map(|(most, exclusive)| vec![("maximum", most), ("exclusiveMaximum", json!(exclusive))]),
        1 => select(&NAMES[..]).prop_map(|name| vec![("required", json!([name]))]),
        1 => vec(instance(), 1..4).prop_map(|mut values| {
            values.dedup();
            let mut distinct: Vec<Json> = Vec::new();
            for value in values {
                if !distinct.contains(&value) {
                    distinct.push(value);
                }
            }
            vec![("enum", Json::Array(distinct))]
        }),
        1 => (select(&NAMES[..]), select(&NAMES[..]))
            .prop_map(|(name, other)| vec![("dependencies", json!({name: [other]}))]),
        1 => Just(vec![("$ref", json!("#/definitions/shared"))]),
    ]
}

fn merged(keywords: Vec<Vec<(&'static str, Json)>>) -> Json {
    let mut schema = Map::new();
    for (name, value) in keywords.into_iter().flatten() {
        schema.entry(name).or_insert(value);
    }
    // The draft ignores keywords next to a reference.
    match schema.remove("$ref") {
        Some(reference) => json!({"$ref": reference}),
        None => Json::Object(schema),
    }
}

/// A schema whose references point to `definitions.shared` of the root.
fn subschema() -> impl Strategy<Value = Json> {
    let leaf = vec(simple(), 0..3).prop_map(merged);
    leaf.prop_recursive(3, 20, 3, |inner| {
        let nested = prop_oneof![
            vec((select(&NAMES[..]), inner.clone()), 0..3)
                .prop_map(|members| vec![("properties", object(members))]),
            inner.clone().prop_map(|schema| vec![("items", schema)]),
            (vec(inner.clone(), 1..3), any::<bool>()).prop_map(|(schemas, more)| {
                vec![("items", Json::Array(schemas)), ("additionalItems", json!(more))]
            }),
            (any::<bool>(), vec((select(&NAMES[..]), inner.clone()), 0..3)).prop_map(|(more, members)| {
                vec![("properties", object(members)), ("additionalProperties", json!(more))]
            }),
            inner.clone().prop_map(|schema| vec![("additionalProperties", schema)]),
            vec(inner.clone(), 1..3).prop_map(|schemas| vec![("allOf", Json::Array(schemas))]),
            vec(inner.clone(), 1..3).prop_map(|schemas| vec![("anyOf", Json::Array(schemas))]),
            vec(inner.clone(), 1..3).prop_map(|schemas| vec![("oneOf", Json::Array(schemas))]),
            inner.clone().prop_map(|schema| vec![("not", schema)]),
            (select(&NAMES[..]), inner)
                .prop_map(|(name, schema)| vec![("dependencies", json!({name: schema}))]),
        ];
        (nested, option::of(simple())).prop_map(|(nested, simple)| {
            let beside = simple.filter(|keywords| keywords.iter().all(|(name, _)| *name != "$ref"));
            merged([Some(nested), beside].into_iter().flatten().collect())
        })
    })
}

fn schema_with_definitions() -> impl Strategy<Value = Json> {
    // The shared schema has no references, so there are no cycles.
    let shared = vec(simple(), 0..3).prop_map(|mut keywords| {
        keywords.retain(|keywords| keywords.iter().all(|(name, _)| *name != "$ref"));
        merged(keywords)
    });
    (subschema(), shared)
        .prop_map(|(schema, shared)| json!({"allOf": [schema], "definitions": {"shared": shared}}))
}

/// Whether the value is valid for the engine; none if the engine rejects the schema.
fn ours(schema: &Json, instance: &Json) -> Option<bool> {
    let value = |json: &Json| Value::from_json_str(&json.to_string()).expect("it is JSON");
    let mismatches = schema::validate(&value(schema), &value(instance), Budgets::default().schema_nodes_max);
    mismatches.ok().map(|mismatches| mismatches.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn validation_agrees_with_an_independent_implementation(
        schema in schema_with_definitions(),
        instances in vec(instance(), 1..6),
    ) {
        let theirs = jsonschema::draft4::new(&schema).expect("the schema is valid");
        for instance in &instances {
            prop_assert_eq!(
                ours(&schema, instance),
                Some(theirs.is_valid(instance)),
                "schema {}, value {}", schema, instance
            );
        }
    }
}
