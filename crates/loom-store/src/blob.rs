//! Payloads that are stored once, by their content hash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::{ContentHash, pack::Codec};

/// The largest blob, in bytes, that is stored as a row of the database; a larger one is a file of its own.
pub const BLOB_ROW_MAX: usize = 1024 * 1024;

/// Content that is ready to be committed. Made by [`Store::put_blob`](crate::Store::put_blob); put it into
/// [`Commit::blobs`](crate::Commit::blobs) of the commit whose frame refers to it.
#[derive(Clone, Debug)]
pub struct Blob {
    pub(crate) hash: ContentHash,
    pub(crate) size: u64,
    pub(crate) body: Body,
}

/// Where the content is until the commit.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In the store already.
    Known,
    /// In memory, in the form in which it will be stored.
    Row(Codec, Bytes),
    /// In a file, complete and synced; the pin protects it from the sweep.
    File(#[expect(dead_code, reason = "held for its Drop")] Arc<Pin>),
}

impl Blob {
    /// Refers to content that is already in the store. A commit with a hash that the store does not have is refused.
    pub const fn known(hash: ContentHash) -> Self {
        Self { hash, size: 0, body: Body::Known }
    }

    /// The hash by which a frame refers to the content.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// How many bytes the commit carries for it.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        match &self.body {
            Body::Row(_, bytes) => bytes.len(),
            Body::Known | Body::File(_) => 0,
        }
    }
}

/// Counts, for each blob file, how many commits are about to refer to it. A pinned file is not deleted, even when no
/// run refers to it yet.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<ContentHash, usize>>);

/// One count in [`Pins`], released when dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    hash: ContentHash,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Self>, hash: ContentHash) -> Arc<Pin> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(hash).or_insert(0) += 1;
        Arc::new(Pin { pins: Arc::clone(self), hash })
    }

    /// Runs `remove` unless the file is pinned; it cannot be pinned meanwhile.
    pub(crate) fn unless_pinned(&self, hash: ContentHash, remove: impl FnOnce()) {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !pins.contains_key(&hash) {
            remove();
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pins.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.hash);
            }
        }
    }
}
