//! Misspelled properties, in every object whose properties are known.

use loom_definition::{Definition, LoadOptions};

/// The misspelled properties of a definition: the marked text and the suggestion.
fn misspelled(text: &str) -> Vec<(String, String)> {
    let found = match Definition::parse(text.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found.0,
    };
    let found = found.into_iter().filter(|found| found.code == "L0105");
    found.map(|found| (text[found.span].to_owned(), found.hint.unwrap_or_default())).collect()
}

#[track_caller]
fn check(text: &str, written: &str, meant: &str) {
    let expected = (format!("\"{written}\""), format!("did you mean `{meant}`?"));
    assert_eq!(misspelled(text), [expected], "{text}");
}

fn action(text: &str) -> String {
    format!(r#"{{"triggers": {{"m": {{"type": "Request"}}}}, "actions": {{"A": {text}}}}}"#)
}

fn trigger(text: &str) -> String {
    format!(
        r#"{{"triggers": {{"t": {text}}}, "actions": {{"A": {{"type": "Compose", "inputs": {{"hedaers": 1}}}}}}}}"#
    )
}

#[test]
fn a_misspelled_property_is_reported_in_every_known_object() {
    let http = |rest: &str| {
        action(&format!(r#"{{"type": "Http", "inputs": {{"method": "GET", "uri": "http://h"{rest}}}}}"#))
    };
    for (text, written, meant) in [
        (http(r#", "hedaers": {}"#), "hedaers", "headers"),
        (http(r#", "retryPolcy": {"type": "none"}"#), "retryPolcy", "retryPolicy"),
        (
            http(r#", "authentication": {"type": "Basic", "usrname": "u", "password": "p"}"#),
            "usrname",
            "username",
        ),
        (action(r#"{"type": "Compose", "inputs": 1, "runAftr": {}}"#), "runAftr", "runAfter"),
        (action(r#"{"type": "Compose", "inputs": 1, "limit": {"timeuot": "PT1H"}}"#), "timeuot", "timeout"),
        (
            action(
                r#"{"type": "Foreach", "foreach": [], "actions": {}, "runtimeConfiguration": {"concurency": {"repetitions": 1}}}"#,
            ),
            "concurency",
            "concurrency",
        ),
        (
            action(
                r#"{"type": "Foreach", "foreach": [], "actions": {}, "runtimeConfiguration": {"concurrency": {"repetitons": 1}}}"#,
            ),
            "repetitons",
            "repetitions",
        ),
        (action(r#"{"type": "Response", "inputs": {"statuscod": 500}}"#), "statuscod", "statusCode"),
        (
            action(r#"{"type": "Terminate", "inputs": {"runStatus": "Failed", "runEror": {}}}"#),
            "runEror",
            "runError",
        ),
        (
            action(r#"{"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day", "cuont": 2}}}"#),
            "",
            "",
        ),
        (
            action(r#"{"type": "HttpWebhook", "inputs": {"subscribe": {"uri": "http://h", "boddy": 1}}}"#),
            "boddy",
            "body",
        ),
        (
            action(
                r#"{"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "string", "vlaue": ""}]}}"#,
            ),
            "vlaue",
            "value",
        ),
        (
            trigger(r#"{"type": "Recurrence", "recurrence": {"frequency": "Day", "timeZoen": "UTC"}}"#),
            "timeZoen",
            "timeZone",
        ),
        (
            trigger(r#"{"type": "Recurrence", "recurrence": {"frequency": "Day", "shedule": {}}}"#),
            "shedule",
            "schedule",
        ),
        (
            trigger(
                r#"{"type": "Recurrence", "recurrence": {"frequency": "Week", "schedule": {"wekDays": []}}}"#,
            ),
            "wekDays",
            "weekDays",
        ),
        (trigger(r#"{"type": "Request", "splitOnn": "@triggerBody()"}"#), "splitOnn", "splitOn"),
        (trigger(r#"{"type": "Request", "inputs": {"shema": {}}}"#), "shema", "schema"),
        (r#"{"triggers": {}, "actions": {}, "outputz": {}}"#.to_owned(), "outputz", "outputs"),
        (
            r#"{"triggers": {}, "actions": {}, "parameters": {"p": {"type": "int", "defaultVaule": 1}}}"#
                .to_owned(),
            "defaultVaule",
            "defaultValue",
        ),
    ] {
        if written.is_empty() {
            // A property is not a misspelling of one that exists as well.
            assert_eq!(misspelled(&text), [], "{text}");
        } else {
            check(&text, written, meant);
        }
    }
}

#[test]
fn names_that_users_choose_are_never_reported() {
    for text in [
        r#"{"type": "Http", "inputs": {"method": "GET", "uri": "http://h", "headers": {"methd": "x"}, "queries": {"uris": 1}, "body": {"hedaers": 1}}}"#,
        r#"{"type": "Compose", "inputs": {"runAftr": {}, "limitt": 1}}"#,
        r#"{"type": "ApiConnection", "inputs": {"host": {}, "parameters": {"bodyy": 1}, "method": "get", "path": "/"}}"#,
        r#"{"type": "Compose", "inputs": 1, "x-mine": 1, "annotations": {}}"#,
    ] {
        assert_eq!(misspelled(&action(text)), [], "{text}");
    }
}
