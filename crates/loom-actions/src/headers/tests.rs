use proptest::prelude::*;

use super::*;

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

#[test]
fn the_table_of_headers_that_are_not_sent() {
    for name in [
        "Accept-Encoding",
        "accept-language",
        "Accept-Charset",
        "Allow",
        "Content-Length",
        "Content-MD5",
        "Content-Range",
        "Content-Language",
        "Cookie",
        "Expires",
        "Host",
        "Last-Modified",
        "Origin",
        "Set-Cookie",
        "Transfer-Encoding",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(is_removed(name, &method), "{name} {method}");
        }
    }
    for name in [
        "Accept",
        "Accept-Version",
        "Authorization",
        "If-Match",
        "Range",
        "X-Api-Key",
        "Prefer",
        "User-Agent",
    ] {
        assert!(!is_removed(name, &Method::GET) && !is_removed(name, &Method::POST), "{name}");
    }
    for name in ["Content-Type", "content-disposition", "Content-Encoding"] {
        assert!(
            is_removed(name, &Method::GET)
                && !is_removed(name, &Method::POST)
                && !is_removed(name, &Method::PUT)
                && is_removed(name, &Method::DELETE)
        );
    }
}

#[test]
fn values_become_strings_and_header_injection_is_refused() {
    let given = json(r#"{"A": 1, "B": true, "C": null, "D": ["x", 2], "E": " t ", "Host": "evil"}"#);
    let headers = from_author(&given, &Method::GET).unwrap();
    let all: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    assert_eq!(all, ["a=1", "b=True", "d=x", "d=2", "e=t"]);
    for bad in [r#"{"A": "x\r\nHost: evil"}"#, r#"{"A b": "x"}"#, r#"{"A": "\u0000"}"#, "[]"] {
        let failure = from_author(&json(bad), &Method::GET).unwrap_err();
        assert_eq!(failure.code, "BadRequest");
        assert!(!failure.message.contains("evil"));
    }
}

#[test]
fn every_unsafe_method_has_an_idempotency_key() {
    for (method, expected) in [
        (Method::POST, Some("\"run/A%C3%A4 %22x%22/0\"")),
        (Method::PATCH, Some("\"run/A%C3%A4 %22x%22/0\"")),
        (Method::PUT, Some("\"run/A%C3%A4 %22x%22/0\"")),
        (Method::DELETE, Some("\"run/A%C3%A4 %22x%22/0\"")),
        (Method::GET, None),
        (Method::HEAD, None),
        (Method::OPTIONS, None),
    ] {
        let mut headers = HeaderMap::new();
        add_idempotency_key(&mut headers, &method, "run/Aä \"x\"/0");
        assert_eq!(headers.get("idempotency-key").map(|value| value.to_str().unwrap()), expected, "{method}");
    }
    let mut own = from_author(&json(r#"{"Idempotency-Key": "mine"}"#), &Method::POST).unwrap();
    add_idempotency_key(&mut own, &Method::POST, "ours");
    assert_eq!(own["idempotency-key"], "mine");
}

#[test]
fn tracking_headers_are_sent_unless_suppressed_and_never_replace() {
    let marks = Marks { workflow: "wörk flow".to_owned(), run: "r1".to_owned(), ..Marks::default() };
    let mut headers = from_author(&json(r#"{"x-ms-workflow-run-id": "own"}"#), &Method::GET).unwrap();
    add_marks(&mut headers, &marks, false);
    assert_eq!(headers["x-ms-workflow-name"], "w%C3%B6rk%20flow");
    assert_eq!(headers["x-ms-workflow-run-id"], "own");
    let mut headers = HeaderMap::new();
    add_marks(&mut headers, &marks, true);
    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["user-agent"]);
}

#[test]
fn response_headers_have_their_usual_spelling() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "a/b"),
        ("etag", "1"),
        ("x-ms-request-id", "r"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let expected =
        json(r#"{"Content-Type": "a/b", "ETag": "1", "x-ms-request-id": "r", "Set-Cookie": "a=1,b=2"}"#);
    assert_eq!(Value::from(to_object(&headers)), expected);
}

#[track_caller]
fn waits(headers: &[(&'static str, &'static str)], expected: Option<u64>) {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect::<HeaderMap>();
    // 2024-01-01T00:00:00Z
    let now = Timestamp::from_unix_millis(1_704_067_200_000);
    assert_eq!(retry_after(&headers, now), expected.map(Duration::from_millis));
}

#[test]
fn no_service_can_ask_for_more_than_a_day() {
    let day = Some(86_400_000);
    waits(&[("retry-after", "86400")], day);
    waits(&[("retry-after", "86401")], day);
    waits(&[("retry-after", "4000000000")], day);
    waits(&[("retry-after", "4294967296")], day);
    waits(&[("retry-after", "99999999999999999999999999")], day);
    waits(&[("retry-after-ms", "99999999999999999999999999")], day);
    waits(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], day);
    waits(&[("retry-after", "00007")], Some(7_000));
}

#[test]
fn every_form_of_retry_after() {
    waits(&[("retry-after", "7")], Some(7_000));
    waits(&[("retry-after", "0")], Some(0));
    waits(&[("retry-after", "Mon, 01 Jan 2024 00:00:30 GMT")], Some(30_000));
    waits(&[("retry-after", "Monday, 01-Jan-24 00:00:30 GMT")], Some(30_000));
    waits(
        &[("retry-after", "Mon, 01 Jan 2024 01:00:05 GMT"), ("date", "Mon, 01 Jan 2024 01:00:00 GMT")],
        Some(5_000),
    );
    waits(&[("retry-after", "Sun, 31 Dec 2023 00:00:00 GMT")], Some(0));
    waits(&[("retry-after", "9"), ("x-ms-retry-after-ms", "250")], Some(250));
    waits(&[("retry-after", "soon")], None);
    waits(&[("retry-after", "-1")], None);
    waits(&[("retry-after", "+1")], None);
    waits(&[("retry-after", "1.5")], None);
    waits(&[("retry-after", "")], None);
    waits(&[("retry-after-ms", "+1"), ("retry-after", "2")], Some(2_000));
    waits(&[], None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_key_can_be_sent_and_different_keys_stay_different(one in any::<String>(), other in any::<String>()) {
        let sent = |key: &str| {
            let mut headers = HeaderMap::new();
            add_idempotency_key(&mut headers, &Method::POST, key);
            headers.get("idempotency-key").map(|value| value.to_str().expect("it is ASCII").to_owned())
        };
        let (first, second) = (sent(&one), sent(&other));
        prop_assert_eq!(first.is_none(), one.is_empty());
        prop_assert_eq!(first == second, one == other);
        if let Some(text) = first {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            prop_assert!(inner.is_some_and(|inner| !inner.contains(['"', '\\'])), "{}", text);
        }
    }

    #[test]
    fn any_names_and_traces_give_valid_headers(name in any::<String>(), parent in any::<String>(), state in any::<String>()) {
        let marks = Marks {
            workflow: name.clone(),
            action: name.clone(),
            tracking_id: name,
            trace_parent: parent,
            trace_state: state,
            ..Marks::default()
        };
        let mut headers = HeaderMap::new();
        add_marks(&mut headers, &marks, false);
        prop_assert!(headers.contains_key("user-agent"));
    }
}
