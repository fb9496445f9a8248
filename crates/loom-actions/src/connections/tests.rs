use super::*;
use loom_expression::Masker;

use crate::secrets::{FixedSecrets, MasterKey, NewSecret, SecretProvider, Secrets, Vault};

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

fn standard() -> Connections {
    let file = json(
        r#"{"serviceProviderConnections": {"sql": {"parameterValues": {"c": "@appsetting('absent')"}}},
            "managedApiConnections": {
              "outlook": {"connection": {"id": "/subscriptions/@{appsetting('Sub')}/connections/outlook01"},
                          "connectionRuntimeUrl": "@parameters('outlook-Url')", "authentication": "@parameters('outlook-Auth')"},
              "broken": {"connectionRuntimeUrl": "@appsetting('absent')"}},
            "functionConnections": {"fn": {"function": {"id": "/sites/app/functions/Price"}, "triggerUrl": "https://app.example/api/Price",
                          "authentication": {"type": "QueryString", "name": "Code", "value": "k"}}},
            "apiManagementConnections": {"apim": {"baseUrl": "https://apim.example/x", "subscriptionKey": "sk"}}}"#,
    );
    let sources = Sources {
        app_settings: [("Sub", "s1"), ("Url", "https://h.example/apim/outlook/id/"), ("Key", "k1")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        parameters: [
            ("outlook-Url", r#"{"type": "String", "value": "@appsetting('url')"}"#),
            ("outlook-Auth", r#"{"type": "Object", "value": {"type": "Raw", "scheme": "Key", "parameter": "@appsetting('Key')"}}"#),
            ("circle", r#""@parameters('circle')""#),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json(value)))
        .collect(),
        secrets: Secrets::default(),
        masker: Masker::new(),
        directory: None,
    };
    assert!(sources.evaluate(&json(r#""@parameters('circle')""#)).unwrap_err().contains("itself"));
    Connections::from_json(&file, &sources).unwrap()
}

#[test]
fn a_standard_file_is_read_unchanged() {
    let connections = standard();
    for host in [
        r#"{"connection": {"referenceName": "outlook"}}"#,
        r#"{"connection": {"referenceName": "Outlook"}}"#,
        r#"{"connection": {"name": "/subscriptions/S1/connections/outlook01"}}"#,
        r#"{"connection": {"name": "/anything/connections/outlook"}, "api": {"runtimeUrl": "https://other/"}}"#,
    ] {
        let service = connections.of_host(&json(host)).unwrap();
        assert_eq!(service.base.to_string(), "https://h.example/apim/outlook/id/", "{host}");
        assert_eq!(service.authentication, json(r#"{"type": "Raw", "scheme": "Key", "parameter": "k1"}"#));
    }
    assert_eq!(connections.function("/sites/app/functions/Price").unwrap().base.path(), "/api/Price");
    assert_eq!(connections.function("fn").unwrap().authentication.get("name"), Some(&"Code".into()));
    let apim = connections.of_host(&json(r#"{"connection": {"referenceName": "apim"}}"#)).unwrap();
    assert_eq!(apim.headers.get("Ocp-Apim-Subscription-Key"), Some(&"sk".into()));
}

#[test]
fn an_unusable_connection_affects_only_itself_and_says_why() {
    let connections = standard();
    let host = |name: &str| json(&format!(r#"{{"connection": {{"referenceName": "{name}"}}}}"#));
    let failure = connections.of_host(&host("broken")).unwrap_err();
    assert!(failure.message.contains("'broken'") && failure.message.contains("absent"), "{failure}");
    let failure = connections.of_host(&host("nothing")).unwrap_err();
    assert_eq!(failure.code, "ConnectionNotFound");
    assert!(failure.message.contains("apim, broken, outlook"), "{failure}");
    assert!(connections.of_host(&json("{}")).unwrap_err().message.contains("does not name a connection"));
}

#[test]
fn the_short_format_and_the_names_in_definitions() {
    let file = json(
        r#"{"connections": {"filesystem_1": {"baseUrl": "http://127.0.0.1:9/filesystem_1", "headers": {"a": "b"}}, "sentinel": "http://h/s"},
            "workflows": {"INT001_Work_Order": "http://h/w"}, "activities": {"Mail": "http://h/m"}, "actors": {"Counter": {"url": "http://h/c"}}}"#,
    );
    let mut connections = Connections::from_json(&file, &Sources::default()).unwrap();
    let id = |text: &str| json(&format!(r#"{{"connection": {{"name": "{text}"}}}}"#));
    let base = |connections: &Connections, host: &Value| {
        connections.of_host(host).map(|service| service.base.path().to_owned())
    };
    assert_eq!(
        base(&connections, &id("/subscriptions/x/connections/filesystem-1")),
        Ok("/filesystem_1".to_owned())
    );
    let odd = "[resourceId('Microsoft.Web/connections', variables('Sentinel'))]";
    assert!(base(&connections, &id(odd)).is_err());
    connections.learn(&json(&format!(r#"{{"value": {{"sentinel": {{"connectionId": "{odd}"}}}}}}"#)));
    assert_eq!(base(&connections, &id(odd)), Ok("/s".to_owned()));
    let parameter = connections.parameter_value();
    let given = parameter.get("sentinel").unwrap().get("connectionId").unwrap().as_str().unwrap();
    assert_eq!(base(&connections, &id(given)), Ok("/s".to_owned()));
    assert!(
        connections.has_workflow("/a/b/workflows/int001_work_order") && !connections.has_workflow("other")
    );
    assert_eq!(connections.activity("mail").unwrap().base.path(), "/m");
    assert_eq!(connections.actor("Counter").unwrap().base.path(), "/c");
    for (bad, part) in [
        ("[]", "must contain an object"),
        (r#"{"connectons": {}}"#, "unknown section 'connectons'"),
        (r#"{"actors": 1}"#, "'actors'"),
    ] {
        let error = Connections::from_json(&json(bad), &Sources::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn connections_missing_in_a_definition_are_added() {
    let object = |text: &str| Value::from_json_str(text).unwrap();
    let check = |own: &str, known: &str, expected: &str| {
        let mut values = object(own).as_object().unwrap().clone();
        loom_definition::complete_connections(&mut values, &object(known));
        assert_eq!(Value::from(values), object(expected), "{own}");
    };
    let known =
        r#"{"crm": {"connectionId": "/connections/crm"}, "Mail": {"connectionId": "/connections/Mail"}}"#;
    check(
        r#"{"$connections": {"mail": {"connectionId": "own"}}}"#,
        known,
        r#"{"$connections": {"mail": {"connectionId": "own"}, "crm": {"connectionId": "/connections/crm"}}}"#,
    );
    check("{}", known, &format!(r#"{{"$connections": {known}}}"#));
    // A value that is not an object is refused when parameters are bound.
    check(r#"{"$connections": 7}"#, known, r#"{"$connections": 7}"#);
}

#[test]
fn missing_connections_are_known_in_advance() {
    let actions = r#"{
        "A": {"type": "ApiConnection", "inputs": {"host": {"connection": {"name": "@parameters('$connections')['outlook']['connectionId']"}}, "method": "get", "path": "/"}},
        "B": {"type": "ApiConnection", "inputs": {"host": {"connection": {"name": "@parameters('$connections')?['Sql_1']['connectionId']"}}, "method": "get", "path": "/"}},
        "C": {"type": "ApiConnection", "inputs": {"host": {"connection": {"referenceName": "teams"}}, "method": "get", "path": "/"}},
        "D": {"type": "OpenApiConnection", "inputs": {"host": {"connectionName": "shared_teams", "operationId": "Post"}, "parameters": {}}},
        "E": {"type": "ServiceProvider", "inputs": {"serviceProviderConfiguration": {"connectionName": "serviceBus", "operationId": "send", "serviceProviderId": "x"}, "parameters": {}}},
        "F": {"type": "ApiConnection", "inputs": {"host": {"connection": {"name": "@{variables('which')}"}}, "method": "get", "path": "/"}},
        "G": {"type": "Scope", "actions": {"H": {"type": "ApiConnectionWebhook", "inputs": {"host": {"connection": {"referenceName": "Teams"}}, "path": "/"}}}},
        "I": {"type": "Http", "inputs": {"method": "GET", "uri": "http://x"}}}"#;
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "parameters": {{"$connections": {{"type": "Object", "defaultValue": {{}}}}}}, "actions": {actions}}}"#
    );
    let loaded =
        loom_definition::Definition::parse(text.as_bytes(), &loom_definition::LoadOptions::default());
    let workflow = loaded.unwrap().workflow;
    let missing = |connections: &Connections, own: &str| connections.missing(&workflow, &json(own));
    let none = Connections::default();
    let all = ["outlook", "Sql_1", "teams", "shared_teams", "serviceBus", "Teams"];
    assert_eq!(missing(&none, "{}"), all);
    assert_eq!(missing(&standard(), "{}"), all[1..]);
    // The name in the definition leads to a connection in the file.
    let own = r#"{"Sql_1": {"connectionId": "/subscriptions/S1/connections/outlook01"}}"#;
    assert_eq!(missing(&standard(), own), all[2..]);
    let whole = ["sql-1", "teams", "shared_teams", "servicebus"].map(|name| (name, "http://x"));
    let whole: Object = whole.into_iter().collect();
    let whole = Value::from([("connections", Value::from(whole))].into_iter().collect::<Object>());
    let whole = Connections::from_json(&whole, &Sources::default()).unwrap();
    assert_eq!(missing(&whole, "{}"), ["outlook"]);
}

#[test]
fn a_built_in_provider_is_distinguished_from_an_unknown_name() {
    let connections = standard();
    let reported = |name: &str| {
        let host = json(&format!(r#"{{"connectionName": "{name}"}}"#));
        connections.of_host(&host).unwrap_err().message
    };
    assert!(reported("SQL").contains("a connection of a built-in service provider"), "{}", reported("SQL"));
    assert!(reported("sqk").contains("has no connection 'sqk'"), "{}", reported("sqk"));
}

#[test]
fn every_equivalent_of_a_host_is_found() {
    let connections = standard();
    for inputs in [
        r#"{"apiManagement": {"connection": "apim"}, "pathTemplate": {"template": "/a"}}"#,
        r#"{"api": {"id": "/subscriptions/s/service/i/apis/apim"}, "pathTemplate": {"template": "/a"}}"#,
        r#"{"serviceProviderConfiguration": {"connectionName": "apim"}}"#,
        r#"{"host": {"connection": {"referenceName": "apim"}}, "api": {"id": "other"}}"#,
    ] {
        let service = connections.of_host(&host_of(&json(inputs))).unwrap();
        assert_eq!(service.base.to_string(), "https://apim.example/x", "{inputs}");
    }
    assert!(
        connections
            .of_host(&host_of(&json("{}")))
            .unwrap_err()
            .message
            .contains("does not name a connection")
    );
}

#[test]
fn a_secret_in_the_file_is_read_at_each_use_of_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let key = MasterKey::generate();
    let vault = || {
        let key = key.clone();
        let clock = Arc::new(loom_engine::clock::SystemClock);
        Vault::new(directory.path().join("secrets.json"), Arc::new(move || Ok(key.clone())), clock)
    };
    vault().set("crm-key", "one", NewSecret::default()).unwrap();
    let providers: Vec<Arc<dyn SecretProvider>> = vec![Arc::new(vault()), Arc::new(FixedSecrets::default())];
    let sources = Sources { secrets: Secrets::new(providers), ..Sources::default() };
    let file = json(
        r#"{"connections": {
            "crm": {"baseUrl": "https://crm.example", "authentication": {"type": "Raw", "value": "Key @{secret('crm-key')}"}},
            "lost": {"baseUrl": "https://x.example", "authentication": {"type": "Raw", "value": "@secret('nobody')"}}}}"#,
    );
    let connections = Connections::from_json(&file, &sources).unwrap();
    let of = |name: &str| connections.of_host(&json(&format!(r#"{{"connectionName": "{name}"}}"#)));
    let value = || of("crm").unwrap().authentication.get("value").unwrap().clone();
    assert_eq!(value().as_str(), Some("Key one"));
    assert!(value().is_secret());
    vault().set("crm-key", "two", NewSecret::default()).unwrap();
    assert_eq!(value().as_str(), Some("Key two"));
    assert!(of("lost").unwrap_err().message.contains("Secret not found: nobody"));
}
