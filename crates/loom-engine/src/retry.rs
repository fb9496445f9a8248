//! When to try again: a definition's policy, asked through the planner of `loom-resilience`.

use std::time::Duration;

use loom_definition::policy::{ErrorPattern, RetryPolicy};
use loom_expression::{Value, ValueRef};

use crate::event::{CircuitHint, Outcome, RetryHint};

/// The wait before the next attempt; none when there is to be none.
///
/// `attempt` is the one that just failed, from 1. The same arguments always give the same wait.
pub(crate) fn wait_before_next(
    policy: &RetryPolicy,
    attempt: u32,
    outcome: &Outcome,
    hint: RetryHint,
    seed: u64,
) -> Option<Duration> {
    let retryable = match &policy.retryable {
        // An open circuit, a full bulkhead or a refused permit is always worth a later try: the service was not asked.
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
        // In the language's own policies, what the service asks for takes the place of the wait. What we refuse ourselves has no
        // such word.
        Some(after) if !hint.refused && policy.schedule.is_of_the_language() => after,
        Some(after) => wait.max(after),
    };
    Some(match hint.circuit {
        CircuitHint::OpenFor(time) => wait.max(time),
        CircuitHint::Passes | CircuitHint::OpenedByHand => wait,
    })
}

/// The codes of our own refusals; see the guard of services.
const REFUSALS: [&str; 6] = [
    "CircuitBreakerOpen",
    "ServiceIsolated",
    "RateLimitExceeded",
    "BulkheadFull",
    "DeadlineExceeded",
    "Refused",
];

/// Whether an attempt ended with a refusal of our own, so that the service was not asked.
pub(crate) fn is_refusal(outcome: &Outcome) -> bool {
    let code = outcome.code.as_ref();
    REFUSALS.contains(&code) && outcome.error.as_ref().is_some_and(|error| error.code == code)
}

/// The same for an attempt as the history of retries holds it.
pub(crate) fn is_refusal_entry(entry: &Value) -> bool {
    let code = entry.get("code").and_then(Value::as_str);
    let error = entry.get("error").and_then(|error| error.get("code")).and_then(Value::as_str);
    code == error && code.is_some_and(|code| REFUSALS.contains(&code))
}

/// A service may ask for a long pause, but not for ever.
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
