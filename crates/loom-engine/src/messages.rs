//! Messages to runs, in the store's inbox: callbacks, the ends of children, signals and orders. Each is durable before anybody acts
//! on it, has a time, and is consumed by the commit of its effect.

use std::sync::Arc;

use bytes::Bytes;
use loom_expression::{Timestamp, Value};
use loom_store::{
    Commit, Committed, Error as StoreError, InboxId, InboxMessage, InboxQuery, Post, Recipient, RunRow,
    Shard, Shards, Store,
};

use crate::{
    envelope::Envelope,
    event::{Command, EffectId, RunId},
    time,
};

/// The kind of messages that are callbacks: `{effect, payload}`.
pub(crate) const CALLBACK: u16 = 4;

/// The kind of messages that say that a child workflow has responded, or has ended without a response. The message's key is
/// the key under which the call started the child.
pub(crate) const END: u16 = 5;

/// The kind of messages to no run that ask for a child workflow, whose trigger another node owns; see `children::elsewhere`.
pub(crate) const START: u16 = 6;

/// What the keys of children begin with.
pub(crate) const CHILD: &str = "child:";

/// Posts one message, and waits until it is durable. For a key that was used before, returns the first message.
///
/// # Errors
/// The store's error.
pub(crate) async fn post(store: &dyn Store, message: Post) -> Result<InboxId, StoreError> {
    let mut commit = Commit::new();
    commit.inbox_posted.push(message);
    match store.commit(commit).await? {
        Committed::Written(written) if !written.inbox.is_empty() => Ok(written.inbox[0]),
        // A commit that belongs to no run has no duplicate, and each message gets a number.
        _ => Err(StoreError::Closed),
    }
}

/// Whether a message is still pending.
pub(crate) async fn is_pending(store: &dyn Store, run: RunId, message: InboxId) -> Result<bool, StoreError> {
    let after = Some(InboxId(message.0.saturating_sub(1)));
    let query = InboxQuery { recipient: Recipient::Run(run), after, limit: 1, shards: Shards::ALL };
    Ok(store.inbox(query).await?.first().is_some_and(|found| found.id == message))
}

/// The end of a child, as a message to the run that called it; none for a run whose response nobody waits for.
pub(crate) fn end_of(child: &RunRow, at: Timestamp) -> Option<Post> {
    let key = child.idempotency_key.as_ref().filter(|key| key.starts_with(CHILD) && key.ends_with("/0"))?;
    Some(Post {
        run: Some(child.parent?),
        kind: END,
        at: time::millis(at),
        idempotency_key: Some(Arc::clone(key)),
        payload: Bytes::new(),
        shard: Shard::default(),
    })
}

/// The command that a callback is.
pub(crate) fn callback(message: &InboxMessage) -> Option<Envelope> {
    let stored = Value::parse_json(&message.post.payload).ok()?;
    let effect = EffectId(u32::try_from(stored.get("effect").and_then(Value::as_i64)?).ok()?);
    let payload = stored.get("payload").cloned().unwrap_or_default();
    let sent = Timestamp::from_unix_millis(message.post.at.0);
    Some(Envelope::message(Command::Callback { effect, payload }, sent, message.id))
}

/// The key of a callback in the inbox.
pub(crate) fn callback_key(key: &str) -> Arc<str> {
    Arc::from(format!("callback:{key}"))
}
