//! Live changes of a policy: what stays, what is dropped, and that nothing is lost or counted twice under load.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use loom_resilience::{
    AllTransient, BreakerConfig, Budget, BudgetConfig, BulkheadConfig, CircuitBreaker, CircuitState, Clock,
    Event, HedgeConfig, Learned, Limit, LimiterConfig, ManualClock, Mode, OpenDuration, Part, Pipeline,
    Policy, RateLimiter, RetryConfig, Rule, Window,
};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(config: BreakerConfig) -> (CircuitBreaker, ManualClock) {
    let time = ManualClock::new();
    time.advance(SECOND * 1_000);
    (CircuitBreaker::new("reload", config, Clock::manual(&time), None).unwrap(), time)
}

fn make(policy: Policy) -> (Pipeline, ManualClock) {
    let time = ManualClock::new();
    time.advance(SECOND * 1_000);
    (Pipeline::new("reload", policy, Clock::manual(&time), None).unwrap(), time)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn rate(window: Window) -> BreakerConfig {
    BreakerConfig::new().failure_rate(1.0, 1_000, window)
}

fn counts(breaker: &CircuitBreaker, time: &ManualClock) -> (u32, u32) {
    let status = breaker.status(time.now());
    (status.window_calls, status.window_failures)
}

/// Three failures 12 s ago, two successes now.
fn fill(breaker: &CircuitBreaker, time: &ManualClock) {
    for _ in 0..3 {
        breaker.admit(time.now()).unwrap().failure(time.now());
    }
    time.advance(SECOND * 12);
    for _ in 0..2 {
        breaker.admit(time.now()).unwrap().success(time.now());
    }
}

#[test]
fn a_time_window_that_grows_keeps_its_counts_and_continues_to_count() {
    let (breaker, time) = breaker(rate(Window::Time(SECOND * 30)));
    fill(&breaker, &time);
    breaker.reconfigure(rate(Window::Time(SECOND * 600)), time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (5, 3));
    // Slots of the new length have smaller numbers than those of the old one.
    breaker.admit(time.now()).unwrap().failure(time.now());
    assert_eq!(counts(&breaker, &time), (6, 4));
    time.advance(SECOND * 300);
    assert_eq!(counts(&breaker, &time), (6, 4), "all within ten minutes");
    time.advance(SECOND * 400);
    assert_eq!(counts(&breaker, &time), (0, 0));
}

#[test]
fn a_time_window_that_shrinks_keeps_what_is_within_the_new_length() {
    let (breaker, time) = breaker(rate(Window::Time(SECOND * 30)));
    fill(&breaker, &time);
    breaker.reconfigure(rate(Window::Time(SECOND * 10)), time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (2, 0), "the failures were 12 s ago");
    breaker.admit(time.now()).unwrap().failure(time.now());
    assert_eq!(counts(&breaker, &time), (3, 1));
}

#[test]
fn a_count_window_keeps_the_most_recent_calls() {
    let (breaker, time) = breaker(rate(Window::Calls(1_000)));
    fill(&breaker, &time);
    breaker.reconfigure(rate(Window::Calls(2_000)), time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (5, 3));
    let small = BreakerConfig::new().failure_rate(1.0, 3, Window::Calls(3));
    breaker.reconfigure(small, time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (3, 1), "one failure and two successes");
    // The ring continues from there: the oldest, which is the failure, makes room.
    breaker.admit(time.now()).unwrap().success(time.now());
    assert_eq!(counts(&breaker, &time), (3, 0));
}

#[test]
fn a_window_of_another_kind_starts_empty() {
    let (breaker, time) = breaker(rate(Window::Calls(1_000)));
    fill(&breaker, &time);
    breaker.reconfigure(rate(Window::Time(SECOND * 30)), time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (0, 0));
    breaker.admit(time.now()).unwrap().failure(time.now());
    breaker.reconfigure(rate(Window::Calls(1_000)), time.now()).unwrap();
    assert_eq!(counts(&breaker, &time), (0, 0), "the previous counts are discarded");
}

#[test]
fn the_change_alone_opens_nothing_but_the_next_outcome_does() {
    let (breaker, time) = breaker(BreakerConfig::new().failure_threshold(10));
    for _ in 0..5 {
        breaker.admit(time.now()).unwrap().failure(time.now());
    }
    breaker.reconfigure(BreakerConfig::new().failure_threshold(3), time.now()).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(breaker.consecutive_failures(), 5);
    breaker.admit(time.now()).unwrap().failure(time.now());
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[test]
fn probes_in_flight_survive_a_change_and_count_under_the_new_rules() {
    let rules = |max_calls, successes| {
        BreakerConfig::new()
            .failure_threshold(1)
            .half_open(max_calls, successes)
            .open_for(OpenDuration::fixed(SECOND))
    };
    let (breaker, time) = breaker(rules(3, 3));
    breaker.admit(time.now()).unwrap().failure(time.now());
    time.advance(SECOND);
    let [first, second, third] = [(); 3].map(|()| breaker.admit(time.now()).unwrap());
    first.success(time.now());
    // One slot now, and two probes are in flight: no other starts.
    breaker.reconfigure(rules(1, 2), time.now()).unwrap();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert_eq!(breaker.admit(time.now()).unwrap_err().rule, Rule::CircuitHalfOpen);
    second.success(time.now());
    assert_eq!(breaker.state(), CircuitState::Closed, "two successes are enough now");
    third.failure(time.now());
    assert_eq!(breaker.state(), CircuitState::Closed, "a result of the previous generation");
}

#[test]
fn outcomes_so_far_may_decide_under_the_new_rules() {
    let rules = |successes| {
        BreakerConfig::new()
            .failure_threshold(1)
            .half_open(3, successes)
            .open_for(OpenDuration::fixed(SECOND))
    };
    let (breaker, time) = breaker(rules(3));
    breaker.admit(time.now()).unwrap().failure(time.now());
    time.advance(SECOND);
    breaker.admit(time.now()).unwrap().success(time.now());
    breaker.reconfigure(rules(1), time.now()).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    breaker.admit(time.now()).unwrap().success(time.now());
}

#[test]
fn a_change_of_mode_keeps_the_circuit() {
    let rules = BreakerConfig::new().failure_threshold(1).open_for(OpenDuration::fixed(SECOND * 60));
    let (breaker, time) = breaker(rules.clone().mode(Mode::Observe));
    breaker.admit(time.now()).unwrap().failure(time.now());
    breaker.admit(time.now()).unwrap().success(time.now());
    breaker.reconfigure(rules.clone(), time.now()).unwrap();
    assert_eq!(
        breaker.admit(time.now()).unwrap_err().rule,
        Rule::CircuitOpen,
        "what was observed is now enforced"
    );
    breaker.reconfigure(rules.clone().mode(Mode::Off), time.now()).unwrap();
    breaker.admit(time.now()).unwrap().success(time.now());
    breaker.reconfigure(rules, time.now()).unwrap();
    assert!(breaker.admit(time.now()).is_err());
}

/// resilience4j: changeLimitForPeriod.
#[test]
fn a_limiter_keeps_what_was_consumed() {
    let time = ManualClock::new();
    let config = |permits| LimiterConfig::new(Limit::per_hour(permits).burst(permits));
    let limiter = RateLimiter::new("reload", config(10), Clock::manual(&time), None).unwrap();
    limiter.try_take(6, time.now()).unwrap();
    limiter.reconfigure(config(20), time.now()).unwrap();
    assert_eq!(limiter.available(time.now()), Some(14));
    limiter.reconfigure(config(4), time.now()).unwrap();
    assert_eq!(limiter.available(time.now()), Some(0));
    limiter.reconfigure(LimiterConfig::new(Limit::window(10, Duration::from_hours(1))), time.now()).unwrap();
    assert_eq!(limiter.available(time.now()), Some(6), "at most the four of the last limit");
}

/// A call holds a permit while it waits for the bulkhead, and gives it back when it is dropped. Whatever happened to the
/// limiter meanwhile, it never returns the permit of another call.
#[test]
fn a_permit_is_returned_to_the_limit_that_it_was_taken_from() {
    let limited = |permits| {
        Policy::none()
            .limit(Limit::per_hour(permits).burst(permits))
            .bulkhead(BulkheadConfig::new(1).queue(1))
    };
    let unlimited = Policy::none().bulkhead(BulkheadConfig::new(1).queue(1));
    let available = |pipeline: &Pipeline, time: &ManualClock| pipeline.limiter().available(time.now());

    // Carried over: the permit comes back.
    let (pipeline, time) = make(limited(5));
    {
        let occupied = pipeline.bulkhead().try_enter().unwrap();
        let mut waiting = pin!(pipeline.attempt().classify(AllTransient).run(pending::<Result<(), &str>>));
        assert!(poll(waiting.as_mut()).is_pending());
        assert_eq!(available(&pipeline, &time), Some(4));
        pipeline.reconfigure(limited(8)).unwrap();
        assert_eq!(available(&pipeline, &time), Some(7));
        drop(occupied);
    }
    assert_eq!(available(&pipeline, &time), Some(8));

    // Dropped in between: there is nothing to return, and the permit of another call stays spent.
    let (pipeline, time) = make(limited(5));
    {
        let _occupied = pipeline.bulkhead().try_enter().unwrap();
        let mut waiting = pin!(pipeline.attempt().classify(AllTransient).run(pending::<Result<(), &str>>));
        assert!(poll(waiting.as_mut()).is_pending());
        pipeline.reconfigure(unlimited.clone()).unwrap();
        pipeline.reconfigure(limited(5)).unwrap();
        pipeline.limiter().try_take(2, time.now()).unwrap();
        assert_eq!(available(&pipeline, &time), Some(3));
    }
    assert_eq!(available(&pipeline, &time), Some(3));

    // Admitted without a limit: it took nothing, so it returns nothing.
    let (pipeline, time) = make(unlimited);
    {
        let _occupied = pipeline.bulkhead().try_enter().unwrap();
        let mut waiting = pin!(pipeline.attempt().classify(AllTransient).run(pending::<Result<(), &str>>));
        assert!(poll(waiting.as_mut()).is_pending());
        pipeline.reconfigure(limited(5)).unwrap();
        pipeline.limiter().try_take(2, time.now()).unwrap();
    }
    assert_eq!(available(&pipeline, &time), Some(3));
}

/// The same when an operator resets the service while the call waits.
#[test]
fn a_permit_from_before_a_reset_is_not_returned() {
    let policy = Policy::none().limit(Limit::per_hour(5).burst(5)).bulkhead(BulkheadConfig::new(1).queue(1));
    let (pipeline, time) = make(policy);
    {
        let _occupied = pipeline.bulkhead().try_enter().unwrap();
        let mut waiting = pin!(pipeline.attempt().classify(AllTransient).run(pending::<Result<(), &str>>));
        assert!(poll(waiting.as_mut()).is_pending());
        pipeline.reset();
        pipeline.limiter().try_take(2, time.now()).unwrap();
    }
    assert_eq!(pipeline.limiter().available(time.now()), Some(3));
}

/// resilience4j: changePermissionsCountWhileOneThreadIsRunningWithThisPermission,
/// changePermissionsCountWhileOneThreadIsWaitingForPermission.
#[test]
fn a_bulkhead_keeps_calls_in_flight_and_waiters() {
    let (pipeline, _) = make(Policy::none().bulkhead(BulkheadConfig::new(2).queue(5)));
    let bulkhead = pipeline.bulkhead();
    let put = |config: BulkheadConfig| pipeline.reconfigure(Policy::none().bulkhead(config)).unwrap();
    let (one, two) = (bulkhead.try_enter().unwrap(), bulkhead.try_enter().unwrap());
    put(BulkheadConfig::new(1).queue(5));
    let mut first = pin!(bulkhead.enter(None));
    let mut second = pin!(bulkhead.enter(None));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(one);
    assert!(poll(first.as_mut()).is_pending(), "two were in flight, and one is allowed");
    drop(two);
    let Poll::Ready(Ok((permit, _))) = poll(first.as_mut()) else { panic!("its turn") };
    assert!(poll(second.as_mut()).is_pending());
    put(BulkheadConfig::new(2));
    let Poll::Ready(Ok(_second)) = poll(second.as_mut()) else { panic!("a raised limit admits the waiter") };
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (2, 0));
    drop(permit);
    assert_eq!(bulkhead.in_flight(), 1);
}

/// A window of another length keeps its calls and retries, and continues to count.
#[test]
fn a_budget_keeps_its_window() {
    let time = ManualClock::new();
    time.advance(SECOND * 1_000);
    let rules =
        |seconds| BudgetConfig { ratio: 0.1, per_second: 0.0, window: SECOND * seconds, mode: Mode::Enforce };
    let budget = Budget::new(rules(10)).unwrap();
    for _ in 0..30 {
        budget.deposit(time.now());
    }
    assert!(budget.try_spend(time.now()));
    for seconds in [10, 1_000, 60, 3] {
        budget.reconfigure(rules(seconds), time.now()).unwrap();
        assert_eq!(budget.available(time.now()), Some(2), "{seconds} s");
    }
    for _ in 0..10 {
        budget.deposit(time.now());
    }
    assert_eq!(budget.available(time.now()), Some(3), "it continues to count");
    time.advance(SECOND * 4);
    assert_eq!(budget.available(time.now()), Some(0));
}

#[test]
fn a_change_reports_the_parts_that_changed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let observer = move |event: &Event<'_>| {
        if let Event::Reconfigured { parts, .. } = event {
            sink.lock().unwrap().push(parts.to_vec());
        }
    };
    let clock = Clock::manual(&ManualClock::new());
    let before = Policy::standard();
    let pipeline = Pipeline::new("reload", before.clone(), clock, Some(Arc::new(observer))).unwrap();
    pipeline.reconfigure(before.clone()).unwrap();
    assert_eq!(*seen.lock().unwrap(), Vec::<Vec<Part>>::new(), "nothing changed");
    let after = before
        .retry(RetryConfig::attempts(7))
        .hedge(HedgeConfig::new(SECOND))
        .attempt_timeout_mode(Mode::Observe);
    pipeline.reconfigure(after.clone()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [[Part::Retry, Part::Hedge, Part::AttemptTimeout]]);
    // A policy that is not valid changes nothing.
    let wrong = after.clone().bulkhead(BulkheadConfig::new(0));
    pipeline.reconfigure(wrong).unwrap_err();
    assert_eq!(pipeline.policy(), after);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn what_the_service_reported_survives_a_change() {
    let (pipeline, time) = make(Policy::none().limit(Limit::per_minute(100).burst(100)));
    let learned = Learned { limit: Some(10), ..Learned::default() };
    pipeline.limiter().learn(learned, time.now());
    pipeline.reconfigure(Policy::none().limit(Limit::per_minute(50).burst(50))).unwrap();
    assert_eq!(pipeline.limiter().config().limits[0].permits, 10);
    pipeline.reconfigure(Policy::none().limit(Limit::per_minute(5).burst(5))).unwrap();
    assert_eq!(pipeline.limiter().config().limits[0].permits, 5, "never more than configured");
}
