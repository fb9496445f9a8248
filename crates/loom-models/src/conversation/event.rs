//! What goes into a conversation and what comes out of it: commands, events, effects.

use serde::{Deserialize, Serialize};

use super::spec::LimitKind;
use crate::{
    answer::{Answer, Usage},
    error::ModelError,
    json::Json,
    message::{Message, ToolResult},
    request::Request,
};

/// What happens to a conversation. Each says when, as a Unix time in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Command {
    /// Begin, with these messages.
    Start {
        /// The messages before anyone speaks.
        messages: Vec<Message>,
        /// When.
        at_ms: u64,
    },
    /// A model has answered.
    ModelAnswered {
        /// The call of [`Effect::CallModel`].
        call: u32,
        /// The answer.
        answer: Answer,
        /// What is wrong with it, if the host has checked it against the request's schema.
        problem: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// A call of a model has failed for good.
    ModelFailed {
        /// The call of [`Effect::CallModel`].
        call: u32,
        /// Why.
        error: ModelError,
        /// When.
        at_ms: u64,
    },
    /// A tool has returned.
    ToolReturned {
        /// The model call that asked for it.
        call: u32,
        /// Its result, with the id of the tool call.
        result: ToolResult,
        /// When.
        at_ms: u64,
    },
    /// A person has decided on a tool call.
    ToolDecided {
        /// The model call that asked for it.
        call: u32,
        /// The id of the tool call.
        id: String,
        /// Whether it may be made.
        approved: bool,
        /// Why not, for the model.
        reason: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// A person or a workflow has spoken.
    Replied {
        /// Who.
        speaker: String,
        /// The round of [`Effect::Ask`].
        round: u32,
        /// What.
        message: Message,
        /// When.
        at_ms: u64,
    },
    /// A person has not replied in time, or a workflow has failed.
    Unanswered {
        /// Who.
        speaker: String,
        /// The round of [`Effect::Ask`].
        round: u32,
        /// Why.
        reason: String,
        /// When.
        at_ms: u64,
    },
    /// The host has evaluated what [`Effect::Evaluate`] asks for.
    Evaluated {
        /// The number of [`Effect::Evaluate`].
        number: u32,
        /// The value.
        value: Json,
        /// When.
        at_ms: u64,
    },
    /// Someone outside ends the conversation.
    Stop {
        /// Why.
        reason: String,
        /// When.
        at_ms: u64,
    },
    /// The conversation is cancelled. What had arrived of answers in flight is kept.
    Cancel {
        /// Partial answers, by call; see [`Accumulator::cancelled`](crate::Accumulator::cancelled).
        partial: Vec<(u32, Answer)>,
        /// When.
        at_ms: u64,
    },
    /// Time has passed; see [`Effect::Wake`].
    Tick {
        /// When.
        at_ms: u64,
    },
}

impl Command {
    pub(super) fn at_ms(&self) -> u64 {
        match self {
            Command::Start { at_ms, .. }
            | Command::ModelAnswered { at_ms, .. }
            | Command::ModelFailed { at_ms, .. }
            | Command::ToolReturned { at_ms, .. }
            | Command::ToolDecided { at_ms, .. }
            | Command::Replied { at_ms, .. }
            | Command::Unanswered { at_ms, .. }
            | Command::Evaluated { at_ms, .. }
            | Command::Stop { at_ms, .. }
            | Command::Cancel { at_ms, .. }
            | Command::Tick { at_ms } => *at_ms,
        }
    }
}

/// A fact of a conversation. Its state is the fold of its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// It began.
    Started {
        /// The messages before anyone speaks.
        messages: Vec<Message>,
        /// When.
        at_ms: u64,
    },
    /// A round began with these speakers.
    SpeakersSelected {
        /// Counts from 1.
        round: u32,
        /// Who speaks: one, or all in a broadcast.
        speakers: Vec<String>,
        /// Who chose them.
        by: SelectedBy,
    },
    /// A call of a model began.
    CallStarted {
        /// Counts from 1.
        call: u32,
        /// What it is for.
        purpose: Purpose,
        /// The tokens that are set aside for it.
        reserved_tokens: u64,
        /// The money that is set aside for it.
        reserved_micros: u64,
        /// The most tokens of its answer, where a limit of the conversation sets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
    },
    /// A call ended with an answer.
    CallAnswered {
        /// Which.
        call: u32,
        /// What it used.
        usage: Usage,
        /// Whether the usage is estimated, because the provider did not say.
        estimated: bool,
        /// What it cost.
        cost_micros: u64,
    },
    /// A call ended without an answer.
    CallFailed {
        /// Which.
        call: u32,
        /// Why.
        error: ModelError,
    },
    /// An answer cannot be used, and its model is asked again.
    Rejected {
        /// Whose turn it is; nobody's for the coordinator.
        speaker: Option<String>,
        /// What it said.
        answer: String,
        /// The feedback that the model receives.
        feedback: String,
    },
    /// A speaker said something in its turn.
    Said {
        /// Who.
        speaker: String,
        /// What.
        message: Message,
    },
    /// A speaker called tools.
    ToolsCalled {
        /// Who.
        speaker: String,
        /// The model call that asked for them.
        call: u32,
        /// The calls, in order.
        tools: Vec<OpenTool>,
    },
    /// A tool call was approved.
    ToolApproved {
        /// The model call that asked for it.
        call: u32,
        /// Its id.
        id: String,
    },
    /// A tool call has its result.
    ToolReturned {
        /// The model call that asked for it.
        call: u32,
        /// The result.
        result: ToolResult,
    },
    /// All results of a speaker's tools are in its history.
    ToolsReturned {
        /// Who.
        speaker: String,
    },
    /// A person or a workflow was asked to speak.
    Asked {
        /// Who.
        speaker: String,
        /// When.
        at_ms: u64,
    },
    /// A speaker passed the conversation on.
    HandedOff {
        /// Who.
        from: String,
        /// To whom.
        to: String,
    },
    /// A speaker has finished its turn.
    TurnEnded {
        /// Who.
        speaker: String,
    },
    /// All turns of a round are in the history.
    RoundEnded {
        /// Whether the coordinator aggregates them.
        aggregate: bool,
    },
    /// The host was asked to evaluate something.
    EvaluationAsked {
        /// Counts from 1.
        number: u32,
        /// What.
        evaluation: Evaluation,
    },
    /// The host has evaluated it.
    Evaluated {
        /// The value.
        value: Json,
    },
    /// A part of the termination was found to be met or not.
    TerminationChecked {
        /// Which, counted from 0 through the whole list.
        part: u32,
        /// Whether it is met.
        met: bool,
    },
    /// Nothing of the termination is met, so the next speaker is chosen.
    Continued,
    /// The coordinator said something to all.
    Coordinated {
        /// What.
        message: Message,
        /// Why it spoke.
        purpose: Coordination,
    },
    /// The manager saw progress or none.
    Stalled {
        /// How many rounds without progress there now are.
        stalls: u32,
    },
    /// A new plan is needed.
    PlanLost,
    /// The first messages are replaced by a summary in what models see.
    Summarized {
        /// How many messages the summary covers.
        through: usize,
        /// The summary.
        text: String,
    },
    /// Something is not as it should be, and the conversation continues.
    Warned {
        /// What.
        warning: Warning,
    },
    /// The conversation is over, and its final answer is being written.
    Concluding {
        /// Why it is over.
        end: End,
    },
    /// The final answer.
    Responded {
        /// It.
        response: Json,
    },
    /// The end. Nothing follows.
    Ended {
        /// Why.
        end: End,
    },
}

