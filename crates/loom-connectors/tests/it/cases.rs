//! The calls in `conformance/connectors/cases.json`: each becomes the request, or is refused with the problems, that the file
//! says.

use std::fs;

use loom_connectors::{Call, Connection, Credentials, Error, Object, Problem, Step, Value};

use crate::support::{connector, directory, json};

#[test]
fn calls_become_requests() {
    let cases = json(&fs::read_to_string(directory().join("cases.json")).unwrap());
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let (expected, found) = (expected(case), found(case));
        if !expected.wdl_equals(&found) {
            let name = case.get("name").unwrap().text();
            wrong.push(format!(
                "{name}\n  expected {}\n  found    {}",
                expected.to_json_text(),
                found.to_json_text()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.as_array().unwrap().len(),
        wrong.join("\n")
    );
    assert!(cases.as_array().unwrap().len() > 40);
}

fn expected(case: &Value) -> Value {
    ["request", "problems", "error"].iter().find_map(|name| case.get(name)).unwrap().clone()
}

fn found(case: &Value) -> Value {
    let text = |name: &str| case.get(name).and_then(Value::as_str);
    let connector = connector(text("description").unwrap());
    let mut connection = Connection::new(case.get("connection").unwrap().as_object().unwrap().clone());
    if let Some(url) = text("baseUrl") {
        connection = connection.with_base_url(url);
    }
    let arguments = case.get("parameters").unwrap();
    match connector.call(text("operation").unwrap(), arguments, &connection, text("notificationUrl")) {
        Ok(call) => request(&call, case),
        Err(Error::Arguments(problems)) => problems.iter().map(problem).collect(),
        Err(error) => error.to_string().into(),
    }
}

fn request(call: &Call, case: &Value) -> Value {
    let lookups = case.get("lookups").and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(lookups.len(), call.lookups().len());
    let mut values = Vec::new();
    for (expected, lookup) in lookups.iter().zip(call.lookups()) {
        assert_eq!(lookup.request.url.as_str(), expected.get("uri").unwrap().as_str());
        values.push(lookup.value(expected.get("body").unwrap()));
    }
    let request = call.request(&values).unwrap();
    let mut inputs = request.to_inputs();
    if inputs.get("headers").is_none() {
        inputs.insert("headers", Object::new());
    }
    if let Credentials::Token(source) = &request.credentials {
        let members = [
            ("tokenUrl", source.token_url.clone()),
            ("clientId", source.client_id.clone()),
            ("clientSecret", source.client_secret.clone()),
            ("refreshToken", source.refresh_token.clone()),
            ("scope", source.scope.as_str().into()),
        ];
        inputs.insert("credentials", members.into_iter().collect::<Object>());
    }
    inputs.into()
}

fn problem(problem: &Problem) -> Value {
    let path: Value = problem
        .path
        .iter()
        .map(|step| match step {
            Step::Name(name) => Value::from(name.as_str()),
            Step::Index(index) => Value::from(i64::try_from(*index).unwrap()),
        })
        .collect();
    [("path", path), ("message", problem.message.as_str().into())].into_iter().collect::<Object>().into()
}
