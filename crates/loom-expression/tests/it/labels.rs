//! Calls every function with a secret as each argument. Neither its result nor its failure may reveal the secret.

use std::{collections::BTreeSet, fmt::Write as _};

use loom_expression::{NoNames, Object, Options, RecordedContext, Template, Value, functions};

/// The text that must not appear, in upper or lower case.
const CANARY: &str = "zq7canary";

/// The same text in base64, from the mixed case of the arguments and from lower case.
const ENCODED: [&str; 2] = ["WnE3Q2FuYXJ5", "enE3Y2FuYXJ5"];

/// Secret arguments: strings and containers with the canary, in the forms that functions accept.
const SECRETS: [&str; 12] = [
    r#""Zq7Canary""#,
    r#""Zq7Canary,Zq7Canary""#,
    r#"["Zq7Canary","b","Zq7Canary"]"#,
    r#"[{"k":"Zq7Canary"},{"k":"b"}]"#,
    r#"{"Zq7Canary":"Zq7Canary","k":{"Zq7Canary":1}}"#,
    r#""<a><b>Zq7Canary</b><b>Zq7Canary</b></a>""#,
    r#""{\"Zq7Canary\":[\"Zq7Canary\"]}""#,
    r#""WnE3Q2FuYXJ5""#,
    r#""data:text/plain;base64,WnE3Q2FuYXJ5""#,
    r#""https://Zq7Canary.example:8443/Zq7Canary?q=Zq7Canary""#,
    r#"{"$content-type":"text/plain","$content":"WnE3Q2FuYXJ5"}"#,
    r#"{"$content-type":"multipart/form-data","$multipart":[{"headers":{},"body":"Zq7Canary"}]}"#,
];

/// The values of the other arguments.
const FILLERS: [&str; 12] = [
    "'a'",
    "0",
    "2",
    "','",
    "'k'",
    "'//b/text()'",
    "createArray('a', 'b')",
    "json('{\"a\":1}')",
    "true",
    "'2026-11-30T00:00:00Z'",
    "'Day'",
    "'UTC'",
];

/// Functions that reveal nothing of a single argument even without labels: they return numbers and booleans, keep what all
/// arguments have in common, read the run, or refuse every call without a grant. The control must find the canary in the results
/// of all other functions.
const SHOW_NOTHING: [&str; 40] = [
    "endsWith",
    "indexOf",
    "lastIndexOf",
    "length",
    "nthIndexOf",
    "startsWith",
    "utf16Length",
    "utf8Length",
    "contains",
    "empty",
    "intersection",
    "range",
    "and",
    "equals",
    "greater",
    "greaterOrEquals",
    "less",
    "lessOrEquals",
    "not",
    "or",
    "isInt",
    "add",
    "div",
    "max",
    "min",
    "mod",
    "mul",
    "rand",
    "sub",
    "action",
    "declassify",
    "item",
    "listCallbackUrl",
    "trigger",
    "triggerBody",
    "triggerFormDataMultiValues",
    "triggerFormDataValue",
    "triggerMultipartBody",
    "triggerOutputs",
    "workflow",
];

/// A context from which the arguments are read with `secret` or, for the control, with a function that adds no label.
fn context(member: &str) -> RecordedContext {
    let values: Object = SECRETS
        .iter()
        .enumerate()
        .map(|(at, text)| (format!("s{at}"), Value::from_json_str(text).unwrap()))
        .collect();
    let mut data = Object::new();
    data.insert(member, values);
    RecordedContext::from_json(&data.into()).unwrap()
}

fn shows(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains(CANARY) || ENCODED.iter().any(|encoded| text.contains(&encoded.to_lowercase()))
}

/// The JSON text of everything that is not labelled.
fn open_text(value: &Value, out: &mut String) {
    if value.is_secret() {
        return;
    }
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| open_text(item, out));
    } else if let Some(members) = value.as_object() {
        for (name, member) in members {
            out.push_str(name);
            out.push(' ');
            open_text(member, out);
        }
    } else {
        let _ = write!(out, "{} ", value.text());
    }
}

