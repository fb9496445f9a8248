//! The engine's ports: the handlers that make external calls, the source of secrets, and the clock. Hosts implement them.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, Workflow, model::Action};
use loom_expression::{Timestamp, Value};

pub use crate::call_memory::CallMemory;
use crate::{
    event::{EffectId, EffectResult, Outcome, Phase, RunId},
    live_text::Show,
    presence::Presence,
    trace_parent::TraceParent,
};

/// One external call that an action requests.
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
    /// The part of the action: the call itself, or a webhook's subscription.
    pub phase: Phase,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The action's evaluated inputs. For `Phase::Unsubscribe`, the request to send.
    pub inputs: Value,
    /// For a script, the part of the run that its code refers to: `{workflow, trigger, actions}`.
    pub context: Option<Value>,
    /// What an earlier call of this action returned in [`EffectResult::Pending`].
    pub resume: Option<Value>,
    /// The same for every attempt at this occurrence of the action, even after a crash:
    /// `run id / action path / iteration`.
    pub idempotency_key: Arc<str>,
    /// The caller's tracking id.
    pub tracking_id: Arc<str>,
    /// Identifies this occurrence of the action.
    pub action_tracking_id: Arc<str>,
    /// The parent span to send to the service, so that it continues the same trace.
    pub trace: Option<TraceParent>,
    /// The callback URL, for a subscription; none when this host does not listen for callbacks.
    pub callback: Option<Arc<str>>,
    /// The action's deadline; none leaves the timeout to the handler.
    pub due: Option<Timestamp>,
    /// Number of ancestors of the calling run in a chain of child workflows.
    pub depth: u8,
    /// For an agent: what has happened so far.
    pub turn: Option<Box<Turn>>,
    /// Where the call may show text while it arrives.
    pub show: Show,
    /// Until when what the handler keeps for the run is needed.
    pub presence: Presence,
    /// Shared memory: what the call writes is committed with the end of the action.
    pub memory: CallMemory,
}

/// What an agent has done so far, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The number of the turn, from 1.
    pub number: u32,
    /// What the earlier turns returned as their outputs, oldest first.
    pub earlier: Vec<Value>,
    /// The results of the tools that the last turn asked for, in the same order.
    pub results: Vec<ToolReturned>,
    /// The outputs of the agent that handed over to this one.
    pub handed_over: Option<Value>,
    /// The agents of the same block that can no longer be handed to, because they have run.
    pub gone: Vec<Arc<str>>,
}

/// The result of one use of a tool.
#[derive(Clone, Debug)]
pub struct ToolReturned {
    /// The id that the model gave the use.
    pub id: Arc<str>,
    /// The tool, by its index in the definition of the agent.
    pub tool: u32,
    /// The outcome of the last action that was not skipped, or that of the action that made the tool fail.
    pub outcome: Outcome,
}

impl Call {
    /// The action in the definition.
    pub fn definition(&self) -> &Action {
        self.workflow.action(self.action)
    }
}

/// Says how much time has passed. The engine reads it to share its threads fairly among runs; no decision depends on it.
pub trait Stopwatch: Send + Sync {
    /// The time since some moment, which is always the same one. It never decreases.
    fn elapsed(&self) -> Duration;
}

/// The future that a handler returns.
pub type CallFuture<'a> = Pin<Box<dyn Future<Output = EffectResult> + Send + 'a>>;

/// Makes the calls of one kind of action.
pub trait ActionHandler: Send + Sync {
    /// Makes one attempt.
    ///
    /// # Cancel safety
    /// The future is dropped when the action is cancelled or times out; dropping it must release its connection.
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a>;

    /// The service that `inputs` address: the key of circuit breakers and rate limiters that have no name. For a request,
    /// this is its origin (`https://host:port`).
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let _ = inputs;
        None
    }

    /// Whether the call that `inputs` describe can be made twice with the same effect as once. Only such calls are hedged,
    /// unless the definition declares the call repeatable.
    fn is_idempotent(&self, inputs: &Value) -> bool {
        let _ = inputs;
        false
    }
}

/// Wall-clock time. It may jump when the system's clock is adjusted; runs use a time of their own that never goes back.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// A secret that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its value. The engine labels it as secret.
    pub value: Arc<str>,
    /// Its name, without a version.
    pub name: Arc<str>,
    /// The version that was read, if the secret has versions. A journal refers to the version instead of storing the value, so
    /// a version must always have the same value.
    pub version: Option<Arc<str>>,
}

/// Does not show the value.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The future that a source returns. The error is a message that says why the secret is not available, such as unknown,
/// expired or disabled.
pub type SecretFuture<'a> = Pin<Box<dyn Future<Output = Result<Secret, String>> + Send + 'a>>;

/// Reads secrets for `secret()`.
pub trait SecretSource: Send + Sync {
    /// Reads a secret: the given version, or the one that is in use now. Without `version`, `name` is what the expression
    /// says, and may itself select a version, in the source's own syntax. With `version`, both are from a [`Secret`] that this
    /// source returned earlier.
    ///
    /// # Cancel safety
    /// The future is dropped when the secret takes too long. It must not block the thread that polls it.
    fn read<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> SecretFuture<'a>;

    /// Whether the runs and triggers of a workflow may have a secret that was read for them. It is not asked about the versions
    /// that a run has used before.
    ///
    /// # Errors
    /// Why not.
    fn check_reader(&self, secret: &Secret, workflow: &str) -> Result<(), String> {
        let _ = (secret, workflow);
        Ok(())
    }
}

/// One request that a trigger makes automatically: a poll, or a webhook's subscription.
#[derive(Clone, Debug)]
pub struct TriggerCall {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The workflow's version, sent to the service.
    pub version: Arc<str>,
    /// The trigger's name.
    pub trigger: Arc<str>,
    /// The purpose of the request.
    pub ask: TriggerPurpose,
    /// Whether `inputs` name a connection instead of a URL.
    pub through_connection: bool,
    /// The evaluated request.
    pub inputs: Value,
    /// The callback URL, for a subscription.
    pub callback: Option<Arc<str>>,
    /// Replaces the URL in `inputs`: the `Location` of the last response.
    pub address: Option<Arc<str>>,
    /// The same for every attempt at this request, even after a crash.
    pub idempotency_key: Arc<str>,
    /// Identifies the subscription or poll to the service.
    pub tracking_id: Arc<str>,
}

/// The purpose of a trigger's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerPurpose {
    /// Asks whether there is new data.
    Poll,
    /// Subscribes to callbacks.
    Subscribe,
    /// Ends the subscription.
    Unsubscribe,
}

/// Makes the requests of triggers, one attempt at a time.
///
/// The result is always [`EffectResult::Done`]. A `Location` among the headers of its outputs must be an absolute URL.
pub trait TriggerHandler: fmt::Debug + Send + Sync {
    /// Makes one attempt.
    ///
    /// # Cancel safety
    /// The future is dropped when the server stops; dropping it must release its connection.
    fn call<'a>(&'a self, call: &'a TriggerCall) -> CallFuture<'a>;
}
