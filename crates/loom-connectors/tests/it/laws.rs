//! Laws that hold for every description of `conformance/connectors`, and for any document.

use std::{fs, sync::Arc};

use loom_connectors::{Connection, Connector, Error, NoFiles, Object, Value};
use proptest::prelude::*;

use crate::support::{connector, directory};

fn connection() -> Connection {
    let names = ["api_key", "token", "username", "password"];
    Connection::new(names.into_iter().map(|name| (name, "x")).collect::<Object>())
        .with_base_url("https://example.com")
}

#[test]
fn examples_are_accepted() {
    let mut calls = 0;
    for name in ["notes", "shop", "sensors"] {
        let connector = connector(name);
        for entry in connector.operations() {
            for optional in [false, true] {
                let Ok(example) = connector.example(entry.id(), optional) else { continue };
                match connector.call(
                    entry.id(),
                    &example.clone().into(),
                    &connection(),
                    Some("https://x.example"),
                ) {
                    Ok(call) => {
                        call.request(&vec![Value::from("v"); call.lookups().len()]).unwrap();
                        calls += 1;
                    }
                    Err(Error::Unsupported { .. }) => {}
                    Err(other) => panic!("{name} {}: {other}: {example:?}", entry.id()),
                }
            }
        }
    }
    assert!(calls > 30, "{calls}");
}

#[test]
fn flat_and_nested_arguments_give_the_same_request() {
    let connector = connector("notes");
    let nested = connector.example("CreateNote", true).unwrap();
    let mut flat = Object::new();
    for (name, value) in &nested {
        if &**name == "note" {
            for (inner, value) in value.as_object().unwrap() {
                flat.insert(format!("note/{inner}"), value.clone());
            }
        } else {
            flat.insert(Arc::clone(name), value.clone());
        }
    }
    let request = |arguments: Object| {
        let call = connector.call("CreateNote", &arguments.into(), &connection(), None).unwrap();
        call.request(&[]).unwrap()
    };
    assert!(request(flat).body.wdl_equals(&request(nested).body));
}

#[test]
fn what_is_not_known_is_not_checked() {
    let connector = connector("notes");
    let is_known = |value: &Value| value.as_str().is_none_or(|text| !text.starts_with('@'));
    let check = |arguments: &str| {
        let arguments = Value::from_json_str(arguments).unwrap();
        let problems = connector.check("CreateNote", &arguments, &is_known).unwrap();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check(r#""@variables('all')""#), Vec::<String>::new());
    assert_eq!(check(r#"{"folder": "@x()", "note": "@body('y')"}"#), Vec::<String>::new());
    assert_eq!(
        check(r#"{"folder": "@x()", "note/title": "@y()", "note/stars": "@z()"}"#),
        Vec::<String>::new()
    );
    assert_eq!(
        check(r#"{"folder": "@x()", "note/title": "@y()", "note/stars": "z"}"#),
        ["`note/stars` must be an integer, found a string"]
    );
    assert_eq!(
        check(r#"{"note/stars": "@z()"}"#),
        ["required parameter `folder` is missing", "required parameter `note/title` is missing"]
    );
}

#[test]
fn secrets_stay_secret() {
    let connector = connector("notes");
    let secret = Connection::new(Object::single("api_key".into(), Value::from("k").into_secret()));
    let arguments = Value::from_json_str(r#"{"id": 1}"#).unwrap();
    let request = connector.call("GetNote", &arguments, &secret, None).unwrap().request(&[]).unwrap();
    assert!(request.headers.get("X-Key").unwrap().is_secret());
    assert!(!request.url.is_secret());
    assert!(!format!("{request:?}").contains("Key k"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A damaged document is read or refused, and whatever operations it has can be shown, called and refused.
    #[test]
    fn damage_never_panics(at in 0_usize..20_000, length in 0_usize..40, byte in any::<u8>()) {
        let mut document = fs::read(directory().join("notes.swagger.json")).unwrap();
        let at = at % document.len();
        let end = (at + length).min(document.len());
        document.splice(at..end, [byte]);
        if let Ok(connector) = Connector::read("damaged", &document, None, Arc::new(NoFiles)) {
            for entry in connector.operations() {
                drop(connector.fields(entry.id()));
                if let Ok(example) = connector.example(entry.id(), true) {
                    drop(connector.call(entry.id(), &example.into(), &connection(), None).map(|call| call.request(&[])));
                }
            }
        }
    }
}
