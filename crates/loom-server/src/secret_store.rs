//! The secrets that a server manages.

use std::{fmt, sync::Arc};

use loom_actions::secrets::{Secrets, Vault};

/// The secrets that the server lists and changes, and the providers that workflows can read.
#[derive(Clone, Default)]
pub struct SecretStore {
    /// The embedded store. Without it, none is listed, and none can be set.
    pub vault: Option<Arc<Vault>>,
    /// All providers.
    pub providers: Secrets,
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStore").field("vault", &self.vault).finish_non_exhaustive()
    }
}
