//! Events and commands: the facts of a run, in the past tense, and the requests that cause them.
//!
//! A run's state is the fold of its events. Times, random values and outcomes are part of them as data, so that a fold
//! yields the same state on any machine at any time. Nothing here is a wire format; the journal has its own encoding.

use std::{borrow::Cow, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, BlockIdx, RunStatus, Status, VariableIdx};
use loom_expression::{MASK, Masker, Timestamp, Value, without_quotes};
use loom_resilience::Learned;

use crate::trace_parent::TraceParent;

pub use loom_store::RunId;

/// One opening of a block within a run. Ids are reused once the block is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpeningId(pub u32);

impl OpeningId {
    /// The block of the workflow itself.
    pub const ROOT: OpeningId = OpeningId(0);
}

/// One occurrence of an action: which opening of its block, and which action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The block's opening.
    pub opening: OpeningId,
    /// The action.
    pub action: ActionIdx,
}

/// One external call. Unique in its run; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u32);

/// One timer. Unique in its run; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u32);

/// An action's or error's code: `OK`, `ActionFailed`, `NotFound`, `"429"`.
pub type Code = Cow<'static, str>;

/// An error as the language represents it: `{"code": …, "message": …}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorInfo {
    /// A short, stable code.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// Further details, if the source provided any.
    pub details: Option<Value>,
}

impl ErrorInfo {
    /// An error without details.
    pub fn new(code: impl Into<Code>, message: impl Into<String>) -> ErrorInfo {
        ErrorInfo { code: code.into(), message: message.into(), details: None }
    }

    /// The error that a definition specifies with `{"code": …, "message": …}`. Errors are stored and shown as plain text,
    /// so parts that are secret are masked.
    pub(crate) fn specified(value: &Value) -> ErrorInfo {
        let part = |name: &str| match value.get(name) {
            None => String::new(),
            Some(part) if part.contains_secret() => MASK.to_owned(),
            Some(part) => part.text().into_owned(),
        };
        ErrorInfo { code: Code::Owned(part("code")), message: part("message"), details: None }
    }

    /// The inverse of [`ErrorInfo::to_value`].
    pub(crate) fn from_value(value: &Value) -> ErrorInfo {
        let text = |name: &str| value.get(name).map(|part| part.text().into_owned()).unwrap_or_default();
        let details = value.get("details").cloned();
        ErrorInfo { code: Code::Owned(text("code")), message: text("message"), details }
    }

    /// The error with quotations of secret parts of `about` removed, and the secrets that `masker` knows masked. Every error
    /// that was made from the inputs of an action passes through here before it is stored.
    pub(crate) fn withheld(mut self, about: &Value, masker: &Masker) -> ErrorInfo {
        let clean = |text: &str| match masker.mask(&without_quotes(text, [about])) {
            Cow::Borrowed(same) if same == text => None,
            other => Some(other.into_owned()),
        };
        if let Some(message) = clean(&self.message) {
            self.message = message;
        }
        if let Some(code) = clean(&self.code) {
            self.code = Cow::Owned(code);
        }
        if about.contains_secret() {
            self.details = self.details.map(Value::into_secret);
        }
        self
    }

    /// `{"code": …, "message": …}`.
    pub fn to_value(&self) -> Value {
        let mut members =
            vec![("code", Value::from(self.code.as_ref())), ("message", Value::from(self.message.as_str()))];
        if let Some(details) = &self.details {
            members.push(("details", details.clone()));
        }
        members.into_iter().collect::<loom_expression::Object>().into()
    }
}

/// A value as messages quote it; a secret is masked.
pub(crate) fn shown(value: &Value) -> String {
    if value.contains_secret() { MASK.to_owned() } else { value.to_json_text() }
}

/// How an action, or one attempt at it, ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The final status.
    pub status: Status,
    /// An HTTP status name such as `OK` or `NotFound`, or a code of the engine.
    pub code: Code,
    /// Its outputs, if it has any.
    pub outputs: Option<Value>,
    /// The error, if it failed.
    pub error: Option<Arc<ErrorInfo>>,
}

