//! Every interleaving of a few threads, tried by a concurrency model checker.
//!
//! Run with `RUSTFLAGS="--cfg loom_model" cargo test -p loom-resilience --release --test model`.
#![cfg(loom_model)]

use std::{sync::Arc as StdArc, time::Duration};

use loom_checker::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};
use loom_resilience::{
    BreakerConfig, CircuitBreaker, CircuitState, Clock, Instant, Limit, LimiterConfig, ManualClock, Mode,
    OpenDuration, RateLimiter, Reservation, Window,
};

const SECOND: Duration = Duration::from_secs(1);

/// Explores the interleavings with at most three preemptions where there are too many to explore all.
fn bounded(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom_checker::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn breaker(config: BreakerConfig) -> CircuitBreaker {
    let clock = Clock::manual(&ManualClock::new());
    CircuitBreaker::new("model", config.open_for(OpenDuration::fixed(SECOND)), clock, None).unwrap()
}

fn limiter(config: LimiterConfig) -> RateLimiter {
    RateLimiter::new("model", config, Clock::manual(&ManualClock::new()), None).unwrap()
}

fn at(time: Duration) -> Instant {
    Instant::ZERO + time
}

/// Two concurrent failures at a threshold of two: the circuit must open exactly once.
#[test]
fn failures_at_once_trip_once() {
    loom_checker::model(|| {
        let breaker = Arc::new(breaker(BreakerConfig::new().failure_threshold(2)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || {
                    // The second may meet the circuit still closed or, never, open: only its own report can trip it.
                    breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(breaker.state(), CircuitState::Open);
        assert_eq!(breaker.snapshot(at(SECOND)).openings, 1);
    });
}

/// A concurrent success and failure: in any order the streak is 0 or 1, and the circuit is closed.
#[test]
fn a_success_ends_a_streak_without_losing_a_later_failure() {
    loom_checker::model(|| {
        let breaker = Arc::new(breaker(BreakerConfig::new().failure_threshold(3)));
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let other = Arc::clone(&breaker);
        let failing = thread::spawn(move || other.admit(at(SECOND)).unwrap().failure(at(SECOND)));
        breaker.admit(at(SECOND)).unwrap().success(at(SECOND));
        failing.join().unwrap();
        let streak = breaker.status(at(SECOND)).consecutive_failures;
        assert!(streak <= 1, "{streak}");
        assert_eq!(breaker.state(), CircuitState::Closed);
    });
}

/// Three threads find an open circuit whose open duration has passed: at most one of them probes.
#[test]
fn probes_in_flight_never_exceed_their_limit() {
    loom_checker::model(|| {
        let breaker = Arc::new(breaker(BreakerConfig::new().failure_threshold(1).half_open(1, 1)));
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let now = at(SECOND * 2);
        let (out, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let probe = move |breaker: &CircuitBreaker, out: &AtomicU32, most: &AtomicU32| {
            if let Ok(admission) = breaker.admit(now)
                && admission.is_probe()
            {
                most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                out.fetch_sub(1, Ordering::SeqCst);
                drop(admission);
            }
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (breaker, out, most) = (Arc::clone(&breaker), Arc::clone(&out), Arc::clone(&most));
                thread::spawn(move || probe(&breaker, &out, &most))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        assert_eq!(breaker.status(now).probes_out, 0);
    });
}

/// A probe whose lease has expired succeeds while another caller asks for its place: in either order, the success
/// counts once and closes the circuit, and what the other caller got decides nothing any more or is a call of the closed
/// circuit.
#[test]
fn a_late_success_closes_the_circuit_despite_a_new_probe() {
    loom_checker::model(|| {
        let rules = BreakerConfig::new().failure_threshold(1).half_open(1, 1).probe_lease(SECOND);
        let breaker = StdArc::new(breaker(rules));
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let late = breaker.admit_owned(at(SECOND * 2)).unwrap();
        let now = at(SECOND * 4);
        let reporting = thread::spawn(move || late.success(now));
        drop(breaker.admit(now).unwrap());
        reporting.join().unwrap();
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert_eq!(breaker.status(now).probes_out, 0);
    });
}

/// A result from before the trip arrives while a probe decides: only the probe counts.
#[test]
fn a_stale_result_decides_nothing() {
    loom_checker::model(|| {
        let breaker = StdArc::new(breaker(BreakerConfig::new().failure_threshold(1).half_open(2, 2)));
        let stale = breaker.admit_owned(at(SECOND)).unwrap();
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let now = at(SECOND * 2);
        let late = thread::spawn(move || stale.success(now));
        breaker.admit(now).unwrap().success(now);
        late.join().unwrap();
        // One probe of two has succeeded. Had the stale success counted, it would be closed.
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
    });
}

/// A failure from before the trip arrives while a probe closes the circuit: it does not count in the new generation.
#[test]
fn a_stale_failure_does_not_trip_a_circuit_that_closed_again() {
    loom_checker::model(|| {
        let breaker = StdArc::new(breaker(BreakerConfig::new().failure_threshold(1)));
        let stale = breaker.admit_owned(at(SECOND)).unwrap();
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let now = at(SECOND * 2);
        let late = thread::spawn(move || stale.failure(now));
        breaker.admit(now).unwrap().success(now);
        late.join().unwrap();
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert_eq!(breaker.status(now).consecutive_failures, 0);
    });
}

/// Two threads start a new slot of a window at once: no count is lost or counted twice.
#[test]
fn a_window_loses_no_count() {
    loom_checker::model(|| {
        let rule = BreakerConfig::new().failure_rate(1.0, 3, Window::Time(SECOND * 10));
        let breaker = Arc::new(breaker(rule));
        // A failure long ago leaves an old stamp in the slot that both threads will take over.
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let now = at(SECOND * 11);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || other.admit(now).unwrap().failure(now));
        breaker.admit(now).unwrap().failure(now);
        thread.join().unwrap();
        let status = breaker.status(now);
        assert_eq!((status.window_calls, status.window_failures), (2, 2));
    });
}

/// Three callers, two permits: exactly two are granted.
#[test]
fn a_bucket_never_grants_more_than_it_holds() {
    loom_checker::model(|| {
        let limiter = Arc::new(limiter(LimiterConfig::new(Limit::per_hour(2).burst(2))));
        let take = |limiter: &RateLimiter| u32::from(limiter.try_take(1, at(SECOND)).is_ok());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                thread::spawn(move || take(&limiter))
            })
            .collect();
        let mut granted = take(&limiter);
        for thread in threads {
            granted += thread.join().unwrap();
        }
        assert_eq!(granted, 2);
        assert_eq!(limiter.available(at(SECOND)), Some(0));
    });
}

/// A live change of the limit with concurrent callers: consumed permits stay consumed in any order.
#[test]
fn a_change_of_the_limit_keeps_what_was_consumed() {
    loom_checker::model(|| {
        let limiter = Arc::new(limiter(LimiterConfig::new(Limit::per_hour(2).burst(2))));
        let other = Arc::clone(&limiter);
        let taker = thread::spawn(move || u32::from(other.try_take(1, at(SECOND)).is_ok()));
        let wider = LimiterConfig::new(Limit::per_hour(3).burst(3));
        limiter.reconfigure(wider, at(SECOND)).unwrap();
        let granted = taker.join().unwrap();
        assert_eq!(granted, 1);
        assert_eq!(limiter.available(at(SECOND)), Some(2));
    });
}

/// Two limits, one of them nearly exhausted: no call takes a permit of one and fails at the other.
#[test]
fn several_limits_are_taken_all_or_none() {
    loom_checker::model(|| {
        let config = LimiterConfig::new(Limit::per_second(5).burst(5)).and(Limit::per_hour(1).burst(1));
        let limiter = Arc::new(limiter(config));
        let other = Arc::clone(&limiter);
        let thread = thread::spawn(move || u32::from(other.try_take(1, at(SECOND)).is_ok()));
        let granted = u32::from(limiter.try_take(1, at(SECOND)).is_ok()) + thread.join().unwrap();
        assert_eq!(granted, 1);
        // Four of the five permits a second are left: the refused call took none.
        let narrow = LimiterConfig::new(Limit::per_second(5).burst(5));
        limiter.reconfigure(narrow, at(SECOND)).unwrap();
        assert_eq!(limiter.available(at(SECOND)), Some(4));
    });
}

/// A call takes the only permit and gives it back, while an operator resets the limiter and another call takes a permit:
/// the permit of the other call does not come back with it.
#[test]
fn a_permit_from_before_a_reset_is_not_returned_twice() {
    bounded(|| reset_beside_a_call(|limiter, taken| limiter.cancel(taken)));
}

/// The control: an unconditional return grants one permit too many.
#[test]
fn the_model_finds_a_permit_that_is_returned_twice() {
    let found = std::panic::catch_unwind(|| {
        bounded(|| reset_beside_a_call(|limiter, _| limiter.give_back(1)));
    });
    assert!(found.is_err(), "no interleaving granted an extra permit");
}

fn reset_beside_a_call(give_back: fn(&RateLimiter, Reservation)) {
    let limiter = Arc::new(limiter(LimiterConfig::new(Limit::per_hour(1).burst(1))));
    let other = Arc::clone(&limiter);
    let call = thread::spawn(move || {
        if let Ok(taken) = other.try_reserve(1, at(SECOND)) {
            give_back(&other, taken);
        }
    });
    limiter.reset();
    let took = u32::from(limiter.try_take(1, at(SECOND)).is_ok());
    call.join().unwrap();
    assert_eq!(limiter.available(at(SECOND)), Some(1 - took));
}

/// The same while the limits are removed and set again.
#[test]
fn a_permit_from_before_the_limiter_was_off_is_not_returned_twice() {
    bounded(|| {
        let limits = || LimiterConfig::new(Limit::per_hour(1).burst(1));
        let limiter = Arc::new(limiter(limits()));
        let other = Arc::clone(&limiter);
        let call = thread::spawn(move || {
            if let Ok(taken) = other.try_reserve(1, at(SECOND)) {
                other.cancel(taken);
            }
        });
        let none = LimiterConfig { limits: Vec::new(), ..limits() }.mode(Mode::Off);
        limiter.reconfigure(none, at(SECOND)).unwrap();
        limiter.reconfigure(limits(), at(SECOND)).unwrap();
        let took = u32::from(limiter.try_take(1, at(SECOND)).is_ok());
        call.join().unwrap();
        assert_eq!(limiter.available(at(SECOND)), Some(1 - took));
    });
}

/// A change of the limits carries a permit over: it is returned in any order.
#[test]
fn a_permit_is_returned_across_a_change_of_the_limits() {
    bounded(|| {
        let limiter = Arc::new(limiter(LimiterConfig::new(Limit::per_hour(2).burst(2))));
        let other = Arc::clone(&limiter);
        let call = thread::spawn(move || {
            let taken = other.try_reserve(1, at(SECOND)).unwrap();
            other.cancel(taken);
        });
        limiter.reconfigure(LimiterConfig::new(Limit::per_hour(3).burst(3)), at(SECOND)).unwrap();
        call.join().unwrap();
        assert_eq!(limiter.available(at(SECOND)), Some(3));
    });
}

/// A probe reports while the rules change: its outcome counts once, under the old rules or the new ones, and its slot is
/// free again.
#[test]
fn no_probe_is_lost_beside_a_change_of_the_rules() {
    bounded(|| {
        let rules = |max_calls| {
            BreakerConfig::new()
                .failure_threshold(1)
                .half_open(max_calls, 1)
                .open_for(OpenDuration::fixed(SECOND))
        };
        let breaker = StdArc::new(breaker(rules(1)));
        breaker.admit(at(SECOND)).unwrap().failure(at(SECOND));
        let now = at(SECOND * 2);
        let probe = breaker.admit_owned(now).unwrap();
        let reporting = thread::spawn(move || probe.success(now));
        breaker.reconfigure(rules(2), now).unwrap();
        reporting.join().unwrap();
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert_eq!(breaker.status(now).probes_out, 0);
    });
}

/// A call reports while the window becomes longer. Depending on the order it is counted or not; later calls are counted
/// in any case. Slots of the new length have smaller numbers, which look old beside those of the old length.
#[test]
fn a_window_counts_on_after_a_change_of_its_length() {
    bounded(|| {
        let rule = |seconds| {
            BreakerConfig::new()
                .failure_rate(1.0, 100, Window::Time(SECOND * seconds))
                .open_for(OpenDuration::fixed(SECOND))
        };
        let breaker = Arc::new(breaker(rule(10)));
        let now = at(SECOND * 1_000);
        breaker.admit(now).unwrap().failure(now);
        let other = Arc::clone(&breaker);
        let call = thread::spawn(move || other.admit(now).unwrap().failure(now));
        breaker.reconfigure(rule(1_000), now).unwrap();
        call.join().unwrap();
        let counted = breaker.status(now).window_failures;
        let status = breaker.status(now);
        assert!((1..=2).contains(&counted), "{status:?}");
        breaker.admit(now).unwrap().failure(now);
        assert_eq!(breaker.status(now).window_failures, counted + 1);
    });
}
