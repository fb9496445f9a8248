//! The messages of runs: posting orders and callbacks, and reading those that have arrived.

use std::{collections::BTreeSet, sync::PoisonError};

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::{Error as StoreError, InboxId, InboxQuery, Post, Recipient, Shard, Shards};

use super::Engine;
use crate::{
    event::{EffectId, RunId},
    messages::{self, CALLBACK, callback_key},
    orders::{self, Arrived, Order},
    time,
    unloadable::RecoverError,
};

impl Engine {
    /// Leaves an order in the store for a run that is not in progress, and waits until it is durable. Does nothing without a
    /// store.
    ///
    /// # Errors
    /// When the store does not accept it.
    pub async fn leave(&self, run: RunId, order: Order) -> Result<(), StoreError> {
        self.post(run, order).await?;
        let mut messaged = self.shared().messaged.lock().unwrap_or_else(PoisonError::into_inner);
        messaged.insert(run);
        Ok(())
    }

    /// Makes an order durable; none without a store.
    pub(crate) async fn post(&self, run: RunId, order: Order) -> Result<Option<InboxId>, StoreError> {
        let Some(durable) = &self.shared().durable else { return Ok(None) };
        let now = self.shared().clock.now();
        let mut kept = Object::new();
        kept.insert("command", order.as_str());
        kept.insert("sentTime", now.to_string());
        let message = Post {
            run: Some(run),
            kind: orders::KIND,
            at: time::millis(now),
            idempotency_key: None,
            payload: Bytes::from(Value::from(kept).to_json_text()),
            shard: Shard::default(),
        };
        messages::post(&*durable.store, message).await.map(Some)
    }

    /// Finds the runs that have messages, so that those that are parked are woken.
    pub(crate) async fn find_messages(&self, shards: Shards) -> Result<(), StoreError> {
        let Some(durable) = &self.shared().durable else { return Ok(()) };
        let mut found = BTreeSet::new();
        let mut query = InboxQuery { recipient: Recipient::Anyone, after: None, limit: orders::PAGE, shards };
        loop {
            let page = durable.store.inbox(query).await?;
            found.extend(page.iter().filter_map(|message| message.post.run));
            query.after = page.last().map(|message| message.id);
            if page.len() < orders::PAGE {
                break;
            }
        }
        self.shared().messaged.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
        Ok(())
    }

    /// The runs of these shards that had messages in the store when they were read.
    pub(crate) fn messaged(&self, shards: Shards) -> Vec<RunId> {
        let messaged = self.shared().messaged.lock().unwrap_or_else(PoisonError::into_inner);
        messaged.iter().copied().filter(|run| shards.contains(run.shard())).collect()
    }

    /// The messages to a run that is being loaded, oldest first. Signals stay in the store until an action receives them.
    pub(crate) async fn arrived(&self, run: RunId) -> Result<Arrived, RecoverError> {
        let Some(durable) = &self.shared().durable else { return Ok(Arrived::default()) };
        let found = orders::read_all(&*durable.store, run).await;
        found.map_err(|source| RecoverError::Store { run, source })
    }

    /// Makes a callback durable. One whose key is known is the earlier one. None without a store.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) async fn post_callback(
        &self,
        run: RunId,
        effect: EffectId,
        payload: &Value,
        key: Option<&str>,
    ) -> Result<Option<InboxId>, StoreError> {
        let Some(durable) = &self.shared().durable else { return Ok(None) };
        let mut stored = Object::new();
        stored.insert("effect", i64::from(effect.0));
        stored.insert("payload", payload.clone());
        let message = Post {
            run: Some(run),
            kind: CALLBACK,
            at: time::millis(self.shared().clock.now()),
            idempotency_key: key.map(callback_key),
            payload: Bytes::from(Value::from(stored).to_json_text()),
            shard: Shard::default(),
        };
        messages::post(&*durable.store, message).await.map(Some)
    }

    /// Whether a callback with this key has been delivered to a run, and handled.
    pub async fn knows_callback(&self, run: RunId, key: Option<&str>) -> bool {
        let (Some(durable), Some(key)) = (&self.shared().durable, key) else { return false };
        match durable.store.posted(Some(run), &callback_key(key)).await {
            Ok(Some(message)) => {
                matches!(messages::is_pending(&*durable.store, run, message).await, Ok(false))
            }
            Ok(None) | Err(_) => false,
        }
    }
}
