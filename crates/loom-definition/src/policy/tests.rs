//! Policies: defaults, both spellings, and every contradiction.

use std::time::Duration;

use loom_expression::Value;

use super::*;

fn json(text: &str) -> Value {
    Value::from_json_str(text).expect("the test's JSON is right")
}

#[track_caller]
fn retry(text: &str, spelling: Spelling) -> RetryPolicy {
    RetryPolicy::read(&json(text), spelling).expect("the policy is right")
}

#[track_caller]
fn refused(text: &str, spelling: Spelling, member: &str, message: &str) {
    let problem = RetryPolicy::read(&json(text), spelling).expect_err("the policy is invalid");
    assert_eq!(problem.member, member, "{problem:?}");
    assert!(problem.message.contains(message), "{problem:?}");
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn wdl_counts_retries_and_the_loom_spelling_counts_attempts() {
    assert_eq!(retry(r#"{"type": "fixed", "count": 3, "interval": "PT5S"}"#, Spelling::Wdl).max_attempts, 4);
    assert_eq!(retry(r#"{"maxAttempts": 3}"#, Spelling::Loom).max_attempts, 3);
    assert_eq!(retry(r#"{"type": "none"}"#, Spelling::Wdl).max_attempts, 1);
    assert_eq!(retry(r#"{"type": "default"}"#, Spelling::Wdl), RetryPolicy::wdl_default());
    assert_eq!(retry("{}", Spelling::Wdl), RetryPolicy::wdl_default());
}

#[test]
fn loom_defaults_are_the_documented_ones() {
    let policy = retry("{}", Spelling::Loom);
    assert_eq!(policy.max_attempts, 3);
    let expected = Schedule::Exponential {
        initial: seconds(1),
        maximum: seconds(30),
        multiplier: 2.0,
        jitter: Jitter::None,
    };
    assert_eq!(policy.schedule, expected);
    let breaker = BreakerSpec::from_value(&json("{}")).expect("it is right").expect("it is on");
    assert_eq!(breaker.failure_threshold.get(), 5);
    assert_eq!(breaker.success_threshold.get(), 2);
    assert_eq!(breaker.timeout, seconds(60));
    assert_eq!(breaker.half_open_requests.get(), 3);
}

#[test]
fn exponential_has_a_band() {
    let text = r#"{"type": "Exponential", "count": 2, "interval": "PT10S", "minimumInterval": "PT6S", "maximumInterval": "PT1M"}"#;
    let expected = Schedule::Band { interval: seconds(10), minimum: seconds(6), maximum: seconds(60) };
    assert_eq!(retry(text, Spelling::Wdl).schedule, expected);
    assert_eq!(
        retry(r#"{"type": "exponential", "count": 90, "interval": "PT1S"}"#, Spelling::WdlStateless)
            .max_attempts,
        91
    );
}

#[test]
fn ranges_and_contradictions_are_errors() {
    let fixed = |rest: &str| format!(r#"{{"type": "fixed", {rest}}}"#);
    refused(&fixed(r#""count": 91, "interval": "PT5S""#), Spelling::Wdl, "count", "between 1 and 90");
    refused(&fixed(r#""count": 0, "interval": "PT5S""#), Spelling::Wdl, "count", "between 1 and 90");
    refused(
        &fixed(r#""count": 1, "interval": "PT4S""#),
        Spelling::Wdl,
        "interval",
        "must be between PT5S and P1D (got PT4S)",
    );
    refused(
        &fixed(r#""count": 1, "interval": "PT2M""#),
        Spelling::WdlStateless,
        "interval",
        "must be between PT1S and PT1M (got PT2M)",
    );
    refused(&fixed(r#""count": 1"#), Spelling::Wdl, "interval", "needs an `interval`");
    refused(&fixed(r#""count": 1, "interval": "5""#), Spelling::Wdl, "interval", "ISO 8601");
    refused(
        &fixed(r#""interval": "PT5S", "maximumInterval": "PT9S""#),
        Spelling::Wdl,
        "maximumInterval",
        "not allowed",
    );
    refused(r#"{"type": "linear"}"#, Spelling::Wdl, "type", "must be `none`, `fixed`");
    refused(r#"{"type": "none", "count": 3}"#, Spelling::Wdl, "count", "not allowed");
    refused(
        r#"{"type": "exponential", "interval": "PT7S", "minimumInterval": "PT1M", "maximumInterval": "PT10S"}"#,
        Spelling::Wdl,
        "minimumInterval",
        "must not exceed `maximumInterval`, which is PT10S (got PT1M)",
    );
    refused(r#"{"maxAttempts": 3, "count": 2}"#, Spelling::Loom, "maxAttempts", "different spellings");
    refused(r#"{"maxAttempts": 0}"#, Spelling::Loom, "maxAttempts", "between 1 and 1000 (got 0)");
    refused(
        r#"{"initialDelay": 5000, "maxDelay": 1000}"#,
        Spelling::Loom,
        "maxDelay",
        "must be at least `initialDelay`",
    );
    refused(r#"{"backoffMultiplier": 0.5}"#, Spelling::Loom, "backoffMultiplier", "between 1 and 100");
    refused(r#"{"jitter": "some"}"#, Spelling::Loom, "jitter", "`none`");
    refused(r#"{"retryableErrors": "503"}"#, Spelling::Loom, "retryableErrors", "an array");
    refused(r#"{"retryableErrors": [""]}"#, Spelling::Loom, "retryableErrors", "match every error");
    refused("3", Spelling::Loom, "", "must be an object, found a number");
}

#[test]
fn error_patterns_are_distinguished() {
    let policy = retry(r#"{"retryableErrors": [503, "429", "5xx", "ETIMEDOUT"]}"#, Spelling::Loom);
    let expected = vec![
        ErrorPattern::Status(503),
        ErrorPattern::Status(429),
        ErrorPattern::StatusClass(5),
        ErrorPattern::Text("ETIMEDOUT".into()),
    ];
    assert_eq!(policy.retryable, Some(expected));
    assert!(ErrorPattern::from_value(&Value::from(999)).is_err());
}

#[test]
fn a_breaker_that_could_never_close_is_an_error() {
    let problem = BreakerSpec::from_value(&json(r#"{"successThreshold": 4, "halfOpenRequests": 3}"#));
    assert_eq!(problem.expect_err("the breaker is invalid").member, "successThreshold");
    // A default adapts to the value that is specified.
    let spec = |text: &str| BreakerSpec::from_value(&json(text)).expect("it is right").expect("it is on");
    assert_eq!(spec(r#"{"successThreshold": 4}"#).half_open_requests.get(), 4);
    assert_eq!(spec(r#"{"halfOpenRequests": 1}"#).success_threshold.get(), 1);
    assert_eq!(BreakerSpec::from_value(&json(r#"{"enabled": false}"#)), Ok(None));
    for wrong in [
        r#"{"timeout": 0}"#,
        r#"{"failureThreshold": 0}"#,
        r#"{"failureRate": 1.5}"#,
        r#"{"slowCalls": {}}"#,
        r#"{"failureRate": {"threshold": 0.5, "minimumCalls": 20, "window": 10}}"#,
        r#"{"name": ""}"#,
    ] {
        assert!(BreakerSpec::from_value(&json(wrong)).is_err(), "{wrong}");
    }
    let rate =
        spec(r#"{"failureRate": {"threshold": 0.5, "window": "PT10S"}}"#).failure_rate.expect("it is there");
    assert_eq!(rate.window, Window::Time(seconds(10)));
    assert_eq!(rate.minimum_calls.get(), 10);
}

#[test]
fn limits_are_read_and_checked() {
    let limit = |text: &str| RateLimitSpec::from_value(&json(text));
    let spec = limit(r#"{"requests": 5, "per": "minute", "burst": 2, "maxWait": 500}"#);
    let spec = spec.expect("it is right").expect("it is on");
    assert_eq!((spec.requests.get(), spec.per), (5, seconds(60)));
    assert_eq!(spec.max_wait, Some(Duration::from_millis(500)));
    for wrong in
        ["{}", r#"{"requests": 0}"#, r#"{"requests": 1, "per": "week"}"#, r#"{"requests": 1, "per": 0}"#]
    {
        assert!(limit(wrong).is_err(), "{wrong}");
    }
    let bulkhead = |text: &str| BulkheadSpec::from_value(&json(text));
    assert_eq!(
        bulkhead(r#"{"maxConcurrent": 3}"#).expect("it is right").map(|spec| spec.max_queued),
        Some(0)
    );
    for wrong in ["{}", r#"{"maxConcurrent": 0}"#, r#"{"maxConcurrent": 1, "maxQueued": -1}"#] {
        assert!(bulkhead(wrong).is_err(), "{wrong}");
    }
}
