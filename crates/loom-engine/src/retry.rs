//! Retries: a definition's policy, evaluated with the planner of `loom-resilience`.

use std::time::Duration;

use loom_definition::policy::{ErrorPattern, RetryPolicy};
use loom_expression::{Value, ValueRef};

use crate::event::{CircuitHint, Outcome, RetryHint};

/// The wait before the next attempt; none when there is no next attempt. The mode of the policy is up to the caller.
///
/// `attempt` is the number of the one that just failed, from 1. The same arguments always yield the same wait.
pub(crate) fn wait_before_next(
    policy: &RetryPolicy,
    attempt: u32,
    outcome: &Outcome,
    hint: RetryHint,
    seed: u64,
) -> Option<Duration> {
    let retryable = match &policy.retryable {
        // A local rejection, such as by an open circuit or a full bulkhead, is always retried: the service received nothing.
        _ if hint.refused => true,
        None => hint.transient,
        Some(patterns) => patterns.iter().any(|pattern| matches(pattern, outcome)),
    };
    if !retryable || attempt >= policy.max_attempts || hint.circuit == CircuitHint::OpenedByHand {
        return None;
    }
    let wait = crate::resilience::scheduled_wait(&policy.schedule, attempt, seed);
    let wait = match hint.after.map(|after| after.min(RETRY_AFTER_MAX)) {
        None => wait,
        // In the language's own policies, the service's `Retry-After` replaces the wait. This does not apply to local
        // rejections.
        Some(after) if !hint.refused && policy.schedule.is_of_the_language() => after,
        Some(after) => wait.max(after),
    };
    Some(match hint.circuit {
        CircuitHint::OpenFor(time) => wait.max(time),
        CircuitHint::Passes | CircuitHint::OpenedByHand => wait,
    })
}

/// The codes of local rejections; see the guard of services.
const REFUSALS: [&str; 6] = [
    "CircuitBreakerOpen",
    "ServiceIsolated",
    "RateLimitExceeded",
    "BulkheadFull",
    "DeadlineExceeded",
    "Refused",
];

/// Whether an attempt was rejected locally, so that the service received nothing.
pub(crate) fn is_refusal(outcome: &Outcome) -> bool {
    let code = outcome.code.as_ref();
    REFUSALS.contains(&code) && outcome.error.as_ref().is_some_and(|error| error.code == code)
}

/// Like [`is_refusal`], for an entry of the retry history.
pub(crate) fn is_refusal_entry(entry: &Value) -> bool {
    let code = entry.get("code").and_then(Value::as_str);
    let error = entry.get("error").and_then(|error| error.get("code")).and_then(Value::as_str);
    code == error && code.is_some_and(|code| REFUSALS.contains(&code))
}

/// Upper limit of a service's `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

fn matches(pattern: &ErrorPattern, outcome: &Outcome) -> bool {
    let status = outcome.outputs.as_ref().and_then(|outputs| match outputs.get("statusCode")?.as_ref() {
        ValueRef::Int(status) => u16::try_from(status).ok(),
        _ => None,
    });
    match pattern {
        ErrorPattern::Status(wanted) => status == Some(*wanted),
        ErrorPattern::StatusClass(hundreds) => {
            status.is_some_and(|status| status / 100 == u16::from(*hundreds))
        }
        ErrorPattern::Text(text) => {
            let wanted = text.to_lowercase();
            outcome.code.eq_ignore_ascii_case(text)
                || outcome.error.as_ref().is_some_and(|error| {
                    error.code.eq_ignore_ascii_case(text) || error.message.to_lowercase().contains(&wanted)
                })
        }
    }
}
