//! The HTTP classifier: statuses, `Retry-After` in both forms, and the headers of rate limits.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use loom_resilience::{
    AllTransient, Classifier, Clock, Idempotency, Learned, ManualClock, Policy, RetryConfig, Service,
    Verdict,
    http::{HttpClassifier, learned, retry_after, verdict},
};

/// Wed, 21 Oct 2015 07:27:00 GMT.
fn clock() -> Clock {
    let time = ManualClock::new();
    time.set_unix_start(Duration::from_mins(24_090_207));
    Clock::manual(&time)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn statuses_have_verdicts() {
    let none = HeaderMap::new();
    for code in [100, 200, 201, 204, 206, 301, 304] {
        assert_eq!(verdict(status(code), &none, &clock()), Verdict::Ok, "{code}");
    }
    for code in [400, 401, 403, 404, 409, 410, 412, 422, 501, 505, 511] {
        assert_eq!(verdict(status(code), &none, &clock()), Verdict::Rejected, "{code}");
    }
    for code in [408, 425, 500, 502, 503, 504, 507, 520, 599] {
        assert_eq!(verdict(status(code), &none, &clock()), Verdict::Transient, "{code}");
    }
    assert_eq!(verdict(status(429), &none, &clock()), Verdict::Throttled { after: None });
    let later = headers(&[("retry-after", "7")]);
    for code in [429, 503] {
        let expected = Verdict::Throttled { after: Some(secs(7)) };
        assert_eq!(verdict(status(code), &later, &clock()), expected, "{code}");
    }
    // With other statuses the header does not indicate load: a redirect or a 500 may have one.
    assert_eq!(verdict(status(301), &later, &clock()), Verdict::Ok);
    assert_eq!(verdict(status(500), &later, &clock()), Verdict::Transient);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let read = |value: &str| retry_after(&headers(&[("retry-after", value)]), &clock());
    assert_eq!(read("0"), Some(Duration::ZERO));
    assert_eq!(read(" 120 "), Some(secs(120)));
    assert_eq!(read("99999999999999999999999"), Some(secs(u64::MAX)));
    // The three forms of a date that RFC 9110 has recipients accept.
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(secs(60)));
    assert_eq!(read("Wednesday, 21-Oct-15 07:28:00 GMT"), Some(secs(60)));
    assert_eq!(read("Wed Oct 21 07:28:00 2015"), Some(secs(60)));
    assert_eq!(read("Wed, 21 Oct 2015 07:26:00 GMT"), Some(Duration::ZERO), "a date that has passed");
    for nonsense in ["", "soon", "-1", "1.5", "+3", "Wed, 32 Oct 2015 07:28:00 GMT"] {
        assert_eq!(read(nonsense), None, "{nonsense:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), &clock()), None);
}

#[test]
fn errors_have_a_classifier_of_their_own() {
    let refused = |result: &Result<Response<()>, &str>| match result {
        Err("connection refused") => Verdict::NotSent,
        _ => Verdict::Transient,
    };
    let classifier = HttpClassifier::new().errors(refused).clock(clock());
    assert_eq!(classifier.classify(&Err("connection refused")), Verdict::NotSent);
    assert_eq!(classifier.classify(&Err("reset")), Verdict::Transient);
    let not_found = Response::builder().status(404).body(()).unwrap();
    assert_eq!(classifier.classify(&Ok(not_found)), Verdict::Rejected);
    assert_eq!(HttpClassifier::new().classify(&Err::<Response<()>, _>("reset")), Verdict::Transient);
}

#[test]
fn methods_have_the_meaning_of_rfc_9110() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        assert_eq!(Idempotency::of_method(method), Idempotency::Safe, "{method}");
    }
    for method in ["PUT", "DELETE"] {
        assert_eq!(Idempotency::of_method(method), Idempotency::Idempotent, "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "PURGE"] {
        assert_eq!(Idempotency::of_method(method), Idempotency::NonIdempotent, "{method}");
    }
}

/// A POST that may have been processed is sent once; one that was shed, or is declared idempotent, is sent again.
#[tokio::test(start_paused = true)]
async fn a_post_is_not_sent_twice_unless_it_is_declared_idempotent() {
    let retry = RetryConfig::attempts(3);
    let service = Service::standalone("orders", Policy::none().retry(retry)).unwrap();
    let send = async |code: u16, idempotency: Idempotency| {
        let mut sent = 0;
        let call = service.call().idempotency(idempotency).classify(HttpClassifier::new());
        let result = call
            .run(|_| {
                sent += 1;
                let response = Response::builder().status(code).body(()).unwrap();
                async { Ok::<_, std::io::Error>(response) }
            })
            .await;
        assert_eq!(result.unwrap().status().as_u16(), code);
        sent
    };
    assert_eq!(send(500, Idempotency::of_method("POST")).await, 1);
    assert_eq!(send(504, Idempotency::of_method("POST")).await, 1);
    assert_eq!(send(429, Idempotency::of_method("POST")).await, 3, "429: it was not processed");
    assert_eq!(send(500, Idempotency::of_method("GET")).await, 3);
    assert_eq!(send(500, Idempotency::Idempotent).await, 3, "a POST with an idempotency key");
    assert_eq!(send(404, Idempotency::Idempotent).await, 1);
}

/// A timeout and an error without more information may have been processed, too.
#[tokio::test(start_paused = true)]
async fn a_post_that_times_out_is_not_sent_twice() {
    let policy = Policy::none().retry(RetryConfig::attempts(3)).attempt_timeout(secs(1));
    let service: Service =
        loom_resilience::Pipeline::new("orders", policy, Clock::tokio(), None).unwrap().into();
    let mut sent = 0;
    let stop = service
        .call()
        .classify(AllTransient)
        .run(|_| {
            sent += 1;
            std::future::pending::<Result<(), &str>>()
        })
        .await
        .unwrap_err();
    assert!(matches!(stop, loom_resilience::CallError::TimedOut { attempts: 1, .. }), "{stop}");
    assert_eq!(sent, 1);
}

#[test]
fn limits_are_read_from_every_known_header() {
    let read = |code: u16, pairs: &[(&'static str, &str)]| learned(status(code), &headers(pairs), &clock());
    let of = |limit, remaining, reset, window: Option<u64>| {
        let mut expected = Learned::default();
        (expected.limit, expected.remaining) = (limit, remaining);
        (expected.reset_after, expected.window) = (reset, window.map(secs));
        Some(expected)
    };
    assert_eq!(read(200, &[]), None);
    assert_eq!(read(200, &[("retry-after", "9")]), None, "only on 429 and 503");
    assert_eq!(read(429, &[("retry-after", "9")]), of(None, Some(0), Some(secs(9)), None));
    // The structured form.
    let policy = ("ratelimit-policy", r#""burst";q=100;w=60, "daily";q=1000;w=86400"#);
    let left = ("ratelimit", r#""burst";r=50;t=30"#);
    assert_eq!(read(200, &[policy, left]), of(Some(100), Some(50), Some(secs(30)), Some(60)));
    let several = ("ratelimit", r#""burst";r=50;t=30, "daily";r=2;t=3600"#);
    assert_eq!(read(200, &[policy, several]), of(Some(1000), Some(2), Some(secs(3600)), Some(86_400)));
    // The earlier drafts, combined and apart.
    let combined = ("ratelimit", "limit=100, remaining=50, reset=5");
    assert_eq!(read(200, &[combined]), of(Some(100), Some(50), Some(secs(5)), None));
    let apart = [("ratelimit-limit", "10, 10;w=1"), ("ratelimit-remaining", "9"), ("ratelimit-reset", "1")];
    assert_eq!(read(200, &apart), of(Some(10), Some(9), Some(secs(1)), None));
    // The older names: a reset in seconds, since 1970, in milliseconds since 1970, and with a fraction.
    for (reset, expected) in
        [("90", 90), ("1445412480", 60), ("1445412480000", 60), ("1445412300", 0), ("0.5", 1), ("2.0", 2)]
    {
        let found = read(200, &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", reset)]);
        assert_eq!(found, of(None, Some(7), Some(secs(expected)), None), "{reset}");
    }
    // Retry-After takes precedence.
    let both = [("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "90"), ("retry-after", "4")];
    assert_eq!(read(503, &both), of(None, Some(0), Some(secs(4)), None));
    for nonsense in ["many", "", "-5", "12abc"] {
        assert_eq!(read(200, &[("x-ratelimit-remaining", nonsense)]), None, "{nonsense:?}");
    }
}
