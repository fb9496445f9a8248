//! Keeps what circuits and limiters know for the next process: as soon as a circuit has changed, because its service is
//! to be left alone over a crash, too; and now and then for the rest.

use std::{sync::Arc, time::Duration};

use crate::host::Host;

/// How often permits and counters are kept.
const EVERY: Duration = Duration::from_secs(10);

/// The least time between two writes, however often circuits change.
const LEAST: Duration = Duration::from_millis(100);

/// Begins to keep them, for as long as the host lives.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut fresh = true;
        loop {
            tokio::select! {
                // Stopping keeps them once more, when nothing changes any more.
                () = keeper.stopping.cancelled() => return,
                () = keeper.hub.tally.circuit_changed.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            // A server whose services all are as new writes nothing while it is idle.
            let was_fresh = std::mem::replace(&mut fresh, keeper.services_are_fresh());
            if !(was_fresh && fresh)
                && let Err(error) = keeper.save_resilience().await
            {
                tracing::debug!(%error, "circuits and limiters are kept the next time");
                fresh = false;
            }
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                () = tokio::time::sleep(LEAST) => {}
            }
        }
    });
}
