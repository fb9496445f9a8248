//! Laws that hold for every schedule of calls, checked against simple reference models.

use std::time::Duration;

use loom_resilience::{
    Backoff, BreakerConfig, CircuitBreaker, CircuitState, Clock, Instant, Jitter, Limit, LimiterConfig,
    ManualClock, OpenDuration, RateLimiter, RetryConfig, RetryDecision, RetryPlanner, Verdict, Window,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn limiter(config: LimiterConfig) -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    (RateLimiter::new("law", config, Clock::manual(&clock), None).unwrap(), clock)
}

/// A token bucket in exact fractions: tokens are counted in parts of a permit, one part for each nanosecond of the
/// period.
struct ReferenceBucket {
    parts: u128,
    last: u64,
    permits: u128,
    period: u128,
    burst: u128,
}

impl ReferenceBucket {
    fn new(permits: u32, period: u64, burst: u32) -> Self {
        let (permits, period, burst) = (u128::from(permits), u128::from(period), u128::from(burst));
        Self { parts: burst * period, last: 0, permits, period, burst }
    }

    /// Parts that the refilled bucket holds at `now`.
    fn refill(&mut self, now: u64) {
        let passed = u128::from(now - self.last);
        self.parts = (self.parts + passed * self.permits).min(self.burst * self.period);
        self.last = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The limiter agrees with exact fractions, except within a nanosecond of the border.
    #[test]
    fn a_bucket_agrees_with_exact_fractions(
        permits in 1_u32..2_000_000,
        period in prop_oneof![Just(1_000_000_000_u64), Just(60_000_000_000), Just(3_600_000_000_000), Just(86_399_999_999_989)],
        burst in 1_u32..50,
        steps in prop::collection::vec((0_u64..3_000_000_000, 1_u32..5), 1..200),
    ) {
        let limit = Limit::new(permits, Duration::from_nanos(period)).burst(burst);
        let (limiter, _) = limiter(LimiterConfig::new(limit));
        let mut reference = ReferenceBucket::new(permits, period, burst);
        let mut now = 0;
        for (step, take) in steps {
            now += step;
            reference.refill(now);
            let needed = u128::from(take) * reference.period;
            // A nanosecond's worth of parts is where rounding may fall to either side.
            let slack = reference.permits * 2;
            let granted = limiter.try_take(take, Instant::from_nanos(now)).is_ok();
            if granted {
                prop_assert!(take <= burst);
                prop_assert!(reference.parts + slack >= needed, "granted {take} with {} of {needed}", reference.parts);
                reference.parts = reference.parts.saturating_sub(needed);
            } else {
                prop_assert!(take > burst || reference.parts < needed + slack, "refused {take} with {} of {needed}", reference.parts);
            }
        }
    }

    /// No schedule of calls beats the quota: in any stretch of time at most burst + rate * time.
    #[test]
    fn no_schedule_beats_the_quota(
        permits in 1_u32..1_000,
        burst in 1_u32..20,
        gaps in prop::collection::vec(0_u64..40_000_000, 1..400),
    ) {
        let (limiter, _) = limiter(LimiterConfig::new(Limit::per_second(permits).burst(burst)));
        let mut now = 0;
        let mut grants = Vec::new();
        for gap in gaps {
            now += gap;
            if limiter.try_take(1, Instant::from_nanos(now)).is_ok() {
                grants.push(now);
            }
        }
        for (index, start) in grants.iter().enumerate() {
            for (more, end) in grants[index..].iter().enumerate() {
                let allowed = u128::from(burst) * 1_000_000_000 + u128::from(permits) * u128::from(end - start + 1);
                prop_assert!((more as u128 + 1) * 1_000_000_000 <= allowed + 1_000_000_000 * u128::from(permits) / 1_000_000_000);
            }
        }
    }

    /// A strict window never sees more than its permits, wherever it starts.
    #[test]
    fn no_schedule_beats_a_strict_window(
        permits in 1_u32..20,
        gaps in prop::collection::vec((0_u64..300_000_000, 1_u32..4), 1..300),
    ) {
        let (limiter, _) = limiter(LimiterConfig::new(Limit::window(permits, SECOND)));
        let mut now = 0;
        let mut grants: Vec<(u64, u32)> = Vec::new();
        for (gap, take) in gaps {
            now += gap;
            if limiter.try_take(take, Instant::from_nanos(now)).is_ok() {
                grants.push((now, take));
            }
        }
        for (index, (start, _)) in grants.iter().enumerate() {
            let seen: u32 = grants[index..]
                .iter()
                .take_while(|(at, _)| at - start < 1_000_000_000)
                .map(|(_, take)| take)
                .sum();
            prop_assert!(seen <= permits);
        }
    }

    /// The wait that a refusal reports is sufficient, and not much too long.
    #[test]
    fn a_refusal_names_the_right_time(
        permits in 1_u32..5_000,
        burst in 1_u32..20,
        strict: bool,
        warm_up in prop::collection::vec(0_u64..100_000_000, 0..60),
    ) {
        let limit = if strict { Limit::window(permits, SECOND) } else { Limit::per_second(permits).burst(burst) };
        let (limiter, _) = limiter(LimiterConfig::new(limit));
        let mut now = 0;
        for gap in warm_up {
            now += gap;
            limiter.try_take(1, Instant::from_nanos(now)).ok();
        }
        let mut last = None;
        for _ in 0..=permits.max(burst) {
            if let Err(refused) = limiter.try_take(1, Instant::from_nanos(now)) {
                last = refused.retry_after;
                break;
            }
        }
        let wait = last.expect("more permits than the limit can grant");
        if wait > Duration::from_nanos(3) {
            let early = Instant::from_nanos(now) + wait.saturating_sub(Duration::from_nanos(3));
            prop_assert!(limiter.available(early) == Some(0));
        }
        prop_assert!(limiter.try_take(1, Instant::from_nanos(now) + wait).is_ok());
    }

    /// Changing the limit never gives back what was consumed within the same period.
    #[test]
    fn a_change_of_the_limit_grants_nothing_extra(
        before in 1_u32..100,
        after in 1_u32..100,
        taken in 0_u32..100,
        strict: bool,
    ) {
        let limit = |permits| {
            if strict { Limit::window(permits, SECOND * 3_600) } else { Limit::per_hour(permits).burst(permits) }
        };
        let (limiter, clock) = limiter(LimiterConfig::new(limit(before)));
        let taken = taken.min(before);
        limiter.try_take(taken, clock.now()).unwrap();
        limiter.reconfigure(LimiterConfig::new(limit(after)), clock.now()).unwrap();
        prop_assert_eq!(limiter.available(clock.now()), Some(after.saturating_sub(taken)));
    }

    /// A snapshot taken and restored elsewhere, at another reading of the clock, leaves the same permits.
    #[test]
    fn a_limiter_survives_a_restart(
        permits in 1_u32..50,
        taken in 0_u32..50,
        age in 0_u64..7_200_000_000_000,
        strict: bool,
    ) {
        let limit = if strict { Limit::window(permits, SECOND * 3_600) } else { Limit::per_hour(permits).burst(permits) };
        let (first, clock) = limiter(LimiterConfig::new(limit));
        clock.advance(SECOND * 50_000);
        first.try_take(taken.min(permits), clock.now()).unwrap();
        let (second, other) = limiter(LimiterConfig::new(limit));
        other.advance(SECOND * 9_000);
        second.restore(&first.snapshot(clock.now()), Duration::from_nanos(age), other.now());
        let before = first.available(clock.now() + Duration::from_nanos(age)).unwrap();
        let after = second.available(other.now()).unwrap();
        prop_assert!(before.abs_diff(after) <= 1, "{before} {after}");
    }
}

/// An operation on a circuit.
#[derive(Clone, Debug)]
enum Step {
    Admit,
    Succeed(usize),
    Fail(usize),
    Drop(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Admit),
        2 => (0_usize..8).prop_map(Step::Succeed),
        3 => (0_usize..8).prop_map(Step::Fail),
        1 => (0_usize..8).prop_map(Step::Drop),
        2 => (0_u64..1_500).prop_map(Step::Wait),
    ]
}