impl Outcome {
    /// Success with outputs.
    pub fn ok(outputs: Option<Value>) -> Outcome {
        Outcome { status: Status::Succeeded, code: Cow::Borrowed("OK"), outputs, error: None }
    }

    /// Failure without outputs. The code is that of the error, or `BadRequest` for `InvalidTemplate`.
    pub fn of_error(error: ErrorInfo) -> Outcome {
        let code =
            if error.code == "InvalidTemplate" { Cow::Borrowed("BadRequest") } else { error.code.clone() };
        Outcome::failed(code, error)
    }

    /// Failure without outputs.
    pub fn failed(code: impl Into<Code>, error: ErrorInfo) -> Outcome {
        Outcome { status: Status::Failed, code: code.into(), outputs: None, error: Some(Arc::new(error)) }
    }
}

impl Outcome {
    /// The outcome with secrets removed from its error: quotations of secret parts of `about`, the inputs that it was made
    /// from, and the secrets that `masker` knows.
    #[must_use]
    pub fn withheld(mut self, about: &Value, masker: &Masker) -> Outcome {
        if let Some(error) = self.error.take() {
            if self.code == error.code {
                let error = Arc::unwrap_or_clone(error).withheld(about, masker);
                self.code.clone_from(&error.code);
                self.error = Some(Arc::new(error));
            } else {
                self.error = Some(Arc::new(Arc::unwrap_or_clone(error).withheld(about, masker)));
            }
        }
        self
    }
}

/// A handler's advice on whether a failed attempt should be retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryHint {
    /// Whether the failure is transient by the rules of this kind of action.
    pub transient: bool,
    /// The minimum wait before the next attempt: `Retry-After`, the time until half-open, the time until a permit.
    pub after: Option<Duration>,
    /// Whether the call was rejected locally; the service received no request.
    pub refused: bool,
    /// The state of the service's circuit after the attempt.
    pub circuit: CircuitHint,
    /// What the response reported about the service's own limit.
    pub learned: Option<Learned>,
}

/// The consequence of a circuit's state for the next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitHint {
    /// The circuit lets calls through, or there is none.
    #[default]
    Passes,
    /// The circuit is open, and lets a probe through after this time. Earlier attempts are rejected.
    OpenFor(Duration),
    /// An operator opened the circuit, so waiting does not help.
    OpenedByHand,
}

/// The code of an action whose failure was replaced by its `fallback`.
pub const FALLBACK: &str = "Fallback";

/// Something noteworthy that happened during an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A rate limiter or bulkhead delayed the call.
    Waited {
        /// The service's name.
        service: Arc<str>,
        /// `rate limit` or `bulkhead`.
        by: Cow<'static, str>,
        /// The delay.
        wait: Duration,
    },
    /// A circuit breaker changed its state.
    Breaker {
        /// The service's name.
        service: Arc<str>,
        /// The old state: `Closed`, `Open` or `HalfOpen`.
        from: Cow<'static, str>,
        /// The new state.
        to: Cow<'static, str>,
        /// The reason, for people.
        why: String,
    },
    /// Further copies of a slow call were sent.
    Hedged {
        /// The service's name.
        service: Arc<str>,
        /// The number of further copies.
        copies: u32,
    },
    /// A part of a policy in observe mode would have interfered.
    Observed {
        /// The service's name.
        service: Arc<str>,
        /// The part, as [`loom_resilience::Part::as_str`] names it.
        part: Cow<'static, str>,
    },
    /// Chaos was injected on the operator's order.
    Injected {
        /// The service's name, or that of the action.
        service: Arc<str>,
        /// `fault`, `latency`, `outcome` or `behaviour`.
        kind: Cow<'static, str>,
        /// What was injected, for people.
        what: String,
    },
    /// The call was interrupted after a part of its text had arrived.
    Interrupted {
        /// The part.
        text: String,
    },
}

