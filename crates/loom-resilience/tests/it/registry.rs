//! The registry: names, policies, state across a restart, and manual control.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_resilience::{
    BreakerConfig, CircuitState, Clock, Event, Limit, LimiterConfig, ManualClock, Mode, OpenDuration, Policy,
    ResilienceRegistry, Rule, Service,
};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    let open = OpenDuration::fixed(SECOND * 60);
    Policy::none()
        .breaker(BreakerConfig::new().failure_threshold(2).open_for(open))
        .limit(Limit::per_hour(10).burst(10))
}

fn registry(clock: &ManualClock) -> ResilienceRegistry {
    ResilienceRegistry::builder().defaults(policy()).clock(Clock::manual(clock)).build().unwrap()
}

fn fail(service: &Service, times: u32) {
    for _ in 0..times {
        let now = service.clock().now();
        service.try_admit(now).unwrap().failure(now);
    }
}

#[test]
fn services_are_created_once_and_are_independent() {
    let clock = ManualClock::new();
    let registry = registry(&clock);
    fail(&registry.service("a"), 2);
    assert_eq!(registry.service("a").breaker().state(), CircuitState::Open);
    assert_eq!(registry.service("b").breaker().state(), CircuitState::Closed);
    assert_eq!(registry.len(), 2);
    let refusal = registry.service("a").try_admit(clock.now()).unwrap_err();
    assert_eq!((&*refusal.service, refusal.rule()), ("a", Rule::CircuitOpen));
    assert_eq!(refusal.retry_after(), Some(SECOND * 60));
    assert_eq!(refusal.opened_since(), Some(clock.now()));
    let text = refusal.to_string();
    assert_eq!(text, "Circuit breaker [a] is OPEN (2 failures in a row); try again in 60000ms");
}

#[test]
fn a_service_inherits_the_defaults_and_changes_what_it_names() {
    let registry = ResilienceRegistry::builder()
        .defaults(policy())
        .service("strict", |policy| policy.limit(Limit::per_second(1)))
        .build()
        .unwrap();
    assert_eq!(registry.service("strict").policy().limiter.unwrap().limits.len(), 2);
    assert_eq!(registry.service("other").policy(), policy());
    let own = Policy::none().attempt_timeout(SECOND);
    assert_eq!(registry.service_with("own", &own).unwrap().policy(), own);
    let wrong = Policy::none().attempt_timeout(Duration::ZERO);
    assert!(registry.service_with("wrong", &wrong).is_err());
    assert!(registry.get("wrong").is_none());
}

#[test]
fn state_survives_a_restart() {
    let clock = ManualClock::new();
    clock.set_unix_start(SECOND * 1_000_000);
    let before = registry(&clock);
    fail(&before.service("down"), 2);
    fail(&before.service("shaky"), 1);
    drop(before.service("fresh"));
    let saved = before.snapshot();
    assert_eq!(saved.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["down", "shaky"]);

    // Ten seconds of wall time later, on a new monotonic clock.
    let clock = ManualClock::new();
    clock.set_unix_start(SECOND * 1_000_010);
    let after = registry(&clock);
    after.restore(&saved);
    // A snapshot taken before a service is used still contains it.
    assert_eq!(after.snapshot().services.len(), 2);
    let down = after.service("down");
    let refusal = down.try_admit(clock.now()).unwrap_err();
    assert_eq!(refusal.retry_after(), Some(SECOND * 50));
    assert_eq!(down.limiter().available(clock.now()), Some(8));
    clock.advance(SECOND * 50);
    down.try_admit(clock.now()).unwrap().success(clock.now());
    assert_eq!(down.breaker().state(), CircuitState::Closed);
    // One failure was on record, so one more opens it.
    fail(&after.service("shaky"), 1);
    assert_eq!(after.service("shaky").breaker().state(), CircuitState::Open);
}

