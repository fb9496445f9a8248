//! Sending signals to runs.

use std::sync::Arc;

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::{Error as StoreError, InboxId, Post, Shard};

use super::Engine;
use crate::{
    event::RunId,
    messages,
    signals::{KIND, SIGNALS_MAX, Signal, SignalError, awaited, is_name},
    time,
};

impl Engine {
    /// Sends a signal to a run in the store, whether or not the run is in progress, and whether or not an action waits for
    /// it yet. Returns the signal's number once it is durable; the action that waits for it receives it soon after. For a
    /// key that was used before, this is the number of the first signal, even if the run has ended since.
    ///
    /// # Errors
    /// [`SignalError`]; the signal was not sent.
    ///
    /// # Cancel safety
    /// If the future is dropped, the signal may or may not have been sent.
    pub async fn signal(&self, run: RunId, signal: Signal) -> Result<InboxId, SignalError> {
        if !is_name(&signal.name) {
            return Err(SignalError::BadName);
        }
        let Some(durable) = &self.shared().durable else { return Err(SignalError::Unknown { run }) };
        let row = durable.store.run(run).await.map_err(SignalError::Store)?;
        let row = row.ok_or(SignalError::Unknown { run })?;
        let key = signal.idempotency_key.map(|key| Arc::<str>::from(format!("signal:{key}")));
        if let Some(key) = &key
            && let Some(first) = durable.store.posted(Some(run), key).await.map_err(SignalError::Store)?
        {
            return Ok(first);
        }
        if row.ended.is_some() {
            return Err(SignalError::Ended { run });
        }
        awaited(&*durable.workflow_of(run, &row).await?, &signal.name)?;
        if durable.store.pending(run).await.map_err(SignalError::Store)? >= SIGNALS_MAX {
            return Err(SignalError::Full { run });
        }
        let now = self.shared().clock.now();
        let mut kept = Object::new();
        kept.insert("name", signal.name);
        kept.insert("sentTime", now.to_string());
        if let Some(body) = signal.body {
            kept.insert("body", body);
        }
        let message = Post {
            run: Some(run),
            kind: KIND,
            at: time::millis(now),
            idempotency_key: key,
            payload: Bytes::from(Value::from(kept).to_json_text()),
            shard: Shard::default(),
        };
        let (engine, store) = (self.clone(), Arc::clone(&durable.store));
        // A task of its own, so that a sender that goes away does not keep the run from hearing of it.
        let posting = self.shared().tasks.spawn(async move {
            let posted = messages::post(&*store, message).await;
            engine.wake(run);
            posted
        });
        let posted = posting.await.map_err(|_| SignalError::Store(StoreError::Closed))?;
        posted.map_err(SignalError::Store)
    }
}
