//! Forgets what need not be kept: now and then the store is swept by the host's policy, beside everything else.

use std::{sync::Arc, time::Duration};

use loom_store::{Metrics, Retention, UnixMillis};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::host::Host;

/// How often the store is swept at least.
const EVERY: Duration = Duration::from_mins(1);

/// How often it is looked whether so much was written that a sweep is due before that.
const LOOK: Duration = Duration::from_secs(1);

/// A sweep is due when this part of what may be kept was written since the last one, so that what lies on the disk is
/// bounded by the policy, and not by how much happens in a minute.
const PART: u64 = 8;

/// Less than so many bytes, or commits, is not worth a sweep of its own.
const BYTES_MIN: u64 = 8 << 20;
const COMMITS_MIN: u64 = 1_000;

/// Begins to sweep, once at once and then for as long as the host lives.
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
                    if keeper.live().retention == Retention::default() {
                        continue;
                    }
                    let metrics = keeper.store.metrics();
                    let is_due = last.as_ref().is_none_or(|(at, then)| {
                        now.duration_since(*at) >= EVERY || much_is_new(keeper.live().retention, then, &metrics)
                    });
                    if is_due {
                        last = Some((now, metrics));
                        // A sweep that is left alone is finished by the store, or by the next one.
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

/// Whether what was written since `then` is a good part of what may be kept.
fn much_is_new(policy: Retention, then: &Metrics, now: &Metrics) -> bool {
    let bytes = now.bytes.saturating_sub(then.bytes);
    // A run takes more than one commit, so there are no more runs than that.
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
                "old runs were forgotten"
            );
        }
        // What is not forgotten now is forgotten the next time.
        Err(error) => tracing::warn!(%error, "old runs could not be forgotten"),
    }
}
