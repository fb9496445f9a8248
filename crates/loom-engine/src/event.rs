//! What happens to a run: facts, in the past tense, and the commands that bring them about.
//!
//! A run is the fold of its events. Times, drawn values and outcomes are in them as data, so that a fold gives the same
//! state on any machine at any time. Nothing here is a wire format; the journal has its own encoding.

use std::{borrow::Cow, sync::Arc, time::Duration};

use loom_definition::{ActionIdx, BlockIdx, RunStatus, Status, VariableIdx};
use loom_expression::{MASK, Masker, Timestamp, Value, without_quotes};

use crate::trace::TraceParent;

pub use loom_store::RunId;

/// One opening of a block within a run. Ids are given again once the block is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u32);

impl FrameId {
    /// The workflow's own block.
    pub const ROOT: FrameId = FrameId(0);
}

/// One occurrence of an action: which opening of its block, and which action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The block's opening.
    pub frame: FrameId,
    /// The action.
    pub action: ActionIdx,
}

/// One call to the outside, unique in its run and never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u32);

/// One timer, unique in its run and never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u32);

/// An action's or error's code: `OK`, `ActionFailed`, `NotFound`, `"429"`.
pub type Code = Cow<'static, str>;

/// What went wrong, as the language shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorInfo {
    /// Stable and short.
    pub code: Code,
    /// For people.
    pub message: String,
    /// More, if the source had more.
    pub details: Option<Value>,
}

impl ErrorInfo {
    /// An error without details.
    pub fn new(code: impl Into<Code>, message: impl Into<String>) -> ErrorInfo {
        ErrorInfo { code: code.into(), message: message.into(), details: None }
    }

    /// What a definition says with `{"code": …, "message": …}`. Errors are kept and shown as plain text, so a part that
    /// is secret is left out of it.
    pub(crate) fn told(value: &Value) -> ErrorInfo {
        let part = |name: &str| match value.get(name) {
            None => String::new(),
            Some(part) if part.contains_secret() => MASK.to_owned(),
            Some(part) => part.text().into_owned(),
        };
        ErrorInfo { code: Code::Owned(part("code")), message: part("message"), details: None }
    }

    /// What [`ErrorInfo::to_value`] gave.
    pub(crate) fn from_value(value: &Value) -> ErrorInfo {
        let text = |name: &str| value.get(name).map(|part| part.text().into_owned()).unwrap_or_default();
        let details = value.get("details").cloned();
        ErrorInfo { code: Code::Owned(text("code")), message: text("message"), details }
    }

    /// The error without what it quotes of `about`, if that is secret, and without the secrets that `masker` knows. Every
    /// failure that was made from the inputs of an action comes through here before it is kept.
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

/// A value as messages quote it; one that is secret is not quoted.
pub(crate) fn shown(value: &Value) -> String {
    if value.contains_secret() { MASK.to_owned() } else { value.to_json_text() }
}

/// How an action, or one attempt at it, ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The final status.
    pub status: Status,
    /// HTTP-like or engine code.
    pub code: Code,
    /// Its outputs, when it has any.
    pub outputs: Option<Value>,
    /// What went wrong.
    pub error: Option<Arc<ErrorInfo>>,
}

impl Outcome {
    /// Success with outputs.
    pub fn ok(outputs: Option<Value>) -> Outcome {
        Outcome { status: Status::Succeeded, code: Cow::Borrowed("OK"), outputs, error: None }
    }

    /// Failure without outputs, whose code is that of its error: `BadRequest` where inputs could not be evaluated.
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
    /// The outcome with an error that quotes neither `about`, the inputs that it was made from, where they are secret, nor
    /// a secret that `masker` knows.
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

/// Whether a failed attempt may be repeated, as the one who made it sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryHint {
    /// The kind's own rule says that trying again makes sense.
    pub transient: bool,
    /// The least wait the failure asks for: `Retry-After`, the time until half-open, the time until a permit.
    pub after: Option<Duration>,
    /// We refused the call ourselves; the service was not asked.
    pub refused: bool,
    /// How the service's circuit stands after the attempt.
    pub circuit: CircuitHint,
}

/// What a circuit means for the next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CircuitHint {
    /// It lets calls through, or there is none.
    #[default]
    Passes,
    /// It is open, and lets a probe through after this time. An earlier attempt would only be refused.
    OpenFor(Duration),
    /// An operator opened it, so no wait helps.
    OpenedByHand,
}

/// What a person may want to know about an attempt while it is under way.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The limiter or bulkhead held the call back.
    Held {
        /// Which service.
        service: Arc<str>,
        /// `rate limit` or `bulkhead`.
        by: Cow<'static, str>,
        /// For how long.
        wait: Duration,
    },
    /// A breaker changed its state.
    Breaker {
        /// Which service.
        service: Arc<str>,
        /// `Closed`, `Open`, `HalfOpen`.
        from: Cow<'static, str>,
        /// The new state.
        to: Cow<'static, str>,
        /// Why, in words.
        why: String,
    },
}

