//! What the engine asks of the world: handlers that make calls, and a clock.

use std::{future::Future, pin::Pin, sync::Arc};

use loom_definition::{ActionIdx, Workflow, model::Action};
use loom_expression::{Timestamp, Value};

use crate::event::{EffectId, EffectResult, Phase, RunId};

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
    /// What an earlier call of this action handed over with [`EffectResult::Pending`].
    pub resume: Option<Value>,
    /// The same for every attempt at this occurrence of the action, also after a crash:
    /// `run id / action path / iteration`.
    pub idempotency_key: Arc<str>,
    /// The caller's tracking id.
    pub tracking_id: Arc<str>,
    /// Identifies this occurrence of the action.
    pub action_tracking_id: Arc<str>,
    /// When the action's time is over; none leaves it to the handler.
    pub due: Option<Timestamp>,
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

/// Wall time. Steps of the system's clock may show; timers are made of differences.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}
