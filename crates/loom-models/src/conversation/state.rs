//! The state of a conversation: the fold of its events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    event::{Coordination, End, Evaluation, Event, OpenTool, Purpose, SelectedBy, ToolStatus, Warning},
    spec::{COORDINATOR, LimitKind},
};
use crate::{
    answer::Usage,
    json::Json,
    message::{Message, Part, Role, ToolResult},
};

/// The state of a conversation. It can be stored, and is otherwise opaque but for its readers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub(super) stage: Stage,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) rounds: u32,
    pub(super) started_ms: u64,
    pub(super) spent: Spent,
    pub(super) calls: BTreeMap<u32, InFlight>,
    pub(super) last_call: u32,
    pub(super) evaluation: Option<Evaluation>,
    /// The number of the last evaluation.
    pub(super) evaluations: u32,
    /// Who spoke last, without the coordinator.
    pub(super) last_speaker: Option<String>,
    /// To whom the last turn handed over.
    pub(super) handoff: Option<String>,
    /// Who handed over to whom speaks now, the last one last.
    pub(super) floor: Vec<String>,
    /// The tools that the last round called.
    pub(super) last_tools: Vec<String>,
    /// What of the termination is known since the last message.
    pub(super) checked: BTreeMap<u32, bool>,
    /// Whom the host lets be selected.
    pub(super) candidates: Option<Vec<String>>,
    /// How often the coordinator was asked in vain for the same thing, and what was said then.
    pub(super) rejections: u32,
    pub(super) feedback: Vec<Message>,
    pub(super) stalls: u32,
    pub(super) replans: u32,
    pub(super) summary: Option<Summary>,
    /// How many messages there were when a summary failed.
    pub(super) unsummarized: usize,
    pub(super) warned: BTreeSet<LimitKind>,
    pub(super) response: Option<Json>,
}

/// A message of the history, with its speaker and its round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// Who said it; nobody in particular for what started the conversation.
    pub speaker: Option<String>,
    /// The round; 0 before the first.
    pub round: u32,
    /// What was said.
    pub message: Message,
}

impl Entry {
    /// Whether it is something that all participants hear: no tool call and no result of one.
    pub fn is_spoken(&self) -> bool {
        self.message.role != Role::Tool && self.message.tool_calls().next().is_none()
    }
}

/// What a conversation has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Spent {
    /// Tokens.
    pub usage: Usage,
    /// Money, in millionths.
    pub cost_micros: u64,
    /// Calls of models that have ended.
    pub calls: u32,
    /// Whether some of the usage is estimated.
    pub estimated: bool,
}

/// A summary of the first messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) through: usize,
    pub(super) text: String,
}

/// A call of a model or a tool that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InFlight {
    pub(super) purpose: Purpose,
    pub(super) reserved_tokens: u64,
    pub(super) reserved_micros: u64,
    pub(super) max_tokens: Option<u32>,
}

/// What a conversation is about to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Stage {
    #[default]
    Idle,
    /// See whether the last message ends it.
    Check,
    /// Choose who speaks next.
    Choose,
    Plan,
    Speak {
        turns: Vec<Turn>,
    },
    Aggregate,
    Conclude {
        end: End,
    },
    Ended {
        end: End,
    },
}

/// The turn of a speaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Turn {
    pub(super) speaker: String,
    pub(super) status: TurnStatus,
    /// What was said and returned in this turn. It enters the history when the round ends, so that the messages of a turn
    /// stay together.
    pub(super) messages: Vec<Message>,
    pub(super) calls: u32,
    pub(super) rejections: u32,
    /// Answers that were rejected, with what was said of them. Only the speaker sees them, and only in this turn.
    pub(super) feedback: Vec<Message>,
    pub(super) tools: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum TurnStatus {
    /// The model, the person or the workflow is to be asked.
    Ready,
    Calling {
        call: u32,
    },
    Tools {
        call: u32,
        tools: Vec<OpenTool>,
    },
    Asked {
        at_ms: u64,
    },
    Done,
}

impl State {
    /// The history, with the messages of unfinished turns at its end. What a turn called but did not get is missing.
    pub fn history(&self) -> Vec<Arc<Entry>> {
        let mut history = self.entries.clone();
        history.extend(self.turns().iter().flat_map(|turn| self.entries_of(turn)).map(Arc::new));
        history
    }

    /// The history without the messages of unfinished turns.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The tools that the last round called.
    pub fn last_tools(&self) -> &[String] {
        &self.last_tools
    }

    /// The rounds so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// What it has used.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Why it ended; `None` while it runs.
    pub fn end(&self) -> Option<&End> {
        if let Stage::Ended { end } = &self.stage { Some(end) } else { None }
    }

    /// The final answer of a schema, once it is written.
    pub fn response(&self) -> Option<&Json> {
        self.response.as_ref()
    }

