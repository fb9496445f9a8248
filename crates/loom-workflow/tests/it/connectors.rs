//! `loom connectors`, and what `loom validate` and `loom run` know of described operations.

use std::{fs, path::Path};

use crate::{file, loom};

/// A connections file with the descriptions of `conformance/connectors` beside it.
fn project(test: &str) -> String {
    let connections = r#"{"connections": {
        "notes": {"description": "notes.swagger.json", "parameters": {"api_key": "k"}},
        "shop": {"description": "shop.openapi.json"},
        "gone": {"description": "gone.json"}}}"#;
    let path = file(test, "connections.json", connections);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/connectors");
    for name in ["notes.swagger.json", "notes.properties.json", "shop.openapi.json"] {
        fs::copy(from.join(name), path.with_file_name(name)).expect("the file can be copied");
    }
    path.display().to_string()
}

#[test]
fn connectors_are_listed_shown_and_checked() {
    let connections = project("connectors");
    let run =
        |arguments: &[&str]| loom(&[&["connectors"], arguments, &["--connections", &connections]].concat());
    let list = run(&["list"]);
    assert!(list.stdout.contains("notes: Notes; 15 operations, 2 of them triggers\n"), "{}", list.stdout);
    assert!(list.stdout.contains("shop: Shop; "), "{}", list.stdout);
    assert!(list.stderr.contains("connection `gone`: ") && list.code == Some(3), "{}", list.stderr);

    let show = run(&["show", "notes"]).stdout;
    for part in [
        "api_key (securestring, required)",
        "  ListNotes: List notes\n",
        "  OnNote [trigger]: ",
        "  UnwatchNotes [internal]: ",
    ] {
        assert!(show.contains(part), "`{part}` is missing: {show}");
    }
    let show = run(&["show", "notes", "CreateNote"]).stdout;
    for part in [
        "POST /folders/{folder}/notes\n",
        "  folder (string, required)\n",
        "  note/title (string, required, at least 1 character, at most 20 characters)\n",
        "Filled in automatically:\n  note/format (string, required, default \"plain\")\n",
        "Returns:\n  body/id (integer)",
        "    \"folder\": \"text\",\n",
    ] {
        assert!(show.contains(part), "`{part}` is missing: {show}");
    }
    let show = run(&["show", "notes", "CreateNote", "--json"]).stdout;
    let show: serde_json::Value = serde_json::from_str(&show).expect("it is JSON");
    assert_eq!(show["path"], "/folders/{folder}/notes");
    let parameters = show["parameters"].as_array().expect("a list");
    let title = parameters.iter().find(|field| field["name"] == "note/title").expect("it is listed");
    assert_eq!(title["bounds"], serde_json::json!(["at least 1 character", "at most 20 characters"]));
    let show = run(&["show", "notes", "--json"]).stdout;
    let show: serde_json::Value = serde_json::from_str(&show).expect("it is JSON");
    assert_eq!(show["operations"].as_array().map(Vec::len), Some(15));
    let show = run(&["show", "notes", "Scripted"]).stdout;
    assert!(show.contains("cannot be called: it runs a script in C#"), "{show}");
    let unknown = run(&["show", "notse"]);
    assert!(
        unknown.stderr.contains("did you mean `notes`?") && unknown.code == Some(3),
        "{}",
        unknown.stderr
    );

    let check = run(&["check", "notes"]);
    assert_eq!(check.code, Some(3));
    for part in [
        "notes: 12 of 15 operations can be called\n",
        "policy `limitcalls` is not supported",
        "`Forgotten` cannot be called",
    ] {
        assert!(check.stdout.contains(part), "`{part}` is missing: {}", check.stdout);
    }
    let check = run(&["check", "shop"]).stdout;
    assert!(
        check.contains("operation `Away`: `$ref` to `https://example.com/p.json` is an address"),
        "{check}"
    );
}

