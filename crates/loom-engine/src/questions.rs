//! Questions to people: `AskPerson` actions that wait for a reply or an approval.
//!
//! A question is answered by a signal whose name nobody else can send, so it waits, survives a restart and is consumed exactly as one
//! (see `signals`). It has one answer: the first is kept under the question's own idempotency key.

use std::{fmt, sync::Arc};

use loom_definition::model::Action;
use loom_expression::{Object, Timestamp, Value};
use loom_store::Error as StoreError;

use crate::{
    event::{Phase, Place, RunId},
    machine::occurrence,
    ports::Call,
    state::RunState,
    unloadable::RecoverError,
};

/// The type of the actions.
const TYPE: &str = "AskPerson";

/// What a person is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A message.
    Reply,
    /// Whether something may be done.
    Approval,
}

impl Ask {
    fn of(inputs: &Value) -> Ask {
        match inputs.get("ask").and_then(Value::as_str) {
            Some(text) if text.eq_ignore_ascii_case("approval") => Ask::Approval,
            _ => Ask::Reply,
        }
    }

    /// Its name in inputs and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ask::Reply => "reply",
            Ask::Approval => "approval",
        }
    }
}

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// Identifies it in its run: the name of the action, and the iterations around it.
    pub id: Arc<str>,
    /// The occurrence of the action.
    pub place: Place,
    /// What is asked for.
    pub ask: Ask,
    /// The inputs of the action: `message`, `to`, `responseSchema`, and for the approval of a tool `tool` and `arguments`. For the
    /// approval of untrusted inputs, `message`, `to`, `default` and, as `tool`, the name of the action.
    pub inputs: Value,
    /// The untrusted inputs to approve, if that is asked.
    pub subject: Option<Value>,
    /// Since when it waits.
    pub since: Timestamp,
    /// Its deadline.
    pub due: Option<Timestamp>,
}

/// An answer of a person.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A message.
    Reply {
        /// What was said: a string, or what the question's `responseSchema` describes.
        message: Value,
    },
    /// A decision.
    Decision {
        /// Whether it may be done.
        approved: bool,
        /// Why.
        reason: Option<Arc<str>>,
    },
}

impl Answer {
    /// What it answers.
    pub fn to(&self) -> Ask {
        match self {
            Answer::Reply { .. } => Ask::Reply,
            Answer::Decision { .. } => Ask::Approval,
        }
    }
}

/// Why an answer is not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The run does not exist.
    #[error("the run '{run}' does not exist")]
    Unknown {
        /// The run.
        run: RunId,
    },
    /// The run has ended.
    #[error("the run '{run}' has ended")]
    Ended {
        /// The run.
        run: RunId,
    },
    /// The run asks nothing by this name.
    #[error("the run '{run}' does not ask '{question}'; {open}")]
    NotAsked {
        /// The run.
        run: RunId,
        /// What was answered.
        question: Arc<str>,
        /// The open questions, as a clause.
        open: OpenQuestions,
    },
    /// A decision for a question that wants a message, or the reverse.
    #[error("the question '{question}' must be answered with {}", if *ask == Ask::Reply { "a reply" } else { "an approval or a rejection" })]
    WrongKind {
        /// The question.
        question: Arc<str>,
        /// What it asks for.
        ask: Ask,
    },
    /// The reply does not match the question's schema.
    #[error("the reply to '{question}' does not match its schema: {why}")]
    Mismatch {
        /// The question.
        question: Arc<str>,
        /// The first mismatch.
        why: String,
    },
    /// The question has an answer.
    #[error("the question '{question}' has already been answered")]
    Answered {
        /// The question.
        question: Arc<str>,
    },
    /// The store did not accept the answer.
    #[error("the store did not accept the answer")]
    Store(#[source] StoreError),
    /// The run cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
}

/// The ids of open questions; shown as `it asks 'a', 'b'`.
#[derive(Clone, Debug, Default)]
pub struct OpenQuestions(pub Vec<Arc<str>>);

impl fmt::Display for OpenQuestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("it asks nothing")
        } else {
            write!(f, "it asks '{}'", self.0.join("', '"))
        }
    }
}

/// Whether an action asks a person.
pub(crate) fn asks(action: &Action) -> bool {
    action.type_name.eq_ignore_ascii_case(TYPE)
}

/// The questions of a run that wait for their answers, in the order in which they were asked.
pub fn questions(state: &RunState) -> Vec<Question> {
    let mut open: Vec<Question> = state
        .running_actions()
        .filter_map(|(place, since, inputs)| {
            let action = state.workflow().action(place.action);
            let limit = state.activity(place).and_then(|activity| activity.limit);
            let inputs = inputs.cloned().unwrap_or_default();
            let (inputs, subject) = if asks(action) {
                (inputs, None)
            } else if awaits_approval(state, place) {
                (approval_of(action), Some(inputs))
            } else {
                return None;
            };
            Some(Question {
                id: occurrence(state, place).into(),
                place,
                ask: Ask::of(&inputs),
                inputs,
                subject,
                since,
                due: limit.and_then(|limit| state.timer(limit)).map(|timer| timer.due),
            })
        })
        .collect();
    open.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
    open
}

/// Whether an action waits for the approval of its inputs.
fn awaits_approval(state: &RunState, place: Place) -> bool {
    let call = state.activity(place).and_then(|activity| activity.call.as_ref());
    let asked = call.and_then(|call| state.call(call.effect?));
    asked.is_some_and(|asked| asked.phase == Phase::Approve)
}

/// The inputs of a question whether an action may be executed with untrusted inputs.
fn approval_of(action: &Action) -> Value {
    let approval = action.approval.as_ref();
    let mut inputs = Object::new();
    inputs.insert("ask", Ask::Approval.as_str());
    inputs.insert("tool", Arc::clone(&action.name));
    let message = approval.and_then(|approval| approval.message.as_deref());
    let message = message.map_or_else(
        || {
            format!(
                "Action '{}' has inputs that a language model, or a service that it chose, wrote.",
                action.name
            )
        },
        str::to_owned,
    );
    inputs.insert("message", message);
    if let Some(to) = approval.and_then(|approval| approval.to.clone()) {
        inputs.insert("to", to);
    }
    let approves = approval.is_some_and(|approval| approval.approves);
    inputs.insert("default", if approves { "approve" } else { "reject" });
    inputs.into()
}

/// The name of the signal that answers a call; none for a call that asks nobody. Senders of signals cannot use it, because their
/// names have no control characters.
pub(crate) fn answered_as(call: &Call) -> Option<Arc<str>> {
    if call.phase != Phase::Approve && !asks(call.definition()) {
        return None;
    }
    let id = call.idempotency_key.split_once('/').map_or(&*call.idempotency_key, |(_, id)| id);
    Some(signal_of(id))
}

/// The name of the signal that answers a question.
pub(crate) fn signal_of(question: &str) -> Arc<str> {
    format!("\u{1}answer:{question}").into()
}
