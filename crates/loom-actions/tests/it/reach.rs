//! Which origins receive credentials, and what the addresses that the operator names may be used for.

use std::sync::Arc;

use loom_actions::{
    Behaviour, Connections, Egress, ManagedIdentity, Progress, Requests, Settings, Sources, Spec,
    TokenSettings, TriggerRequests, Url,
};
use loom_engine::ports::{TriggerCall, TriggerHandler as _, TriggerPurpose};
use loom_expression::{Object, Value};
use loom_testkit::mock::{Mock, Recorded};

use crate::support::{attempt, failure, json, marks, mock, requests};

/// The headers of all credentials that the action of a test has, in lower case.
const KEYS: [&str; 7] =
    ["authorization", "cookie", "ocp-apim-subscription-key", "x-api-key", "api-key", "x-own", "x-secret"];

/// The inputs of an action with every kind of credential; `{auth}` stands for its authentication.
fn inputs(method: &str, address: &str, auth: &str, body: &str) -> Spec {
    let mut spec = Spec::from_inputs(&json(&format!(
        r#"{{"method": "{method}", "uri": "{address}", "cookie": "c=1", "authentication": {auth}, "body": "{body}",
            "headers": {{"Ocp-Apim-Subscription-Key": "k1", "x-api-key": "k2", "api-key": "k3", "x-kind": "plain"}}}}"#
    )))
    .unwrap();
    let mut headers = spec.headers.as_object().cloned().unwrap();
    headers.insert("x-secret", Value::from("hush").into_secret());
    spec.headers = headers.into();
    spec
}

const AUTHENTICATIONS: [&str; 3] = [
    r#"{"type": "Raw", "value": "key"}"#,
    r#"{"type": "ApiKey", "name": "x-own", "value": "key"}"#,
    r#"{"type": "QueryString", "name": "code", "value": "key"}"#,
];

/// The names of the credentials in a request.
fn credentials(request: &Recorded) -> Vec<&'static str> {
    let mut found: Vec<&str> = KEYS.into_iter().filter(|name| request.header(name).is_some()).collect();
    if request.query.contains("code=key") {
        found.push("code");
    }
    found
}

/// Executes an action against `home`, whose responses lead to `other`, and follows them.
async fn execute(settings: Settings, spec: &Spec, behaviour: &Behaviour) {
    let requests = requests(settings);
    let mut progress = requests.perform(spec, &marks(), behaviour, None).await.unwrap();
    for _ in 0..3 {
        let Progress::Pending { resume, .. } = progress else { return };
        progress = requests.perform(spec, &marks(), behaviour, Some(&resume)).await.unwrap();
    }
}

/// One way in which a response leads to another origin: the responses of `home`, and the options of the action.
struct Lead {
    method: &'static str,
    rules: &'static str,
    behaviour: Behaviour,
    body: String,
}

fn leads() -> Vec<Lead> {
    let lead =
        |method, rules, behaviour, body: &str| Lead { method, rules, behaviour, body: body.to_owned() };
    vec![
        lead(
            "POST",
            r#"[{"path": "/start", "response": {"status": 202, "headers": {"Location": "OTHER/go", "Retry-After": "0"}}}]"#,
            Behaviour::default(),
            "b",
        ),
        lead(
            "GET",
            r#"[{"path": "/start", "response": {"body": {"value": [1], "nextLink": "OTHER/go"}}}]"#,
            Behaviour { minimum_items: Some(9), ..Behaviour::default() },
            "",
        ),
        lead(
            "PUT",
            r#"[{"path": "/start", "response": {"headers": {"Location": "OTHER/go", "x-ms-chunk-size": "2000000"}}}]"#,
            Behaviour { chunked: true, ..Behaviour::default() },
            &"0123456789".repeat(200_000),
        ),
    ]
}

