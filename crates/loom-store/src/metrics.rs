//! What a store counts. These are plain numbers: the server that exports them gives them names and a format.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

/// The upper bounds of the buckets of a [`Histogram`] of durations, in microseconds; the last bucket has no bound.
pub const BUCKET_MICROS: [u64; 15] =
    [50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 2_000_000];

/// Counts since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Groups written: each is one transaction and, in durable mode, one sync.
    pub groups: u64,
    /// Commits written.
    pub commits: u64,
    /// Commits refused because they contradicted the store or repeated an idempotency key.
    pub refused: u64,
    /// Frames written.
    pub frames: u64,
    /// Payload bytes of the commits in the groups.
    pub bytes: u64,
    /// The most commits that one group held.
    pub group_commits_max: u64,
    /// How long writing a group took, from its first statement to the end of its sync.
    pub group_seconds: Histogram,
    /// How long the sync at the end of each group took.
    pub sync_seconds: Histogram,
    /// How long commits waited from acceptance to acknowledgement.
    pub wait_seconds: Histogram,
    /// Checkpoints that were run.
    pub checkpoints: u64,
    /// Those checkpoints that the writer had to wait for.
    pub checkpoints_waited_for: u64,
    /// How often the store paused.
    pub pauses: u64,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One count for each bound in [`BUCKET_MICROS`], and one for everything above.
    pub counts: [u64; BUCKET_MICROS.len() + 1],
    /// The sum of all durations.
    pub sum: Duration,
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.counts[BUCKET_MICROS.partition_point(|end| *end < micros)] += 1;
        self.sum += took;
    }

    /// The number of durations recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of the bucket that contains the quantile `quantile`, from 0 to 1; `None` when nothing was
    /// recorded or the quantile is past the last bound.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        BUCKET_MICROS.get(bucket).copied().map(Duration::from_micros)
    }
}

/// The counts of an open store; locked briefly once for each group.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Metrics>);

impl Meter {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Metrics)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn read(&self) -> Metrics {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
