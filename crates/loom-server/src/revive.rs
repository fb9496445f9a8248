//! Recovers after a full or failing disk: resumes the store as soon as possible, and then the runs that were held.

use std::{sync::Arc, time::Duration};

use loom_store::Condition;

use crate::host::Host;

/// The interval at which a healthy store is checked, and the wait before the first attempt to resume it.
const SOON: Duration = Duration::from_secs(1);

/// The longest wait between attempts to resume it.
const LATE: Duration = Duration::from_secs(30);

/// Starts the task, which runs until the host stops.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut wait = SOON;
        loop {
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            // A store that pauses again immediately is retried with exponential backoff.
            // A database that several nodes use comes back at once.
            let latest = if keeper.cluster.is_some() { SOON } else { LATE };
            wait = if look(&keeper).await { SOON } else { (wait * 2).min(latest) };
        }
    });
}

/// Resumes the store and held runs if possible. Returns false if something failed.
async fn look(host: &Host) -> bool {
    let well = match host.store.health().condition {
        Condition::Running => true,
        Condition::Closed => return true,
        // Damage does not go away, and further writes would make it worse.
        Condition::Paused(why) if !why.is_retryable() => return true,
        Condition::Paused(_) => {
            if let Err(error) = host.store.resume().await {
                tracing::debug!(%error, "cannot resume the store yet");
                return false;
            }
            false
        }
    };
    if host.engine.held().is_empty() {
        return well;
    }
    match host.engine.release_held(None).await {
        Ok(runs) => {
            tracing::warn!(runs, "resumed held runs");
            well
        }
        Err(error) => {
            tracing::warn!(%error, "cannot resume a held run");
            false
        }
    }
}
