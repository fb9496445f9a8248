//! What a description says about its operations: the index, fields, triggers, paging, and responses.

use std::{fmt::Write as _, sync::Arc};

use loom_connectors::{
    Connection, Connector, Error, NoFiles, Object, Parts, TriggerKind, Unsubscribe, Value,
};

use crate::support::{connector, json, with_paths};

#[test]
fn only_descriptions_are_read() {
    let read = |text: &str| Connector::read("c", text.as_bytes(), None, Arc::new(NoFiles)).map(drop);
    assert_eq!(read(r#"{"swagger": "2.0"}"#), Ok(()));
    assert_eq!(read(r#"{"openapi": "3.1.0"}"#), Ok(()));
    assert_eq!(
        read(r#"{"openapi": "4.0.0"}"#).unwrap_err().to_string(),
        r#"expected a document with `swagger: "2.0"` or `openapi: "3.0.x"` or `"3.1.x"`, found openapi 4.0.0"#
    );
    assert!(matches!(read("[]"), Err(Error::Version { .. })));
    assert_eq!(read("{'swagger': '2.0', /* none */ \"info\": {\"description\": \"two\nlines\",},}"), Ok(()));
    let broken = read("{\n\"swagger\": \"2.0\"\n\"paths\": {}}").unwrap_err().to_string();
    assert!(broken.contains("line 3") && !broken.contains("YAML"), "{broken}");
    assert!(read("openapi: 3.0.0\n").unwrap_err().to_string().contains("convert a YAML document to JSON"));
    assert_eq!(
        read(r#"{"swagger": "2.0", "paths": []}"#).unwrap_err().to_string(),
        "`paths` must be an object, found an array"
    );
}

#[test]
fn the_index_lists_operations_in_order() {
    let connector = connector("notes");
    let listed: Vec<String> = connector
        .operations()
        .take(3)
        .map(|entry| format!("{} {} {}", entry.id(), entry.method(), entry.path()))
        .collect();
    assert_eq!(
        listed,
        [
            "ListNotes GET /folders/{folder}/notes",
            "CreateNote POST /folders/{folder}/notes",
            "GetNote GET /notes/{id}"
        ]
    );
    let named = with_paths(r#"{"/x": {"get": {}}}"#);
    assert_eq!(named.operations().next().unwrap().id(), "GET /x");
}

#[test]
fn fields_are_described() {
    let connector = connector("notes");
    let fields: Vec<String> = connector
        .fields("CreateNote")
        .unwrap()
        .iter()
        .map(|field| {
            format!(
                "{} {}{}{}",
                field.name,
                field.kind,
                if field.required { " required" } else { "" },
                if field.internal { " internal" } else { "" }
            )
        })
        .collect();
    assert_eq!(fields[0], "folder string required");
    assert!(fields.contains(&"note/title string required".to_owned()), "{fields:?}");
    assert!(fields.contains(&"note/format string required internal".to_owned()), "{fields:?}");
    assert!(fields.contains(&"note/author/name string".to_owned()), "{fields:?}");
    assert!(fields.contains(&"note/labels array of string".to_owned()), "{fields:?}");
    let results: Vec<String> =
        connector.results("ListNotes").unwrap().iter().map(|field| field.name.clone()).collect();
    assert_eq!(results, ["body/notes", "body/next"]);
}

#[test]
fn triggers_are_described() {
    let connector = connector("notes");
    let polled = connector.operation("OnNote").unwrap();
    let trigger = polled.trigger().unwrap();
    assert_eq!(
        (trigger.kind, trigger.is_webhook, trigger.hint.as_str()),
        (TriggerKind::Batch, false, "Write a note.")
    );
    let poll = trigger.poll.as_ref().unwrap();
    let some = poll.read(&json(r#"{"notes": [{"created": "t2"}, {"created": "t1"}]}"#));
    assert_eq!(
        (some.items.to_json_text().as_str(), some.queries.get("since").unwrap().as_str()),
        (r#"[{"created":"t2"},{"created":"t1"}]"#, Some("t2"))
    );
    // Without items the state stays as it is.
    assert!(poll.read(&json(r#"{"notes": []}"#)).queries.is_empty());
    assert!(poll.read(&Value::NULL).queries.is_empty());

    let hook = connector.operation("WatchNotes").unwrap();
    let trigger = hook.trigger().unwrap();
    assert!(trigger.is_webhook);
    assert_eq!(
        trigger.unsubscribe,
        Some(Unsubscribe::Operation { id: "UnwatchNotes".to_owned(), parameter: "hook".to_owned() })
    );
    assert!(connector.operation("GetNote").unwrap().trigger().is_none());
}

#[test]
fn the_state_of_a_trigger_is_in_the_query() {
    let connector = connector("notes");
    let connection = Connection::new(Object::single("api_key".into(), "k".into()));
    let mut call = connector.call("OnNote", &Value::NULL, &connection, None).unwrap();
    call.set_queries(&Object::single("since".into(), "t 2".into()));
    assert_eq!(
        call.request(&[]).unwrap().url.as_str(),
        Some("https://notes.example.com/api/events?since=t%202")
    );
}

#[test]
fn paging_is_described() {
    let operation = connector("notes").operation("ListNotes").unwrap();
    let paging = operation.paging().unwrap();
    assert_eq!((paging.next_link.as_str(), paging.items.as_str()), ("next", "notes"));
}

#[test]
fn responses_pass_their_policies() {
    let connector = connector("notes");
    let connection = Connection::new(Object::single("api_key".into(), "k".into()));
    let mut headers = Object::new();
    let body = json(r#"{"links": {"a": {"x": 1}}}"#);
    let body = connector.receive("UpdateNote", 200, &mut headers, body, &connection).unwrap();
    assert_eq!(body.to_json_text(), r#"{"links":[{"url":"a","link":{"x":1}}]}"#);
    assert_eq!(headers.get("X-From").and_then(Value::as_str), Some("eu"));
    // JSON that was sent as text is JSON where the schema says so.
    let text = connector.receive("GetNote", 200, &mut headers, r#"{"id": 1}"#.into(), &connection).unwrap();
    assert_eq!(text.to_json_text(), r#"{"id":1}"#);
    let text = connector.receive("PutFile", 200, &mut headers, r#"{"id": 1}"#.into(), &connection).unwrap();
    assert_eq!(text.as_str(), Some(r#"{"id": 1}"#));
}

#[test]
fn connections_are_checked() {
    let connector = connector("notes");
    let check = |parameters: &str| {
        let connection = Connection::new(json(parameters).as_object().unwrap().clone());
        connector.check_connection(&connection).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check(r#"{"api_key": "k"}"#), Vec::<String>::new());
    assert_eq!(
        check("{}"),
        ["the connection's parameter `api_key` is missing; add it to the connection's `parameters`"]
    );
    assert_eq!(
        check(r#"{"api_key": "k", "region": "mars"}"#),
        [r#"the connection's parameter `region` must be one of "eu", "us", found "mars""#]
    );
    assert_eq!(
        check(r#"{"api_key": "k", "regoin": "us"}"#),
        ["the connection's parameter `regoin` is not known; did you mean `region`?"]
    );
}

#[test]
fn credentials_that_only_a_security_scheme_needs_are_parameters() {
    let read = |scheme: &str, rest: &str| {
        let document = format!(
            r#"{{"swagger": "2.0", "host": "example.com", "securityDefinitions": {{"s": {scheme}}}, {rest},
            "paths": {{"/open": {{"get": {{"operationId": "Open", "security": [{{}}]}}}}, "/x": {{"get": {{"operationId": "X"}}}}}}}}"#
        );
        Connector::read("made", document.as_bytes(), None, Arc::new(NoFiles)).unwrap()
    };
    let names = |connector: &Connector| {
        connector.connection_parameters().into_iter().map(|parameter| parameter.name).collect::<Vec<_>>()
    };
    let check = |connector: &Connector, parameters: &str| {
        let connection = Connection::new(json(parameters).as_object().unwrap().clone());
        connector.check_connection(&connection).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let key = read(r#"{"type": "apiKey", "in": "header", "name": "X-Key"}"#, r#""security": [{"s": []}]"#);
    assert_eq!(names(&key), ["api_key"]);
    assert_eq!(
        check(&key, "{}"),
        ["the connection's parameter `api_key` is missing; add it to the connection's `parameters`"]
    );
    assert_eq!(check(&key, r#"{"api_key": "k"}"#), Vec::<String>::new());
    let basic = read(r#"{"type": "basic"}"#, r#""security": [{"s": []}]"#);
    assert_eq!(names(&basic), ["username", "password"]);
    assert_eq!(check(&basic, r#"{"username": "u", "password": "p"}"#), Vec::<String>::new());
    let open = read(r#"{"type": "basic"}"#, r#""security": []"#);
    assert_eq!((names(&open), check(&open, "{}")), (Vec::new(), Vec::new()));
}

#[test]
fn paths_lead_to_operations() {
    let connector = connector("notes");
    let find = |method: &str, path: &str| {
        connector.find(method, path).map(|matched| (matched.operation, matched.arguments))
    };
    assert_eq!(find("get", "/notes/7?x=1").unwrap().0, "GetNote");
    assert_eq!(
        find("GET", "/folders/a%252Fb/notes").unwrap().1,
        [("folder".to_owned(), "a%252Fb".to_owned())]
    );
    assert_eq!(find("GET", "/hooks"), None);
    let connection = Connection::new(Object::single("api_key".into(), "k".into()));
    let parts = Parts { queries: Object::single("q".into(), "a b".into()), ..Parts::default() };
    let call = connector.call_path("get", "/elsewhere/x%20y", &parts, &connection).unwrap();
    let request = call.request(&[]).unwrap();
    assert_eq!(request.url.as_str(), Some("https://eu.notes.example.com/v2/things/x%20y/now?q=a%20b"));
    assert_eq!(request.headers.get("X-Key").unwrap().text(), "Key k");
    let error = connector.call_path("get", "/none", &parts, &connection).unwrap_err();
    assert_eq!(error.to_string(), "connector `notes` has no operation `GET /none`");
}

#[test]
fn reading_builds_nothing_but_the_index() {
    // Every operation is invalid; the document is read nevertheless, and only the operation that is used fails.
    let mut paths = String::new();
    for at in 0..100 {
        let comma = if at == 0 { "" } else { "," };
        write!(paths, r#"{comma}"/p{at}": {{"get": {{"operationId": "Op{at}", "parameters": [{{"$ref": "none.json"}}]}}}}"#).unwrap();
    }
    let connector = with_paths(&format!("{{{paths}}}"));
    assert_eq!(connector.operations().len(), 100);
    assert!(connector.operation("Op7").is_err());
}

#[test]
fn arguments_are_described_for_language_models() {
    let made = with_paths(
        r#"{"/orders/{id}": {"put": {"operationId": "Change", "summary": "Changes an order", "parameters": [
            {"name": "id", "in": "path", "required": true, "type": "integer", "minimum": 1, "x-ms-summary": "Number", "description": "the order"},
            {"name": "api-version", "in": "query", "required": true, "type": "string", "default": "1", "x-ms-visibility": "internal"},
            {"name": "tags", "in": "query", "type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
            {"name": "order", "in": "body", "required": true, "schema": {"type": "object", "required": ["lines", "kind"], "properties": {
                "kind": {"type": "string", "x-ms-visibility": "internal", "default": "x"},
                "id": {"type": "string", "readOnly": true},
                "lines": {"type": "array", "items": {"allOf": [{"properties": {"sku": {"type": "string"}}}, {"required": ["sku"]}]}}}}}],
            "responses": {"200": {"description": "ok"}}}}}"#,
    );
    let expected = json(
        r#"{"type": "object", "properties": {
            "id": {"type": "integer", "minimum": 1, "description": "Number: the order"},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
            "order": {"type": "object", "properties": {
                "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}}},
                "required": ["lines"]}},
            "required": ["id", "order"]}"#,
    );
    assert_eq!(made.argument_schema("Change").unwrap().to_json_text(), expected.to_json_text());
    assert!(made.argument_schema("Other").is_err());
    // A schema that contains itself ends.
    let recursive = with_paths(
        r##"{"/x": {"post": {"operationId": "Deep", "parameters": [{"name": "b", "in": "body", "schema": {"$ref": "#/paths/~1x/post/x-node"}}],
            "x-node": {"type": "object", "properties": {"next": {"$ref": "#/paths/~1x/post/x-node"}}}, "responses": {}}}}"##,
    );
    let schema = recursive.argument_schema("Deep").unwrap();
    assert!(schema.depth() < 40, "{}", schema.depth());
}
