//! Limits learned from a service: freezes, reported limits, opting out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_resilience::{
    AllTransient, CallError, Clock, Event, Learned, Limit, LimiterConfig, ManualClock, Mode, Pipeline,
    Policy, RateLimiter, Rule,
};

const SECOND: Duration = Duration::from_secs(1);

fn limiter(config: LimiterConfig) -> (RateLimiter, ManualClock) {
    let time = ManualClock::new();
    (RateLimiter::new("taught", config, Clock::manual(&time), None).unwrap(), time)
}

fn permits(limiter: &RateLimiter) -> Vec<u32> {
    limiter.config().limits.iter().map(|limit| limit.permits).collect()
}

#[test]
fn a_reported_limit_follows_the_service_below_what_is_configured() {
    let (limiter, time) = limiter(LimiterConfig::new(Limit::per_minute(100).burst(20)));
    let report = |limit| limiter.learn(Learned { limit: Some(limit), ..Learned::default() }, time.now());
    report(30);
    assert_eq!(permits(&limiter), [30]);
    assert_eq!(limiter.status(time.now()).learned, Some(30));
    report(10);
    assert_eq!(permits(&limiter), [10]);
    assert_eq!(limiter.config().limits[0].largest(), 10, "the burst too");
    // The service recovers, and so do we: up to the configuration, not beyond.
    report(60);
    assert_eq!(permits(&limiter), [60]);
    assert_eq!(limiter.config().limits[0].largest(), 20);
    report(100_000);
    assert_eq!(permits(&limiter), [100]);
    assert_eq!(limiter.status(time.now()).learned, None, "it lowers nothing");
    report(0);
    assert_eq!(permits(&limiter), [1], "a limit of zero would never end; the freeze is for that");
    limiter.reset();
    assert_eq!(permits(&limiter), [100]);
}

#[test]
fn a_reported_limit_lowers_the_limit_of_its_window() {
    let config = LimiterConfig::new(Limit::per_second(50)).and(Limit::per_hour(1_000));
    let (limiter, time) = limiter(config);
    let report = |limit, window| {
        let window = Some(window);
        limiter.learn(Learned { limit: Some(limit), window, ..Learned::default() }, time.now());
    };
    report(20, SECOND);
    assert_eq!(permits(&limiter), [20, 1_000]);
    report(500, Duration::from_hours(1));
    assert_eq!(permits(&limiter), [50, 500], "one reported limit at a time: the last");
    // No limit of that window: the longest one, in proportion. 10 a minute are 600 an hour.
    report(10, Duration::from_mins(1));
    assert_eq!(permits(&limiter), [50, 600]);
    report(1, Duration::from_hours(24));
    assert_eq!(permits(&limiter), [50, 1]);
}

#[test]
fn what_was_consumed_stays_consumed_when_a_limit_is_lowered() {
    let (limiter, time) = limiter(LimiterConfig::new(Limit::per_hour(100).burst(100)));
    limiter.try_take(30, time.now()).unwrap();
    limiter.learn(Learned { limit: Some(40), ..Learned::default() }, time.now());
    assert_eq!(limiter.available(time.now()), Some(10));
}

/// resilience4j: drainPermissionsOnResult. Ours drains to the value, and until the time, that the response reports.
#[test]
fn no_remaining_permits_freeze_until_the_window_resets() {
    let (limiter, time) = limiter(LimiterConfig::new(Limit::per_second(10).burst(10)));
    let empty = Learned { remaining: Some(0), reset_after: Some(SECOND * 30), ..Learned::default() };
    limiter.learn(empty, time.now());
    let refused = limiter.try_take(1, time.now()).unwrap_err();
    assert_eq!((refused.rule, refused.retry_after), (Rule::Frozen, Some(SECOND * 30)));
    // A second, shorter freeze does not shorten the first.
    limiter.learn(Learned { reset_after: Some(SECOND), ..empty }, time.now());
    time.advance(SECOND * 29);
    assert!(limiter.try_take(1, time.now()).is_err());
    time.advance(SECOND);
    limiter.try_take(1, time.now()).unwrap();
}

