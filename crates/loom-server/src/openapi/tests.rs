//! The document describes exactly the routes and their scopes, and every operation has a tag and an imperative summary.

use std::collections::BTreeSet;

use loom_expression::Value;

use crate::{access::Scope, routes};

fn document() -> Value {
    Value::from_json_str(include_str!("../openapi.json")).expect("the document is JSON")
}

#[test]
fn every_route_is_in_the_document_with_its_scope_and_every_operation_is_a_route() {
    let known = routes::guarded().known.into_iter().chain(routes::open().known);
    let scope = |scope: Option<Scope>| scope.map_or("none", Scope::name);
    let known = known.map(|route| format!("{} {} ({})", route.method, route.path, scope(route.scope)));
    let routes: BTreeSet<String> = known.collect();
    let document = document();
    let paths = document.get("paths").and_then(Value::as_object).expect("it has paths");
    let mut operations = BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("a path has methods") {
            let scope = operation.get("x-loom-scope").and_then(Value::as_str).unwrap_or("none");
            assert!(operations.insert(format!("{} {path} ({scope})", method.to_uppercase())));
        }
    }
    let undocumented: Vec<&String> = routes.difference(&operations).collect();
    let invented: Vec<&String> = operations.difference(&routes).collect();
    assert!(
        undocumented.is_empty() && invented.is_empty(),
        "only routes: {undocumented:?}; only documented: {invented:?}"
    );
}

#[test]
fn every_operation_has_a_declared_tag_and_an_imperative_summary() {
    let document = document();
    let tags = document.get("tags").and_then(Value::as_array).expect("it has tags");
    let tags: BTreeSet<&str> =
        tags.iter().filter_map(|tag| tag.get("name").and_then(Value::as_str)).collect();
    let mut used = BTreeSet::new();
    for (path, methods) in document.get("paths").and_then(Value::as_object).expect("it has paths") {
        for (method, operation) in methods.as_object().expect("a path has methods") {
            let summary = operation.get("summary").and_then(Value::as_str).expect("a summary");
            let verb = summary.split(' ').next().expect("a verb");
            assert!(!verb.ends_with('s') && !summary.ends_with('.'), "{method} {path}: {summary}");
            let own = operation.get("tags").and_then(Value::as_array).expect("a list of tags");
            let own: BTreeSet<&str> = own.iter().filter_map(Value::as_str).collect();
            assert!(own.len() == 1 && own.is_subset(&tags), "{method} {path}: {own:?}");
            used.extend(own.into_iter().map(str::to_owned));
        }
    }
    assert!(tags.iter().all(|tag| used.contains(*tag)), "a tag without operations: {tags:?}, {used:?}");
}

#[test]
fn the_parameters_of_a_path_are_described_and_references_lead_somewhere() {
    let document = document();
    let schemas = document.get("components").and_then(|all| all.get("schemas")).expect("it has schemas");
    for (path, methods) in document.get("paths").and_then(Value::as_object).expect("it has paths") {
        let wanted: BTreeSet<&str> =
            path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
        for (method, operation) in methods.as_object().expect("a path has methods") {
            let parameters = operation.get("parameters").and_then(Value::as_array).expect("a list");
            let described: BTreeSet<&str> = parameters
                .iter()
                .filter(|one| one.get("in").and_then(Value::as_str) == Some("path"))
                .filter_map(|one| one.get("name").and_then(Value::as_str))
                .collect();
            assert_eq!(described, wanted, "{method} {path}");
        }
    }
    let text = document.to_json_text();
    let references =
        text.split("\"#/components/schemas/").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
    let names: BTreeSet<&str> = references.collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(schemas.get(name).is_some(), "there is no schema '{name}'");
    }
}