#[tokio::test]
async fn credentials_stay_with_their_origin_wherever_a_response_leads() {
    for lead in leads() {
        for auth in AUTHENTICATIONS {
            // Another port is another origin. Credentials are shared with it in one pass and not in the other.
            for shared in [false, true] {
                let other = mock(r#"[{"path": "/go", "response": {"body": {"value": [2]}}}]"#).await;
                let home = mock(&lead.rules.replace("OTHER", &other.base_url())).await;
                let mut egress = Egress::default();
                if shared {
                    egress = egress.share_credentials(&home.base_url(), &other.base_url()).unwrap();
                }
                let settings = Settings { egress, ..Settings::default() };
                let address = format!("{}/start", home.base_url());
                let spec = inputs(lead.method, &address, auth, &lead.body);
                execute(settings, &spec, &lead.behaviour).await;
                let at_home = credentials(&home.requests()[0]);
                assert_eq!(at_home.len(), 6, "{at_home:?}");
                let away = other.requests();
                assert!(!away.is_empty(), "{} leads nowhere", lead.rules);
                for request in &away {
                    let expected = if shared { at_home.clone() } else { Vec::new() };
                    assert_eq!(credentials(request), expected, "{} {auth}", lead.rules);
                    assert_eq!(request.header("x-kind"), Some("plain"));
                }
            }
        }
    }
}

/// When the same origin responds, all credentials are kept.
#[tokio::test]
async fn credentials_are_kept_within_their_origin() {
    let home = mock(
        r#"[{"path": "/start", "response": {"status": 202, "headers": {"Location": "/go", "Retry-After": "0"}}}, {"path": "/go"}]"#,
    )
    .await;
    for auth in AUTHENTICATIONS {
        let spec = inputs("POST", &format!("{}/start", home.base_url()), auth, "b");
        execute(Settings::default(), &spec, &Behaviour::default()).await;
    }
    let asked = home.requests();
    assert_eq!(asked.len(), 6);
    assert!(asked.iter().all(|request| credentials(request).len() == 6));
}

/// A poll goes where the last response pointed, and an unsubscription where the response of the subscription pointed.
#[tokio::test]
async fn a_trigger_sends_no_credentials_to_another_origin() {
    let rules = r#"[{"path": "/**"}]"#;
    let (home, other) = (mock(rules).await, mock(rules).await);
    let file = format!(
        r#"{{"connections": {{"hub": {{"baseUrl": "{}", "headers": {{"x-tenant": "7"}},
            "authentication": {{"type": "ApiKey", "name": "x-own", "value": "key"}}}}}}}}"#,
        home.base_url()
    );
    let connections = Connections::from_json(&json(&file), &Sources::default()).unwrap();
    let requests = Arc::new(requests(Settings { connections, ..Settings::default() }));
    let triggers = TriggerRequests::new(&requests);
    let by_address = format!(
        r#"{{"method": "GET", "uri": "{}/poll", "headers": {{"x-api-key": "k"}}, "authentication": {{"type": "Raw", "value": "key"}}}}"#,
        home.base_url()
    );
    let by_connection =
        r#"{"host": {"connection": {"referenceName": "hub"}}, "path": "/sub", "headers": {"api-key": "k"}}"#;
    for (ask, through_connection, inputs) in [
        (TriggerPurpose::Poll, false, by_address.as_str()),
        (TriggerPurpose::Poll, true, by_connection),
        (TriggerPurpose::Unsubscribe, true, by_connection),
    ] {
        for place in [&home, &other] {
            let call = TriggerCall {
                callback: None,
                workflow: "w".into(),
                version: "1".into(),
                trigger: "t".into(),
                ask,
                through_connection,
                inputs: json(inputs),
                address: Some(format!("{}/led?to=here", place.base_url()).into()),
                idempotency_key: "k".into(),
                tracking_id: "t".into(),
            };
            triggers.call(&call).await;
        }
    }
    let (kept, lost) = (home.requests(), other.requests());
    assert_eq!((kept.len(), lost.len()), (3, 3));
    let methods: Vec<&str> = lost.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET", "DELETE"]);
    for request in &kept {
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/led", "to=here"));
        assert_eq!(credentials(request).len(), 2, "the control");
    }
    // The headers of the operator's connection do not either, whatever their names.
    let tenant = |request: &Recorded| request.header("x-tenant").is_some();
    assert!(lost.iter().all(|request| credentials(request).is_empty() && !tenant(request)));
    assert_eq!(kept.iter().filter(|request| tenant(request)).count(), 2);
}

/// The managed identity and the login service, each a mock of its own, and an API that requires a token.
struct Cloud {
    identity: Mock,
    login: Mock,
    api: Mock,
    requests: Requests,
}

