//! Authentication, against a mock of the token endpoints.

use loom_actions::{Behaviour, Egress, ManagedIdentity, Requests, Settings, TokenSettings, Url};
use loom_testkit::mock::Mock;

use crate::support::{attempt, failure, finished, json, mock, requests};

const TOKENS: &str = r#"
    {"method": "POST", "path": "/login.microsoftonline.com/my%20tenant/oauth2/token", "responses": [
        {"body": {"access_token": "t1", "expires_in": "3600"}}, {"body": {"access_token": "t2", "expires_in": 3600}}]},
    {"method": "GET", "path": "/169.254.169.254/metadata/identity/oauth2/token", "headers": {"Metadata": "true"},
     "query": {"resource": "https://api.example", "api-version": "2018-02-01"}, "response": {"body": {"access_token": "m1", "expires_in": "3600"}}}"#;

const OAUTH: &str = r#"{"method": "POST", "uri": "https://api.example/do", "authentication": {"type": "ActiveDirectoryOAuth",
    "tenant": "my tenant", "audience": "https://api.example", "clientId": "me", "secret": "geheim"}}"#;

/// Requests to any host, all of which the mock serves.
async fn requests_to(rules: &str) -> (Mock, Requests) {
    let mock = mock(&format!("[{TOKENS}{rules}]")).await;
    let egress = Egress::from_json(&json(&format!(r#"{{"*": "{}"}}"#, mock.base_url()))).unwrap();
    (mock, requests(Settings { egress, ..Settings::default() }))
}

fn paths(mock: &Mock) -> Vec<String> {
    mock.requests().into_iter().map(|request| request.path).collect()
}

async fn send(requests: &Requests, inputs: &str) -> u16 {
    finished(attempt(requests, "", inputs, &Behaviour::default()).await.unwrap()).status
}

#[tokio::test]
async fn concurrent_requests_share_one_token() {
    let rules = r#", {"path": "/api.example/do", "headers": {"authorization": "Bearer t1"}}"#;
    let (mock, requests) = requests_to(rules).await;
    let (a, b, c) = tokio::join!(send(&requests, OAUTH), send(&requests, OAUTH), send(&requests, OAUTH));
    assert_eq!((a, b, c), (200, 200, 200));
    assert_eq!(mock.problems(), Vec::<String>::new());
    let requests = mock.requests();
    let tokens: Vec<_> = requests.iter().filter(|request| request.path.ends_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&tokens[0].body),
        "grant_type=client_credentials&client_id=me&client_secret=geheim&resource=https%3A%2F%2Fapi.example"
    );
}

#[tokio::test]
async fn a_rejected_token_is_replaced() {
    let rules = r#", {"path": "/api.example/do", "headers": {"authorization": "Bearer t1"}, "responses": [{"status": 200}, {"status": 401}]},
        {"path": "/api.example/do", "headers": {"authorization": "Bearer t2"}, "responses": [{"status": 200}, {"status": 401}]}"#;
    let (mock, requests) = requests_to(rules).await;
    let tokens = || paths(&mock).iter().filter(|path| path.ends_with("/token")).count();
    assert_eq!(send(&requests, OAUTH).await, 200);
    assert_eq!(tokens(), 1);
    // The kept token was revoked; the rejected request is sent again immediately.
    assert_eq!(send(&requests, OAUTH).await, 200);
    assert_eq!((tokens(), mock.requests().len()), (2, 5));
    // When a new token is rejected as well, that is the result.
    assert_eq!(send(&requests, OAUTH).await, 401);
    assert_eq!((tokens(), mock.requests().len()), (3, 8));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (mock, requests) = requests_to(r#", {"path": "/api.example/do"}"#).await;
    assert_eq!(send(&requests, OAUTH).await, 200);
    tokio::time::pause();
    // The token is used until five minutes before its end.
    tokio::time::advance(std::time::Duration::from_secs(3_200)).await;
    tokio::time::resume();
    assert_eq!(send(&requests, OAUTH).await, 200);
    assert_eq!(paths(&mock).iter().filter(|path| path.ends_with("/token")).count(), 1);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_mins(2)).await;
    tokio::time::resume();
    assert_eq!(send(&requests, OAUTH).await, 200);
    assert_eq!(paths(&mock).iter().filter(|path| path.ends_with("/token")).count(), 2);
}

#[tokio::test]
async fn managed_identity_tokens() {
    let (mock, requests) =
        requests_to(r#", {"path": "/api.example/do", "headers": {"authorization": "Bearer m1"}}"#).await;
    let inputs = r#"{"method": "POST", "uri": "https://api.example/do", "authentication": {"type": "ManagedServiceIdentity", "audience": "https://api.example"}}"#;
    assert_eq!(send(&requests, inputs).await, 200);
    assert_eq!(mock.problems(), Vec::<String>::new());
    // An app service has its own endpoint and proves its identity by a header.
    let own = mock.base_url();
    let endpoint = Url::parse(&format!("{own}/169.254.169.254/metadata/identity/oauth2/token")).unwrap();
    let managed_identity = ManagedIdentity::app_service(endpoint, "geheim".to_owned());
    let shown = format!("{managed_identity:?}");
    assert!(!shown.contains("geheim"));
    let tokens = TokenSettings { managed_identity, ..TokenSettings::default() };
    let app = crate::support::requests(Settings { tokens, ..Settings::default() });
    let failed = failure(&app, &own, &inputs.replace("https://api.example/do", "{base}/do")).await;
    assert_eq!(
        (failed.code.as_ref(), failed.transient),
        ("Unauthorized", false),
        "the mock wants another version"
    );
    let asked = mock.requests();
    assert_eq!(asked.last().unwrap().header("x-identity-header"), Some("geheim"));
}

#[tokio::test]
async fn a_failure_to_get_a_token_reveals_no_secret() {
    let mock = mock(
        r#"[{"path": "/t/oauth2/token", "responses": [
            {"status": 401, "body": {"error": "invalid_client", "error_description": "geheim is wrong"}},
            {"status": 503}, {"status": 200, "body": {"nothing": 1}}]}]"#,
    )
    .await;
    let authority_override = Some(Url::parse(&mock.base_url()).unwrap());
    let tokens = TokenSettings { authority_override, ..TokenSettings::default() };
    let requests = requests(Settings { tokens, ..Settings::default() });
    let inputs = OAUTH.replace("my tenant", "t");
    for (transient, part) in [(false, "401 (invalid_client)"), (true, "503"), (false, "access_token")] {
        let failed = failure(&requests, "", &inputs).await;
        assert_eq!((failed.code.as_ref(), failed.transient), ("Unauthorized", transient));
        assert!(failed.message.contains(part) && !failed.message.contains("geheim"), "{failed}");
    }
}