/// The functions that reveal the canary if it is read with `reader`, and the functions with a labelled result.
fn leaks(reader: &str, context: &RecordedContext) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let mut leaks = BTreeSet::new();
    let mut labelled = BTreeSet::new();
    'functions: for function in functions() {
        let most = function.arity.max.unwrap_or(function.arity.min.max(2) + 1).min(3);
        for count in function.arity.min.max(1)..=most.max(function.arity.min) {
            for place in 0..count {
                let others = FILLERS.len().pow(count.min(3) as u32 - 1);
                for (secret, mut others) in
                    (0..SECRETS.len()).flat_map(|secret| (0..others).map(move |others| (secret, others)))
                {
                    let arguments: Vec<String> = (0..count)
                        .map(|at| {
                            if at == place {
                                return format!("{reader}('s{secret}')");
                            }
                            let filler = FILLERS[others % FILLERS.len()];
                            others /= FILLERS.len();
                            filler.to_owned()
                        })
                        .collect();
                    let text = format!("@{}({})", function.name, arguments.join(", "));
                    let Ok(template) = Template::compile_str(&text, &NoNames, &Options::default()) else {
                        continue;
                    };
                    let shown = match template.evaluate(context) {
                        Ok(value) => {
                            if value.contains_secret() {
                                labelled.insert(function.name);
                            }
                            let mut open = String::new();
                            open_text(&value, &mut open);
                            open
                        }
                        Err(error) => error.message,
                    };
                    if shows(&shown) {
                        leaks.insert(function.name);
                        continue 'functions;
                    }
                }
            }
        }
    }
    (leaks, labelled)
}

#[test]
fn no_function_reveals_a_secret_argument() {
    let (found, labelled) = leaks("secret", &context("secrets"));
    assert!(found.is_empty(), "{found:?}");
    // Nearly all functions take strings, arrays or objects; the others work on numbers and times, or read the run.
    assert!(labelled.len() > 80, "only {} functions returned a secret value: {labelled:?}", labelled.len());
    let (found, _) = leaks("parameters", &context("parameters"));
    let others: Vec<&str> =
        functions().iter().map(|function| function.name).filter(|name| !found.contains(name)).collect();
    assert_eq!(
        others, SHOW_NOTHING,
        "the control must find the canary in the results of all other functions"
    );
}

#[test]
fn failed_access_to_a_secret_does_not_quote_it() {
    let context = context("secrets");
    for text in [
        "@secret('s4')['nope']",
        "@secret('s2')[7]",
        "@secret('s4')['k']['nope']",
        "@json('{\"a\":1}')[first(secret('s2'))]",
        "@secret(secret('s0'))",
        "@parameters(secret('s0'))",
        "@appsetting(secret('s0'))",
        "@outputs(secret('s0'))",
        "@sort(createArray(json('{\"a\":1}')), secret('s0'))",
        "@int(secret('s0'))",
        "@{int(secret('s0'))}",
        "@json(concat('{', secret('s0')))",
        "@addDays(secret('s0'), 1)",
        "@xpath(xml(secret('s5')), concat(secret('s0'), '['))",
        "@if(secret('s0'), 1, 2)",
    ] {
        let template = Template::compile_str(text, &NoNames, &Options::default()).unwrap();
        let message = template.evaluate(&context).map(|value| value.to_json_text()).unwrap_err().message;
        assert!(!shows(&message), "{text}: {message}");
    }
}

#[test]
fn parts_of_a_secret_are_secret() {
    let context = context("secrets");
    for text in [
        "@secret('s2')[0]",
        "@secret('s4')?['k']?['Zq7Canary']",
        "@first(secret('s3'))?['k']",
        "@chunk(secret('s2'), 1)[0][0]",
        "@reverse(secret('s2'))[1]",
        "@take(secret('s2'), 1)[0]",
        "@skip(secret('s2'), 1)[0]",
        "@union(secret('s2'), createArray('c'))[0]",
        "@intersection(secret('s2'), createArray('b'))[0]",
        "@sort(secret('s2'))[0]",
        "@createArray(secret('s2'))[0][0]",
        "@split(secret('s1'), ',')[1]",
        "@xpath(xml(secret('s5')), '//b/text()')[0]",
        "@json(secret('s6'))?['Zq7Canary'][0]",
        "@coalesce(secret('s4')?['nope'], secret('s0'))",
        "@equals(secret('s0'), 'a')",
        "@contains(secret('s2'), 'a')",
        "@empty(secret('s2'))",
        "@length(secret('s0'))",
        "@greater(secret('s0'), 'a')",
        "@and(equals(secret('s0'), 'a'), true)",
        "@not(equals(secret('s0'), 'a'))",
        "@secret('s4')?['nope']",
    ] {
        let template = Template::compile_str(text, &NoNames, &Options::default()).unwrap();
        let value = template.evaluate(&context).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(value.is_secret(), "{text}: {}", value.to_json_text());
    }
}
