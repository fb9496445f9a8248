//! Named policies: inheritance, the origin of each value, and errors that point at the text.

use std::{sync::Arc, time::Duration};

use loom_definition::{
    Definition, Diagnostics, LoadOptions, Surroundings,
    policy::{Mode, Policies, RetrySetting},
};
use loom_expression::Value;

const FILE: &str = r#"{
  "defaults": {"attemptTimeout": "PT10S", "circuitBreaker": {"failureThreshold": 5}},
  "services": {
    "billing": {
      "rateLimit": {"requests": 50, "burst": 10},
      "circuitBreaker": {"failureThreshold": 3, "timeout": "PT30S"},
      "retryPolicy": {"maxAttempts": 4, "initialDelay": "PT1S"}
    },
    "refunds": {"base": "billing", "mode": "observe", "rateLimit": null, "bulkhead": {"maxConcurrent": 2, "mode": "enforce"}}
  }
}"#;

fn policies() -> Policies {
    Policies::read(FILE).expect("the file is valid")
}

#[track_caller]
fn refused(text: &str) -> Vec<(&'static str, String, String)> {
    let Diagnostics(found) = Policies::read(text).expect_err("the file is invalid");
    found.into_iter().map(|found| (found.code, found.message, text[found.span].to_owned())).collect()
}

fn definition(action: &str) -> Vec<u8> {
    format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{"Pay": {{
            "type": "Http", "inputs": {{"method": "GET", "uri": "https://billing.example/"}}, "runAfter": {{}}, {action}}}}}}}"#
    )
    .into_bytes()
}

fn load(action: &str) -> Result<loom_definition::Bound, Diagnostics> {
    let surroundings = Surroundings { policies: Some(Arc::new(policies())), ..Surroundings::default() };
    surroundings.load(&definition(action), &LoadOptions::default())
}

#[test]
fn a_service_inherits_member_by_member_and_each_value_has_an_origin() {
    let refunds = policies().service("refunds").expect("it is defined");
    let shown: Vec<String> = refunds.settings.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"attemptTimeout = \"PT10S\"  (defaults, line 2)".to_owned()), "{shown:#?}");
    assert!(
        shown.contains(
            &"circuitBreaker.failureThreshold = 3  (services.billing, line 6; instead of defaults)"
                .to_owned()
        ),
        "{shown:#?}"
    );
    assert!(
        shown.contains(&"bulkhead.maxConcurrent = 2  (services.refunds, line 9)".to_owned()),
        "{shown:#?}"
    );
    assert!(shown.contains(&"rateLimit = (removed)  (services.refunds)".to_owned()), "{shown:#?}");

    let resilience = refunds.resilience;
    assert_eq!(resilience.attempt_timeout, Some(Duration::from_secs(10)));
    assert!(resilience.rate_limit.is_none(), "null removes what would be inherited");
    let breaker = resilience.breaker.expect("inherited");
    assert_eq!((breaker.failure_threshold.get(), breaker.timeout), (3, Duration::from_secs(30)));
    assert_eq!(breaker.mode, Mode::Observe, "the mode of the service");
    assert_eq!(resilience.bulkhead.expect("its own").mode, Mode::Enforce, "the part's own mode goes first");
    let RetrySetting::Fixed(retry) = resilience.retry else { panic!("inherited") };
    assert_eq!(retry.max_attempts, 4);
}

