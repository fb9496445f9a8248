//! Retention: which data a store removes, and when.

use crate::UnixMillis;

/// Which ended runs lose their data. A run that has not ended is never touched. Without any limit nothing is removed.
///
/// A run is first *purged*: its frames, snapshot, timers, messages and its share of the blobs are removed, and the
/// row stays, so that the run can still be listed. Later the row is removed too, and its idempotency key can be used
/// again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Purges runs that ended more than this many milliseconds ago.
    pub age_max_ms: Option<i64>,
    /// While more ended runs than this have data, purges those that ended first.
    pub runs_max: Option<u64>,
    /// While the store uses more bytes than this, purges the runs that ended first.
    pub bytes_max: Option<u64>,
    /// Deletes rows of runs that ended more than this many milliseconds ago; such runs are purged first.
    pub row_age_max_ms: Option<i64>,
    /// While there are more rows of purged runs than this, deletes those of the runs that ended first. `bytes_max`
    /// limits them too: such rows take at most about a quarter of it, so that there is room for runs with data.
    pub rows_max: Option<u64>,
}

/// The size of a purged run's row, in bytes, indexes included, when its name and key have a moderate length. Each
/// such row needs four times as many bytes of `bytes_max`.
const ROW_BYTES: u64 = 512;

/// This many rows are always kept, however small `bytes_max` is.
const ROWS_MIN: u64 = 1_000;

impl Retention {
    /// 30 days or 10 GiB of data, whichever is reached first, and 90 days or 1,000,000 rows.
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

    /// Runs that ended before this time are purged, whatever their number.
    pub fn purge_before(&self, now: UnixMillis) -> Option<UnixMillis> {
        let age = match (self.age_max_ms, self.row_age_max_ms) {
            (Some(data), Some(row)) => Some(data.min(row)),
            (data, row) => data.or(row),
        };
        age.map(|age| now.plus(age.saturating_neg()))
    }

    /// The most rows of purged runs to keep.
    pub fn purged_rows_max(&self) -> Option<u64> {
        let by_bytes = self.bytes_max.map(|bytes| (bytes / (4 * ROW_BYTES)).max(ROWS_MIN));
        [self.rows_max, by_bytes].into_iter().flatten().min()
    }

    /// Rows of runs that ended before this time are deleted.
    pub fn delete_before(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.row_age_max_ms.map(|age| now.plus(age.saturating_neg()))
    }
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Runs whose data was removed.
    pub purged: u64,
    /// Rows that were deleted.
    pub rows: u64,
    /// Blobs that were deleted because no run refers to them any more.
    pub blobs: u64,
    /// Named values that were removed because they had expired.
    pub values: u64,
}

/// The result of deleting a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The run is deleted.
    Deleted,
    /// The run does not exist.
    NotFound,
    /// The run has not ended; nothing was deleted.
    NotEnded,
}
