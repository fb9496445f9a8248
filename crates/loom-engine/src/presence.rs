//! Whether a run is in memory, for handlers that keep something for it.

use tokio_util::sync::{CancellationToken, DropGuard};

/// Ends when a run leaves memory: it has ended, only waits, or the process stops. What a handler keeps for a run, such as a
/// session with a service, ends with it, and is made again when the run needs it again.
///
/// Calls of agents and of custom actions have one; that of any other call never ends.
#[derive(Clone, Debug, Default)]
pub struct Presence(Option<CancellationToken>);

impl Presence {
    /// Waits until the run has left memory.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&self) {
        match &self.0 {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the run has left memory.
    pub fn has_ended(&self) -> bool {
        self.0.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Ends a [`Presence`] when it is dropped.
#[derive(Debug)]
pub struct Present {
    token: CancellationToken,
    _ends: DropGuard,
}

impl Present {
    /// The presence of a run that is in memory as long as this value exists.
    pub fn begin() -> Present {
        let token = CancellationToken::new();
        Present { _ends: token.clone().drop_guard(), token }
    }

    /// The presence, for a call.
    pub fn presence(&self) -> Presence {
        Presence(Some(self.token.clone()))
    }
}
