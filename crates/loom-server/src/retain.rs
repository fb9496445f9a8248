//! Applies the retention policy in the background.

use std::{sync::Arc, time::Duration};

use loom_store::{Metrics, Retention, UnixMillis};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::host::Host;

/// The maximum time between sweeps.
const EVERY: Duration = Duration::from_mins(1);

/// The interval at which it is checked whether the amount of new data makes a sweep due earlier.
const LOOK: Duration = Duration::from_secs(1);

/// A sweep is due when this fraction (one eighth) of the permitted amount was written since the last one, so that disk use is
/// bounded by the policy and not by the rate of runs.
const PART: u64 = 8;

/// The minimum number of new bytes or commits that make an early sweep worthwhile.
const BYTES_MIN: u64 = 8 << 20;
const COMMITS_MIN: u64 = 1_000;

/// Starts the task, which sweeps immediately and then until the host stops.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Instant, Metrics)> = None;
        loop {
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                now = looks.tick() => {
                    if keeper.live().retention == Retention::default() || !keeper.looks_after_all() {
                        continue;
                    }
                    let metrics = keeper.store.metrics();
                    let is_due = last.as_ref().is_none_or(|(at, then)| {
                        now.duration_since(*at) >= EVERY || is_sweep_due(keeper.live().retention, then, &metrics)
                    });
                    if is_due {
                        last = Some((now, metrics));
                        // An abandoned sweep is completed by the store or by the next sweep.
                        tokio::select! {
                            () = keeper.stopping.cancelled() => return,
                            () = sweep(&keeper) => {}
                        }
                    }
                }
            }
        }
    });
}

/// Whether the amount written since `then` makes an early sweep due.
fn is_sweep_due(policy: Retention, then: &Metrics, now: &Metrics) -> bool {
    let bytes = now.bytes.saturating_sub(then.bytes);
    // A run takes more than one commit, so commits are an upper bound on runs.
    let commits = now.commits.saturating_sub(then.commits);
    policy.bytes_max.is_some_and(|most| bytes >= (most / PART).max(BYTES_MIN))
        || policy.runs_max.is_some_and(|most| commits >= (most / PART).max(COMMITS_MIN))
}

async fn sweep(host: &Host) {
    let now = UnixMillis(host.now().unix_millis());
    match host.store.sweep(host.live().retention, now).await {
        Ok(swept) if swept == loom_store::Swept::default() => {}
        Ok(swept) => {
            tracing::info!(
                purged = swept.purged,
                rows = swept.rows,
                blobs = swept.blobs,
                "removed expired runs"
            );
        }
        // The next sweep tries again.
        Err(error) => tracing::warn!(%error, "cannot remove expired runs"),
    }
}