    /// The last message that all participants hear, other than those that started the conversation.
    pub fn last_message(&self) -> Option<&Entry> {
        self.entries.iter().rev().map(Arc::as_ref).find(|entry| entry.speaker.is_some() && entry.is_spoken())
    }

    pub(super) fn turns(&self) -> &[Turn] {
        if let Stage::Speak { turns } = &self.stage { turns } else { &[] }
    }

    fn turn_mut(&mut self, speaker: &str) -> Option<&mut Turn> {
        let Stage::Speak { turns } = &mut self.stage else { return None };
        turns.iter_mut().find(|turn| turn.speaker == speaker)
    }

    fn tool_mut(&mut self, of: u32, id: &str) -> Option<&mut OpenTool> {
        let Stage::Speak { turns } = &mut self.stage else { return None };
        turns.iter_mut().find_map(|turn| match &mut turn.status {
            TurnStatus::Tools { call, tools } if *call == of => tools.iter_mut().find(|tool| tool.id == id),
            _ => None,
        })
    }

    pub(super) fn tool(&self, of: u32, id: &str) -> Option<&OpenTool> {
        self.turns().iter().find_map(|turn| match &turn.status {
            TurnStatus::Tools { call, tools } if *call == of => tools.iter().find(|tool| tool.id == id),
            _ => None,
        })
    }

    fn entries_of(&self, turn: &Turn) -> Vec<Entry> {
        let entry = |message: &Message| Entry {
            speaker: Some(turn.speaker.clone()),
            round: self.rounds,
            message: message.clone(),
        };
        turn.messages.iter().map(entry).collect()
    }

    fn add(&mut self, speaker: Option<&str>, message: Message) {
        let entry = Entry { speaker: speaker.map(str::to_owned), round: self.rounds, message };
        self.entries.push(Arc::new(entry));
    }

    /// Moves the messages of all turns to the history.
    fn end_turns(&mut self) {
        let Stage::Speak { turns } = std::mem::take(&mut self.stage) else { return };
        self.last_tools.clear();
        for turn in turns {
            let entries = self.entries_of(&turn);
            self.entries.extend(entries.into_iter().map(Arc::new));
            self.last_tools.extend(turn.tools);
            self.last_speaker = Some(turn.speaker);
        }
    }

    /// The conversation has a new message, so what was known of its end no longer holds.
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.checked.clear();
        self.candidates = None;
        self.rejections = 0;
        self.feedback.clear();
    }
}

