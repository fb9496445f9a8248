//! Properties that hold for all inputs.

use loom_expression::{NoNames, Object, Options, RecordedContext, Template, Value, syntax};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-zA-Z0-9_$-]{0,8}", Just("ähnlich".to_owned()), Just("content-type".to_owned())]
        .prop_filter("literals are not names", |name| {
            !["true", "false", "null"].contains(&name.to_ascii_lowercase().as_str())
        })
}

/// The text of any expression that the grammar allows.
fn expression() -> impl Strategy<Value = String> {
    let literal = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:?}")),
        Just("true".to_owned()),
        Just("NULL".to_owned()),
        "\\PC{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ];
    literal.prop_recursive(4, 40, 4, |inner| {
        let accessor = prop_oneof![
            (any::<bool>(), name())
                .prop_map(|(optional, name)| format!("{}.{name}", if optional { "?" } else { "" })),
            (any::<bool>(), inner.clone())
                .prop_map(|(optional, key)| format!("{}[{key}]", if optional { " ? " } else { "" })),
        ];
        (name(), prop::collection::vec(inner, 0..4), prop::collection::vec(accessor, 0..3)).prop_map(
            |(name, arguments, accessors)| format!("{name}({}){}", arguments.join(" , "), accessors.concat()),
        )
    })
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just(Value::NULL),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    plain.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<loom_expression::Object>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Splitting a string into chunks of any size and joining them gives the same string, even if characters are cut.
    #[test]
    fn chunks_of_a_string_join_to_the_same_string(
        units in prop::collection::vec(prop_oneof![0x61..0x64_u16, 0xD83C..0xD840_u16, 0xDE00..0xDE04_u16], 0..12),
        size in 1..5_i64,
    ) {
        let text = Value::from_utf16(&units);
        let mut variables = Object::new();
        variables.insert("t", text.clone());
        variables.insert("n", size);
        let mut context = Object::new();
        context.insert("variables", variables);
        let context = RecordedContext::from_json(&Value::from(context)).unwrap();
        let joined = "@join(chunk(variables('t'), variables('n')), '')";
        let joined = Template::compile_str(joined, &NoNames, &Options::default()).unwrap();
        prop_assert_eq!(joined.evaluate(&context).unwrap(), text);
    }

    #[test]
    fn printing_then_parsing_is_identity(text in expression()) {
        let options = Options::default();
        let first = syntax::parse_expression(&text, 0..text.len(), &options).unwrap();
        let printed = first.to_string();
        let second = syntax::parse_expression(&printed, 0..printed.len(), &options).unwrap();
        prop_assert_eq!(first, second);
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "[@{}()'\\[\\].,?a-e0-9 é\n]{0,60}") {
        for loom_spelling in [false, true] {
            let options = Options { loom_spelling, ..Options::default() };
            let Err(errors) = Template::compile_str(&text, &NoNames, &options) else { continue };
            for error in errors {
                prop_assert!(text.get(error.span.clone()).is_some(), "{error:?} points outside {text:?}");
                loom_expression::caret(&text, error.span);
            }
        }
    }

    #[test]
    fn json_text_reads_back_the_same(value in value()) {
        let text = value.to_json_text();
        prop_assert_eq!(&Value::from_json_str(&text).unwrap(), &value);
        prop_assert_eq!(&Value::from_json_str(&value.to_json_text_pretty()).unwrap(), &value);
        // Serde and our own parser give the same value.
        prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value);
        prop_assert_eq!(&serde_json::to_string(&value).and_then(|text| serde_json::from_str::<Value>(&text)).unwrap(), &value);
    }

    #[test]
    fn json_parser_takes_what_serde_takes(bytes in prop::collection::vec(prop::sample::select(b"[]{}\",:0123456789.eE+-tru nul\\\x01".to_vec()), 0..24)) {
        let ours = Value::parse_json(&bytes).is_ok();
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
        prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn functions_are_deterministic_and_never_panic(
        at in 0..loom_expression::functions().len(),
        arguments in prop::collection::vec(value(), 0..4),
    ) {
        let info = &loom_expression::functions()[at];
        let names: Vec<String> = (0..arguments.len()).map(|at| format!("parameters('p{at}')")).collect();
        let parameters = arguments.into_iter().enumerate().map(|(at, value)| (format!("p{at}"), value));
        let data = [("parameters", Value::from(parameters.collect::<loom_expression::Object>()))];
        let data = Value::from(data.into_iter().collect::<loom_expression::Object>());
        let text = format!("@{}({})", info.name, names.join(","));
        if let Ok(template) = Template::compile_str(&text, &NoNames, &Options::default()) {
            let run = || template.evaluate(&RecordedContext::from_json(&data).unwrap());
            match (run(), run()) {
                (Ok(left), Ok(right)) => prop_assert_eq!(left, right),
                (Err(left), Err(right)) => prop_assert_eq!(left, right),
                (left, right) => prop_assert!(false, "{left:?} and {right:?}"),
            }
        }
    }

    #[test]
    fn timestamps_keep_their_ticks(ticks in 0_i64..3_155_378_975_999_999_999) {
        let stamp = loom_expression::Timestamp::from_ticks(ticks).unwrap().to_string();
        let text = format!("@ticks('{stamp}')");
        let template = Template::compile_str(&text, &NoNames, &Options::default()).unwrap();
        prop_assert_eq!(template.evaluate(&RecordedContext::default()).unwrap(), Value::from(ticks));
    }
}
