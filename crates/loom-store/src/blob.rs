//! Payloads that are stored once, by their content hash.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::ContentHash;

/// The largest blob, in bytes, that is stored as a row of the database; a larger one is a file of its own.
pub const BLOB_ROW_MAX: usize = 1024 * 1024;

/// Content that is ready to be committed. Made by [`Blobs::put_blob`](crate::Blobs::put_blob); put it into
/// [`Commit::blobs`](crate::Commit::blobs) of the commit whose frame refers to it.
#[derive(Clone, Debug)]
pub struct Blob {
    hash: ContentHash,
    size: u64,
    body: Body,
}

/// Where the content is until the commit.
#[derive(Clone, Debug)]
enum Body {
    /// In the store already.
    Known,
    /// In memory, in the form in which it will be stored.
    Carried(u8, Bytes),
    /// Elsewhere in the store, complete and synced; the guard protects it from the sweep.
    Written(#[expect(dead_code, reason = "held for its Drop")] Arc<dyn Guard>),
}

/// Anything that is dropped when no clone of a [`Blob`] is left.
trait Guard: fmt::Debug + Send + Sync {}

impl<T: fmt::Debug + Send + Sync> Guard for T {}

/// What a commit has to do to store a [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobContent<'a> {
    /// Nothing: refuse the commit with [`Conflict::MissingBlob`](crate::Conflict::MissingBlob) unless it is in the store.
    Known,
    /// Store these bytes with this codec.
    Carried {
        /// A number that the backend defined.
        codec: u8,
        /// The content in the backend's form.
        bytes: &'a Bytes,
    },
    /// Record the content that [`put_blob`](crate::Blobs::put_blob) has written.
    Written,
}

impl Blob {
    /// Refers to content that is already in the store. A commit with a hash that the store does not have is refused.
    pub const fn known(hash: ContentHash) -> Self {
        Self { hash, size: 0, body: Body::Known }
    }

    /// Content that travels with the commit, in the form that the backend stores: `codec` is a number that the backend
    /// defines, and `size` is the length of the content in bytes.
    pub fn carried(hash: ContentHash, size: u64, codec: u8, bytes: Bytes) -> Self {
        Self { hash, size, body: Body::Carried(codec, bytes) }
    }

    /// Content that the backend has already written. It drops `guard` when no commit that carries the blob is left; until
    /// then it must not remove the content.
    pub fn written(hash: ContentHash, size: u64, guard: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self { hash, size, body: Body::Written(Arc::new(guard)) }
    }

    /// The hash by which a frame refers to the content.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The length of the content in bytes; 0 for a blob that is only [known](Blob::known).
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What a commit has to do to store the content.
    pub fn content(&self) -> BlobContent<'_> {
        match &self.body {
            Body::Known => BlobContent::Known,
            Body::Carried(codec, bytes) => BlobContent::Carried { codec: *codec, bytes },
            Body::Written(_) => BlobContent::Written,
        }
    }

    /// How many bytes the commit carries for it.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        match &self.body {
            Body::Carried(_, bytes) => bytes.len(),
            Body::Known | Body::Written(_) => 0,
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
