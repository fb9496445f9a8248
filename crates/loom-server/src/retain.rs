//! Forgets what need not be kept: now and then the store is swept by the host's policy, beside everything else.

use std::{sync::Arc, time::Duration};

use loom_store::UnixMillis;

use crate::host::Host;

/// How often the store is swept.
const EVERY: Duration = Duration::from_mins(1);

/// Begins to sweep, once at once and then for as long as the host lives.
pub(crate) fn start(host: &Arc<Host>) {
    if host.settings.retention == loom_store::Retention::default() {
        return;
    }
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut turns = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                _ = turns.tick() => sweep(&keeper).await,
            }
        }
    });
}

async fn sweep(host: &Host) {
    let now = UnixMillis(host.now().unix_millis());
    match host.store.sweep(host.settings.retention, now).await {
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
