//! Decodes frames and snapshots together with the large values that they refer to.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use loom_definition::Workflow;
use loom_expression::Value;
use loom_store::{ContentHash, Error as StoreError, Snapshot, Store, StoredFrame};

use super::{
    LARGE_VERSION, LargeValues, SNAPSHOT_VERSION, Unreadable, VERSION, decode_large, decode_snapshot_with,
    decode_with, names,
};
use crate::{
    durable::RecoverError,
    event::{Event, RunId},
    state::RunState,
};

/// Decodes the journal of one run. A large value is read once, and shared for as long as anything decoded holds it.
#[derive(Debug)]
pub struct FrameReader {
    run: RunId,
    values: BTreeMap<ContentHash, Value>,
}

impl FrameReader {
    /// A reader for the journal of `run`.
    pub fn new(run: RunId) -> FrameReader {
        FrameReader { run, values: BTreeMap::new() }
    }

    /// The events of a frame, with all their values.
    ///
    /// # Errors
    /// [`RecoverError`]: the frame or a value that it refers to is damaged, or the store cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn events(
        &mut self,
        store: &dyn Store,
        frame: &StoredFrame,
    ) -> Result<Vec<Event>, RecoverError> {
        let (run, seq) = (self.run, frame.seq);
        let unreadable = |source| RecoverError::Journal { run, frame: seq, source };
        let large = self.named_by(store, names(&frame.payload, VERSION).map_err(unreadable)?).await?;
        decode_with(&frame.payload, &large).map_err(unreadable)
    }

    /// The state in a snapshot of a run of `workflow`.
    pub(crate) async fn state(
        &mut self,
        store: &dyn Store,
        workflow: &Arc<Workflow>,
        snapshot: &Snapshot,
    ) -> Result<RunState, RecoverError> {
        let (run, frame) = (self.run, snapshot.upto);
        let unreadable = |source| RecoverError::Journal { run, frame, source };
        let large =
            self.named_by(store, names(&snapshot.state, SNAPSHOT_VERSION).map_err(unreadable)?).await?;
        decode_snapshot_with(workflow, &snapshot.state, &large).map_err(unreadable)
    }

    /// The values that are still in use, for writing further frames.
    pub(crate) fn into_values(mut self) -> LargeValues {
        self.forget_unused();
        LargeValues::read_back(self.values)
    }

    /// Releases values that are not in use: a long journal refers to many values, most of them only once.
    fn forget_unused(&mut self) {
        self.values.retain(|_, value| value.is_shared());
    }

    /// The values with these hashes, in order.
    async fn named_by(
        &mut self,
        store: &dyn Store,
        wanted: Vec<ContentHash>,
    ) -> Result<Vec<Value>, RecoverError> {
        self.forget_unused();
        // A value is decoded after those inside it. No value contains itself, because its hash depends on its content.
        let mut open = wanted.clone();
        let mut contents: BTreeMap<ContentHash, Bytes> = BTreeMap::new();
        while let Some(hash) = open.last().copied() {
            if self.values.contains_key(&hash) {
                open.pop();
                continue;
            }
            let content = match contents.remove(&hash) {
                Some(content) => content,
                None => self.content(store, hash).await?,
            };
            let inner = names(&content, LARGE_VERSION).map_err(|source| self.broken(hash, &source))?;
            if inner.iter().all(|name| self.values.contains_key(name)) {
                let value = decode_large(&content, &self.at_hand(&inner));
                self.values.insert(hash, value.map_err(|source| self.broken(hash, &source))?);
            } else {
                open.extend(inner);
                contents.insert(hash, content);
            }
        }
        Ok(self.at_hand(&wanted))
    }

    fn at_hand(&self, names: &[ContentHash]) -> Vec<Value> {
        names.iter().filter_map(|name| self.values.get(name).cloned()).collect()
    }

    async fn content(&self, store: &dyn Store, hash: ContentHash) -> Result<Bytes, RecoverError> {
        let run = self.run;
        match store.blob(hash, 0, usize::MAX).await {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(RecoverError::Value { run, hash, why: "is missing from the store".to_owned() }),
            Err(StoreError::Damaged { what }) => {
                Err(RecoverError::Value { run, hash, why: format!("is damaged: {what}") })
            }
            Err(source) => Err(RecoverError::Store { run, source }),
        }
    }

    fn broken(&self, hash: ContentHash, source: &Unreadable) -> RecoverError {
        RecoverError::Value {
            run: self.run,
            hash,
            why: format!("is damaged: {} at byte {}", source.reason, source.offset),
        }
    }
}
