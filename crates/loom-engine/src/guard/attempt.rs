//! One attempt under all services of an action, and what its result says about them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use loom_definition::Status;
use loom_resilience::{AttemptError, Instant, Mode, ObservedParts, Refusal, Rule, Service, Verdict};

use crate::event::{CircuitHint, EffectResult, ErrorInfo, Note, Outcome, RetryHint};

/// What the parts of a service in observe mode would have done to an attempt.
pub(super) fn observed_notes(
    service: &Service,
    parts: impl Iterator<Item = loom_resilience::Part>,
) -> impl Iterator<Item = Note> {
    parts.map(|part| Note::Observed { service: Arc::clone(service.name()), part: part.as_str().into() })
}

/// The times of an attempt.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// The start of the remaining time of the action, and its length.
    pub(super) limit: Option<(Instant, Duration)>,
    /// The timeout of the attempt itself, if the action has one; it applies inside the innermost service.
    pub(super) attempt: Option<(Duration, Mode)>,
}

impl Times {
    /// The times for a service that is not the innermost.
    const fn outer(self) -> Times {
        Times { attempt: None, ..self }
    }
}

/// Each service comes with something of the caller's. `seen` has as many elements as there are services.
pub(super) async fn run_nested<R, F, Fut>(
    services: &[(Service, R)],
    seen: &[ObservedParts],
    times: Times,
    number: u32,
    work: F,
) -> EffectResult
where
    R: Sync,
    F: FnOnce(Instant) -> Fut + Send,
    Fut: Future<Output = EffectResult> + Send,
{
    match (services, seen) {
        ([(only, _)], [seen, ..]) => run_one(only, seen, times, number, || work(only.clock().now())).await,
        ([(outer, _), (inner, _)], [s1, s2, ..]) => {
            let work = || run_one(inner, s2, times, number, || work(inner.clock().now()));
            run_one(outer, s1, times.outer(), number, work).await
        }
        ([(outer, _), (middle, _), (inner, _)], [s1, s2, s3, ..]) => {
            let work = || run_one(inner, s3, times, number, || work(inner.clock().now()));
            let work = || run_one(middle, s2, times.outer(), number, work);
            run_one(outer, s1, times.outer(), number, work).await
        }
        // No action has more: its own limiter, bulkhead and breaker, and the service of its policy.
        ([(outer, _), (second, _), (third, _), (inner, _), ..], [s1, s2, s3, s4, ..]) => {
            let work = || run_one(inner, s4, times, number, || work(inner.clock().now()));
            let work = || run_one(third, s3, times.outer(), number, work);
            let work = || run_one(second, s2, times.outer(), number, work);
            run_one(outer, s1, times.outer(), number, work).await
        }
        _ => EffectResult::Admitted,
    }
}

async fn run_one<F, Fut>(
    service: &Service,
    seen: &ObservedParts,
    times: Times,
    number: u32,
    work: F,
) -> EffectResult
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = EffectResult> + Send,
{
    let mut attempt = service.attempt().number(number).observing(seen).classify(
        |result: &Result<EffectResult, Infallible>| match result {
            Ok(result) => judge(result),
            Err(never) => match *never {},
        },
    );
    if let Some((timeout, mode)) = times.attempt {
        attempt = attempt.timeout_in(timeout, mode);
    }
    if let Some((began, left)) = times.limit {
        attempt = attempt.limited_by_caller(began, left);
    }
    let done = attempt
        .run(|| async {
            let result: Result<EffectResult, Infallible> = Ok(work().await);
            result
        })
        .await;
    match done {
        Ok(result) => result,
        Err(AttemptError::Refused(refusal)) => refusal_result(&refusal),
        Err(AttemptError::TimedOut(timed_out)) => EffectResult::Done {
            outcome: Outcome::failed(
                "RequestTimeout",
                ErrorInfo::new("ServerTimeout", timed_out.to_string()),
            ),
            hint: RetryHint { transient: true, ..RetryHint::default() },
        },
        Err(AttemptError::Failed(never)) => match never {},
    }
}

/// What a call's result says about its service. A local rejection by an inner service says nothing.
fn judge(result: &EffectResult) -> Verdict {
    match result {
        EffectResult::Pending { .. } | EffectResult::Admitted | EffectResult::Turn { .. } => Verdict::Ok,
        EffectResult::Done { hint, .. } if hint.refused => Verdict::Cancelled,
        EffectResult::Done { outcome, hint } => match outcome.status {
            Status::Succeeded | Status::HandedOff => Verdict::Ok,
            Status::Cancelled | Status::Skipped => Verdict::Cancelled,
            Status::TimedOut => Verdict::Transient,
            Status::Failed | Status::Aborted if hint.transient && hint.after.is_some() => {
                Verdict::Throttled { after: hint.after }
            }
            Status::Failed | Status::Aborted if hint.transient => Verdict::Transient,
            Status::Failed | Status::Aborted => Verdict::Rejected,
        },
    }
}

pub(super) fn refusal_result(refusal: &Refusal) -> EffectResult {
    let (code, passes) = match refusal.rule() {
        Rule::CircuitOpen | Rule::CircuitHalfOpen => ("CircuitBreakerOpen", true),
        Rule::Isolated => ("ServiceIsolated", false),
        Rule::RateLimit | Rule::Frozen => ("RateLimitExceeded", true),
        Rule::TooManyPermits => ("RateLimitExceeded", false),
        Rule::QueueFull | Rule::BulkheadFull => ("BulkheadFull", true),
        Rule::Deadline => ("DeadlineExceeded", false),
        _ => ("Refused", true),
    };
    let by_hand = refusal.refused.is_manual();
    let circuit = match refusal.rule() {
        _ if by_hand => CircuitHint::OpenedByHand,
        Rule::CircuitOpen => refusal.retry_after().map_or(CircuitHint::Passes, CircuitHint::OpenFor),
        _ => CircuitHint::Passes,
    };
    let passes = passes && !by_hand;
    EffectResult::Done {
        outcome: Outcome::failed(code, ErrorInfo::new(code, refusal.to_string())),
        hint: RetryHint {
            transient: passes,
            after: refusal.retry_after(),
            refused: passes,
            circuit,
            learned: None,
        },
    }
}