/// A simple model of the circuit.
struct ReferenceCircuit {
    state: CircuitState,
    generation: u64,
    streak: u32,
    open_until: Instant,
    out: u32,
    successes: u32,
    failures: u32,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The breaker agrees with the model on every schedule, and probes in flight never exceed their limit.
    #[test]
    fn a_circuit_agrees_with_a_simple_model(
        threshold in 1_u32..4,
        probes in 1_u32..4,
        successes in 1_u32..4,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let clock = ManualClock::new();
        let config = BreakerConfig::new()
            .failure_threshold(threshold)
            .open_for(OpenDuration::fixed(SECOND))
            .half_open(probes, successes)
            .probe_lease(SECOND * 100_000);
        let breaker = CircuitBreaker::new("law", config, Clock::manual(&clock), None).unwrap();
        let total = probes.max(successes);
        let mut model = ReferenceCircuit {
            state: CircuitState::Closed, generation: 0, streak: 0, open_until: Instant::ZERO,
            out: 0, successes: 0, failures: 0,
        };
        let mut calls = Vec::new();
        for step in steps {
            let now = clock.now();
            match step {
                Step::Wait(ms) => clock.advance(Duration::from_millis(ms)),
                Step::Admit => {
                    if model.state == CircuitState::Open && now >= model.open_until {
                        model.state = CircuitState::HalfOpen;
                        model.generation += 1;
                        (model.out, model.successes, model.failures) = (0, 0, 0);
                    }
                    let allowed = match model.state {
                        CircuitState::Closed => true,
                        CircuitState::Open => false,
                        CircuitState::HalfOpen => {
                            model.out < probes && model.out + model.successes + model.failures < total
                        }
                    };
                    let admitted = breaker.admit(now);
                    prop_assert_eq!(admitted.is_ok(), allowed);
                    if let Ok(admission) = admitted {
                        model.out += u32::from(model.state == CircuitState::HalfOpen);
                        prop_assert!(model.out <= probes);
                        calls.push((model.generation, admission));
                    }
                }
                Step::Succeed(index) | Step::Fail(index) | Step::Drop(index) => {
                    if calls.is_empty() { continue; }
                    let (generation, admission) = calls.swap_remove(index % calls.len());
                    let current = generation == model.generation;
                    match step {
                        Step::Succeed(_) => admission.success(now),
                        Step::Fail(_) => admission.failure(now),
                        _ => drop(admission),
                    }
                    if !current { continue; }
                    match (model.state, &step) {
                        (CircuitState::Closed, Step::Succeed(_)) => model.streak = 0,
                        (CircuitState::Closed, Step::Fail(_)) => model.streak += 1,
                        (CircuitState::HalfOpen, _) => {
                            model.out -= 1;
                            model.successes += u32::from(matches!(step, Step::Succeed(_)));
                            model.failures += u32::from(matches!(step, Step::Fail(_)));
                        }
                        _ => {}
                    }
                    let trips = match model.state {
                        CircuitState::Closed => model.streak >= threshold,
                        CircuitState::Open => false,
                        CircuitState::HalfOpen => total - model.failures < successes,
                    };
                    if trips {
                        model.state = CircuitState::Open;
                        model.generation += 1;
                        model.open_until = now + SECOND;
                    } else if model.state == CircuitState::HalfOpen && model.successes >= successes {
                        model.state = CircuitState::Closed;
                        model.generation += 1;
                        model.streak = 0;
                    }
                }
            }
            prop_assert_eq!(breaker.state(), model.state);
        }
    }