#[test]
fn a_restored_service_is_known_before_its_first_use() {
    let clock = ManualClock::new();
    let before = registry(&clock);
    for name in ["isolated", "open", "closed again", "reset"] {
        fail(&before.service(name), 2);
    }
    before.isolate("isolated").unwrap();
    let after = registry(&clock);
    after.restore(&before.snapshot());

    let list = after.list();
    let names: Vec<_> = list.iter().map(|status| status.name.as_str()).collect();
    assert_eq!(names, ["closed again", "isolated", "open", "reset"]);
    assert!(list.iter().all(|status| status.breaker.state == CircuitState::Open));
    assert!(list[1].breaker.isolated);
    assert!(list[1].to_string().starts_with("isolated: circuit ISOLATED"), "{}", list[1]);
    assert!(list[2].breaker.retry_after.is_some() && list[2].breaker.cause.is_some());

    after.close("isolated").unwrap();
    after.close("closed again").unwrap();
    after.reset("reset").unwrap();
    after.isolate("reset").unwrap();
    assert!(after.close("nobody").is_err() && after.reset("nobody").is_err());
    assert_eq!(after.list()[0].breaker.state, CircuitState::Closed);

    // The commands still apply when the services are first used.
    let state =
        |name: &str| (after.service(name).breaker().state(), after.service(name).status().breaker.isolated);
    assert_eq!(state("isolated"), (CircuitState::Closed, false));
    assert_eq!(state("open"), (CircuitState::Open, false));
    assert_eq!(state("closed again"), (CircuitState::Closed, false));
    assert_eq!(state("reset"), (CircuitState::Closed, true));
    assert_eq!(after.list().len(), 4);
}

#[test]
fn a_live_change_keeps_state_and_consumption() {
    let clock = ManualClock::new();
    let registry = registry(&clock);
    let service = registry.service("a");
    fail(&service, 1);
    let mut wider = policy();
    wider.limiter = Some(LimiterConfig::new(Limit::per_hour(20).burst(20)));
    wider.breaker = wider.breaker.map(|breaker| breaker.failure_threshold(3));
    registry.reconfigure("a", wider.clone()).unwrap();
    assert_eq!(service.limiter().available(clock.now()), Some(19));
    assert_eq!(service.breaker().status(clock.now()).consecutive_failures, 1);
    fail(&service, 1);
    assert_eq!(service.breaker().state(), CircuitState::Closed);
    fail(&service, 1);
    assert_eq!(service.breaker().state(), CircuitState::Open);
    // Parts that were off can be switched on, and off again.
    registry.reconfigure("a", Policy::none()).unwrap();
    service.try_admit(clock.now()).unwrap().success(clock.now());
    assert_eq!(service.limiter().available(clock.now()), None);
    registry.reconfigure_defaults(&Policy::standard()).unwrap();
    assert_eq!(registry.service("b").policy(), Policy::standard());
    assert_eq!(service.policy(), Policy::none());
}

#[test]
fn an_open_circuit_follows_a_shorter_open_duration_unless_it_was_opened_manually() {
    let clock = ManualClock::new();
    let service = registry(&clock).service("s");
    let shorter = || {
        policy().breaker(BreakerConfig::new().failure_threshold(2).open_for(OpenDuration::fixed(SECOND * 5)))
    };
    fail(&service, 2);
    clock.advance(SECOND * 4);
    service.reconfigure(shorter()).unwrap();
    assert_eq!(service.breaker().peek(clock.now()).unwrap_err().retry_after, Some(SECOND));
    service.breaker().trip_for(SECOND * 90, clock.now());
    service.reconfigure(policy()).unwrap();
    service.reconfigure(shorter()).unwrap();
    assert_eq!(service.breaker().peek(clock.now()).unwrap_err().retry_after, Some(SECOND * 90));
}