async fn cloud(guard: impl FnOnce(Egress) -> Egress) -> Cloud {
    let token = r#"[{"path": "/**", "response": {"body": {"access_token": "t", "expires_in": "3600"}}}]"#;
    let (identity, login) = (mock(token).await, mock(token).await);
    let api = mock(r#"[{"path": "/do", "headers": {"authorization": "Bearer t"}}]"#).await;
    let egress = guard(Egress::default().map("https://api.example", &api.base_url()).unwrap());
    let tokens = TokenSettings {
        authority: Url::parse(&login.base_url()).unwrap(),
        managed_identity: ManagedIdentity {
            endpoint: Url::parse(&format!("{}/token", identity.base_url())).unwrap(),
            ..ManagedIdentity::default()
        },
        ..TokenSettings::default()
    };
    let requests = requests(Settings { egress, tokens, ..Settings::default() });
    Cloud { identity, login, api, requests }
}

#[tokio::test]
async fn token_endpoints_are_reachable_only_for_tokens() {
    const IDENTITY: &str = r#"{"type": "ManagedServiceIdentity", "audience": "https://api.example"}"#;
    const LOGIN: &str =
        r#"{"type": "ActiveDirectoryOAuth", "tenant": "t", "audience": "a", "clientId": "c", "secret": "s""#;
    let guards: [fn(Egress) -> Egress; 2] =
        [|egress| egress.block_private(true), |egress| egress.allow("api.example").unwrap()];
    for guard in guards {
        let Cloud { identity, login, api, requests } = cloud(guard).await;
        let forbidden = async |inputs: &str| {
            let failed = failure(&requests, "", inputs).await;
            assert_eq!(failed.code, "EgressForbidden", "{inputs}: {failed}");
        };
        let plain = async || {
            for place in [&identity, &login] {
                forbidden(&format!(
                    r#"{{"uri": "{}/token", "headers": {{"Metadata": "true"}}}}"#,
                    place.base_url()
                ))
                .await;
            }
        };
        plain().await;
        assert_eq!((identity.requests().len(), login.requests().len()), (0, 0));
        let with = |authentication: &str| {
            format!(r#"{{"uri": "https://api.example/do", "authentication": {authentication}}}"#)
        };
        let login_at = |authority: &str| with(&format!(r#"{LOGIN}, "authority": "{authority}"}}"#));
        for inputs in [with(IDENTITY), with(&format!("{LOGIN}}}")), login_at(&login.base_url())] {
            let done = attempt(&requests, "", &inputs, &Behaviour::default()).await.unwrap();
            assert!(matches!(done, Progress::Final(answer) if answer.status == 200), "{inputs}");
        }
        assert_eq!((identity.requests().len(), login.requests().len(), api.requests().len()), (1, 2, 3));
        // The connection over which a token was fetched is kept, but no other request may use it.
        plain().await;
        // A login service that the definition names is subject to the egress rules, even if it is the one of the
        // managed identity.
        forbidden(&login_at(&api.base_url().replace("127.0.0.1", "localhost"))).await;
        forbidden(&login_at(&identity.base_url())).await;
        assert_eq!((identity.requests().len(), login.requests().len()), (1, 2));
    }
    // For comparison: without a guard they are ordinary addresses.
    let Cloud { identity, requests, .. } = cloud(|egress| egress).await;
    let inputs = format!(r#"{{"uri": "{}/token"}}"#, identity.base_url());
    attempt(&requests, "", &inputs, &Behaviour::default()).await.unwrap();
    assert_eq!(identity.requests().len(), 1);
}

/// The private address of a connection is reachable only through that connection, not by an action that names the
/// address.
#[tokio::test]
async fn a_private_address_is_reachable_only_through_its_connection() {
    let hub = mock(r#"[{"path": "/**"}]"#).await;
    let file = format!(r#"{{"connections": {{"hub": {{"baseUrl": "{}"}}}}}}"#, hub.base_url());
    let connections = Connections::from_json(&json(&file), &Sources::default()).unwrap();
    let egress = Egress::default().block_private(true);
    let requests = Arc::new(requests(Settings { egress, connections, ..Settings::default() }));
    let address = format!(r#"{{"uri": "{}/x"}}"#, hub.base_url());
    assert_eq!(failure(&requests, "", &address).await.code, "EgressForbidden");
    assert_eq!(hub.requests().len(), 0);
    let inputs: Object = [("path", Value::from("/x"))].into_iter().collect();
    let mut inputs = inputs;
    inputs.insert("host", json(r#"{"connection": {"referenceName": "hub"}}"#));
    let call = TriggerCall {
        callback: None,
        workflow: "w".into(),
        version: "1".into(),
        trigger: "t".into(),
        ask: TriggerPurpose::Poll,
        through_connection: true,
        inputs: inputs.into(),
        address: None,
        idempotency_key: "k".into(),
        tracking_id: "t".into(),
    };
    TriggerRequests::new(&requests).call(&call).await;
    assert_eq!(hub.requests().len(), 1);
    // The connection that it left open cannot be used either.
    assert_eq!(failure(&requests, "", &address).await.code, "EgressForbidden");
    assert_eq!(hub.requests().len(), 1);
}