/// A fact about a run. The order of a run's events is significant.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run started.
    RunStarted {
        /// Everything it starts from.
        start: Arc<RunStart>,
        /// When.
        at: Timestamp,
    },
    /// A block was opened: the workflow itself, a branch, or one iteration of a loop.
    BlockOpened {
        /// Its id from here on.
        opening: OpeningId,
        /// The block.
        block: BlockIdx,
        /// The action that opened it; none for the workflow itself.
        parent: Option<Place>,
        /// Iteration of a loop, from 0.
        index: u32,
        /// When.
        at: Timestamp,
    },
    /// An action that does not end immediately started.
    ActionStarted {
        /// The action.
        place: Place,
        /// When.
        at: Timestamp,
        /// Its evaluated inputs: a request, a loop's items, a condition's result.
        inputs: Option<Value>,
    },
    /// The limits of a loop were evaluated.
    LoopStarted {
        /// The loop.
        place: Place,
        /// The maximum number of iterations.
        count: u32,
        /// No iteration starts after this time.
        deadline: Timestamp,
        /// The pause between iterations.
        delay: Duration,
    },
    /// An external call is about to be made; the event is durable before the call.
    AttemptStarted {
        /// The action.
        place: Place,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The call's id.
        effect: EffectId,
        /// The part of the action that the call belongs to.
        phase: Phase,
        /// Where to continue, for a call that is polled.
        resume: Option<Value>,
        /// When.
        at: Timestamp,
    },
    /// Something noteworthy happened during an attempt.
    AttemptNoted {
        /// The call.
        effect: EffectId,
        /// What happened.
        note: Note,
        /// When.
        at: Timestamp,
    },
    /// An attempt ended; `next` says what follows.
    AttemptEnded {
        /// The action.
        place: Place,
        /// The call.
        effect: EffectId,
        /// The result of the attempt.
        outcome: Outcome,
        /// What follows.
        next: Next,
        /// When.
        at: Timestamp,
    },
    /// A timer was set; it fires once, late rather than never.
    TimerSet {
        /// Its id.
        timer: TimerId,
        /// When it is due.
        due: Timestamp,
        /// The action that it belongs to.
        place: Place,
        /// What it is for.
        purpose: Purpose,
    },
    /// A timer fired or was no longer needed.
    TimerEnded {
        /// The timer.
        timer: TimerId,
    },
    /// A variable has a new value.
    VariableSet {
        /// The variable.
        variable: VariableIdx,
        /// Its new value.
        value: Value,
    },
    /// An item was added at the end of an array variable.
    VariableAppended {
        /// The variable.
        variable: VariableIdx,
        /// The item.
        item: Value,
    },
    /// A response was sent to the caller.
    Responded {
        /// The Response action.
        place: Place,
        /// `{statusCode, headers, body}`.
        response: Value,
    },
    /// An action ended.
    ActionEnded {
        /// The action.
        place: Place,
        /// When it began.
        started: Timestamp,
        /// When it ended.
        at: Timestamp,
        /// Its inputs, if no `ActionStarted` contained them.
        inputs: Option<Value>,
        /// The result.
        outcome: Outcome,
    },
    /// `trackedProperties` of an action were evaluated.
    Tracked {
        /// The action.
        place: Place,
        /// The properties.
        properties: Value,
    },
    /// The run waits: as many runs of its trigger are in progress as may be. Part of the commit that accepts it.
    RunWaiting {
        /// Since when.
        at: Timestamp,
    },
    /// The run waits no longer.
    RunAdmitted {
        /// When.
        at: Timestamp,
    },
    /// The run was suspended.
    Suspended {
        /// When.
        at: Timestamp,
    },
    /// The run was resumed.
    Resumed {
        /// When.
        at: Timestamp,
    },
    /// The run ended; no events follow.
    RunEnded {
        /// The final status.
        status: RunStatus,
        /// The error, if it ended with one.
        error: Option<Arc<ErrorInfo>>,
        /// The workflow's outputs.
        outputs: Option<Value>,
        /// When.
        at: Timestamp,
    },
}