/// Who chose a speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SelectedBy {
    /// It was the next in turn.
    Order,
    /// It was the only one to choose.
    OnlyCandidate,
    /// The coordinator.
    Coordinator,
    /// The host's expression.
    Expression,
    /// The last speaker, by handing over.
    Handoff,
    /// It was the next in turn, because the coordinator's selection could not be read.
    Fallback,
}

/// What a call of a model is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Purpose {
    /// A speaker's turn.
    Turn {
        /// Whose.
        speaker: String,
    },
    /// To select the next speaker, for a selector or a manager.
    Select,
    /// To plan anew.
    Plan,
    /// To check whether the goal is reached.
    Check {
        /// Which part of the termination asks.
        part: u32,
    },
    /// To summarize the first messages.
    Summarize,
    /// To aggregate a round of a broadcast.
    Aggregate,
    /// To write the final answer.
    Conclude,
}

/// Why the coordinator spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Coordination {
    /// It aggregates a round.
    Aggregate,
    /// It instructs the next speaker.
    Instruct,
    /// It has a new plan.
    Plan,
}

/// A tool call that has no result in the history yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OpenTool {
    /// The id of the tool call.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// How far it is.
    pub status: ToolStatus,
    /// To whom it hands over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<String>,
}

/// How far a tool call is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolStatus {
    /// A person must approve it.
    AwaitingApproval(Json),
    /// The host makes it, with these arguments.
    Running(Json),
    /// It has returned.
    Returned(ToolResult),
}