/// A fact. The order of a run's events is their meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run exists.
    RunStarted {
        /// Everything it starts from.
        start: Arc<RunStart>,
        /// When.
        at: Timestamp,
    },
    /// A block was opened: the workflow itself, a branch, one round of a loop.
    FrameOpened {
        /// Its id from here on.
        frame: FrameId,
        /// Which block.
        block: BlockIdx,
        /// The action that opened it; none for the workflow itself.
        parent: Option<Place>,
        /// Round of a loop, from 0.
        index: u32,
        /// When.
        at: Timestamp,
    },
    /// An action that takes time began.
    ActionStarted {
        /// Which.
        place: Place,
        /// When.
        at: Timestamp,
        /// Its evaluated inputs: a request, a loop's items, a condition's result.
        inputs: Option<Value>,
    },
    /// A loop's settings were evaluated.
    LoopStarted {
        /// Which.
        place: Place,
        /// The most rounds.
        count: u32,
        /// No round starts after this.
        deadline: Timestamp,
        /// The pause between rounds.
        delay: Duration,
    },
    /// A call to the outside is about to be made; durable before it is made.
    AttemptStarted {
        /// Which action.
        place: Place,
        /// From 1.
        attempt: u32,
        /// The call's id.
        effect: EffectId,
        /// Which part of the action.
        phase: Phase,
        /// Where to go on, for a call that is polled.
        resume: Option<Value>,
        /// When.
        at: Timestamp,
    },
    /// Something worth telling happened during an attempt.
    AttemptNoted {
        /// The call.
        effect: EffectId,
        /// What.
        note: Note,
        /// When.
        at: Timestamp,
    },
    /// A call ended, and the action goes on: it will be tried again, polled again, or waits for a callback.
    AttemptEnded {
        /// Which action.
        place: Place,
        /// The call.
        effect: EffectId,
        /// How it ended.
        outcome: Outcome,
        /// What comes next.
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
        /// Whose it is.
        place: Place,
        /// What for.
        purpose: Purpose,
    },
    /// A timer fired or was no longer needed.
    TimerEnded {
        /// Which.
        timer: TimerId,
    },
    /// A variable has a new value.
    VariableSet {
        /// Which.
        variable: VariableIdx,
        /// The value.
        value: Value,
    },
    /// An item was added at the end of an array variable.
    VariableAppended {
        /// Which.
        variable: VariableIdx,
        /// The item.
        item: Value,
    },
    /// The caller was answered.
    Responded {
        /// By which action.
        place: Place,
        /// `{statusCode, headers, body}`.
        response: Value,
    },
    /// An action ended.
    ActionEnded {
        /// Which.
        place: Place,
        /// When it began.
        started: Timestamp,
        /// When it ended.
        at: Timestamp,
        /// Inputs, if they were not told at its start.
        inputs: Option<Value>,
        /// How.
        outcome: Outcome,
    },
    /// `trackedProperties` of an action were evaluated.
    Tracked {
        /// Which action.
        place: Place,
        /// The properties.
        properties: Value,
    },
    /// The run stands still until it is resumed.
    Suspended {
        /// When.
        at: Timestamp,
    },
    /// The run goes on.
    Resumed {
        /// When.
        at: Timestamp,
    },
    /// The run ended; nothing follows.
    RunEnded {
        /// How.
        status: RunStatus,
        /// What went wrong.
        error: Option<Arc<ErrorInfo>>,
        /// The workflow's outputs.
        outputs: Option<Value>,
        /// When.
        at: Timestamp,
    },
}

/// Which part of an action a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The call that is the action.
    Call,
    /// Admission to a service, for an action that the engine itself executes.
    Admit,
    /// A webhook's subscription.
    Subscribe,
    /// The end of a webhook's subscription; its result changes nothing.
    Unsubscribe,
}

/// What follows an attempt that did not end its action.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Another attempt, when the timer fires.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// The same attempt goes on from `resume`, when the timer fires.
    Poll {
        /// When.
        due: Timestamp,
        /// Where to go on.
        resume: Value,
    },
    /// The action waits for its callback.
    Callback,
    /// The engine now executes the action itself.
    Execute,
    /// The action's end follows.
    End,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The next attempt.
    Retry,
    /// The next poll.
    Poll,
    /// A `Wait` is over.
    Wait,
    /// The next round of a loop.
    Round,
    /// The action's time limit.
    Limit,
}

/// Everything a run starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The run's id.
    pub run: RunId,
    /// Seeds jitter, `rand` and `guid`.
    pub seed: u64,
    /// Values by the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// What `trigger()` gives.
    pub trigger: Value,
    /// What `workflow()` gives.
    pub workflow: Value,
    /// The caller's tracking id, or the run's id.
    pub tracking_id: Arc<str>,
    /// Whether somebody waits for a Response.
    pub wants_response: bool,
    /// The span that the run belongs under, if its caller named one.
    pub trace: Option<TraceParent>,
    /// How many runs stand above it in the chain of those that started each other as child workflows.
    pub depth: u8,
}

/// Something that asks a run to go on.
#[derive(Clone, Debug)]
pub enum Command {
    /// Begin.
    Start(Arc<RunStart>),
    /// A call ended.
    EffectEnded {
        /// Which.
        effect: EffectId,
        /// How.
        result: EffectResult,
    },
    /// Something worth telling happened during a call.
    EffectNoted {
        /// Which.
        effect: EffectId,
        /// What.
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
    /// Stop, as from outside.
    Cancel,
    /// The run took longer than a run may.
    TimeOut,
    /// Stand still.
    Suspend,
    /// Go on.
    Resume,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum EffectResult {
    /// With an outcome.
    Done {
        /// Which.
        outcome: Outcome,
        /// Whether another attempt makes sense.
        hint: RetryHint,
    },
    /// Not yet: ask again later.
    Pending {
        /// The answer so far, for history.
        outcome: Outcome,
        /// How long to wait.
        after: Duration,
        /// Handed back with the next call.
        resume: Value,
    },
    /// The service admits an action that the engine executes itself.
    Admitted,
}
