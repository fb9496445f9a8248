//! Actors: stateful objects with an id. One call at a time for each id; the state outlives the call, and is committed with the end
//! of the action that made it.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use loom_engine::{
    event::EffectResult,
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Object, Value};
use loom_memory::{Address, Error, Key, Namespace, Operation, Request, Reserved, Type};

use crate::{
    Failure, UserError,
    activity::done,
    handlers::{ended, failed, marks, named, posted},
    requests::{Behaviour, Progress, Requests},
};

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
///
/// The state of an actor is a value in shared memory, `actor:TYPE/ID`, and is committed with the end of the action. A call that
/// a crash interrupts is repeated, with the state that the actor had before it.
pub struct ActorHandler {
    actors: Actors,
    requests: Arc<Requests>,
    turns: Turns,
}

/// The locks of actors whose state is not kept here. An entry exists while a call holds the lock or waits for it.
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

/// The state of an actor, which no other call reads or writes meanwhile.
struct State<'a> {
    call: &'a Call,
    address: Address,
    reserved: Reserved,
}

impl State<'_> {
    async fn reserve<'a>(call: &'a Call, actor_type: &str, id: &str) -> Result<State<'a>, Failure> {
        let wrong = |what: &str, why: Error| {
            Failure::bad_request(format!("The action's '{what}' is invalid: {why}."))
        };
        let name = format!("actor:{}", actor_type.to_lowercase());
        let namespace = Namespace::parse(&name, None).map_err(|why| wrong("actorType", why))?;
        let key = Key::new(id).map_err(|why| wrong("actorId", why))?;
        let reserved = call.memory.reserve(&namespace, &key).await.map_err(|why| lost(id, &why))?;
        let address = Address { namespace, key };
        if let Some(entry) = reserved.entry(&address.key)
            && entry.content.kind() != Type::Value
        {
            let message = format!(
                "The state of the actor at '{address}' must be a value, but it is a {}.",
                entry.content.kind()
            );
            return Err(Failure::lasting("WrongType", message));
        }
        Ok(State { call, address, reserved })
    }

    /// The state that the last call left; null before the first.
    fn value(&self) -> Value {
        self.reserved.entry(&self.address.key).map(|entry| entry.content.value().clone()).unwrap_or_default()
    }

    /// What came from the actor, with the secrets in it that the actor was given.
    fn received(&self, value: Value) -> Value {
        let was_given = self.value().contains_secret() || self.call.inputs.contains_secret();
        if was_given { self.call.memory.labelled(value) } else { value }
    }

    /// Replaces the state when the action ends. Null deletes it.
    async fn replace(self, state: Value) -> Result<(), Failure> {
        let state = self.received(state).secret_if(self.call.definition().secure.outputs);
        let State { call, address, reserved } = self;
        let operation = if state.is_null() { Operation::Delete } else { Operation::Set { value: state } };
        let prepared = async {
            let request = Request::new(address.key.as_arc_str(), operation)?;
            reserved.prepare(&[request]).await
        };
        match prepared.await {
            Ok(prepared) => call.memory.commit_with_end(prepared),
            Err(why @ (Error::TooLarge { .. } | Error::TooDeep { .. })) => {
                let message = format!("The state that the actor returned cannot be stored: {why}.");
                return Err(Failure::lasting(why.code(), message));
            }
            Err(why) => return Err(lost(address.key.as_arc_str(), &why)),
        }
        Ok(())
    }
}

/// Transient, because the store may work again at the next attempt.
fn lost(id: &str, why: &Error) -> Failure {
    UserError::new(format!("The state of the actor '{id}' cannot be read or written: {why}."))
        .transient()
        .into()
}

impl ActorHandler {
    /// A handler for registered types and endpoints.
    pub fn new(actors: Actors, requests: Arc<Requests>) -> ActorHandler {
        ActorHandler { actors, requests, turns: Turns::default() }
    }

    async fn run(&self, call: &Call) -> Result<EffectResult, Failure> {
        let text = |member: &str| call.inputs.get(member).and_then(Value::as_str);
        let needed = |member: &str| {
            text(member).ok_or_else(|| Failure::bad_request(format!("The action's '{member}' is missing.")))
        };
        let (actor_type, method) = (needed("actorType")?, needed("method")?);
        let id = text("actorId").unwrap_or("default");
        let args = call.inputs.get("args").cloned().unwrap_or_default();
        if let Some(code) = self.actors.by_type.get(&actor_type.to_lowercase()) {
            let state = State::reserve(call, actor_type, id).await?;
            let reply = code(ActorCall {
                id: id.to_owned(),
                method: method.to_owned(),
                args,
                state: state.value(),
                idempotency_key: Arc::clone(&call.idempotency_key),
            });
            let ActorReply { result, state: next } = reply.await?;
            let result = state.received(result);
            state.replace(next).await?;
            return Ok(done(result));
        }
        let service = self.requests.settings().connections.actor(actor_type)?;
        let marks = marks(call);
        if service.keeps_state {
            let state = State::reserve(call, actor_type, id).await?;
            let body: Object = [("args", args), ("state", state.value())].into_iter().collect();
            let spec = posted(&service, &[id, method], body.into())?;
            // The state must not change between a request and its result, so there is no polling.
            let at_once = Behaviour { no_polling: true, ..Behaviour::default() };
            let answered = self.requests.perform(&spec, &marks, &at_once, None).await?;
            return returned(state, answered).await;
        }
        let key = format!("{}/{id}", actor_type.to_lowercase());
        let seat = QueueEntry { turns: &self.turns, key: &key, turn: self.turns.of(&key) };
        // Fair: tokio's mutex serves in the order of arrival.
        let turn = seat.turn.lock().await;
        let spec = posted(&service, &[id, method], args)?;
        let result =
            ended(self.requests.perform(&spec, &marks, &Behaviour::default(), call.resume.as_ref()).await);
        drop(turn);
        Ok(result)
    }
}

/// The result of a call to an actor behind an endpoint whose state is kept here: `{"result": …, "state": …}`. Without `state`,
/// it stays as it is.
async fn returned(state: State<'_>, answered: Progress) -> Result<EffectResult, Failure> {
    let mut answer = match answered {
        Progress::Final(answer) if answer.is_success() => answer,
        other => return Ok(ended(Ok(other))),
    };
    let mut outputs = answer.outputs.as_object().cloned().unwrap_or_default();
    let body = outputs.remove("body").unwrap_or_default();
    let Some(members) = body.as_object() else {
        let found = body.kind();
        let message = format!("The actor must return an object with `result` and `state` (got {found}).");
        return Err(Failure::lasting("InvalidActorResponse", message));
    };
    if let Some(stranger) = members.keys().find(|name| !matches!(&***name, "result" | "state")) {
        let stranger: String = stranger.chars().take(64).collect();
        let message = format!(
            "The actor must return an object with `result` and `state` (got the unknown property `{stranger}`)."
        );
        return Err(Failure::lasting("InvalidActorResponse", message));
    }
    if let Some(result) = members.get("result") {
        outputs.insert("body", state.received(result.clone()));
    }
    answer.outputs = state.received(outputs.into());
    if let Some(next) = members.get("state") {
        state.replace(next.clone()).await?;
    }
    Ok(ended(Ok(Progress::Final(answer))))
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
