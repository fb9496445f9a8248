//! Shared memory for the calls of handlers: what a call writes is committed together with the end of its action.

use std::sync::{Arc, Mutex, PoisonError};

use loom_definition::Status;
use loom_expression::{Masker, Value};
use loom_memory::{Error, Key, Namespace, Prepared, Reserved, StoredMemory};

use crate::event::{EffectResult, ErrorInfo, Outcome, RetryHint};

/// What a call may read and write of shared memory. Without a memory, as for a [`Call`](crate::ports::Call) that no engine
/// makes, nothing can be reserved.
#[derive(Clone, Debug, Default)]
pub struct CallMemory {
    memory: Option<(StoredMemory, Masker)>,
    /// What the call wants to write.
    prepared: Arc<Mutex<Option<Prepared>>>,
}

impl CallMemory {
    pub(crate) fn new(memory: StoredMemory, masker: Masker) -> CallMemory {
        CallMemory { memory: Some((memory, masker)), prepared: Arc::default() }
    }

    /// Waits until nothing else in this process writes a key, and reads it. Others wait until the result is dropped, or until
    /// what [`CallMemory::commit_with_end`] took is committed. A call reserves one key at most.
    ///
    /// # Errors
    /// When the key cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future, or what it returned, changes nothing.
    pub async fn reserve(&self, namespace: &Namespace, key: &Key) -> Result<Reserved, Error> {
        let Some((memory, masker)) = &self.memory else {
            return Err(Error::InvalidRequest { why: "no shared memory is configured".to_owned() });
        };
        // A copy of the call that came before would hold the key until the end of this one.
        drop(self.take());
        let reserved = memory.reserve(namespace, key).await?;
        if let Some(entry) = reserved.entry(key) {
            masker.learn(entry.content.value());
        }
        Ok(reserved)
    }

    /// Commits writes together with the end of the action, if the call returns a success and nothing has ended the action
    /// meanwhile; otherwise they are dropped.
    pub fn commit_with_end(&self, prepared: Prepared) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
    }

    /// Labels as secret what a value contains of known secrets, such as those in the response of a service that was sent them.
    pub fn labelled(&self, value: Value) -> Value {
        match &self.memory {
            Some((_, masker)) => masker.label_value(value),
            None => value,
        }
    }

    /// What a call wants to write, if its result is a success.
    pub(crate) fn writes_of(&self, result: &EffectResult) -> Option<Prepared> {
        let prepared = self.take()?;
        let succeeds =
            matches!(result, EffectResult::Done { outcome, .. } if outcome.status == Status::Succeeded);
        (succeeds && !prepared.writes.is_empty()).then_some(prepared)
    }

    /// Commits what a call wants to write, for a run without a journal. Returns the result of the call.
    pub(crate) async fn commit_now(&self, result: EffectResult) -> EffectResult {
        let (Some((memory, _)), Some(prepared)) = (&self.memory, self.writes_of(&result)) else {
            return result;
        };
        let why = match memory.commit_prepared(prepared).await {
            Ok(true) => return result,
            Ok(false) => "another process has changed the key".to_owned(),
            Err(why) => why.to_string(),
        };
        let error = ErrorInfo::new("MemoryNotWritten", format!("Shared memory could not be written: {why}."));
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        EffectResult::Done { outcome: Outcome::failed("MemoryNotWritten", error), hint }
    }

    fn take(&self) -> Option<Prepared> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
