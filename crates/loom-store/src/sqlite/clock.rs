//! The only place where the store reads a clock, to measure itself. Nothing that it stores comes from here.

use std::time::Instant;

/// The current time.
#[expect(clippy::disallowed_methods, reason = "durations for metrics; no decision depends on them")]
pub(super) fn now() -> Instant {
    Instant::now()
}
