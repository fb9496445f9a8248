//! Timestamps as the language has them.

use crate::Timestamp;

/// Parses a timestamp to a point in time; one without a zone counts as UTC.
pub(crate) fn parse_utc(text: &str) -> Option<Timestamp> {
    let stamp: jiff::Timestamp = text.trim().parse().ok()?;
    Some(Timestamp::from_unix_nanos(stamp.as_nanosecond()))
}