/// The part of an action that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The action's own call.
    Call,
    /// Admission to a service, for an action that the engine itself executes.
    Admit,
    /// The request that subscribes a webhook.
    Subscribe,
    /// The request that unsubscribes a webhook; its result is ignored.
    Unsubscribe,
    /// The wait for a person who approves untrusted inputs, before the action's call.
    Approve,
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Another attempt, when the timer fires.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// The same attempt continues from `resume`, when the timer fires.
    Poll {
        /// When.
        due: Timestamp,
        /// Where to continue.
        resume: Value,
    },
    /// The action waits for its callback.
    Callback,
    /// The engine now executes the action itself.
    Execute,
    /// The call that was waited for is made now: its inputs were approved.
    Proceed,
    /// The action ends.
    End,
    /// The agent uses tools, or none, and then makes the call of its next turn.
    Turn {
        /// The uses, in the order in which the model asked for them.
        uses: Vec<ToolUse>,
    },
}

/// A use of a tool that a model asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolUse {
    /// The id that the model gave it.
    pub id: Arc<str>,
    /// The tool, by its index in the definition of the agent.
    pub tool: u32,
    /// The arguments, which `agentParameters()` reads.
    pub arguments: Value,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The next attempt.
    Retry,
    /// The next poll.
    Poll,
    /// The end of a `Wait`.
    Wait,
    /// The next iteration of a loop.
    Iteration,
    /// The action's timeout.
    Limit,
}

/// Everything a run is started from.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The run's id.
    pub run: RunId,
    /// The seed of jitter, `rand()` and `guid()`.
    pub seed: u64,
    /// Parameter values, in the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// What `trigger()` returns.
    pub trigger: Value,
    /// What `workflow()` returns.
    pub workflow: Value,
    /// The caller's tracking id, or the run's id.
    pub tracking_id: Arc<str>,
    /// Whether the caller waits for a Response.
    pub wants_response: bool,
    /// The parent span of the run, if the caller sent one.
    pub trace: Option<TraceParent>,
    /// Number of ancestors in a chain of child workflows.
    pub depth: u8,
}

impl RunStart {
    /// The name of the trigger that fired.
    pub fn trigger_name(&self) -> Option<&str> {
        self.trigger.get("name").and_then(Value::as_str)
    }
}

/// A request to a run, from its caller, a handler, a timer or an operator.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start the run.
    Start(Arc<RunStart>),
    /// Accept the run, which waits for [`Command::Admit`] before anything of it is evaluated.
    Accept(Arc<RunStart>),
    /// Start a run that waits.
    Admit,
    /// A call ended.
    EffectEnded {
        /// The call.
        effect: EffectId,
        /// Its result.
        result: EffectResult,
    },
    /// Something noteworthy happened during a call.
    EffectNoted {
        /// The call.
        effect: EffectId,
        /// What happened.
        note: Note,
    },
    /// A timer is due.
    TimerFired(TimerId),
    /// A webhook's callback arrived.
    Callback {
        /// The call that subscribed.
        effect: EffectId,
        /// `{headers, body, queries}`.
        payload: Value,
    },
    /// Cancel the run.
    Cancel,
    /// The run has reached its maximum duration.
    TimeOut,
    /// Suspend the run.
    Suspend,
    /// Resume the run.
    Resume,
}

/// The result of a call.
#[derive(Clone, Debug)]
pub enum EffectResult {
    /// The call ended.
    Done {
        /// Its outcome.
        outcome: Outcome,
        /// Advice on retrying a failure.
        hint: RetryHint,
    },
    /// The operation is still in progress and must be polled.
    Pending {
        /// The response so far, for the history.
        outcome: Outcome,
        /// The wait before the next poll.
        after: Duration,
        /// Passed to the next call as [`Call::resume`](crate::ports::Call::resume).
        resume: Value,
    },
    /// The service admitted an action that the engine executes itself.
    Admitted,
    /// An agent made a turn. The call of the next turn follows when the tools have ended.
    Turn {
        /// What was said and asked for. The outputs are passed to later turns in [`Turn::earlier`](crate::ports::Turn::earlier).
        outcome: Outcome,
        /// The tools to use.
        uses: Vec<ToolUse>,
    },
}
