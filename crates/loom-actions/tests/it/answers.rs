//! What is sent, and how answers look.

use loom_actions::{Behaviour, ClientOptions, Settings, Spec, Url};
use loom_expression::Value;
use loom_testkit::flaky::Flaky;

use crate::support::{answer, attempt, body, finished, json, marks, mock, requests};

#[tokio::test]
async fn a_request_goes_out_as_written_and_its_answer_comes_back() {
    let flaky = Flaky::start().await.unwrap();
    let inputs = r#"{"method": "post", "uri": "{base}/echo?a=%2F", "queries": {"b": ["x", 1]}, "cookie": "c=1",
        "headers": {"X-Own": "v", "Accept-Language": "da", "Host": "evil", "Cookie": "stolen=1", "Content-MD5": "x"}, "body": {"k": [1, null]}}"#;
    let answer = answer(&flaky.base_url(), inputs).await;
    assert_eq!((answer.status, answer.outputs.get("statusCode")), (200, Some(&200.into())));
    assert_eq!(answer.outputs.get("headers").unwrap().get("Content-Type"), Some(&"application/json".into()));
    let echo = body(&answer);
    assert_eq!(echo.get("method"), Some(&"POST".into()));
    assert_eq!(echo.get("query"), Some(&"a=%2F&b=x&b=1".into()));
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
        assert_eq!(echo.get("headers").unwrap().get("content-type").is_some(), sent, "{method}");
    }
    let head = answer(&flaky.base_url(), r#"{"method": "HEAD", "uri": "{base}/ok"}"#).await;
    assert_eq!((head.status, head.outputs.get("body")), (200, None));
}

#[tokio::test]
async fn statuses_are_answers_and_say_whether_to_try_again() {
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
async fn gzip_is_undone_unless_the_author_wants_it() {
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
    // Packed bytes are bytes, whatever is inside, and go on as they came.
    let packed = attempt(&requests(Settings::default()), &mock.base_url(), inputs, &raw).await.unwrap();
    let packed = finished(packed);
    assert_eq!(packed.outputs.get("headers").unwrap().get("Content-Encoding"), Some(&"gzip".into()));
    let envelope = body(&packed);
    assert_eq!(envelope.get("$content-type"), Some(&"application/json".into()));
    assert_eq!(envelope.get("$content").and_then(Value::as_str), Some(base64));
    assert_eq!(mock.requests()[1].header("accept-encoding"), None);
}

#[tokio::test]
async fn bodies_that_are_forms_or_multipart_make_the_round_trip() {
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
async fn redirects_are_followed_within_limits_and_lose_credentials_elsewhere() {
    let other = mock(r#"[{"path": "/end", "response": {"body": "there"}}]"#).await;
    let rules = r#"[{"path": "/303", "response": {"status": 303, "headers": {"Location": "/get"}}},
        {"path": "/307", "response": {"status": 307, "headers": {"Location": "get?x=1"}}},
        {"path": "/get", "response": {"body": "here"}},
        {"path": "/away", "response": {"status": 302, "headers": {"Location": "OTHER/end"}}},
        {"path": "/plain", "response": {"status": 302, "body": "no place"}},
        {"path": "/loop", "response": {"status": 302, "headers": {"Location": "/loop"}}}]"#;
    let mock = mock(&rules.replace("OTHER", &other.base_url())).await;
    let base = mock.base_url();
    let inputs = |path: &str| {
        format!(
            r#"{{"method": "POST", "uri": "{{base}}/{path}", "body": "b", "cookie": "c=1", "authentication": {{"type": "Raw", "value": "key"}}}}"#
        )
    };
    assert_eq!(body(&answer(&base, &inputs("303")).await), "here".into());
    assert_eq!(body(&answer(&base, &inputs("307")).await), "here".into());
    let seen = mock.requests();
    assert_eq!(
        (seen[1].method.as_str(), seen[1].body.len(), seen[1].header("content-type")),
        ("GET", 0, None)
    );
    assert_eq!(
        (seen[3].method.as_str(), seen[3].body.as_slice(), seen[3].query.as_str()),
        ("POST", &b"b"[..], "x=1")
    );
    assert_eq!(seen[3].header("authorization"), Some("key"));
    assert_eq!(body(&answer(&base, &inputs("away")).await), "there".into());
    let away = &other.requests()[0];
    assert_eq!((away.header("authorization"), away.header("cookie")), (None, None));
    // Keys under other names, by the authentication or out of a secret, stay behind too.
    let given = json(&format!(
        r#"{{"uri": "{base}/away", "headers": {{"x-kind": "plain"}}, "authentication": {{"type": "ApiKey", "name": "x-api-key", "value": "key"}}}}"#
    ));
    let mut spec = Spec::from_inputs(&given).unwrap();
    let mut headers = spec.headers.as_object().cloned().unwrap();
    headers.insert("x-secret", Value::from("hush").into_secret());
    spec.headers = headers.into();
    let defaults = requests(Settings::default());
    defaults.perform(&spec, &marks(), &Behaviour::default(), None).await.unwrap();
    let here = mock.requests().pop().unwrap();
    assert_eq!((here.header("x-api-key"), here.header("x-secret")), (Some("key"), Some("hush")));
    let away = &other.requests()[1];
    assert_eq!((away.header("x-api-key"), away.header("x-secret")), (None, None));
    assert_eq!(away.header("x-kind"), Some("plain"));
    assert_eq!(answer(&base, &inputs("plain")).await.status, 302);
    let before = mock.requests().len();
    assert_eq!(answer(&base, &inputs("loop")).await.status, 302);
    assert_eq!(mock.requests().len() - before, 11, "the first request and ten redirects");
    let settings = Settings {
        client: ClientOptions { redirects_max: 0, ..ClientOptions::default() },
        ..Settings::default()
    };
    let stays = attempt(&requests(settings), &base, &inputs("303"), &Behaviour::default()).await;
    assert_eq!(finished(stays.unwrap()).status, 303);
    assert!(Url::parse(&base).is_ok());
}
