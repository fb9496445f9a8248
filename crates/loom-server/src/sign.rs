//! Signatures of addresses that strangers may call, and comparisons that tell nothing by their duration.

use loom_engine::RunId;

/// Bytes of the key.
pub(crate) const KEY_BYTES: usize = 32;

/// Signs names; the key lives in the store, so addresses given out stay good after a restart.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; KEY_BYTES],
}

impl Signer {
    pub(crate) fn new(key: [u8; KEY_BYTES]) -> Signer {
        Signer { key }
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
        self.sign(&["trigger", &workflow.to_lowercase(), &trigger.to_lowercase()])
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

/// Whether two texts are the same, in a time that does not depend on where they differ.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    blake3::hash(left) == blake3::hash(right)
}