/// A service without a configured limit can still ask for a pause. Before and after it, nothing is limited.
#[tokio::test(start_paused = true)]
async fn a_service_without_a_limit_can_be_frozen() {
    let pipeline = Pipeline::new("taught", Policy::none(), Clock::tokio(), None).unwrap();
    let call = async |may_wait: bool| {
        let mut attempt = pipeline.attempt().classify(AllTransient);
        if !may_wait {
            attempt = attempt.deadline(pipeline.clock().now() + SECOND);
        }
        attempt.run(|| async { Ok::<_, &str>(()) }).await.is_ok()
    };
    assert!(call(false).await);
    assert_eq!(pipeline.limiter().available(pipeline.clock().now()), None);
    let pause = Learned { remaining: Some(0), reset_after: Some(SECOND * 30), ..Learned::default() };
    pipeline.limiter().learn(pause, pipeline.clock().now());
    assert!(!call(false).await, "a call with a shorter deadline is refused");
    assert_eq!(pipeline.status().limiter.frozen_for, SECOND * 30);
    let start = tokio::time::Instant::now();
    assert!(call(true).await, "a call without a deadline waits");
    assert_eq!(start.elapsed(), SECOND * 30);
    assert!(call(false).await);
    assert_eq!(pipeline.limiter().available(pipeline.clock().now()), None);
}

#[test]
fn a_limiter_can_opt_out() {
    let taught =
        Learned { limit: Some(1), remaining: Some(0), reset_after: Some(SECOND * 30), ..Learned::default() };
    for config in [
        LimiterConfig::new(Limit::per_minute(100)).learn(false),
        LimiterConfig::new(Limit::per_minute(100)).mode(Mode::Off),
    ] {
        let (limiter, time) = limiter(config);
        limiter.learn(taught, time.now());
        limiter.try_take(1, time.now()).unwrap();
        assert_eq!(permits(&limiter), [100]);
    }
}

#[test]
fn a_limiter_that_observes_learns_but_refuses_nothing() {
    let (limiter, time) = limiter(LimiterConfig::new(Limit::per_minute(100).burst(100)).mode(Mode::Observe));
    let empty = Learned { remaining: Some(0), reset_after: Some(SECOND * 30), ..Learned::default() };
    limiter.learn(empty, time.now());
    limiter.try_take(1, time.now()).unwrap();
    assert_eq!(limiter.status(time.now()).frozen_for, SECOND * 30);
}

#[test]
fn what_is_learned_is_reported_once_for_each_response() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| {
        if let Event::LimitLearned { learned, .. } = event {
            sink.lock().unwrap().push(*learned);
        }
    };
    let clock = Clock::manual(&ManualClock::new());
    let policy = Policy::none().limit(Limit::per_minute(100));
    let pipeline = Pipeline::new("taught", policy, clock, Some(Arc::new(observer))).unwrap();
    let learned = Learned { remaining: Some(3), ..Learned::default() };
    pipeline.limiter().learn(learned, pipeline.clock().now());
    assert_eq!(*seen.lock().unwrap(), [learned]);
    pipeline.reconfigure(pipeline.policy().limiter(None)).unwrap();
    assert!(pipeline.policy().limiter.is_none());
}

/// End to end with an HTTP service: one throttled response makes all callers wait.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn one_throttled_response_holds_all_callers() {
    use loom_resilience::http::{HttpClassifier, learned};

    let pipeline = Pipeline::new("taught", Policy::none(), Clock::tokio(), None).unwrap();
    let send = async |code: u16| {
        let call = pipeline.call().deadline(pipeline.clock().now() + SECOND).classify(HttpClassifier::new());
        call.run(|_| async {
            let response =
                http::Response::builder().status(code).header("retry-after", "20").body(()).unwrap();
            if let Some(learned) = learned(response.status(), response.headers(), pipeline.clock()) {
                pipeline.limiter().learn(learned, pipeline.clock().now());
            }
            Ok::<_, std::io::Error>(response)
        })
        .await
    };
    assert_eq!(send(200).await.unwrap().status(), 200);
    assert_eq!(send(429).await.unwrap().status(), 429);
    let refused = send(200).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Refused { refusal, .. } if refusal.rule() == Rule::Frozen),
        "{refused}"
    );
    tokio::time::advance(SECOND * 20).await;
    assert_eq!(send(200).await.unwrap().status(), 200);
}
