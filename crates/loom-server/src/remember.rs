//! Saves the state of circuit breakers and rate limiters for the next process: immediately when a circuit changes, so that an
//! open circuit survives a crash, and periodically for everything else.

use std::{sync::Arc, time::Duration};

use crate::host::Host;

/// The interval at which permits and counters are saved.
const EVERY: Duration = Duration::from_secs(10);

/// The minimum time between two writes, however often circuits change.
const LEAST: Duration = Duration::from_millis(100);

/// Starts the task, which runs until the host stops.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut fresh = true;
        loop {
            tokio::select! {
                // The host saves the final state itself when it shuts down.
                () = keeper.stopping.cancelled() => return,
                () = keeper.hub.tally.circuit_changed.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            // An idle server whose services are all in their initial state writes nothing.
            let was_fresh = std::mem::replace(&mut fresh, keeper.services_are_fresh());
            if !(was_fresh && fresh)
                && let Err(error) = keeper.save_resilience().await
            {
                tracing::debug!(%error, "cannot save circuit breakers and rate limiters; retrying later");
                fresh = false;
            }
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                () = tokio::time::sleep(LEAST) => {}
            }
        }
    });
}
