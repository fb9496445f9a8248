//! Goes on after the disk was full, or failed: resumes the store as soon as it can be, and takes up the runs that were held meanwhile.

use std::{sync::Arc, time::Duration};

use loom_store::Condition;

use crate::host::Host;

/// How often the store is looked at while all is well, and how soon it is first resumed.
const SOON: Duration = Duration::from_secs(1);

/// How often at least, while nothing helps.
const LATE: Duration = Duration::from_secs(30);

/// Begins to look, for as long as the host lives.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut wait = SOON;
        loop {
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            // A store that pauses again as soon as it goes on is left alone for longer and longer.
            wait = if look(&keeper).await { SOON } else { (wait * 2).min(LATE) };
        }
    });
}

/// Does what can be done now; false when something was wrong.
async fn look(host: &Host) -> bool {
    let well = match host.store.health().condition {
        Condition::Running => true,
        Condition::Closed => return true,
        // Damage does not go away, and writing on would make it worse.
        Condition::Paused(why) if !why.is_retryable() => return true,
        Condition::Paused(_) => {
            if let Err(error) = host.store.resume().await {
                tracing::debug!(%error, "the store cannot be resumed yet");
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
            tracing::warn!(runs, "runs that were held go on");
            well
        }
        Err(error) => {
            tracing::warn!(%error, "a run stays held");
            false
        }
    }
}