#[test]
fn an_operator_can_isolate_close_and_reset() {
    let clock = ManualClock::new();
    let registry = registry(&clock);
    assert_eq!(registry.isolate("a").unwrap_err().to_string(), "no service named `a`");
    let service = registry.service("a");
    registry.isolate("a").unwrap();
    assert_eq!(service.try_admit(clock.now()).unwrap_err().rule(), Rule::Isolated);
    clock.advance(SECOND * 1_000);
    assert_eq!(service.try_admit(clock.now()).unwrap_err().rule(), Rule::Isolated, "for ever");
    registry.close("a").unwrap();
    fail(&service, 2);
    assert_eq!(service.breaker().state(), CircuitState::Open);
    registry.reset("a").unwrap();
    assert_eq!(service.breaker().state(), CircuitState::Closed);
    assert_eq!(service.limiter().available(clock.now()), Some(10));
}

#[test]
fn observe_mode_counts_and_reports_but_lets_everything_pass() {
    let clock = ManualClock::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| {
        if let Event::Refused { refused, enforced, .. } = event {
            listener.lock().unwrap().push((refused.rule, *enforced));
        }
    };
    let mut policy = policy();
    policy.breaker = policy.breaker.map(|breaker| breaker.mode(Mode::Observe));
    policy.limiter = policy.limiter.map(|limiter| limiter.mode(Mode::Observe));
    let registry = ResilienceRegistry::builder()
        .defaults(policy)
        .clock(Clock::manual(&clock))
        .observer(Arc::new(observer))
        .build()
        .unwrap();
    let service = registry.service("a");
    fail(&service, 12);
    assert_eq!(service.breaker().state(), CircuitState::Open);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|(rule, _)| *rule == Rule::CircuitOpen).count(), 10);
    assert_eq!(seen.iter().filter(|(rule, _)| *rule == Rule::RateLimit).count(), 2);
    assert!(seen.iter().all(|(_, enforced)| !enforced));
}

#[test]
fn the_open_duration_grows_varies_and_resets() {
    let clock = ManualClock::new();
    let rules = OpenDuration {
        initial: SECOND * 10,
        growth: 2.0,
        max: SECOND * 60,
        jitter: 0.1,
        reset_after: SECOND * 600,
    };
    let policy = Policy::none().breaker(BreakerConfig::new().failure_threshold(1).open_for(rules));
    let registry =
        ResilienceRegistry::builder().defaults(policy).clock(Clock::manual(&clock)).build().unwrap();
    let service = registry.service("a");
    let mut times = Vec::new();
    for _ in 0..6 {
        fail(&service, 1);
        let open = service.try_admit(clock.now()).unwrap_err().retry_after().unwrap();
        times.push(open.as_secs_f64());
        clock.advance(open);
    }
    for (time, middle) in times.iter().zip([10.0, 20.0, 40.0, 60.0, 60.0, 60.0]) {
        assert!(*time >= middle * 0.9 && *time <= (middle * 1.1).min(60.0), "{times:?}");
    }
    assert!(times.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-6), "varied: {times:?}");
    service.try_admit(clock.now()).unwrap().success(clock.now());
    clock.advance(SECOND * 600);
    fail(&service, 1);
    let open = service.try_admit(clock.now()).unwrap_err().retry_after().unwrap();
    assert!(open <= SECOND * 11, "a quiet period resets the growth: {open:?}");
}

#[test]
fn a_refusal_gives_everything_back() {
    let clock = ManualClock::new();
    let registry = registry(&clock);
    let mut policy = policy();
    policy.bulkhead = Some(loom_resilience::BulkheadConfig::new(1));
    let service = registry.service_with("a", &policy).unwrap();
    let first = service.try_admit(clock.now()).unwrap();
    assert_eq!(service.try_admit(clock.now()).unwrap_err().rule(), Rule::BulkheadFull);
    assert_eq!(service.limiter().available(clock.now()), Some(9));
    drop(first);
    service.try_admit(clock.now()).unwrap().success(clock.now());
    assert!(registry.list()[0].to_string().starts_with("a: circuit CLOSED, 8 permits free"));
    assert!(
        registry.describe("a").contains("10 every 1 h, at most 10 at once"),
        "{}",
        registry.describe("a")
    );
}
