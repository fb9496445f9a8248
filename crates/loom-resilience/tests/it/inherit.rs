//! Inheritance of settings: layers, units, removals, provenance and errors.

use std::time::Duration;

use loom_resilience::{
    Backoff, Mode, PolicyFile, PolicyFileError,
    inherit::{InheritError, Inheritance, Source},
};
use serde_json::{Value, json};

fn file(text: &str) -> Result<PolicyFile, PolicyFileError> {
    text.parse()
}

/// `pointer = value (source; overridden)`, one per line.
fn shown(file: &PolicyFile, service: &str, overrides: &Value) -> Vec<String> {
    let resolved = file.resolve_with(service, overrides).unwrap();
    let line = |setting: &loom_resilience::ResolvedSetting| {
        let value = setting.value.as_ref().map_or("removed".to_owned(), ToString::to_string);
        let over = setting.overridden.join(", ");
        let over = if over.is_empty() { over } else { format!("; over {over}") };
        format!("{} = {value} ({}{over})", setting.pointer, setting.source)
    };
    resolved.settings.iter().map(line).collect()
}

#[test]
fn members_come_from_the_strongest_layer_that_sets_them() {
    let file = file(
        r#"{
        "defaults": {"attempt_timeout": "10s", "breaker": {"failure_threshold": 5, "mode": "observe"}},
        "services": {
            "payments": {"breaker": {"failure_threshold": 3}},
            "refunds": {"base": "payments", "attempt_timeout": "30s"}
        }}"#,
    )
    .unwrap();
    let overrides = json!({"breaker": {"mode": "enforce"}});
    assert_eq!(
        shown(&file, "refunds", &overrides),
        [
            r#"/attempt_timeout = "30s" (services.refunds; over defaults)"#,
            "/breaker/failure_threshold = 3 (services.payments; over defaults)",
            r#"/breaker/mode = "enforce" (override; over defaults)"#,
        ]
    );
    let policy = file.resolve_with("refunds", &overrides).unwrap().policy;
    assert_eq!(policy.attempt_timeout, Some(Duration::from_secs(30)));
    let breaker = policy.breaker.unwrap();
    assert_eq!((breaker.failure_threshold, breaker.mode), (Some(3), Mode::Enforce));
    // A value that no layer sets is the crate's default.
    assert_eq!(breaker.success_threshold, 1);
    assert_eq!(file.resolve("payments").unwrap().policy.breaker.unwrap().mode, Mode::Observe);
}

#[test]
fn a_unit_is_replaced_as_a_whole() {
    let file = file(
        r#"{
        "defaults": {
            "retry": {"max_attempts": 4, "backoff": {"constant": {"delay": "1s"}}},
            "limiter": {"limits": [{"permits": 5, "period": "1s", "refill": "strict"}]}
        },
        "services": {"a": {
            "retry": {"backoff": {"exponential": {"initial": "100ms", "factor": 2.0}}},
            "limiter": {"limits": [{"permits": 9, "period": "1m", "refill": {"even": {"burst": 3}}}]}
        }}}"#,
    )
    .unwrap();
    let policy = file.resolve("a").unwrap().policy;
    let retry = policy.retry.unwrap();
    assert_eq!(retry.max_attempts, 4, "inherited together with the backoff");
    let expected = Backoff::Exponential { initial: Duration::from_millis(100), factor: 2.0 };
    assert_eq!(retry.backoff, expected, "not mixed with the constant one");
    assert_eq!(policy.limiter.unwrap().limits.len(), 1);
}

#[test]
fn null_removes_what_is_inherited() {
    let file = file(
        r#"{
        "defaults": {"attempt_timeout": "10s", "breaker": {"failure_threshold": 5}},
        "services": {
            "plain": {"breaker": null, "attempt_timeout": null},
            "again": {"base": "plain", "breaker": {"failure_threshold": 2}}
        }}"#,
    )
    .unwrap();
    assert_eq!(
        shown(&file, "plain", &Value::Null),
        ["/attempt_timeout = removed (services.plain)", "/breaker = removed (services.plain)"]
    );
    let plain = file.resolve("plain").unwrap().policy;
    assert_eq!((plain.breaker, plain.attempt_timeout), (None, None));
    // A stronger layer starts from an empty object, not from what the weaker one had removed.
    assert_eq!(
        shown(&file, "again", &Value::Null),
        ["/attempt_timeout = removed (services.plain)", "/breaker/failure_threshold = 2 (services.again)"]
    );
}

