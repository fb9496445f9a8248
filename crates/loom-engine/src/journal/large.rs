//! Large values: stored once, under the hash of their content, and referred to by frames and snapshots.
//!
//! A value that is too large to be inline is stored separately, from the inside out: first its large parts, then the value
//! itself if the remainder is still too large. A body that passes through many actions, or occurs in many runs, is therefore
//! stored once, even if each of them puts it into another object.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use loom_expression::Value;
use loom_store::{Blob, Blobs, ContentHash, Error as StoreError};

use super::{
    primitive::{Apart, Writer},
    secret::{Keys, SecretRef},
};

/// The maximum size of an inline value, in bytes; larger ones are stored separately.
pub(super) const INLINE_MAX: usize = 8 * 1024;

/// The large values of a run: those in the store, and those that the next commit adds.
#[derive(Debug, Default)]
pub(crate) struct LargeValues {
    /// By address. Each value is kept alive here, so its address cannot be reused.
    known: BTreeMap<usize, (Value, Name)>,
    /// Each comes after those it refers to.
    fresh: Vec<Fresh>,
    fresh_bytes: usize,
    /// How secret values are hidden.
    pub(super) keys: Keys,
}

/// A reference to a large value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    /// The value is in the store, and counted for this run.
    Stored(ContentHash),
    /// The value's index among those that the next commit adds.
    Fresh(usize),
}

/// A value that the store does not have yet.
#[derive(Debug)]
struct Fresh {
    address: Option<usize>,
    draft: Draft,
}

/// A frame, a snapshot or a large value under construction.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The version, and what follows the hashes. Empty before anything is written.
    pub(super) bytes: Vec<u8>,
    /// The reference for each large value in the bytes, in order.
    pub(super) names: Vec<Name>,
    /// The reference for each secret in the bytes that was read, in order.
    pub(super) secrets: Vec<Arc<SecretRef>>,
    /// Other secrets that were read; see [`Draft::record_read`].
    read: Vec<Arc<SecretRef>>,
}

/// The large values of the next commit.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    hashes: Vec<ContentHash>,
    pub(crate) blobs: Vec<Blob>,
}

impl LargeValues {
    /// None yet, for a run whose secrets are hidden by these keys.
    pub(crate) fn of(keys: Keys) -> LargeValues {
        LargeValues { keys, ..LargeValues::default() }
    }

    /// Values that were loaded, and are already counted for the run.
    pub(super) fn read_back(values: BTreeMap<ContentHash, Value>, keys: Keys) -> LargeValues {
        let known = values.into_iter().filter_map(|(hash, value)| {
            let address = value.address()?;
            Some((address, (value, Name::Stored(hash))))
        });
        LargeValues { known: known.collect(), keys, ..LargeValues::default() }
    }

    /// Bytes that wait for the next commit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.fresh_bytes
    }

    /// The reference to a value, if it is known to be large.
    pub(super) fn name_of(&self, value: &Value) -> Option<Name> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&value.address()?).map(|(_, name)| *name)
    }

    /// Adds a value that was written as `draft`, without its own label.
    pub(super) fn keep(&mut self, value: &Value, draft: Draft) -> Name {
        let name = Name::Fresh(self.fresh.len());
        self.fresh_bytes += draft.bytes.len();
        self.fresh.push(Fresh { address: value.address(), draft });
        if let Some(address) = value.address() {
            self.known.insert(address, (value.clone(), name));
        }
        name
    }

    /// Passes the new values to the store, which hashes them.
    ///
    /// # Errors
    /// The store's error; drafts that refer to the new values cannot be written.
    pub(crate) async fn put(&mut self, store: &dyn Blobs) -> Result<Stored, StoreError> {
        let mut stored = Stored::default();
        self.fresh_bytes = 0;
        for Fresh { address, draft } in std::mem::take(&mut self.fresh) {
            let blob = store.put_blob(draft.finish(&stored)).await?;
            if let Some((_, name)) = address.and_then(|address| self.known.get_mut(&address)) {
                *name = Name::Stored(blob.hash());
            }
            stored.hashes.push(blob.hash());
            stored.blobs.push(blob);
        }
        Ok(stored)
    }

    /// Releases values that the run no longer holds.
    pub(crate) fn forget_unused(&mut self) {
        self.known.retain(|_, (value, _)| value.is_shared());
        self.keys.forget_unused();
    }

    /// Adds the references of another run, whose values this run has.
    pub(crate) fn adopt(&mut self, other: Keys) {
        self.keys.adopt(other);
    }

    /// Writes `value` from now on as a reference to where it was read.
    pub(crate) fn refer(&mut self, value: &Value, read: Arc<SecretRef>) {
        self.keys.refer(value, read);
    }
}

impl Draft {
    /// Writes the version, unless the draft has begun.
    pub(super) fn begin(&mut self, version: u8) {
        if self.bytes.is_empty() {
            self.bytes.push(version);
        }
    }

    /// A writer that moves large values to `values`; those that are not in the store only if `keeps_new` is set.
    pub(super) fn writer<'a>(&'a mut self, values: &'a mut LargeValues, keeps_new: bool) -> Writer<'a> {
        Writer {
            out: &mut self.bytes,
            apart: Some(Apart { values, names: &mut self.names, secrets: &mut self.secrets, keeps_new }),
        }
    }

    /// Records that the secret was read, whether or not a value refers to it.
    pub(crate) fn record_read(&mut self, read: Arc<SecretRef>) {
        self.read.push(read);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write, now that all values have hashes. The references follow the version, which says which kinds of
    /// references there are.
    pub(crate) fn finish(self, stored: &Stored) -> Bytes {
        self.finish_with(stored, &[])
    }

    /// Like [`Draft::finish`], with a waymark before the content.
    pub(crate) fn finish_with(self, stored: &Stored, waymark: &[u8]) -> Bytes {
        let reads = self.secrets.len() + self.read.len();
        let Some((version, rest)) = self.bytes.split_first() else { return Bytes::new() };
        if self.names.is_empty() && reads == 0 {
            if waymark.is_empty() {
                return self.bytes.into();
            }
            return [&[*version], waymark, rest].concat().into();
        }
        let mut out =
            Vec::with_capacity(self.bytes.len() + waymark.len() + 5 + 32 * (self.names.len() + reads));
        let mut writer = Writer { out: &mut out, apart: None };
        writer.byte(version + if reads > 0 { 2 } else { 1 });
        writer.list(&self.names, |writer, name| {
            let hash = match name {
                Name::Stored(hash) => hash,
                Name::Fresh(place) => &stored.hashes[*place],
            };
            writer.out.extend_from_slice(hash.as_bytes());
        });
        if reads > 0 {
            for reads in [&self.secrets, &self.read] {
                writer.list(reads, |writer, read| {
                    writer.text(&read.name);
                    writer.option(read.version.as_deref(), Writer::text);
                });
            }
        }
        out.extend_from_slice(waymark);
        out.extend_from_slice(rest);
        out.into()
    }
}
