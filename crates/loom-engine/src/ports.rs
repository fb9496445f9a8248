//! What the engine asks of the world: handlers that make calls, and a clock.

use std::{future::Future, pin::Pin, sync::Arc};

use loom_definition::{ActionIdx, Workflow, model::Action};
use loom_expression::{Timestamp, Value};

use crate::{
    event::{EffectId, EffectResult, Phase, RunId},
    trace::TraceParent,
};

/// One call that an action asks for.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: Arc<Workflow>,
    /// The action.
    pub action: ActionIdx,
    /// The call's id in its run.
    pub effect: EffectId,
    /// Which part of the action: the call itself, or a webhook's subscription.
    pub phase: Phase,
    /// From 1.
    pub attempt: u32,
    /// The action's evaluated inputs. For `Phase::Unsubscribe`, the request to send.
    pub inputs: Value,
    /// For a script, what its code sees of the run: `{workflow, trigger, actions}`, with what it refers to and no more.
    pub context: Option<Value>,
    /// What an earlier call of this action handed over with [`EffectResult::Pending`].
    pub resume: Option<Value>,
    /// The same for every attempt at this occurrence of the action, also after a crash:
    /// `run id / action path / iteration`.
    pub idempotency_key: Arc<str>,
    /// The caller's tracking id.
    pub tracking_id: Arc<str>,
    /// Identifies this occurrence of the action.
    pub action_tracking_id: Arc<str>,
    /// The span that what is called belongs under, for the service to go on in the same trace.
    pub trace: Option<TraceParent>,
    /// Where the service is to call back, for a subscription; none when nothing here listens for callbacks.
    pub callback: Option<Arc<str>>,
    /// When the action's time is over; none leaves it to the handler.
    pub due: Option<Timestamp>,
    /// How many runs stand above the one that calls, in the chain of those that started each other.
    pub depth: u8,
}

impl Call {
    /// The action as the definition has it.
    pub fn definition(&self) -> &Action {
        self.workflow.action(self.action)
    }
}

/// A future that a handler returns.
pub type CallFuture<'a> = Pin<Box<dyn Future<Output = EffectResult> + Send + 'a>>;

/// Makes the calls of one kind of action.
pub trait ActionHandler: Send + Sync {
    /// Makes one attempt.
    ///
    /// # Cancel safety
    /// The future is dropped when the action is cancelled or its time is over; it must let go of its connection then.
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a>;

    /// The service that `inputs` address: what breakers and limiters without a name are kept under. For a request
    /// this is its origin (`https://host:port`).
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let _ = inputs;
        None
    }
}

/// Wall time. Steps of the system's clock may show; runs reckon in a time of their own, which never goes back.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// One request that a trigger makes by itself.
#[derive(Clone, Debug)]
pub struct TriggerCall {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Its version, for the service to see.
    pub version: Arc<str>,
    /// The trigger's name.
    pub trigger: Arc<str>,
    /// What is asked.
    pub ask: TriggerAsk,
    /// Whether `inputs` name a connection, not an address.
    pub through_connection: bool,
    /// The evaluated request.
    pub inputs: Value,
    /// Where the service is to call back, for a subscription.
    pub callback: Option<Arc<str>>,
    /// Asked in the place of the address in `inputs`: where the last answer pointed.
    pub address: Option<Arc<str>>,
    /// The same for every attempt at this request, also after a crash.
    pub idempotency_key: Arc<str>,
    /// Tells the service which subscription or poll this is.
    pub tracking_id: Arc<str>,
}

/// What a trigger asks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerAsk {
    /// Whether there is something new.
    Poll,
    /// To be called back.
    Subscribe,
    /// Not to be called back any more.
    Unsubscribe,
}

/// Makes the requests of triggers, one attempt at a time.
///
/// Its result is `EffectResult::Done`. A `Location` among the headers of its outputs is a whole address.
pub trait TriggerHandler: std::fmt::Debug + Send + Sync {
    /// Makes one attempt.
    ///
    /// # Cancel safety
    /// The future is dropped when the server stops; it must let go of its connection then.
    fn call<'a>(&'a self, call: &'a TriggerCall) -> CallFuture<'a>;
}
