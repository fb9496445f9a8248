//! The one place where the store looks at a clock, to measure itself. Nothing it stores comes from here.

use std::time::Instant;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "durations for metrics; no decision rests on them")]
pub(super) fn now() -> Instant {
    Instant::now()
}
