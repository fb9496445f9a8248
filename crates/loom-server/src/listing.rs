//! Lists: their parameters and their form.

use std::str::FromStr;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use loom_expression::{Object, Value};
use loom_store::UnixMillis;

use crate::response::{Problem, json};

/// The default and the maximum number of entries of a page.
pub(crate) const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Parses milliseconds since 1970 or an ISO 8601 timestamp.
pub(crate) fn moment(text: &str) -> Result<UnixMillis, Problem> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(UnixMillis(millis));
    }
    let zoned = jiff::Timestamp::from_str(text);
    zoned.map(|at| UnixMillis(at.as_millisecond())).map_err(|_| {
        Problem::bad(format!(
            "'{text}' is not a valid timestamp; expected a form such as 2026-01-31T12:00:00Z."
        ))
    })
}

/// The error for a cursor that is none.
pub(crate) fn not_a_cursor() -> Problem {
    Problem::bad("'cursor' must be the 'next' of the previous page.")
}

/// Parses the number of entries of a page.
pub(crate) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse::<usize>().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Problem::bad(format!("'limit' must be between 1 and {PAGE_MAX} (got '{text}').")))
}

/// A page of a list; `next` is the cursor of the next one.
pub(crate) fn list(name: &'static str, entries: Vec<Value>, next: Option<String>) -> Response<Body> {
    let mut object = Object::new();
    object.insert(name, entries);
    if let Some(next) = next {
        object.insert("next", next);
    }
    json(StatusCode::OK, &object.into())
}
