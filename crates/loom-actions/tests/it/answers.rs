//! What is sent, and what responses look like.

use loom_actions::{Behaviour, Settings};
use loom_expression::Value;
use loom_testkit::flaky::Flaky;

use crate::support::{answer, attempt, body, finished, json, mock, requests};

#[tokio::test]
async fn a_request_is_sent_as_written_and_its_response_returned() {
    let flaky = Flaky::start().await.unwrap();
    let inputs = r#"{"method": "post", "uri": "{base}/echo?a=%2F", "queries": {"b": ["x", 1]}, "cookie": "c=1",
        "headers": {"X-Own": "v", "Accept-Language": "da", "Host": "evil", "Cookie": "stolen=1", "Content-MD5": "x"}, "body": {"k": [1, null]}}"#;
    let answer = answer(&flaky.base_url(), inputs).await;
    assert_eq!((answer.status, answer.outputs.get("statusCode")), (200, Some(&200.into())));
    assert_eq!(answer.outputs.get("headers").unwrap().get("Content-Type"), Some(&"application/json".into()));
    let echo = body(&answer);
    assert_eq!(echo.get("method"), Some(&"POST".into()));
    assert_eq!(echo.get("query"), Some(&"b=x&b=1".into()), "'queries' replace the query of the address");
    assert_eq!(echo.get("body"), Some(&json(r#"{"k": [1, null]}"#)));
    let headers = echo.get("headers").unwrap();
    for (name, value) in [
        ("x-own", "v"),
        ("cookie", "c=1"),
        ("content-type", "application/json; charset=utf-8"),
        ("idempotency-key", "\"0000000000000001/Call\""),
        ("x-ms-workflow-run-id", "0000000000000001"),
        ("x-ms-client-tracking-id", "track"),
        ("accept-encoding", "gzip"),
        ("host", flaky.address().to_string().as_str()),
    ] {
        assert_eq!(headers.get(name), Some(&value.into()), "{name}");
    }
    assert_eq!((headers.get("accept-language"), headers.get("content-md5")), (None, None));
    flaky.stop().await;
}

#[tokio::test]
async fn every_method_is_sent_and_a_get_has_no_body() {
    let flaky = Flaky::start().await.unwrap();
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
        let inputs = r#"{"method": "METHOD", "uri": "{base}/echo", "headers": {"Content-Type": "text/x"}, "body": "hi"}"#;
        let echo = body(&answer(&flaky.base_url(), &inputs.replace("METHOD", method)).await);
        assert_eq!(echo.get("method"), Some(&method.into()));
        let sent = method != "GET";
        assert_eq!(echo.get("body"), Some(&if sent { "hi" } else { "" }.into()), "{method}");
        let kind = match method {
            "GET" => None,
            // The author's type is dropped; the body has the type of its value.
            "DELETE" => Some("text/plain; charset=utf-8"),
            _ => Some("text/x"),
        };
        assert_eq!(
            echo.get("headers").unwrap().get("content-type").and_then(Value::as_str),
            kind,
            "{method}"
        );
    }
    let head = answer(&flaky.base_url(), r#"{"method": "HEAD", "uri": "{base}/ok"}"#).await;
    assert_eq!((head.status, head.outputs.get("body")), (200, None));
}

#[tokio::test]
async fn queries_without_members_leave_the_query_of_the_address() {
    let flaky = Flaky::start().await.unwrap();
    for (queries, sent) in [("{}", "a=1&b=2"), ("null", "a=1&b=2"), (r#"{"c": "3 4"}"#, "c=3%204")] {
        let inputs = r#"{"uri": "{base}/echo?a=1&b=2", "queries": QUERIES}"#.replace("QUERIES", queries);
        let echo = body(&answer(&flaky.base_url(), &inputs).await);
        assert_eq!(echo.get("query"), Some(&sent.into()), "{queries}");
    }
    flaky.stop().await;
}

#[tokio::test]
async fn the_authors_content_type_overrides_that_of_an_envelope() {
    let flaky = Flaky::start().await.unwrap();
    let envelope = r#"{"$content-type": "application/xml;charset=utf-8", "$content": "PGEvPg=="}"#;
    for (headers, kind) in [
        (r#"{"Content-Type": "text/xml; charset=utf-8"}"#, "text/xml; charset=utf-8"),
        ("{}", "application/xml;charset=utf-8"),
    ] {
        let inputs = r#"{"method": "POST", "uri": "{base}/echo", "headers": HEADERS, "body": BODY}"#;
        let inputs = inputs.replace("HEADERS", headers).replace("BODY", envelope);
        let echo = body(&answer(&flaky.base_url(), &inputs).await);
        assert_eq!(echo.get("body"), Some(&"<a/>".into()));
        assert_eq!(echo.get("headers").unwrap().get("content-type"), Some(&kind.into()));
    }
    flaky.stop().await;
}

#[tokio::test]
async fn every_status_is_a_response_and_decides_about_retries() {
    let flaky = Flaky::start().await.unwrap();
    for (status, transient) in [
        (200, false),
        (204, false),
        (304, false),
        (400, false),
        (404, false),
        (408, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let inputs = format!(r#"{{"uri": "{{base}}/status/{status}"}}"#);
        let answer = answer(&flaky.base_url(), &inputs).await;
        assert_eq!((answer.status, answer.is_transient()), (status, transient));
        assert_eq!(answer.is_success(), (200..300).contains(&status));
    }
    let limited = answer(&flaky.base_url(), r#"{"uri": "{base}/limited?retryAfter=7"}"#).await;
    assert_eq!(limited.after, Some(std::time::Duration::from_secs(7)));
}

#[tokio::test]
async fn gzip_is_decompressed_unless_disabled() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(br#"{"a":1}"#).unwrap();
    let packed = encoder.finish().unwrap();
    let base64 = loom_expression::envelope::encode("x/y", &packed);
    let base64 = base64.get("$content").unwrap().as_str().unwrap();
    let rules = r#"[{"path": "/z", "response": {"headers": {"Content-Encoding": "gzip", "Content-Type": "application/json"}, "base64": "B64"}}]"#;
    let mock = mock(&rules.replace("B64", base64)).await;
    let unpacked = answer(&mock.base_url(), r#"{"uri": "{base}/z"}"#).await;
    assert_eq!(body(&unpacked), json(r#"{"a":1}"#));
    assert_eq!(unpacked.outputs.get("headers").unwrap().get("Content-Encoding"), None);
    let raw = Behaviour { no_decompression: true, ..Behaviour::default() };
    let inputs = r#"{"uri": "{base}/z"}"#;
    // Compressed bytes are passed on as they came, whatever is inside.
    let packed = attempt(&requests(Settings::default()), &mock.base_url(), inputs, &raw).await.unwrap();
    let packed = finished(packed);
    assert_eq!(packed.outputs.get("headers").unwrap().get("Content-Encoding"), Some(&"gzip".into()));
    let envelope = body(&packed);
    assert_eq!(envelope.get("$content-type"), Some(&"application/json".into()));
    assert_eq!(envelope.get("$content").and_then(Value::as_str), Some(base64));
    assert_eq!(mock.requests()[1].header("accept-encoding"), None);
}

#[tokio::test]
async fn form_and_multipart_bodies_round_trip() {
    let flaky = Flaky::start().await.unwrap();
    let form = r#"{"method": "POST", "uri": "{base}/echo", "headers": {"content-type": "application/x-www-form-urlencoded"}, "body": {"a": "b c", "d": "&"}}"#;
    assert_eq!(body(&answer(&flaky.base_url(), form).await).get("body"), Some(&"a=b+c&d=%26".into()));
    let parts = r#"{"method": "POST", "uri": "{base}/echo", "headers": {"content-type": "multipart/form-data"},
        "body": {"$content-type": "multipart/form-data", "$multipart": [{"headers": {"Content-Disposition": "form-data; name=\"f\""}, "body": "text"}]}}"#;
    let echo = body(&answer(&flaky.base_url(), parts).await);
    let kind = echo.get("headers").unwrap().get("content-type").unwrap().as_str().unwrap().to_owned();
    let sent = echo.get("body").unwrap().as_str().unwrap();
    let read = loom_actions::decode(sent.as_bytes(), Some(&kind)).unwrap().unwrap();
    let part = read.get("$multipart").unwrap().index(0).unwrap();
    assert_eq!(
        part.get("headers").unwrap().get("Content-Disposition"),
        Some(&"form-data; name=\"f\"".into())
    );
    assert_eq!(loom_expression::envelope::text(part.get("body").unwrap()), "text");
}

#[tokio::test]
async fn a_redirect_is_a_response_and_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let rules = format!(
            r#"[{{"path": "/old", "response": {{"status": {status}, "headers": {{"Location": "/new"}}, "body": "moved"}}}}]"#
        );
        let mock = mock(&rules).await;
        for method in ["GET", "POST"] {
            let inputs = format!(
                r#"{{"method": "{method}", "uri": "{{base}}/old", "authentication": {{"type": "Raw", "value": "key"}}}}"#
            );
            let answer = answer(&mock.base_url(), &inputs).await;
            assert_eq!((answer.status, answer.is_success(), answer.is_transient()), (status, false, false));
            let location = answer.outputs.get("headers").and_then(|headers| headers.get("Location"));
            assert_eq!(location, Some(&"/new".into()));
            assert_eq!(body(&answer), "moved".into());
        }
        assert_eq!(mock.requests().len(), 2, "{status}: nothing was sent again");
    }
}