    /// The window of a failure rate agrees with a list of calls.
    #[test]
    fn a_window_agrees_with_a_list(
        outcomes in prop::collection::vec((any::<bool>(), 0_u64..700), 1..200),
        by_count: bool,
    ) {
        let clock = ManualClock::new();
        clock.advance(SECOND * 1_000);
        // A rate that needs every call to fail, and more of them than are made, so that nothing trips.
        let window = if by_count { Window::Calls(30) } else { Window::Time(SECOND * 10) };
        let rules = BreakerConfig::new().failure_threshold(100_000).failure_rate(1.0, if by_count { 30 } else { 10_000 }, window);
        let breaker = CircuitBreaker::new("law", rules, Clock::manual(&clock), None).unwrap();
        // One success in every cycle keeps the count window from containing failures only.
        let mut list: Vec<(u64, bool)> = Vec::new();
        for (index, (bad, gap)) in outcomes.into_iter().enumerate() {
            clock.advance(Duration::from_millis(gap));
            let bad = bad && index % 7 != 0;
            let now = clock.now();
            let admission = breaker.admit(now).unwrap();
            if bad { admission.failure(now) } else { admission.success(now) }
            list.push((now.as_nanos() / 1_000_000_000, bad));
            let newest = list.last().unwrap().0;
            let within: Vec<_> = if by_count {
                list.iter().rev().take(30).collect()
            } else {
                list.iter().filter(|(slot, _)| newest - slot < 10).collect()
            };
            let status = breaker.status(now);
            prop_assert_eq!(status.window_calls as usize, within.len());
            prop_assert_eq!(status.window_failures as usize, within.iter().filter(|(_, bad)| *bad).count());
        }
    }

