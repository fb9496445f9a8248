//! Words and symbols shared by trees and lines.

use std::{borrow::Cow, time::Duration};

use loom_definition::Status;
use loom_engine::event::{ErrorInfo, Note, Outcome};
use loom_expression::{Timestamp, Value, Visible, visible};

/// Applies colours, if they are enabled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) color: bool,
}

impl Paint {
    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn status(self, status: Option<Status>, text: &str) -> String {
        self.wrap(tone(status), text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn tone(status: Option<Status>) -> &'static str {
    match status {
        None => "36",
        Some(Status::Succeeded | Status::HandedOff) => "32",
        Some(Status::Failed | Status::Aborted) => "31",
        Some(Status::TimedOut | Status::Cancelled) => "33",
        Some(Status::Skipped) => "2",
    }
}

/// The symbol of an action's status.
pub(super) fn sign(status: Option<Status>) -> &'static str {
    match status {
        None => "●",
        Some(Status::Succeeded) => "✔",
        Some(Status::HandedOff) => "⇢",
        Some(Status::Failed) => "✘",
        Some(Status::Skipped) => "–",
        Some(Status::TimedOut) => "⧖",
        Some(Status::Cancelled) => "■",
        Some(Status::Aborted) => "!",
    }
}

/// A duration with two or three significant digits.
pub(crate) fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match seconds {
        0 if millis == 0 => "0 ms".to_owned(),
        0 => format!("{millis} ms"),
        1..=9 => format!("{:.2} s", duration.as_secs_f64()),
        10..=59 => format!("{:.1} s", duration.as_secs_f64()),
        60..=3_599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The time from `earlier` to `later`; zero if the order is reversed.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let nanos = later.unix_nanos() - earlier.unix_nanos();
    u64::try_from(nanos).map(Duration::from_nanos).unwrap_or_default()
}

/// The result of an attempt in a word or two: `503`, `circuit open`, `OK`.
pub(super) fn ended(outcome: &Outcome) -> Cow<'static, str> {
    if let Some(status) =
        outcome.outputs.as_ref().and_then(|outputs| outputs.get("statusCode")).and_then(Value::as_i64)
    {
        return status.to_string().into();
    }
    match outcome.code.as_ref() {
        "CircuitBreakerOpen" => "circuit open".into(),
        "RateLimitExceeded" => "rate limit".into(),
        "BulkheadFull" => "bulkhead full".into(),
        "" => outcome.status.as_str().into(),
        code => visible(code).into_owned().into(),
    }
}

/// The status of a Response: `200` unless the action sets another one.
pub(super) fn response(response: &Value) -> String {
    response.get("statusCode").map_or_else(|| "200".to_owned(), |status| visible(&status.text()).into_owned())
}

/// Whether an attempt was rejected by a resilience policy, so that the service was not called.
pub(super) fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "CircuitBreakerOpen" | "ServiceIsolated" | "RateLimitExceeded" | "BulkheadFull" | "Refused"
    )
}

/// A note as text.
pub(super) fn note(note: &Note) -> String {
    match note {
        Note::Waited { service, by, wait } => {
            format!("held {} by the {by} of {}", duration(*wait), Visible(service))
        }
        Note::Breaker { service, from, to, why } => {
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            format!("circuit of {}: {from} → {to}{}", Visible(service), Visible(&why))
        }
        Note::Hedged { service, copies } => {
            format!("hedged: {} sent to {}", count(*copies as usize, "further call"), Visible(service))
        }
        Note::Observed { service, part } => {
            format!("observed: the {} of {} would have interfered", part_name(part), Visible(service))
        }
        Note::Interrupted { text } => {
            format!("interrupted after {}", count(text.chars().count(), "character"))
        }
        Note::Injected { service, kind, what } => {
            format!("CHAOS: {kind} injected into {}: {}", Visible(service), Visible(what))
        }
    }
}

/// A part of a policy, as the documentation calls it.
pub(crate) fn part_name(part: &str) -> &str {
    match part {
        "breaker" => "circuit breaker",
        "limiter" => "rate limit",
        "attempt_timeout" => "attempt timeout",
        "total_timeout" => "timeout",
        other => other,
    }
}

/// `1 iteration`, `2 iterations`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Why an action failed, on one line. For content that does not match its schema, the first mismatch.
pub(super) fn reason_of(error: &ErrorInfo, outputs: Option<&Value>, most: usize) -> String {
    let first = outputs.and_then(|outputs| outputs.get("errors")?.index(0));
    let first = first.filter(|first| !first.contains_secret());
    let detail = first.filter(|_| error.code == "ValidationFailed").and_then(|first| {
        let (message, path) = (first.get("message")?.as_str()?, first.get("path")?.as_str()?);
        let path = if path.is_empty() { "the top" } else { path };
        Some(format!("{} {message} (at {path})", error.message))
    });
    reason(detail.as_deref().unwrap_or(&error.message), most)
}

/// An error message on one line. The long prefix of failed expressions is removed: it repeats what is beside it, and would push the
/// reason off the line.
pub(super) fn reason(message: &str, most: usize) -> String {
    let inside = message
        .strip_prefix("Unable to process template language expressions ")
        .and_then(|rest| rest.split_once(" at line '0' and column '0': '"))
        .map(|(_, inside)| inside.strip_suffix("'.").unwrap_or(inside));
    one_line(inside.unwrap_or(message), most)
}

/// The first line of a message, with at most `most` characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(most) {
        None => visible(line).into_owned(),
        Some((at, _)) => format!("{}…", Visible(&line[..at])),
    }
}