/// What the host evaluates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Evaluation {
    /// Who speaks next: a name, an array of names, or null or `TERMINATE` for the end.
    Next,
    /// Who may be selected: an array of names.
    Candidates,
    /// Whether an expression of the termination is met: a boolean.
    Termination {
        /// Which part of the termination asks.
        part: u32,
        /// The expression.
        expression: String,
    },
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Warning {
    /// Four fifths of a limit are used.
    Limit {
        /// Which.
        limit: LimitKind,
    },
    /// The coordinator's selection could not be read; round-robin replaces it.
    SelectionFellBack {
        /// Why.
        reason: String,
    },
    /// The coordinator could not say whether the goal is reached; the conversation continues.
    CheckFailed {
        /// Why.
        reason: String,
    },
    /// The history could not be summarized; models see the whole history.
    SummaryFailed {
        /// Why.
        reason: String,
    },
    /// The answers of the round could not be aggregated.
    AggregateFailed {
        /// Why.
        reason: String,
    },
    /// There is no final answer.
    ResponseFailed {
        /// Why.
        reason: String,
    },
}

/// Why a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum End {
    /// The speaker answered, and nobody is left to speak.
    Answered,
    /// A termination is met.
    Terminated {
        /// Which of the list; `None` when a selection or an expression ended it.
        by: Option<u32>,
    },
    /// A limit is reached.
    Limit {
        /// Which.
        limit: LimitKind,
    },
    /// It was passed to someone who does not take part.
    HandedOff {
        /// To whom.
        to: String,
    },
    /// A manager saw no progress in spite of new plans.
    Stalled,
    /// A person did not reply in time and there is no default, or a workflow failed.
    NoReply {
        /// Who.
        speaker: String,
        /// Why.
        reason: String,
    },
    /// Someone outside ended it.
    Stopped {
        /// Why.
        reason: String,
    },
    /// It was cancelled.
    Cancelled,
    /// A call of a model failed.
    ModelFailed {
        /// Whose turn it was.
        speaker: String,
        /// Why.
        error: ModelError,
    },
    /// A speaker's answers did not have the form that they must have.
    Unreadable {
        /// Who.
        speaker: String,
        /// What was wrong with the last one.
        reason: String,
    },
    /// The host's expression gave no speaker.
    NoSpeaker {
        /// Why.
        reason: String,
    },
}

impl End {
    /// The word for the end that results show: `complete`, `max-rounds`, `limit`, `handed-off`, `cancelled` or `error`.
    pub fn status(&self) -> &'static str {
        match self {
            End::Answered | End::Terminated { .. } | End::Stopped { .. } => "complete",
            End::Limit { limit: LimitKind::Rounds } => "max-rounds",
            End::Limit { .. } => "limit",
            End::HandedOff { .. } => "handed-off",
            End::Cancelled => "cancelled",
            End::Stalled
            | End::NoReply { .. }
            | End::ModelFailed { .. }
            | End::Unreadable { .. }
            | End::NoSpeaker { .. } => "error",
        }
    }

    /// Whether there is something to conclude from.
    pub(super) fn concludes(&self) -> bool {
        matches!(
            self,
            End::Answered
                | End::Terminated { .. }
                | End::Stopped { .. }
                | End::Stalled
                | End::Limit { limit: LimitKind::Rounds | LimitKind::Turns }
        )
    }
}

/// What the host must do for a conversation. Effects follow from the state alone, so the same are due again after a
/// crash.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Call a model, and report [`Command::ModelAnswered`] or [`Command::ModelFailed`].
    CallModel {
        /// Identifies the call.
        call: u32,
        /// What it is for.
        purpose: Purpose,
        /// The request. It is the same until the call ends.
        request: Box<Request>,
    },
    /// Call a tool, and report [`Command::ToolReturned`].
    CallTool {
        /// The model call that asked for it; with `id`, this identifies the tool call.
        call: u32,
        /// The id of the tool call.
        id: String,
        /// Whose tool it is.
        speaker: String,
        /// The name of the tool.
        name: String,
        /// The arguments, an object.
        arguments: Json,
    },
    /// Ask a person whether a tool may be called, and report [`Command::ToolDecided`].
    Approve {
        /// The model call that asked for it.
        call: u32,
        /// The id of the tool call.
        id: String,
        /// Whose tool it is.
        speaker: String,
        /// The name of the tool.
        name: String,
        /// The arguments, an object.
        arguments: Json,
    },
    /// Ask a person, or run a workflow, and report [`Command::Replied`].
    Ask {
        /// Who.
        speaker: String,
        /// Which round it is; with `speaker`, this identifies the question.
        round: u32,
    },
    /// Evaluate something, and report [`Command::Evaluated`].
    Evaluate {
        /// Identifies the evaluation.
        number: u32,
        /// What.
        evaluation: Evaluation,
    },
    /// Report [`Command::Tick`] at this time.
    Wake {
        /// The Unix time in milliseconds.
        at_ms: u64,
    },
}
