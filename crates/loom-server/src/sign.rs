//! Signatures of public URLs, and comparisons in constant time.
//!
//! The signature of a trigger depends on the key and on up to two salts: one of its workflow and one of its own. A salt is created
//! when the signature is rotated or the workflow deleted, so a URL stays the same across versions and restarts.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use loom_engine::{Callbacks, RunId};
use loom_store::{KeyQuery, KeyWrite, Named};

/// The length of the key in bytes.
pub(crate) const KEY_BYTES: usize = 32;

/// The namespace of salts in the store; keys are opaque ids of their owners.
pub(crate) const NAMESPACE: &str = "signature-salt";

/// The number of salts that are read from the store at once.
const PAGE: usize = 200;

/// Signs names. The key is in the store, so that URLs stay valid after a restart.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; KEY_BYTES],
    salts: Arc<RwLock<HashMap<String, [u8; 32]>>>,
}

/// A new salt. It takes effect when the store has committed [`NewSalt::write`] and [`Signer::adopt`] is called.
#[must_use = "it takes effect only when it is committed and adopted"]
pub(crate) struct NewSalt {
    mark: String,
    salt: [u8; 32],
}

impl NewSalt {
    pub(crate) fn write(&self) -> KeyWrite {
        KeyWrite {
            namespace: NAMESPACE.into(),
            key: self.mark.as_str().into(),
            value: Some(Bytes::copy_from_slice(&self.salt)),
            ..KeyWrite::default()
        }
    }
}

impl Signer {
    /// A signer with the salts from the store.
    pub(crate) async fn open(key: [u8; KEY_BYTES], store: &dyn Named) -> Result<Signer, loom_store::Error> {
        let signer = Signer { key, salts: Arc::default() };
        signer.reload(store).await?;
        Ok(signer)
    }

    /// Uses the salts that the store has now.
    pub(crate) async fn reload(&self, store: &dyn Named) -> Result<(), loom_store::Error> {
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
        *self.salts.write().unwrap_or_else(PoisonError::into_inner) = salts;
        Ok(())
    }

    /// The factory of callback URLs of runs.
    pub(crate) fn callbacks(&self, base: &str) -> Callbacks {
        let key = blake3::derive_key("loom-server 2026-11-30 callback addresses of runs", &self.key);
        Callbacks::new(format!("{base}/callbacks"), key)
    }

    /// Creates a salt that changes the signature of a trigger, or of all triggers of the workflow.
    pub(crate) fn new_salt(
        &self,
        workflow: &str,
        trigger: Option<&str>,
    ) -> Result<NewSalt, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Ok(NewSalt { mark: self.salt_mark(workflow, trigger), salt })
    }

    /// Uses a salt that the store has committed.
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
            // Lengths distinguish ("a", "bc") from ("ab", "c").
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize()
    }

    /// The signature with which a caller can fire a trigger. Names are case-insensitive.
    pub(crate) fn trigger(&self, workflow: &str, trigger: &str) -> String {
        self.trigger_hash(workflow, trigger).to_hex().to_string()
    }

    pub(crate) fn is_trigger(&self, workflow: &str, trigger: &str, signature: &str) -> bool {
        // Hashes are compared in constant time.
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

    /// A short opaque id of some strings, which cannot be guessed without the strings and the key.
    pub(crate) fn mark(&self, parts: &[&str]) -> String {
        self.sign(parts).to_hex()[..32].to_owned()
    }

    /// The signature with which a caller can fetch the late response of a run.
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

/// Compares two strings in constant time.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    blake3::hash(left) == blake3::hash(right)
}
