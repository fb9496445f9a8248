//! What a store may forget, and when.

use crate::UnixMillis;

/// Which ended runs lose their data. A run that has not ended is never touched. Without any limit nothing is
/// forgotten.
///
/// A run is first *purged*: frames, snapshot, timers, messages and its share of the blobs go, and the row stays, so
/// that it can still be listed. Later the row goes too, and with it the memory of its idempotency key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Runs that ended longer ago than so many milliseconds are purged.
    pub age_max_ms: Option<i64>,
    /// When more ended runs than this have data, the runs that ended first are purged.
    pub runs_max: Option<u64>,
    /// While the store uses more bytes than this, the runs that ended first are purged.
    pub bytes_max: Option<u64>,
    /// Rows of runs that ended longer ago than so many milliseconds are deleted; such runs are purged first.
    pub row_age_max_ms: Option<i64>,
    /// When there are more rows of purged runs than this, those of the runs that ended first are deleted. `bytes_max` is a
    /// bound, too: such rows take about a quarter of it at most, so that there is room for runs with data.
    pub rows_max: Option<u64>,
}

/// What a row of a purged run takes, indexes included, with a name and a key of moderate length; four times that is the
/// part of `bytes_max` that each such row must have.
const ROW_BYTES: u64 = 512;

/// So many rows are never too many for `bytes_max`.
const ROWS_MIN: u64 = 1_000;

impl Retention {
    /// Thirty days or 10 GiB of data, whichever is reached first, and 90 days of rows.
    pub const DEFAULT: Self = {
        let day = 24 * 60 * 60 * 1000;
        Self {
            age_max_ms: Some(30 * day),
            runs_max: None,
            bytes_max: Some(10 << 30),
            row_age_max_ms: Some(90 * day),
            rows_max: Some(1_000_000),
        }
    };

    /// Runs that ended before this are purged, whatever their number.
    pub(crate) fn purge_before(&self, now: UnixMillis) -> Option<UnixMillis> {
        let age = match (self.age_max_ms, self.row_age_max_ms) {
            (Some(data), Some(row)) => Some(data.min(row)),
            (data, row) => data.or(row),
        };
        age.map(|age| now.plus(age.saturating_neg()))
    }

    /// The most rows of purged runs.
    pub(crate) fn purged_rows_max(&self) -> Option<u64> {
        let by_bytes = self.bytes_max.map(|bytes| (bytes / (4 * ROW_BYTES)).max(ROWS_MIN));
        [self.rows_max, by_bytes].into_iter().flatten().min()
    }

    /// Rows of runs that ended before this are deleted.
    pub(crate) fn delete_before(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.row_age_max_ms.map(|age| now.plus(age.saturating_neg()))
    }
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Runs that lost their data.
    pub purged: u64,
    /// Rows deleted.
    pub rows: u64,
    /// Blobs that no run refers to any more.
    pub blobs: u64,
}
