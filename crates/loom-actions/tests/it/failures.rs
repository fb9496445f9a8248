//! Everything that can fail on the way, with distinct errors.

use loom_actions::{Behaviour, ClientOptions, Egress, Settings};
use tokio::net::TcpListener;

use crate::support::{Then, attempt, failure, json, mock, raw, requests, secured};

const GET: &str = r#"{"uri": "{base}/x?sig=geheim", "authentication": {"type": "Raw", "value": "geheim"}}"#;

#[track_caller]
fn is(failure: &loom_actions::Failure, code: &str, transient: bool, part: &str) {
    assert_eq!((failure.code.as_ref(), failure.transient), (code, transient), "{failure}");
    assert!(failure.message.contains(part), "{failure}");
    assert!(!failure.message.contains("geheim"), "a secret in: {failure}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let failed = failure(&requests(Settings::default()), "https://nowhere.example", GET).await;
    is(&failed, "UnresolvableHostName", true, "'nowhere.example'");
}

#[tokio::test]
async fn a_closed_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failed = failure(&requests(Settings::default()), &base, GET).await;
    is(&failed, "ServiceTemporarilyUnavailable", true, "connection refused");
}

#[tokio::test]
async fn connections_that_break() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec();
    for (bytes, then) in [
        (Vec::new(), Then::Close),
        (Vec::new(), Then::Reset),
        (cut.clone(), Then::Close),
        (cut, Then::Reset),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel".to_vec(), Then::Close),
    ] {
        let (base, _tasks) = raw(bytes, then).await;
        let failed = failure(&requests(Settings::default()), &base, GET).await;
        is(&failed, "ServiceTemporarilyUnavailable", true, "connection");
    }
}

#[tokio::test]
async fn something_that_is_not_http() {
    let (base, _tasks) = raw(b"SSH-2.0-server\r\n".to_vec(), Then::Keep).await;
    let failed = failure(&requests(Settings::default()), &base, GET).await;
    is(&failed, "BadGateway", false, "not HTTP");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_respond() {
    let (base, _tasks) = raw(Vec::new(), Then::Keep).await;
    let settings = Settings { attempt_timeout: std::time::Duration::from_secs(5), ..Settings::default() };
    let failed = failure(&requests(settings), &base, GET).await;
    is(&failed, "ServerTimeout", true, "within 5000 ms");
}

#[tokio::test]
async fn a_port_without_tls_spoken_to_with_tls() {
    let (base, _tasks) = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Then::Keep).await;
    let failed = failure(&requests(Settings::default()), &base.replace("http:", "https:"), GET).await;
    is(&failed, "SecureChannelFailure", false, "does not speak TLS");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_trusted_only_if_configured() {
    let (signed, port, _tasks) = secured(None).await;
    let base = format!("https://localhost:{port}");
    let failed = failure(&requests(Settings::default()), &base, GET).await;
    is(&failed, "TrustFailure", false, "not accepted");
    let client = ClientOptions { extra_roots_pem: vec![signed.cert.pem()], ..ClientOptions::default() };
    let trusting = requests(Settings { client, ..Settings::default() });
    let answer = attempt(&trusting, &base, GET, &Behaviour::default()).await.unwrap();
    assert_eq!(crate::support::body(&crate::support::finished(answer)), "safe".into());
    let failed = failure(&trusting, &format!("https://innocent.example:{port}"), GET).await;
    is(&failed, "TrustFailure", false, "for another host");
}

#[tokio::test]
async fn bodies_over_the_limit_announced_streamed_or_compressed() {
    use std::io::Write as _;
    let limit = 1_000;
    let client = ClientOptions { body_bytes_max: limit, ..ClientOptions::default() };
    let requests = requests(Settings { client, ..Settings::default() });
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n".to_vec();
    let mut streamed = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    streamed.extend(vec![b'x'; limit + 1]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 1_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    let mut packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    packed.extend(&bomb[..]);
    for bytes in [announced, streamed, packed] {
        let (base, _tasks) = raw(bytes, Then::Close).await;
        is(&failure(&requests, &base, GET).await, "ResponseTooLarge", false, "limit of 1000 bytes");
    }
    let mut exact = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    exact.extend(vec![b'x'; limit]);
    let (base, _tasks) = raw(exact, Then::Close).await;
    assert!(
        attempt(&requests, &base, GET, &Behaviour::default()).await.is_ok(),
        "the limit itself is allowed"
    );
}

#[tokio::test]
async fn invalid_json_fails_a_success_but_not_an_error_page() {
    let kind = r#""headers": {"Content-Type": "application/json"}"#;
    let rules = format!(
        r#"[{{"path": "/x", "responses": [{{{kind}, "body": "<geheim>"}}, {{"status": 503, {kind}, "body": "<html>"}}]}}]"#
    );
    let mock = mock(&rules).await;
    let requests = requests(Settings::default());
    is(&failure(&requests, &mock.base_url(), GET).await, "BadRequest", false, "not JSON");
    let page = attempt(&requests, &mock.base_url(), GET, &Behaviour::default()).await.unwrap();
    let page = crate::support::finished(page);
    assert_eq!((page.status, page.is_transient(), crate::support::body(&page)), (503, true, "<html>".into()));
}

#[tokio::test]
async fn forbidden_hosts_are_not_reached() {
    let mock = mock(r#"[{"path": "/**"}]"#).await;
    let port = mock.address().port();
    let guarded = |rules: &str| {
        let egress = Egress::from_json(&json(rules)).unwrap();
        requests(Settings { egress, ..Settings::default() })
    };
    let closed = guarded(r#"{"blockPrivate": true}"#);
    for base in [
        mock.base_url(),
        format!("http://innocent.example:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
    ] {
        is(&failure(&closed, &base, GET).await, "EgressForbidden", false, "private");
    }
    let listed = guarded(r#"{"allow": ["api.example.com"]}"#);
    is(&failure(&listed, &mock.base_url(), GET).await, "EgressForbidden", false, "allowed hosts");
    assert_eq!(mock.requests().len(), 0, "no request was sent");
    let mapped = guarded(&format!(r#"{{"blockPrivate": true, "map": {{"*": "{}"}}}}"#, mock.base_url()));
    attempt(&mapped, "https://api.github.com", GET, &Behaviour::default()).await.unwrap();
    assert_eq!(mock.requests()[0].path, "/api.github.com/x");
}

#[tokio::test]
async fn inputs_that_cannot_be_sent() {
    let requests = requests(Settings::default());
    for (inputs, part) in [
        (r#"{"method": "GET"}"#, "no 'uri'"),
        (r#"{"uri": 7}"#, "Integer"),
        (r#"{"uri": "x/y"}"#, "begin with"),
        (r#"{"uri": "{base}", "method": "NO WAY"}"#, "not a valid method"),
        (r#"{"uri": "{base}", "headers": {"a\nb": "c"}}"#, "header"),
        (
            r#"{"uri": "{base}", "method": "POST", "body": {"$content-type": "a/b", "$content": "?"}}"#,
            "base64",
        ),
        (r#"{"uri": "{base}", "queries": "a=1"}"#, "'queries' must be an object, found String"),
        (r#"{"uri": "{base}", "authentication": {"type": "Magic"}}"#, "'Magic'"),
    ] {
        is(&failure(&requests, "http://127.0.0.1:9", inputs).await, "BadRequest", false, part);
    }
}
