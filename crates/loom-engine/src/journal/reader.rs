//! Decodes frames and snapshots together with the large values that they refer to.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use loom_definition::Workflow;
use loom_expression::{Timestamp, Value};
use loom_store::{Blobs, ContentHash, Error as StoreError, Snapshot, StoredFrame};

use super::{
    codec::{decode_large, decode_snapshot_with, decode_with},
    format::{LARGE_VERSION, SNAPSHOT_VERSION, Unreadable, VERSION},
    head::{Head, references},
    large::LargeValues,
    primitive::Outside,
    secret::{Keys, SecretRef},
};
use crate::{
    audit::{AuditEntry, Operation},
    environment::Environment,
    event::{Event, RunId},
    reads::{self, Unavailable},
    state::RunState,
    unloadable::RecoverError,
};

/// Decodes the journal of one run. A large value is read once, and shared for as long as anything decoded holds it.
#[derive(Debug)]
pub struct FrameReader {
    run: RunId,
    values: BTreeMap<ContentHash, Value>,
    /// Opens secret values. Without it, a secret null stands for each of them.
    open: Option<Open>,
}

/// Reads secret values again.
#[derive(Debug)]
struct Open {
    keys: Keys,
    environment: Arc<Environment>,
    /// Secrets that were read again.
    read: BTreeMap<SecretRef, Value>,
    unavailable: Unavailable,
}

impl FrameReader {
    /// A reader for the journal of `run`, for everything that shows it. It does not open secret values: each is a secret null.
    pub fn new(run: RunId) -> FrameReader {
        FrameReader { run, values: BTreeMap::new(), open: None }
    }

    /// A reader that opens secret values with the keys of the run, and reads secrets again, in the versions in the journal.
    pub(crate) fn opening(run: RunId, keys: Keys, environment: Arc<Environment>) -> FrameReader {
        let open = Open { keys, environment, read: BTreeMap::new(), unavailable: Unavailable::default() };
        FrameReader { run, values: BTreeMap::new(), open: Some(open) }
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
        store: &dyn Blobs,
        frame: &StoredFrame,
    ) -> Result<Vec<Event>, RecoverError> {
        let (run, seq) = (self.run, frame.seq);
        let unreadable = |source| RecoverError::Journal { run, frame: seq, source };
        let head = references(&frame.payload, VERSION).map_err(unreadable)?;
        let (large, secrets) = self.referred_to(store, head).await?;
        let keys = self.open.as_ref().map(|open| &open.keys);
        decode_with(&frame.payload, Outside { large: &large, secrets: &secrets, keys }).map_err(unreadable)
    }

    /// The events of a frame without their large and secret values, each of which is null: enough to follow the trail past them.
    ///
    /// # Errors
    /// [`RecoverError::Journal`]: the frame is damaged.
    pub fn skim(&self, frame: &StoredFrame) -> Result<Vec<Event>, RecoverError> {
        let unreadable = |source| RecoverError::Journal { run: self.run, frame: frame.seq, source };
        let head = references(&frame.payload, VERSION).map_err(unreadable)?;
        let large = vec![Value::NULL; head.names.len()];
        let secrets = vec![Value::NULL.into_secret(); head.secrets.len()];
        decode_with(&frame.payload, Outside { large: &large, secrets: &secrets, keys: None })
            .map_err(unreadable)
    }

    /// The state in a snapshot of a run of `workflow`.
    pub(crate) async fn state(
        &mut self,
        store: &dyn Blobs,
        workflow: &Arc<Workflow>,
        snapshot: &Snapshot,
    ) -> Result<RunState, RecoverError> {
        let (run, frame) = (self.run, snapshot.upto);
        let unreadable = |source| RecoverError::Journal { run, frame, source };
        let head = references(&snapshot.state, SNAPSHOT_VERSION).map_err(unreadable)?;
        let (large, secrets) = self.referred_to(store, head).await?;
        let keys = self.open.as_ref().map(|open| &open.keys);
        let outside = Outside { large: &large, secrets: &secrets, keys };
        decode_snapshot_with(workflow, &snapshot.state, outside).map_err(unreadable)
    }

    /// The values that are still in use, for writing further frames.
    pub(crate) fn into_values(mut self) -> LargeValues {
        self.forget_unused();
        let keys = self.open.map(|open| open.keys).unwrap_or_default();
        LargeValues::read_back(self.values, keys)
    }

    /// How the secrets in what was decoded are hidden in the journal of another run.
    pub(crate) fn into_keys(self) -> Keys {
        self.open.map(|open| open.keys).unwrap_or_default()
    }

    /// Stand-ins for secrets that could not be read again.
    pub(crate) fn take_unavailable(&mut self) -> Unavailable {
        self.open.as_mut().map(|open| std::mem::take(&mut open.unavailable)).unwrap_or_default()
    }

    /// The large values and the secrets that bytes refer to.
    async fn referred_to(
        &mut self,
        store: &dyn Blobs,
        head: Head,
    ) -> Result<(Vec<Value>, Vec<Value>), RecoverError> {
        let large = self.named_by(store, head.names).await?;
        Ok((large, self.secrets(head.secrets).await))
    }

    /// The values of these secrets. One that can no longer be read has a stand-in.
    async fn secrets(&mut self, wanted: Vec<SecretRef>) -> Vec<Value> {
        let Some(open) = &mut self.open else {
            return vec![Value::NULL.into_secret(); wanted.len()];
        };
        let mut values = Vec::with_capacity(wanted.len());
        for secret in wanted {
            if let Some(value) = open.read.get(&secret) {
                values.push(value.clone());
                continue;
            }
            let read = match open.environment.secrets.as_deref() {
                Some(source) => reads::read(source, &secret.name, secret.version.as_deref()).await,
                None => Err("No secrets client configured".to_owned()),
            };
            let value = match read {
                Ok(read) => {
                    if let Some(audit) = &open.environment.audit {
                        let mut entry =
                            AuditEntry::new(Timestamp::UNIX_EPOCH, Operation::Read, "run, loaded again");
                        (entry.secret, entry.version) = (Some(read.name), read.version);
                        entry.run = Some(self.run);
                        audit.record(vec![entry]);
                    }
                    let value = Value::from(read.value).into_secret();
                    open.environment.masker.learn(&value);
                    value
                }
                Err(why) => {
                    let version = secret.version.as_deref().unwrap_or_default();
                    let why = format!(
                        "the run read version '{version}' of the secret '{}', which is no longer available: {why}",
                        secret.name
                    );
                    open.unavailable.push(why.into())
                }
            };
            open.keys.refer(&value, Arc::new(secret.clone()));
            open.read.insert(secret, value.clone());
            values.push(value);
        }
        values
    }

    /// Releases values that are not in use: a long journal refers to many values, most of them only once.
    fn forget_unused(&mut self) {
        self.values.retain(|_, value| value.is_shared());
    }

    /// The values with these hashes, in order.
    async fn named_by(
        &mut self,
        store: &dyn Blobs,
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
            let head = references(&content, LARGE_VERSION).map_err(|source| self.broken(hash, &source))?;
            let inner = head.names;
            if inner.iter().all(|name| self.values.contains_key(name)) {
                let secrets = self.secrets(head.secrets).await;
                let keys = self.open.as_ref().map(|open| &open.keys);
                let outside = Outside { large: &self.at_hand(&inner), secrets: &secrets, keys };
                let value = decode_large(&content, outside);
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

    async fn content(&self, store: &dyn Blobs, hash: ContentHash) -> Result<Bytes, RecoverError> {
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