/// Adds an event to a state. It is total: an event that does not fit changes nothing, and `decide` returns none such.
pub fn apply(state: &mut State, event: &Event) {
    match event {
        Event::Started { messages, at_ms } => {
            state.started_ms = *at_ms;
            for message in messages {
                state.add(None, message.clone());
            }
            state.enter(Stage::Choose);
        }
        Event::SpeakersSelected { round, speakers, by } => {
            state.rounds = *round;
            state.handoff = None;
            // The floor returns to who handed over.
            if *by == SelectedBy::Order && state.floor.last() == speakers.first() {
                state.floor.pop();
            }
            let turns = speakers.iter().map(|speaker| Turn {
                speaker: speaker.clone(),
                status: TurnStatus::Ready,
                messages: Vec::new(),
                calls: 0,
                rejections: 0,
                feedback: Vec::new(),
                tools: Vec::new(),
            });
            let turns = turns.collect();
            state.enter(Stage::Speak { turns });
        }
        Event::CallStarted { call, purpose, reserved_tokens, reserved_micros, max_tokens } => {
            state.last_call = *call;
            let started = InFlight {
                purpose: purpose.clone(),
                reserved_tokens: *reserved_tokens,
                reserved_micros: *reserved_micros,
                max_tokens: *max_tokens,
            };
            state.calls.insert(*call, started);
            if let Purpose::Turn { speaker } = purpose
                && let Some(turn) = state.turn_mut(speaker)
            {
                turn.calls += 1;
                turn.status = TurnStatus::Calling { call: *call };
            }
        }
        Event::CallAnswered { call, usage, estimated, cost_micros } => {
            state.calls.remove(call);
            let spent = &mut state.spent;
            spent.usage = spent.usage.plus(*usage);
            spent.cost_micros = spent.cost_micros.saturating_add(*cost_micros);
            spent.calls = spent.calls.saturating_add(1);
            spent.estimated |= estimated;
        }
        Event::CallFailed { call, .. } => {
            state.calls.remove(call);
            state.spent.calls = state.spent.calls.saturating_add(1);
        }
        Event::Rejected { speaker, answer, feedback } => {
            let said = [Message::assistant(answer.as_str()), Message::user(feedback.as_str())];
            match speaker {
                None => {
                    state.rejections += 1;
                    state.feedback.extend(said);
                }
                Some(speaker) => {
                    if let Some(turn) = state.turn_mut(speaker) {
                        turn.rejections += 1;
                        turn.feedback.extend(said);
                        turn.status = TurnStatus::Ready;
                    }
                }
            }
        }
        Event::Said { speaker, message } => {
            if let Some(turn) = state.turn_mut(speaker) {
                turn.messages.push(message.clone());
                turn.feedback.clear();
                turn.status = TurnStatus::Ready;
            }
        }
        Event::ToolsCalled { speaker, call, tools } => {
            if let Some(turn) = state.turn_mut(speaker) {
                turn.tools.extend(tools.iter().map(|tool| tool.name.clone()));
                turn.status = TurnStatus::Tools { call: *call, tools: tools.clone() };
            }
        }
        Event::ToolApproved { call, id } => {
            if let Some(tool) = state.tool_mut(*call, id)
                && let ToolStatus::AwaitingApproval(arguments) = &tool.status
            {
                tool.status = ToolStatus::Running(arguments.clone());
            }
        }
        Event::ToolReturned { call, result } => {
            if let Some(tool) = state.tool_mut(*call, &result.id) {
                tool.status = ToolStatus::Returned(result.clone());
            }
        }
        Event::ToolsReturned { speaker } => {
            if let Some(turn) = state.turn_mut(speaker) {
                close_tools(turn, "");
                turn.status = TurnStatus::Ready;
            }
        }
        Event::Asked { speaker, at_ms } => {
            if let Some(turn) = state.turn_mut(speaker) {
                turn.status = TurnStatus::Asked { at_ms: *at_ms };
            }
        }
        Event::HandedOff { from, to } => {
            state.handoff = Some(to.clone());
            state.floor.push(from.clone());
        }
        Event::TurnEnded { speaker } => {
            if let Some(turn) = state.turn_mut(speaker) {
                turn.status = TurnStatus::Done;
            }
        }
        Event::Continued => state.enter(Stage::Choose),
        Event::RoundEnded { aggregate } => {
            state.end_turns();
            state.enter(if *aggregate { Stage::Aggregate } else { Stage::Check });
        }
        Event::EvaluationAsked { number, evaluation } => {
            state.evaluations = *number;
            state.evaluation = Some(evaluation.clone());
        }
        Event::Evaluated { value } => {
            if let Some(Evaluation::Candidates) = state.evaluation.take() {
                let names = value.items().iter().filter_map(Json::as_str).map(str::to_owned);
                state.candidates = Some(names.collect());
            }
        }
        Event::TerminationChecked { part, met } => {
            state.checked.insert(*part, *met);
        }
        Event::Coordinated { message, purpose } => {
            state.add(Some(COORDINATOR), message.clone());
            match purpose {
                Coordination::Aggregate => state.enter(Stage::Check),
                Coordination::Instruct => {}
                Coordination::Plan => {
                    state.stalls = 0;
                    state.replans += 1;
                    state.enter(Stage::Choose);
                }
            }
        }
        Event::Stalled { stalls } => state.stalls = *stalls,
        Event::PlanLost => state.enter(Stage::Plan),
        Event::Summarized { through, text } => {
            state.summary = Some(Summary { through: *through, text: text.clone() });
        }
        Event::Warned { warning } => match warning {
            Warning::Limit { limit } => {
                state.warned.insert(*limit);
            }
            Warning::SummaryFailed { .. } => state.unsummarized = state.entries.len(),
            Warning::AggregateFailed { .. } => state.enter(Stage::Check),
            Warning::SelectionFellBack { .. }
            | Warning::CheckFailed { .. }
            | Warning::ResponseFailed { .. } => {}
        },
        Event::Concluding { end } => {
            close(state);
            state.enter(Stage::Conclude { end: end.clone() });
        }
        Event::Responded { response } => state.response = Some(response.clone()),
        Event::Ended { end } => {
            close(state);
            state.enter(Stage::Ended { end: end.clone() });
        }
    }
}

/// Ends all turns where they are. A tool call without a result gets one that says so, so that the history can be continued.
fn close(state: &mut State) {
    if let Stage::Speak { turns } = &mut state.stage {
        for turn in turns {
            close_tools(turn, "The conversation ended before the tool returned.");
        }
    }
    state.end_turns();
    state.calls.clear();
    state.evaluation = None;
}

/// Adds the results of a turn's tools to its messages, in the order of the calls.
fn close_tools(turn: &mut Turn, missing: &str) {
    let TurnStatus::Tools { tools, .. } = std::mem::replace(&mut turn.status, TurnStatus::Done) else {
        return;
    };
    let results = tools.into_iter().map(|tool| match tool.status {
        ToolStatus::Returned(result) => result,
        ToolStatus::AwaitingApproval(_) | ToolStatus::Running(_) => {
            ToolResult::failed(tool.id, tool.name, missing)
        }
    });
    turn.messages.push(Message::new(Role::Tool, results.map(Part::ToolResult).collect()));
}