    /// Delays stay within their cap, never reach a deadline, and are repeatable.
    #[test]
    fn a_retry_plan_stays_in_bounds_and_is_repeatable(
        attempt in 1_u32..200,
        seed: u64,
        initial in 1_u64..5_000,
        factor in 1.0_f64..10.0,
        cap in 1_u64..60_000,
        left in 0_u64..60_000,
        jitter in prop_oneof![Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)],
    ) {
        let cap = Duration::from_millis(cap);
        let config = RetryConfig::attempts(1_000)
            .backoff(Backoff::Exponential { initial: Duration::from_millis(initial), factor })
            .jitter(jitter)
            .max_delay(cap);
        let planner = RetryPlanner::new(config).unwrap().idempotent();
        let now = Instant::ZERO + SECOND;
        let deadline = now + Duration::from_millis(left);
        let plan = || planner.plan(attempt, Verdict::Transient, now, Some(deadline), seed);
        prop_assert_eq!(plan(), plan());
        prop_assert!(planner.delay(attempt, seed) <= cap);
        if let RetryDecision::After(delay) = plan() {
            prop_assert!(now + delay < deadline);
        }
    }

    /// The jitter of workflow definitions: between the doubled intervals, within minimum and maximum.
    #[test]
    fn a_jitter_band_is_where_definitions_say(
        retry in 1_u32..30,
        seed: u64,
        interval in 1_u64..100,
        min in 0_u64..50,
        more in 0_u64..100_000,
    ) {
        let (interval, min, max) = (SECOND * interval as u32, SECOND * min as u32, SECOND * (min + more) as u32);
        let planner = RetryPlanner::new(RetryConfig::attempts(100).backoff(Backoff::Band { interval, min, max })).unwrap().idempotent();
        let delay = planner.delay(retry, seed);
        let floor = if retry == 1 { Duration::ZERO } else { interval * 2_u32.pow(retry - 2) };
        let high = (interval.saturating_mul(2_u32.pow(retry - 1))).min(max).max(min);
        prop_assert!(delay >= floor.max(min).min(high), "{delay:?}");
        prop_assert!(delay <= high, "{delay:?}");
    }
}

/// A pinned plan: the same numbers on every machine and in every later version, or replays would differ.
#[test]
fn seeded_pauses_are_pinned() {
    let planner = RetryPlanner::new(RetryConfig::default()).unwrap().idempotent();
    let delays: Vec<_> = (1..=4).map(|attempt| planner.delay(attempt, 42).as_nanos()).collect();
    assert_eq!(delays, PINNED);
}

/// Computed apart from this crate: SplitMix64's finalizer of 42 + (n + 1) * golden ratio, scaled to 200 ms * 2^(n-1).
const PINNED: [u128; 4] = [31_982_078, 111_440_452, 275_352_573, 60_848_269];