#[test]
fn an_action_overrides_members_and_its_own_parts_get_their_own_state() {
    let bound = load(r#""policy": "billing", "rateLimit": {"burst": 1}, "retryPolicy": {"maxAttempts": 2}"#)
        .expect("the definition is valid");
    let action = &bound.loaded.workflow.actions[0];
    let using =
        action.resilience.as_deref().and_then(|found| found.named.clone()).expect("it names a policy");
    let effective = policies().of_action(&using).expect("the policy exists");
    let limit = effective.resilience.rate_limit.expect("inherited");
    assert_eq!((limit.requests.get(), limit.burst.map(u32::from)), (50, Some(1)));
    assert_eq!(limit.name, None, "an overridden limit is not the limit that others share");
    assert_eq!(effective.resilience.breaker.expect("inherited").name, None);
    let RetrySetting::Fixed(retry) = effective.resilience.retry else { panic!("overridden") };
    assert_eq!((retry.max_attempts, bound.loaded.warnings.len()), (2, 0));
    let origin = effective.settings.iter().find(|setting| setting.pointer == "/rateLimit/burst");
    assert_eq!(
        origin.map(|origin| (&*origin.origin, &origin.overridden[..])),
        Some(("action", &["services.billing".to_owned()][..]))
    );
}

#[test]
fn an_unknown_policy_is_an_error_that_suggests_the_near_miss() {
    let Diagnostics(found) = load(r#""policy": "biling""#).expect_err("no such policy");
    assert_eq!((found[0].code, found[0].pointer.as_str()), ("L0311", "/actions/Pay/policy"));
    assert_eq!(found[0].hint.as_deref(), Some("did you mean `billing`?"));
    let empty = Surroundings { policies: Some(Arc::default()), ..Surroundings::default() };
    let none = empty.load(&definition(r#""policy": "billing""#), &LoadOptions::default());
    let Diagnostics(found) = none.expect_err("there is no file");
    assert!(found[0].message.contains("the project has no resilience.json"), "{found:?}");
    // Outside a project nothing is known about policies, so nothing is checked.
    assert!(Definition::parse(&definition(r#""policy": "billing""#), &LoadOptions::default()).is_ok());
}

#[test]
fn an_override_that_contradicts_what_it_inherits_is_an_error_at_the_override() {
    let Diagnostics(found) =
        load(r#""policy": "billing", "hedge": {"delay": "PT20S"}"#).expect_err("no copy would be sent");
    assert_eq!((found[0].code, found[0].pointer.as_str()), ("L0306", "/actions/Pay/hedge/delay"));
    let Diagnostics(found) = load(r#""policy": "billing", "rateLimit": {"burst": 0}"#).expect_err("zero");
    assert_eq!((found[0].code, found[0].pointer.as_str()), ("L0304", "/actions/Pay/rateLimit/burst"));
}

#[test]
fn errors_of_the_file_point_at_the_text() {
    let misspelt = refused(r#"{"services": {"a": {"circuitBraker": {}}}}"#);
    assert_eq!(misspelt[0].0, "L0313");
    assert_eq!(misspelt[0].2, "\"circuitBraker\"");
    let inner = refused(r#"{"services": {"a": {"rateLimit": {"requests": 1, "brust": 2}}}}"#);
    assert_eq!(inner[0].1, "unknown property `brust` in `rateLimit`");
    let range =
        refused(r#"{"defaults": {"bulkhead": {"maxConcurrent": 0}}, "services": {"a": {}, "b": {}}}"#);
    assert_eq!(range.len(), 1, "one mistake is reported once: {range:?}");
    assert_eq!((range[0].0, range[0].2.as_str()), ("L0305", "0"));
    let base = refused(r#"{"services": {"billing": {}, "refunds": {"base": "biling"}}}"#);
    assert_eq!(base[0].2, "\"biling\"");
    assert!(base[0].1.contains("did you mean `billing`?"), "{base:?}");
    let cycle = refused(r#"{"services": {"a": {"base": "b"}, "b": {"base": "a"}}}"#);
    assert!(cycle[0].1.contains("a -> b -> a"), "{cycle:?}");
    let named = refused(r#"{"services": {"a": {"bulkhead": {"maxConcurrent": 1, "name": "b"}}}}"#);
    assert_eq!((named[0].0, named[0].2.as_str()), ("L0313", "\"b\""));
    let mode = refused(r#"{"services": {"a": {"mode": "watch"}}}"#);
    assert_eq!((mode[0].0, mode[0].2.as_str()), ("L0308", "\"watch\""));
    let json = refused("{\"services\": ");
    assert_eq!(json[0].0, "L0003");
}

#[test]
fn a_service_can_be_replaced_and_the_rest_of_the_file_stays() {
    let members = Value::from_json_str(r#"{"base": "billing", "mode": "enforce"}"#).expect("JSON");
    let changed = policies().with_stored([("refunds", &members)]).expect("the file stays valid");
    let refunds = changed.service("refunds").expect("it is defined").resilience;
    assert_eq!(refunds.breaker.expect("inherited").mode, Mode::Enforce);
    assert!(refunds.rate_limit.is_some(), "no longer removed");
    assert_eq!(
        changed.service("billing").unwrap().settings.len(),
        policies().service("billing").unwrap().settings.len()
    );
    let shown: Vec<String> =
        changed.service("refunds").unwrap().settings.iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"mode = \"enforce\"  (stored.refunds)".to_owned()), "{shown:#?}");
    let kept = "circuitBreaker.failureThreshold = 3  (services.billing, line 6; instead of defaults)";
    assert!(shown.contains(&kept.to_owned()), "the lines of the file stay: {shown:#?}");
    let wrong = Value::from_json_str(r#"{"base": "refunds"}"#).expect("JSON");
    assert!(policies().with_stored([("refunds", &wrong)]).is_err(), "a cycle");
}

#[test]
fn a_fallback_needs_one_value_and_a_call() {
    let bound =
        load(r#""fallback": {"body": "@action()['error']['code']", "on": ["TimedOut"]}"#).expect("valid");
    assert!(
        bound.loaded.workflow.actions[0].resilience.as_deref().is_some_and(|found| found.fallback.is_some())
    );
    for (fallback, pointer) in [
        ("{}", "/actions/Pay/fallback"),
        (r#"{"body": 1, "outputs": 2}"#, "/actions/Pay/fallback"),
        (r#"{"body": 1, "on": ["Skipped"]}"#, "/actions/Pay/fallback/on/0"),
        (r#"{"body": 1, "on": []}"#, "/actions/Pay/fallback/on"),
    ] {
        let Diagnostics(found) = load(&format!("\"fallback\": {fallback}")).expect_err(fallback);
        assert_eq!((found[0].code, found[0].pointer.as_str()), ("L0312", pointer), "{fallback}");
    }
    let scope = br#"{"actions": {"A": {"type": "Scope", "actions": {}, "fallback": {"body": 1}}}}"#;
    let Diagnostics(found) =
        Definition::parse(scope, &LoadOptions::default()).expect_err("a Scope calls nothing");
    assert!(found.iter().any(|found| found.code == "L0312"), "{found:?}");
}

#[test]
fn the_mode_of_a_policy_is_that_of_its_timeouts_but_not_of_its_retries() {
    let text = r#"{"services": {
      "one": {"mode": "observe", "timeout": "PT1M", "attemptTimeout": "PT1S", "retryPolicy": {"maxAttempts": 2}},
      "two": {"base": "one", "timeoutMode": "enforce", "attemptTimeoutMode": "off", "retryPolicy": {"mode": "observe"}}}}"#;
    let policies = Policies::read(text).expect("the file is valid");
    let modes = |name: &str| {
        let resilience = policies.service(name).expect("it is defined").resilience;
        let RetrySetting::Fixed(retry) = &resilience.retry else { panic!("it has retries") };
        assert_eq!(retry.max_attempts, 2, "inherited");
        [resilience.timeout_mode, resilience.attempt_timeout_mode, retry.mode]
    };
    assert_eq!(modes("one"), [Mode::Observe, Mode::Observe, Mode::Enforce], "observing makes no call fail");
    assert_eq!(modes("two"), [Mode::Enforce, Mode::Off, Mode::Observe]);
}

#[test]
fn a_mode_that_does_not_exist_is_an_error_at_the_mode() {
    let found = refused(r#"{"services": {"a": {"timeout": "PT1S", "timeoutMode": "watch"}}}"#);
    let expected = "`timeoutMode` must be `enforce`, `observe` or `off` (got \"watch\")";
    assert_eq!(found, [("L0308", expected.to_owned(), "\"watch\"".to_owned())]);
    let found = refused(r#"{"services": {"a": {"retryPolicy": {"mode": "watch"}}}}"#);
    assert!(found[0].1.contains("`mode` must be `enforce`, `observe` or `off` (got `watch`)"), "{found:?}");

    for (action, part) in [
        (r#""timeout": "PT1S", "timeoutMode": "watch""#, "`timeoutMode` must be"),
        (r#""attemptTimeoutMode": 1"#, "`attemptTimeoutMode` must be"),
        (r#""retryPolicy": {"maxAttempts": 2, "mode": "watch"}"#, "`mode` must be"),
    ] {
        let Diagnostics(found) = load(action).expect_err("it is invalid");
        assert!(found.iter().any(|found| found.message.contains(part)), "{action}: {found:?}");
    }
}

#[test]
fn what_would_silently_lose_protection_is_an_error() {
    let twice = refused(
        r#"{"services": {"a": {"bulkhead": {"maxConcurrent": 1}, "bulkhead": {"maxConcurrent": 9}}}}"#,
    );
    assert_eq!(
        twice,
        [("L0313", "duplicate key `bulkhead`; keep one of them".to_owned(), "\"bulkhead\"".to_owned())]
    );
    let infinite = refused(r#"{"services": {"a": {"bulkhead": {"maxConcurrent": 1e400}}}}"#);
    assert_eq!(infinite, [("L0313", "the number is too large".to_owned(), "1e400".to_owned())]);
    let inner = refused(r#"{"defaults": {"circuitBreaker": {"failureRate": {"threshold": 1e999}}}}"#);
    assert_eq!(inner, [("L0313", "the number is too large".to_owned(), "1e999".to_owned())]);
}