/// Whatever the layers, each resolved value is the one of the strongest layer that names it.
#[test]
fn scalars_objects_and_empty_objects_replace_each_other() {
    let layers = |one: Value, other: Value| {
        let (defaults, service) = (json!({"x": one}), json!({"x": other}));
        let file = Inheritance::new().defaults(&defaults).service("s", None, &service);
        let resolved = file.resolve("s", None, |_| false).unwrap();
        let shown =
            resolved.values.iter().map(|(at, value)| format!("{at}={} {}", value.value, value.source));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(layers(json!(1), json!({"a": 2})), ["/x/a=2 services.s"]);
    assert_eq!(layers(json!({"a": 1, "b": 2}), json!(3)), ["/x=3 services.s"]);
    assert_eq!(layers(json!({"a": 1}), json!({})), ["/x/a=1 defaults"], "an empty object changes nothing");
    assert_eq!(layers(json!(1), json!({})), ["/x={} services.s"]);
    assert_eq!(layers(json!({}), json!({"a": 1})), ["/x/a=1 services.s"]);
    assert_eq!(layers(json!([1, 2]), json!([3])), ["/x=[3] services.s"], "lists do not merge");
    assert_eq!(layers(json!({"a/b": 1}), json!({"c~d": 2})), ["/x/a~1b=1 defaults", "/x/c~0d=2 services.s"]);
}

#[test]
fn an_unknown_service_or_base_gets_a_suggestion() {
    let text = r#"{"services": {"payments": {}, "refunds": {"base": "payment"}}}"#;
    assert_eq!(
        file(text).unwrap_err().to_string(),
        "the base of `refunds` must be an existing service (got `payment`); did you mean `payments`?"
    );
    let file = file(r#"{"services": {"payments": {}}}"#).unwrap();
    let error = file.resolve("paymetns").unwrap_err();
    assert_eq!(error.to_string(), "no service named `paymetns`; did you mean `payments`?");
    assert_eq!(file.resolve("search").unwrap_err().to_string(), "no service named `search`");
}

#[test]
fn a_cycle_is_shown_once() {
    let empty = json!({});
    let file = Inheritance::new()
        .service("a", Some("b"), &empty)
        .service("b", Some("c"), &empty)
        .service("c", Some("b"), &empty)
        .service("ok", None, &empty);
    let errors = file.check();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(matches!(&errors[0], InheritError::Cycle { path } if path == &["b", "c", "b"]));
    assert_eq!(errors[0].to_string(), "services inherit from each other in a cycle: b -> c -> b");
    let own = Inheritance::new().service("a", Some("a"), &empty);
    assert_eq!(
        own.chain("a").unwrap_err().to_string(),
        "services inherit from each other in a cycle: a -> a"
    );
}

#[test]
fn the_chain_goes_from_the_defaults_to_the_service() {
    let (one, two, three) = (json!(1), json!(2), json!(3));
    let file =
        Inheritance::new().defaults(&one).service("base", None, &two).service("s", Some("base"), &three);
    let sources: Vec<_> = file.chain("s").unwrap().iter().map(|layer| layer.source).collect();
    assert_eq!(sources, [Source::Defaults, Source::Service("base"), Source::Service("s")]);
}

#[test]
fn errors_name_the_place_and_the_layers() {
    let check = |text: &str, expected: &str| {
        let error = file(text).and_then(|file| file.resolve_all()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(r#"{"service": {}}"#, "/service: unknown property `service`; expected `defaults` or `services`");
    check(r#"{"services": []}"#, "/services: expected an object, found an array");
    check(r#"{"services": {"a": 5}}"#, "/services/a: expected an object, found a number");
    check(
        r#"{"services": {"a": {"base": 5}}}"#,
        "/services/a/base: expected the name of a service, found a number",
    );
    check("{\n  \"services\": }", "line 2, column 15: expected value");
    check(
        r#"{"defaults": {"total_timeout": "5s"}, "services": {"a": {"attempt_timeout": "9s"}}}"#,
        "service `a`: attempt_timeout: must be at most total_timeout, 5 s (got 9 s)",
    );
    let error = file(
        r#"{"defaults": {"breaker": {"failure_treshold": 5}}, "services": {"a": {"breaker": {"mode": "off"}}}}"#,
    )
    .unwrap()
    .resolve("a")
    .unwrap_err()
    .to_string();
    let expected = "service `a`, `breaker` (set by defaults, services.a): unknown field `failure_treshold`";
    assert!(error.starts_with(expected), "{error}");
}
