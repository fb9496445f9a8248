//! Actors: stateful objects with an id. One call at a time for each id; the state outlives the call.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use loom_engine::{
    event::EffectResult,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;

use crate::{
    Failure, UserError,
    activity::done,
    handlers::{ended, failed, marks, named, posted},
    requests::{Behaviour, Requests},
};

mod durable;

pub use durable::DurableActorStore;

/// The arguments of a call to an actor.
#[derive(Clone, Debug)]
pub struct ActorCall {
    /// The id of the actor within its type.
    pub id: String,
    /// The name of the method.
    pub method: String,
    /// The arguments of the method.
    pub args: Value,
    /// The state that the previous call left; null for the first call.
    pub state: Value,
    /// The same for every attempt of this execution of the action.
    pub idempotency_key: Arc<str>,
}

/// The result of a call to an actor.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorReply {
    /// The result of the action.
    pub result: Value,
    /// The state for the next call.
    pub state: Value,
}

/// The future that methods of [`ActorStore`] return.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, UserError>> + Send + 'a>>;

/// Stores the states of actors. A state is saved before the result of its call is returned.
pub trait ActorStore: Send + Sync {
    /// Reads the state with a key; null when there is none.
    fn load<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Value>;
    /// Replaces the state.
    fn save<'a>(&'a self, key: &'a str, state: Value) -> StoreFuture<'a, ()>;
}

/// Keeps states in memory, for as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryActorStore {
    states: Mutex<BTreeMap<String, Value>>,
}

impl ActorStore for MemoryActorStore {
    fn load<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Value> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.get(key).cloned().unwrap_or_default();
        Box::pin(async move { Ok(state) })
    }

    fn save<'a>(&'a self, key: &'a str, state: Value) -> StoreFuture<'a, ()> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), state);
        Box::pin(async { Ok(()) })
    }
}

type UserFuture = Pin<Box<dyn Future<Output = Result<ActorReply, UserError>> + Send>>;
type UserCode = Arc<dyn Fn(ActorCall) -> UserFuture + Send + Sync>;

/// Types of actors that the host program registers. Names are case-insensitive.
#[derive(Clone, Default)]
pub struct Actors {
    by_type: HashMap<String, UserCode>,
}

impl Actors {
    /// Registers a type of actors and replaces what was registered under its name.
    pub fn register<F, Fut>(&mut self, actor_type: &str, code: F)
    where
        F: Fn(ActorCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorReply, UserError>> + Send + 'static,
    {
        self.by_type.insert(actor_type.to_lowercase(), Arc::new(move |call| Box::pin(code(call))));
    }
}

impl fmt::Debug for Actors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.by_type.keys().collect();
        names.sort();
        f.debug_tuple("Actors").field(&names).finish()
    }
}

/// Executes `Actor` actions: calls registered types, or else sends `POST endpoint/{id}/{method}` with the arguments
/// as the body.
pub struct ActorHandler {
    actors: Actors,
    store: Arc<dyn ActorStore>,
    requests: Arc<Requests>,
    turns: Turns,
}

/// The lock of each actor. An entry exists while a call holds the lock or waits for it.
#[derive(Default)]
struct Turns {
    by_key: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    fn of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(key.to_owned()).or_default())
    }
}

/// Removes the entry when the last call is done, also when a call is dropped halfway.
struct QueueEntry<'a> {
    turns: &'a Turns,
    key: &'a str,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        let mut turns = self.turns.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // Two references, the table's and this one: no other call holds or awaits the lock.
        if Arc::strong_count(&self.turn) == 2 {
            turns.remove(self.key);
        }
    }
}

impl ActorHandler {
    /// A handler for registered types and endpoints.
    pub fn new(actors: Actors, store: Arc<dyn ActorStore>, requests: Arc<Requests>) -> ActorHandler {
        ActorHandler { actors, store, requests, turns: Turns::default() }
    }

    async fn run(&self, call: &Call) -> Result<EffectResult, Failure> {
        let text = |member: &str| call.inputs.get(member).and_then(Value::as_str);
        let needed = |member: &str| {
            text(member).ok_or_else(|| Failure::bad_request(format!("The action's '{member}' is missing.")))
        };
        let (actor_type, method) = (needed("actorType")?, needed("method")?);
        let id = text("actorId").unwrap_or("default");
        let args = call.inputs.get("args").cloned().unwrap_or_default();
        let key = format!("{}/{id}", actor_type.to_lowercase());
        let seat = QueueEntry { turns: &self.turns, key: &key, turn: self.turns.of(&key) };
        // Fair: tokio's mutex serves in the order of arrival.
        let turn = seat.turn.lock().await;
        let result = if let Some(code) = self.actors.by_type.get(&actor_type.to_lowercase()) {
            let state = self.store.load(&key).await?;
            let call = ActorCall {
                id: id.to_owned(),
                method: method.to_owned(),
                args,
                state,
                idempotency_key: Arc::clone(&call.idempotency_key),
            };
            let reply = code(call).await?;
            self.store.save(&key, reply.state).await?;
            done(reply.result)
        } else {
            let service = self.requests.settings().connections.actor(actor_type)?;
            let spec = posted(&service, &[id, method], args)?;
            let (marks, plain) = (marks(call), Behaviour::default());
            ended(self.requests.perform(&spec, &marks, &plain, call.resume.as_ref()).await)
        };
        drop(turn);
        Ok(result)
    }
}

impl ActionHandler for ActorHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move { self.run(call).await.unwrap_or_else(failed) })
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let name = inputs.get("actorType")?;
        Some(named(name, format!("actor:{}", name.as_str()?.to_lowercase())))
    }
}
