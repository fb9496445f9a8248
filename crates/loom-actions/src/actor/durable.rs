//! Keeps the states of actors as named values of a store, so that they outlive the process.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use loom_expression::{Labels, Object, Value};
use loom_store::{Commit, KeyWrite, Store};

use super::{ActorStore, StoreFuture};
use crate::UserError;

/// The namespace of the named values.
const NAMESPACE: &str = "actor";

/// Keeps states in a store: once saved, a state is durable. Consecutive calls of one actor each wait for the disk.
///
/// A state that contains a secret is read back as one secret as a whole. In a store with a key, states are encrypted.
///
/// # What is not guaranteed
/// When the process dies after the state was saved and before the end of the action was journaled, the call is
/// repeated with the same idempotency key and finds the state that it saved itself. An actor for which that matters
/// keeps the key in its state.
#[derive(Clone, Debug)]
pub struct DurableActorStore {
    store: Arc<dyn Store>,
}

impl DurableActorStore {
    /// Keeps states in this store, which may be the one that keeps the runs.
    pub fn new(store: Arc<dyn Store>) -> DurableActorStore {
        DurableActorStore { store }
    }
}

impl ActorStore for DurableActorStore {
    fn load<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Value> {
        Box::pin(async move {
            let Some(found) = self.store.key(NAMESPACE, key).await.map_err(|why| lost(key, why))? else {
                return Ok(Value::NULL);
            };
            let kept = Value::parse_json(&found.value).map_err(|why| lost(key, why))?;
            let state = kept.get("state").cloned().unwrap_or_default();
            let secret = kept.get("secret").and_then(Value::as_bool).unwrap_or_default();
            let bits = kept.get("labels").and_then(Value::as_i64).unwrap_or_default();
            Ok(state.secret_if(secret).labelled(Labels::from_bits(u8::try_from(bits).unwrap_or_default())))
        })
    }

    fn save<'a>(&'a self, key: &'a str, state: Value) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut kept = Object::new();
            kept.insert("secret", state.contains_secret());
            kept.insert("labels", i64::from(state.labels_within().bits()));
            kept.insert("state", state);
            let mut commit = Commit::new();
            commit.keys.push(KeyWrite {
                namespace: NAMESPACE.into(),
                key: key.into(),
                value: Some(Bytes::from(Value::from(kept).to_json_text())),
                ..KeyWrite::default()
            });
            self.store.commit(commit).await.map_err(|why| lost(key, why))?;
            Ok(())
        })
    }
}

/// Transient, because the store may work again at the next attempt.
fn lost(key: &str, why: impl Display) -> UserError {
    UserError::new(format!("The state of the actor '{key}' could not be read or saved: {why}")).transient()
}
