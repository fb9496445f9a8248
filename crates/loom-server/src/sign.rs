//! Signatures of addresses that strangers may call, and comparisons whose duration reveals nothing.
//!
//! The signature of a trigger depends on up to two salts besides the key: one of its workflow and one of its own. Neither exists until
//! somebody rotates the signature or deletes the workflow, so an address stays the same over versions and restarts.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use loom_engine::{Callbacks, RunId};
use loom_store::{KeyExpectation, KeyQuery, KeyWrite, Store};

/// Bytes of the key.
pub(crate) const KEY_BYTES: usize = 32;

/// Where salts are kept among the store's named values, by a mark of what they belong to.
const NAMESPACE: &str = "signature-salt";

/// Salts read from the store at a time.
const PAGE: usize = 200;

/// Signs names; the key lives in the store, so addresses given out stay good after a restart.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; KEY_BYTES],
    salts: Arc<RwLock<HashMap<String, [u8; 32]>>>,
}

/// A new salt. It counts once the store has [`NewSalt::write`] and [`Signer::adopt`] was called.
#[must_use = "nothing is rotated until the store has it"]
pub(crate) struct NewSalt {
    mark: String,
    salt: [u8; 32],
}

impl NewSalt {
    pub(crate) fn write(&self) -> KeyWrite {
        KeyWrite {
            namespace: NAMESPACE.into(),
            key: self.mark.as_str().into(),
            expect: KeyExpectation::Any,
            value: Some(Bytes::copy_from_slice(&self.salt)),
        }
    }
}

impl Signer {
    /// A signer with the salts that the store has.
    pub(crate) async fn open(key: [u8; KEY_BYTES], store: &dyn Store) -> Result<Signer, loom_store::Error> {
        let mut salts = HashMap::new();
        let mut after = None;
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = store.keys(query).await?;
            for found in &page.values {
                if let Ok(salt) = <[u8; 32]>::try_from(&found.value[..]) {
                    salts.insert(found.key.to_string(), salt);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(Signer { key, salts: Arc::new(RwLock::new(salts)) })
    }

    /// What makes the addresses at which runs are called back.
    pub(crate) fn callbacks(&self, base: &str) -> Callbacks {
        let key = blake3::derive_key("loom-server 2026-11-30 callback addresses of runs", &self.key);
        Callbacks::new(format!("{base}/callbacks"), key)
    }

    /// A salt that makes the signature of a trigger another one; without a trigger, those of all triggers of the workflow.
    pub(crate) fn new_salt(
        &self,
        workflow: &str,
        trigger: Option<&str>,
    ) -> Result<NewSalt, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Ok(NewSalt { mark: self.salt_mark(workflow, trigger), salt })
    }

    /// Signs with a salt that the store has taken.
    pub(crate) fn adopt(&self, new: NewSalt) {
        self.salts.write().unwrap_or_else(PoisonError::into_inner).insert(new.mark, new.salt);
    }

    fn salt_mark(&self, workflow: &str, trigger: Option<&str>) -> String {
        let workflow = workflow.to_lowercase();
        match trigger {
            None => self.mark(&["salt of a workflow", &workflow]),
            Some(trigger) => self.mark(&["salt of a trigger", &workflow, &trigger.to_lowercase()]),
        }
    }

    fn sign(&self, parts: &[&str]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            // Lengths keep ("a", "bc") and ("ab", "c") apart.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize()
    }

    /// What lets a caller fire a trigger. Names ignore case.
    pub(crate) fn trigger(&self, workflow: &str, trigger: &str) -> String {
        self.trigger_hash(workflow, trigger).to_hex().to_string()
    }

    pub(crate) fn is_trigger(&self, workflow: &str, trigger: &str, signature: &str) -> bool {
        // Comparing hashes takes the same time wherever they differ.
        blake3::Hash::from_hex(signature).is_ok_and(|given| given == self.trigger_hash(workflow, trigger))
    }

    fn trigger_hash(&self, workflow: &str, trigger: &str) -> blake3::Hash {
        let salts = self.salts.read().unwrap_or_else(PoisonError::into_inner);
        let salt = |trigger| salts.get(&self.salt_mark(workflow, trigger)).map(hex);
        let (of_workflow, of_trigger) = (salt(None), salt(Some(trigger)));
        let (workflow, trigger) = (workflow.to_lowercase(), trigger.to_lowercase());
        let mut parts = vec!["trigger", workflow.as_str(), trigger.as_str()];
        if of_workflow.is_some() || of_trigger.is_some() {
            parts.extend([&of_workflow, &of_trigger].map(|salt| salt.as_deref().unwrap_or_default()));
        }
        self.sign(&parts)
    }

    /// A short name for some texts, which nobody can guess who does not know them and the key.
    pub(crate) fn mark(&self, parts: &[&str]) -> String {
        self.sign(parts).to_hex()[..32].to_owned()
    }

    /// What lets a caller fetch the late answer of a run.
    pub(crate) fn answer(&self, run: RunId) -> String {
        self.sign(&["answer", &run.to_string()]).to_hex().to_string()
    }

    pub(crate) fn is_answer(&self, run: RunId, signature: &str) -> bool {
        blake3::Hash::from_hex(signature).is_ok_and(|given| given == self.sign(&["answer", &run.to_string()]))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

fn hex(salt: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*salt).to_hex().to_string()
}

/// Whether two texts are the same, in a time that does not depend on where they differ.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    blake3::hash(left) == blake3::hash(right)
}
