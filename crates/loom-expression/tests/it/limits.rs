//! Hostile and careless input leads to errors, in bounded time and memory.

use loom_expression::{Code, JSON_DEPTH_MAX, Limits, NoNames, Options, RecordedContext, Template, Value};

fn compile_error(text: &str) -> Code {
    Template::compile_str(text, &NoNames, &Options::default()).unwrap_err()[0].code
}

fn evaluate_error(text: &str, parameters: &str) -> Code {
    let context = Value::from_json_str(&format!("{{\"parameters\": {parameters}}}")).unwrap();
    let context = RecordedContext::from_json(&context).unwrap();
    // These inputs must be rejected by their size, not by the number of steps.
    let limits = Limits { evaluation_steps_max: u64::MAX, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    Template::compile_str(text, &NoNames, &options).unwrap().evaluate(&context).unwrap_err().code
}

#[test]
fn deep_nesting_is_rejected() {
    assert_eq!(compile_error(&format!("@{}1{}", "not(".repeat(1_000), ")".repeat(1_000))), Code::TooDeep);
    assert_eq!(compile_error(&format!("@{}1{}", "f()[".repeat(1_000), "]".repeat(1_000))), Code::TooDeep);
    let levels = JSON_DEPTH_MAX + 1;
    assert!(Value::from_json_str(&format!("{}{}", "[".repeat(levels), "]".repeat(levels))).is_err());
    let levels = 1_000_000;
    assert!(Value::from_json_str(&"[".repeat(levels)).is_err());
    let nested = format!("\"{}{}\"", "<a>".repeat(5_000), "</a>".repeat(5_000));
    assert_eq!(evaluate_error("@xml(parameters('x'))", &format!("{{\"x\": {nested}}}")), Code::Conversion);
}

#[test]
fn long_expressions_are_rejected() {
    assert_eq!(compile_error(&format!("@concat('{}')", "x".repeat(10_000))), Code::TooLong);
    let plain = "x".repeat(5_000_000);
    let template = Template::compile_str(&plain, &NoNames, &Options::default()).unwrap();
    assert_eq!(template.as_constant().and_then(Value::as_str), Some(plain.as_str()));
    assert_eq!(compile_error(&format!("@{{{}", "'".repeat(1_000_001))), Code::UnterminatedSegment);
}

#[test]
fn the_size_of_results_is_bounded() {
    // Doubling a string thirty times would make a billion characters.
    let mut text = "parameters('x')".to_owned();
    for _ in 0..8 {
        text = format!("concat({text},{text})");
    }
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(1_000_000));
    assert_eq!(evaluate_error(&format!("@{text}"), &long), Code::LimitExceeded);
    assert_eq!(evaluate_error("@replace(parameters('x'), 'y', parameters('x'))", &long), Code::LimitExceeded);
    assert_eq!(
        evaluate_error("@chunk(concat(parameters('x'), parameters('x')), 1)", &long),
        Code::LimitExceeded
    );
    assert_eq!(evaluate_error("@range(0, 100001)", "{}"), Code::BadArgument);
    assert_eq!(
        evaluate_error("@range(parameters('n'), 5)", "{\"n\": 9223372036854775807}"),
        Code::BadArgument
    );
    assert_eq!(evaluate_error("@formatNumber(1, 'N999999999')", "{}"), Code::BadArgument);
}

#[test]
fn the_depth_of_values_is_bounded() {
    let mut value = Value::from(1);
    let template =
        Template::compile_str("@createArray(parameters('x'))", &NoNames, &Options::default()).unwrap();
    let mut levels = 0;
    let error = loop {
        let data: Value =
            [("parameters", [("x", value.clone())].into_iter().collect::<loom_expression::Object>())]
                .into_iter()
                .collect::<loom_expression::Object>()
                .into();
        match template.evaluate(&RecordedContext::from_json(&data).unwrap()) {
            Ok(deeper) => value = deeper,
            Err(error) => break error,
        }
        levels += 1;
        assert!(levels <= 1_000, "the limit does not stop it");
    };
    assert_eq!(error.code, Code::LimitExceeded);
    assert_eq!(levels, Limits::default().depth_max);
}

#[test]
fn costly_paths_fail() {
    let items = "<i>1</i>".repeat(20_000);
    let text = "@xpath(parameters('x'), 'count(//i[count(//i[. = 1]) > 0])')";
    let small = Limits { xpath_steps_max: 1_000_000, ..Limits::default() };
    let options = Options { limits: small, ..Options::default() };
    let context =
        Value::from_json_str(&format!("{{\"parameters\": {{\"x\": \"<r>{items}</r>\"}}}}")).unwrap();
    let template = Template::compile_str(text, &NoNames, &options).unwrap();
    let error = template.evaluate(&RecordedContext::from_json(&context).unwrap()).unwrap_err();
    assert_eq!(error.code, Code::LimitExceeded);
}

#[test]
fn set_operations_and_searches_are_fast_on_large_input() {
    // Each would take minutes if it compared every pair of items.
    let numbers: Vec<String> = (0..100_000).map(|n| format!("{n}.5")).collect();
    let numbers = format!("{{\"x\": [{}], \"t\": \"{}\"}}", numbers.join(","), "ab".repeat(500_000));
    let context = Value::from_json_str(&format!("{{\"parameters\": {numbers}}}")).unwrap();
    let context = RecordedContext::from_json(&context).unwrap();
    for (text, expected) in [
        ("@length(union(parameters('x'), parameters('x')))", 100_000),
        ("@length(intersection(parameters('x'), parameters('x')))", 100_000),
        ("@indexOf(parameters('t'), concat(substring(parameters('t'), 0, 200001), 'x'))", -1),
        ("@length(split(parameters('t'), 'a'))", 500_001),
    ] {
        let template = Template::compile_str(text, &NoNames, &Options::default()).unwrap();
        assert_eq!(template.evaluate(&context).unwrap(), Value::from(expected), "{text}");
    }
}
