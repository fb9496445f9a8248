//! How secret values are hidden in a journal: one that was read from the source of secrets is a reference to the version that was read, every
//! other one is sealed with the key of the store.

use std::{collections::BTreeMap, sync::Arc};

use loom_expression::Value;
use loom_store::Sealer;

use crate::event::RunId;

/// The version of a secret that was read. Never the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretRef {
    pub(crate) name: Arc<str>,
    /// None for a secret without versions, which can only be sealed.
    pub(crate) version: Option<Arc<str>>,
}

/// The keys of one run: its references, and the sealer for everything else. The default hides nothing.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    sealer: Sealer,
    /// Sealed values can be opened in the journal of their own run only.
    context: [u8; 8],
    /// By address. Each value is kept alive here, so its address cannot be reused.
    references: BTreeMap<usize, (Value, Arc<SecretRef>)>,
}

impl Keys {
    pub(crate) fn new(run: RunId, sealer: Sealer) -> Keys {
        Keys { sealer, context: run.as_u64().to_le_bytes(), references: BTreeMap::new() }
    }

    pub(super) fn refer(&mut self, value: &Value, read: Arc<SecretRef>) {
        // Only a version can be read again.
        if let Some(address) = value.address().filter(|_| read.version.is_some()) {
            self.references.insert(address, (value.clone(), read));
        }
    }

    /// Adds the references of another run, whose values this run has.
    pub(crate) fn adopt(&mut self, other: Keys) {
        self.references.extend(other.references);
    }

    pub(super) fn reference(&self, value: &Value) -> Option<Arc<SecretRef>> {
        if self.references.is_empty() {
            return None;
        }
        self.references.get(&value.address()?).map(|(_, read)| Arc::clone(read))
    }

    pub(super) fn seals(&self) -> bool {
        self.sealer.is_active()
    }

    pub(super) fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.sealer.seal(&self.context, plain)
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.sealer.open(&self.context, sealed)
    }

    /// Releases values that the run no longer holds.
    pub(super) fn forget_unused(&mut self) {
        self.references.retain(|_, (value, _)| value.is_shared());
    }
}
