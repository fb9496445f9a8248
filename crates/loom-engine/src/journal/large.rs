//! Large values: kept once in the store, under the name of their content, and only named by frames and snapshots.
//!
//! What is too large to stand where it is used is written apart, from the inside out: the large parts of a value first, and then
//! the value itself if what is left of it is still too large. So a body that goes through many actions, or stands in
//! many runs, is kept once, whatever is wrapped around it.

use std::collections::BTreeMap;

use bytes::Bytes;
use loom_expression::Value;
use loom_store::{Blob, ContentHash, Error as StoreError, Store};

use super::primitive::{Apart, Writer};

/// A value that takes more bytes than this is kept apart.
pub(super) const INLINE_MAX: usize = 8 * 1024;

/// The large values of a run: those that the store has, and those that it gets with the next commit.
#[derive(Debug, Default)]
pub(crate) struct LargeValues {
    /// By address. Each value is held here, so no other can take its address.
    known: BTreeMap<usize, (Value, Name)>,
    /// Each comes after those it names.
    fresh: Vec<Fresh>,
    fresh_bytes: usize,
}

/// What a large value is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    /// The store has it, charged to this run.
    Stored(ContentHash),
    /// Its place among those that the store gets next.
    Fresh(usize),
}

/// A value that the store does not have yet.
#[derive(Debug)]
struct Fresh {
    address: Option<usize>,
    draft: Draft,
}

/// A frame, a snapshot or a large value in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// A version and what follows the names. Empty as long as there is nothing.
    pub(super) bytes: Vec<u8>,
    /// For each large value in the bytes, in order.
    pub(super) names: Vec<Name>,
}

/// What the next commit brings along.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    hashes: Vec<ContentHash>,
    pub(crate) blobs: Vec<Blob>,
}

impl LargeValues {
    /// Values that were read back, and are charged to the run.
    pub(super) fn read_back(values: BTreeMap<ContentHash, Value>) -> LargeValues {
        let known = values.into_iter().filter_map(|(hash, value)| {
            let address = value.address()?;
            Some((address, (value, Name::Stored(hash))))
        });
        LargeValues { known: known.collect(), ..LargeValues::default() }
    }

    /// Bytes that wait for the next commit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.fresh_bytes
    }

    /// What the value is called, if it is known to be large.
    pub(super) fn name_of(&self, value: &Value) -> Option<Name> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&value.address()?).map(|(_, name)| *name)
    }

    /// Keeps a value apart that was written as `draft`, without its own label.
    pub(super) fn keep(&mut self, value: &Value, draft: Draft) -> Name {
        let name = Name::Fresh(self.fresh.len());
        self.fresh_bytes += draft.bytes.len();
        self.fresh.push(Fresh { address: value.address(), draft });
        if let Some(address) = value.address() {
            self.known.insert(address, (value.clone(), name));
        }
        name
    }

    /// Hands the new values to the store, which names them.
    ///
    /// # Errors
    /// What the store said; nothing that was in the making can be written then.
    pub(crate) async fn put(&mut self, store: &dyn Store) -> Result<Stored, StoreError> {
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

    /// Lets go of values that the run no longer holds.
    pub(crate) fn forget_unused(&mut self) {
        self.known.retain(|_, (value, _)| value.is_shared());
    }
}

impl Draft {
    /// Begins with a version, unless something is there already.
    pub(super) fn begin(&mut self, version: u8) {
        if self.bytes.is_empty() {
            self.bytes.push(version);
        }
    }

    /// Large values go to `values`; those that the store does not have only if it `keeps_new` ones.
    pub(super) fn writer<'a>(&'a mut self, values: &'a mut LargeValues, keeps_new: bool) -> Writer<'a> {
        Writer { out: &mut self.bytes, apart: Some(Apart { values, names: &mut self.names, keeps_new }) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write, now that all values have names: the version after the one it was begun with, and the names, if
    /// there are any.
    pub(crate) fn finish(self, stored: &Stored) -> Bytes {
        let Some((version, rest)) = self.bytes.split_first().filter(|_| !self.names.is_empty()) else {
            return self.bytes.into();
        };
        let mut out = Vec::with_capacity(self.bytes.len() + 5 + 32 * self.names.len());
        let mut writer = Writer { out: &mut out, apart: None };
        writer.byte(version + 1);
        writer.list(&self.names, |writer, name| {
            let hash = match name {
                Name::Stored(hash) => hash,
                Name::Fresh(place) => &stored.hashes[*place],
            };
            writer.out.extend_from_slice(hash.as_bytes());
        });
        out.extend_from_slice(rest);
        out.into()
    }
}
