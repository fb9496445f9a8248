//! Error bodies of all providers, and the headers that come with them.

use std::time::Duration;

use loom_models::{ErrorKind, Head, ModelError, error_of};

fn of(status: u16, body: &str) -> ModelError {
    error_of(&Head::new::<&str, &str>(status, []), body.as_bytes(), 0)
}

#[test]
fn bodies_are_classified() {
    use ErrorKind as K;
    for (status, body, kind) in [
        (
            400,
            r#"{"error":{"code":400,"message":"request (6031 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":6031,"n_ctx":4096}}"#,
            K::ContextTooLong,
        ),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            K::ContextTooLong,
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            K::ContextTooLong,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_1"}"#,
            K::ContextTooLong,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}]"#,
            K::ContextTooLong,
        ),
        (
            400,
            r#"{"error":{"message":"m","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            K::ContentFilter,
        ),
        (
            400,
            r#"{"error":{"message":"m","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            K::ContentFilter,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            K::QuotaExhausted,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            K::Authentication,
        ),
        (400, r#"{"error":"invalid options: num_ctx"}"#, K::InvalidRequest),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            K::Authentication,
        ),
        (401, "", K::Authentication),
        (402, "", K::QuotaExhausted),
        (403, r#"{"type":"error","error":{"type":"permission_error","message":"m"}}"#, K::PermissionDenied),
        (404, r#"{"error":"model 'x' not found"}"#, K::NotFound),
        (404, r#"{"error":{"code":"DeploymentNotFound","message":"m"}}"#, K::NotFound),
        (408, "", K::Timeout),
        (409, "", K::Conflict),
        (413, r#"{"type":"error","error":{"type":"request_too_large","message":"m"}}"#, K::RequestTooLarge),
        (422, r#"{"detail":[{"loc":["body","model"],"msg":"field required"}]}"#, K::InvalidRequest),
        (429, r#"{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}"#, K::RateLimited),
        (
            429,
            r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            K::QuotaExhausted,
        ),
        (
            429,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            K::RateLimited,
        ),
        (
            429,
            r#"{"error":{"message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            K::QuotaExhausted,
        ),
        (500, r#"{"error":{"message":"m","type":"server_error"}}"#, K::Server),
        (502, "<html>Bad gateway</html>", K::Server),
        (
            503,
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            K::Overloaded,
        ),
        (504, "", K::Timeout),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            K::Overloaded,
        ),
        (529, "{", K::Overloaded),
        (418, "null", K::InvalidRequest),
        (302, "", K::Server),
    ] {
        let error = of(status, body);
        assert_eq!(error.kind, kind, "{status} {body}");
        assert_eq!(error.status, Some(status));
        assert!(!error.message.is_empty(), "{status} {body}");
    }
}

#[test]
fn what_is_retryable() {
    for (status, retryable) in [
        (400, false),
        (401, false),
        (404, false),
        (408, true),
        (409, true),
        (429, true),
        (500, true),
        (529, true),
    ] {
        assert_eq!(of(status, "").is_retryable(), retryable, "{status}");
    }
    let quota = r#"{"error":{"message":"m","code":"insufficient_quota"}}"#;
    assert!(!of(429, quota).is_retryable(), "waiting does not bring money");
    let says =
        |status, value| error_of(&Head::new(status, [("X-Should-Retry", value)]), b"", 0).is_retryable();
    assert!(!says(500, "false") && says(400, "true") && says(500, "perhaps"));
    assert!(ModelError::new(ErrorKind::Truncated, "").is_retryable());
}

#[test]
fn waits_and_request_ids_are_kept() {
    let wait = |headers: &[(&str, &str)]| {
        error_of(&Head::new(429, headers.iter().copied()), b"{}", 1_445_412_420_000).wait()
    };
    assert_eq!(wait(&[("retry-after", "20")]), Some(Duration::from_secs(20)));
    assert_eq!(wait(&[("Retry-After-Ms", "250.4"), ("retry-after", "20")]), Some(Duration::from_millis(250)));
    assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:01 GMT")]), Some(Duration::from_secs(61)));
    assert_eq!(wait(&[]), None);

    let error = error_of(&Head::new(500, [("request-id", "req_7")]), b"{}", 0);
    assert_eq!(error.request_id.as_deref(), Some("req_7"));
    let error =
        of(500, r#"{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"req_8"}"#);
    assert_eq!((error.request_id.as_deref(), error.code.as_deref()), (Some("req_8"), Some("api_error")));
}

#[test]
fn an_error_survives_its_json() {
    let head = Head::new(429, [("retry-after", "1.5"), ("x-should-retry", "true"), ("x-request-id", "r")]);
    let error = error_of(&head, br#"{"error":{"message":"m","type":"tokens"}}"#, 0);
    let text = serde_json::to_string(&error).expect("it can be written");
    assert_eq!(serde_json::from_str::<ModelError>(&text).expect("it can be read"), error);
    assert_eq!(error.to_string(), "rate limited: m");
}
