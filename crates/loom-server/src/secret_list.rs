//! The names and versions of secrets, which the program around the server lists. Values are never part of it.

use std::{fmt, sync::Arc};

use loom_expression::Value;

pub(crate) type List = dyn Fn() -> Result<Vec<Value>, String> + Send + Sync;

/// Lists the secrets that workflows can read, each as the properties of its newest version, with all `versions`.
#[derive(Clone)]
pub struct SecretList(pub(crate) Arc<List>);

impl SecretList {
    /// A list that is read anew for each request, on a thread that may block. An error says why it cannot be read.
    pub fn new(list: impl Fn() -> Result<Vec<Value>, String> + Send + Sync + 'static) -> SecretList {
        SecretList(Arc::new(list))
    }
}

impl Default for SecretList {
    /// No secrets.
    fn default() -> SecretList {
        SecretList::new(|| Ok(Vec::new()))
    }
}

impl fmt::Debug for SecretList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretList(..)")
    }
}
