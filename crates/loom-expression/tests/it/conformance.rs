//! Runs the recorded and measured cases in `conformance`.

use loom_expression::{NoNames, Options, RecordedContext, Template, Timestamp, Value, conformance};

/// The current time for cases without one, which only check the format or that the year is after 2020.
const SOME_TIME_UNIX_MILLIS: i64 = 1_767_225_600_000;

fn run(case: &Value) -> Result<(), String> {
    let expression = case.get("expression").and_then(Value::as_str).ok_or("a case needs an expression")?;
    let context = case.get("context").cloned().unwrap_or_default();
    let mut context = RecordedContext::from_json(&context).map_err(|error| error.to_string())?;
    if !context.has_now() {
        context = context.with_now(Timestamp::from_unix_millis(SOME_TIME_UNIX_MILLIS));
    }
    let outcome = Template::compile_str(expression, &NoNames, &Options::default())
        .map_err(|errors| errors[0].to_string())
        .and_then(|template| template.evaluate(&context).map_err(|error| error.to_string()));
    if case.get("error").is_some() {
        let wanted = case.get("errorContains").and_then(Value::as_str).unwrap_or_default();
        return match outcome {
            Err(message) if message.contains(wanted) => Ok(()),
            Err(message) => Err(format!("the message '{message}' does not contain '{wanted}'")),
            Ok(value) => Err(format!("should fail, gave {}", value.to_json_text())),
        };
    }
    let value = outcome?;
    let right = if let Some(pattern) = case.get("matches").and_then(Value::as_str) {
        let pattern = regex_lite::Regex::new(pattern).map_err(|error| error.to_string())?;
        value.as_str().is_some_and(|text| pattern.is_match(text))
    } else if let Some(range) = case.get("range") {
        let end = |at| range.index(at).and_then(Value::as_f64).unwrap_or(f64::NAN);
        value.as_f64().is_some_and(|number| end(0) <= number && number <= end(1))
    } else {
        let expected = case.get("expected").ok_or("a case needs an expectation")?;
        conformance::matches(expected, &value)
    };
    if right { Ok(()) } else { Err(format!("gave {}", value.to_json_text())) }
}

#[test]
fn every_recorded_case_passes() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let mut wrong = Vec::new();
    for suite in ["expressions", "measured-service-expressions", "measured-dotnet-expressions"]
        .into_iter()
        .chain(["measured-newtonsoft-expressions", "asked-expressions"])
    {
        let text = std::fs::read(directory.join(suite).with_extension("json")).unwrap();
        let cases = Value::parse_json(&text).unwrap();
        let cases = cases.as_array().unwrap();
        let before = wrong.len();
        for case in cases {
            if let Err(why) = run(case) {
                let text = |name| case.get(name).unwrap().to_json_text();
                wrong.push(format!("{suite} {} {}: {why}", text("id"), text("expression")));
            }
        }
        let failed = wrong.len() - before;
        println!("{suite}: {} passed, {failed} failed", cases.len() - failed);
    }
    assert!(wrong.is_empty(), "{} failed:\n{}", wrong.len(), wrong.join("\n"));
}
