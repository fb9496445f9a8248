//! Descriptions that are made to exhaust the process, or to lead out of their directory.

use std::{fmt::Write as _, sync::Arc};

use loom_connectors::{Connection, Connector, Error, NoFiles, OPERATIONS_MAX, Object, Value};

use crate::support::{connector, json, with_paths};

fn read(document: &str) -> Result<Connector, Error> {
    Connector::read("hostile", document.as_bytes(), None, Arc::new(NoFiles))
}

#[test]
fn a_million_paths_are_refused() {
    let mut paths = String::new();
    for at in 0..=OPERATIONS_MAX {
        let comma = if at == 0 { "" } else { "," };
        write!(paths, r#"{comma}"/p{at}":{{"get":{{}}}}"#).unwrap();
    }
    let error = read(&format!(r#"{{"swagger": "2.0", "paths": {{{paths}}}}}"#)).unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "operations", limit: OPERATIONS_MAX });
}

#[test]
fn deep_documents_are_refused() {
    let deep = format!(r#"{{"swagger": "2.0", "paths": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(read(&deep), Err(Error::Json { .. })));
}

#[test]
fn schemas_that_double_are_bounded() {
    // Sixty levels, each of which refers twice to the next: 2^60 schemas to visit.
    let mut definitions = String::new();
    for at in 0..60 {
        let next = at + 1;
        write!(
            definitions,
            r##""D{at}": {{"allOf": [{{"$ref": "#/definitions/D{next}"}}, {{"$ref": "#/definitions/D{next}"}}]}},"##
        )
        .unwrap();
    }
    let document = format!(
        r##"{{"swagger": "2.0", "host": "h", "definitions": {{{definitions} "D60": {{}}}}, "paths": {{"/x": {{"post": {{"operationId": "X",
        "parameters": [{{"name": "body", "in": "body", "schema": {{"$ref": "#/definitions/D0"}}}}]}}}}}}}}"##
    );
    let connector = read(&document).unwrap();
    let arguments = json(r#"{"body": {"a": 1}}"#);
    for error in [
        connector.call("X", &arguments, &Connection::default(), None).unwrap_err(),
        connector.fields("X").unwrap_err(),
        connector.example("X", true).unwrap_err(),
    ] {
        assert!(matches!(error, Error::TooComplex { .. }), "{error}");
    }
}

#[test]
fn schemas_in_a_circle_are_bounded() {
    let document = r##"{"swagger": "2.0", "host": "h", "definitions": {
        "Self": {"allOf": [{"$ref": "#/definitions/Self"}]},
        "Tree": {"type": "object", "required": ["left", "right"], "properties": {
            "left": {"$ref": "#/definitions/Tree"}, "right": {"$ref": "#/definitions/Tree"}, "v": {"type": "string"}}}},
        "paths": {
            "/self": {"post": {"operationId": "Self", "parameters": [{"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Self"}}]}},
            "/tree": {"post": {"operationId": "Tree", "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Tree"}}]}}}}"##;
    let connector = read(document).unwrap();
    assert!(matches!(connector.operation("Self"), Err(Error::TooComplex { .. })));
    // A value of the tree would be infinite; the problems end where the value ends.
    let error =
        connector.call("Tree", &json(r#"{"body": {"left": {}}}"#), &Connection::default(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "required parameter `body/left/left` is missing; required parameter `body/left/right` is missing; required parameter `body/right` is missing"
    );
    assert_eq!(connector.example("Tree", true).unwrap(), Object::new());
    assert!(!connector.fields("Tree").unwrap().is_empty());
}

#[test]
fn references_cannot_leave_the_document() {
    let shop = connector("shop");
    for id in ["Away", "Up", "Circle"] {
        assert!(matches!(shop.operation(id), Err(Error::Reference { .. })), "{id}");
    }
    let file = with_paths(
        r#"{"/x": {"get": {"operationId": "X", "parameters": [{"$ref": "file:///etc/passwd"}]}}}"#,
    );
    assert!(file.operation("X").unwrap_err().to_string().contains("is an address"));
}

#[test]
fn addresses_are_only_those_of_http() {
    for host in ["ftp://x", "javascript:alert(1)//", "a b"] {
        let properties = format!(
            r#"{{"properties": {{"policyTemplateInstances": [{{"templateId": "dynamichosturl", "parameters": {{
            "x-ms-apimTemplateParameter.urlTemplate": "{host}"}}}}]}}}}"#
        );
        let document = r#"{"swagger": "2.0", "host": "h", "paths": {"/x": {"get": {"operationId": "X"}}}}"#;
        let connector =
            Connector::read("c", document.as_bytes(), Some(properties.as_bytes()), Arc::new(NoFiles))
                .unwrap();
        let call = connector.call("X", &Value::NULL, &Connection::default(), None);
        match call.and_then(|call| call.request(&[])) {
            Err(Error::Policy { .. }) => {}
            Ok(request) => {
                assert!(request.url.text().starts_with("https://"), "{host}: {}", request.url.text());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn arguments_cannot_leave_their_place() {
    let connector = with_paths(
        r#"{"/a/{id}/b": {"get": {"operationId": "X", "parameters": [{"name": "id", "in": "path", "required": true, "type": "string"},
            {"name": "q", "in": "query", "type": "string"}]}}}"#,
    );
    let arguments = json(r#"{"id": "../../?x#y@host", "q": "1&admin=true#"}"#);
    let request =
        connector.call("X", &arguments, &Connection::default(), None).unwrap().request(&[]).unwrap();
    assert_eq!(
        request.url.as_str(),
        Some("https://example.com/a/..%2F..%2F%3Fx%23y%40host/b?q=1%26admin%3Dtrue%23")
    );
}