#[test]
fn check_finds_missing_and_misspelt_parts_of_a_connection() {
    let connections = project("connectors-check");
    let write = |text: &str| fs::write(&connections, text).expect("the file can be written");
    let check = || loom(&["connectors", "check", "notes", "--connections", &connections]);

    write(r#"{"connections": {"notes": {"description": "notes.swagger.json"}}}"#);
    let missing = check();
    assert_eq!(missing.code, Some(3));
    assert!(
        missing.stdout.starts_with(
            "notes: no operation can be called until the connection is complete\n  \
             the connection's parameter `api_key` is missing"
        ),
        "{}",
        missing.stdout
    );

    write(
        r#"{"connections": {"notes": {"description": "notes.swagger.json", "parameters": {"api_key": "k", "regoin": "us"}}}}"#,
    );
    let misspelt = check().stdout;
    assert!(misspelt.contains("`regoin` is not known; did you mean `region`?"), "{misspelt}");

    write(r#"{"connections": {"notes": {"descripton": "notes.swagger.json"}}}"#);
    let misspelt = check();
    assert_eq!(misspelt.code, Some(2));
    assert!(
        misspelt
            .stderr
            .contains("'notes' has the unknown property 'descripton'; did you mean 'description'?"),
        "{}",
        misspelt.stderr
    );
}

#[test]
fn validate_points_at_wrong_arguments_of_described_operations() {
    let connections = project("connectors-validate");
    let flow = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
  "Create": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shared_notes", "operationId": "CreateNote"},
    "parameters": {"folder": "@triggerBody()",
      "note/titel": "T",
      "note/stars": "many"}}},
  "Odd": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shared_notes", "operationId": "Odd"}, "parameters": {}}}}}}"#;
    let flow = file("connectors-validate", "flow.json", flow).display().to_string();
    let ended = loom(&["validate", &flow, "--connections", &connections]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    for part in [
        "error[L0701]: unknown parameter `note/titel`; did you mean `note/title`?",
        "flow.json:4:21",
        "error[L0701]: required parameter `note/title` is missing",
        "error[L0701]: `note/stars` must be an integer, found a string",
        "flow.json:5:21",
        "error[L0702]: operation `Odd` cannot be called: policy `limitcalls` is not supported",
    ] {
        assert!(ended.stderr.contains(part), "`{part}` is missing: {}", ended.stderr);
    }
}

#[test]
fn run_and_serve_warn_of_calls_that_their_descriptions_refuse() {
    let connections = project("connectors-warn");
    let flow = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
  "Never": {"type": "If", "expression": {"equals": [1, 2]}, "actions": {
    "Create": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shared_notes", "operationId": "CreateNote"},
      "parameters": {"note/titel": "T"}}},
    "Odd": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shared_notes", "operationId": "Odd"}, "parameters": {}}}}}}}}"#;
    let flow = file("connectors-warn", "flow.json", flow).display().to_string();
    let parts = [
        "warning[L0701]: unknown parameter `note/titel`; did you mean `note/title`?",
        "flow.json:4:",
        "warning[L0702]: operation `Odd` cannot be called: policy `limitcalls` is not supported",
    ];
    // An action that is not reached does not fail.
    let ended = loom(&["run", &flow, "--connections", &connections]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` is missing: {}", ended.stderr);
    }
}

#[test]
fn built_in_service_providers_are_listed_and_shown() {
    let connections = r#"{"serviceProviderConnections": {
        "AzureBlob": {"serviceProvider": {"id": "/serviceProviders/AzureBlob"}, "parameterValues": {"connectionString": "UseDevelopmentStorage=true"}},
        "sftp": {"serviceProvider": {"id": "/serviceProviders/sftp"}},
        "vault": {"serviceProvider": {"id": "/serviceProviders/keyVault"}, "parameterValues": {}}}}"#;
    let connections = file("connectors-providers", "connections.json", connections).display().to_string();
    let run =
        |arguments: &[&str]| loom(&[&["connectors"], arguments, &["--connections", &connections]].concat());
    let list = run(&["list"]);
    assert_eq!(
        list.stdout,
        "AzureBlob: Azure Blob Storage; 9 operations\nvault: Azure Key Vault; 3 operations\n"
    );
    let show = run(&["show", "AzureBlob", "uploadBlob"]).stdout;
    for part in
        ["  containerName (string, required) the container\n", "  overrideIfExists (boolean, default true)"]
    {
        assert!(show.contains(part), "`{part}` is missing: {show}");
    }
    let check = run(&["check"]);
    assert!(check.stdout.contains("AzureBlob: 9 of 9 operations can be called\n"), "{}", check.stdout);
    assert!(check.stdout.contains("no 'VaultUri'"), "{}", check.stdout);
    assert_eq!(check.code, Some(3));
}
