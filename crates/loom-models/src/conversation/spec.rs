//! What a conversation is: participants, mode, limits, and when it ends. Immutable while it runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    json::Json,
    message::Message,
    price::PriceTable,
    request::{OutputFormat, OutputSchema, Sampling, Tool},
};

/// The word by which a selection ends the conversation. No participant may have it as a name.
pub const TERMINATE: &str = "TERMINATE";

/// The name of the coordinator's own messages.
pub const COORDINATOR: &str = "coordinator";

/// A conversation, as it is defined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Spec {
    /// Who takes part, in the order of round-robin. With one agent this is the loop of an agent with tools.
    pub participants: Vec<Participant>,
    /// Who speaks next.
    #[serde(default)]
    pub mode: Mode,
    /// Whether the last speaker may be selected again.
    #[serde(default)]
    pub allow_repeated_speaker: bool,
    /// Whether the host narrows the candidates of each selection; see [`Evaluation::Candidates`](super::Evaluation).
    #[serde(default)]
    pub narrow_candidates: bool,
    /// The model that selects speakers, checks the goal, plans, aggregates, summarizes and writes the final answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<Coordinator>,
    /// What the conversation may use.
    #[serde(default)]
    pub limit: Limit,
    /// When the conversation has reached its end: when any of these is met.
    #[serde(default)]
    pub termination: Vec<Termination>,
    /// How much of the history models see.
    #[serde(default)]
    pub reduction: Reduction,
    /// The schema of a final answer, which is written after the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<OutputSchema>,
    /// What models cost. Required for limits of cost.
    #[serde(default)]
    pub prices: PriceTable,
}

impl Spec {
    /// A conversation of these participants.
    pub fn new(participants: Vec<Participant>, mode: Mode) -> Spec {
        Spec { participants, mode, ..Spec::default() }
    }
}

/// One who takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Participant {
    /// The name, unique without regard to case.
    pub name: String,
    /// What it is, in a word or two.
    #[serde(default)]
    pub role: String,
    /// What it does, for the others and for a selection.
    #[serde(default)]
    pub description: String,
    /// How it speaks.
    pub kind: ParticipantKind,
}

impl Participant {
    /// A participant that speaks through a model.
    pub fn agent(name: impl Into<String>, agent: Agent) -> Participant {
        Participant::new(name, ParticipantKind::Agent(Box::new(agent)))
    }

    /// A participant.
    pub fn new(name: impl Into<String>, kind: ParticipantKind) -> Participant {
        Participant { name: name.into(), role: String::new(), description: String::new(), kind }
    }

    /// Sets what the participant is and does.
    #[must_use]
    pub fn described(mut self, role: impl Into<String>, description: impl Into<String>) -> Participant {
        (self.role, self.description) = (role.into(), description.into());
        self
    }
}

/// How a participant speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ParticipantKind {
    /// Through a model.
    Agent(Box<Agent>),
    /// Through something that the host runs, such as a workflow, or a chat of its own whose summary is the message.
    Workflow,
    /// A person, whom the host asks.
    Human(Human),
}

/// A participant that speaks through a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Agent {
    /// The model.
    pub model: String,
    /// Its instructions, and examples, before the history.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// Its tools.
    #[serde(default)]
    pub tools: Vec<AgentTool>,
    /// How the model samples.
    #[serde(default)]
    pub sampling: Sampling,
    /// The form of its messages.
    #[serde(default)]
    pub output: OutputFormat,
    /// Whether it may call several tools in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// See [`Request::extra`](crate::Request::extra).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Json>,
}

impl Agent {
    /// An agent with one system message.
    pub fn new(model: impl Into<String>, instructions: impl Into<String>) -> Agent {
        Agent { model: model.into(), messages: vec![Message::system(instructions)], ..Agent::default() }
    }
}

/// A tool of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct AgentTool {
    /// The tool.
    pub tool: Tool,
    /// Whether a person approves each call first.
    #[serde(default)]
    pub approval: bool,
    /// To whom a call passes the conversation. One who does not take part ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<String>,
}

impl AgentTool {
    /// A tool that the host calls.
    pub fn new(tool: Tool) -> AgentTool {
        AgentTool { tool, approval: false, handoff: None }
    }

    /// A tool that passes the conversation to another participant. The model chooses it by its name and description.
    pub fn handoff(tool: Tool, to: impl Into<String>) -> AgentTool {
        AgentTool { handoff: Some(to.into()), ..AgentTool::new(tool) }
    }
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Human {
    /// How long to wait for a message, in milliseconds; without it, as long as the conversation may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What counts as the message when the time has passed. Without it, the conversation ends then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Who speaks next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Mode {
    /// The first participant, then each to whom the speaker hands over. The conversation ends when an agent has answered
    /// without handing over; after a person or a workflow, the floor returns to the agent that handed over.
    #[default]
    Handoff,
    /// Each in turn.
    RoundRobin,
    /// Whom the coordinator selects.
    Selector,
    /// Whom the host's expression names; see [`Evaluation::Next`](super::Evaluation).
    Expression,
    /// All at once, without hearing each other; then the coordinator, if there is one, aggregates. One round by default.
    Broadcast,
    /// Whom the coordinator selects, with an instruction, while it watches the progress and plans anew when there is none.
    Manager,
}

/// The model that coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Coordinator {
    /// The model.
    pub model: String,
    /// What the conversation is to reach.
    #[serde(default = "goal")]
    pub goal: String,
    /// Further instructions.
    #[serde(default)]
    pub instructions: String,
    /// How it samples.
    #[serde(default)]
    pub sampling: Sampling,
    /// How often it is asked for a selection that can be read, before round-robin replaces it.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// Whether a selection may end the conversation.
    #[serde(default = "yes")]
    pub may_terminate: bool,
    /// How many rounds without progress a manager bears before it plans anew.
    #[serde(default = "stalls")]
    pub stalls_max: u32,
    /// How often a manager plans anew before it stops.
    #[serde(default = "replans")]
    pub replans_max: u32,
}

impl Coordinator {
    /// A coordinator with the defaults: 3 attempts, 3 stalls, 2 new plans.
    pub fn new(model: impl Into<String>, goal: impl Into<String>) -> Coordinator {
        Coordinator {
            model: model.into(),
            goal: goal.into(),
            instructions: String::new(),
            sampling: Sampling::default(),
            attempts: attempts(),
            may_terminate: true,
            stalls_max: stalls(),
            replans_max: replans(),
        }
    }
}

fn goal() -> String {
    "the task is complete".to_owned()
}

fn attempts() -> u32 {
    3
}

fn stalls() -> u32 {
    3
}

fn replans() -> u32 {
    2
}

fn yes() -> bool {
    true
}

/// What a conversation may use. A limit that is reached ends it with what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Limit {
    /// Rounds: each is a turn of a speaker, or of all in a broadcast. Default: 10, in a broadcast 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// Model calls of one turn, between which tools are called. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// Model calls of the whole conversation, with those of the coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Tokens of all requests and answers. A call whose estimate exceeds what is left is not made, and one that is made
    /// may not answer longer than what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money, in millionths of the currency of the prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The kinds of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limit::rounds`].
    Rounds,
    /// [`Limit::turns`].
    Turns,
    /// [`Limit::calls`].
    Calls,
    /// [`Limit::tokens`].
    Tokens,
    /// [`Limit::cost_micros`].
    Cost,
    /// [`Limit::timeout_ms`].
    Timeout,
}

/// When a conversation has reached its end. Checked after every message, what is free first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Termination {
    /// So many rounds.
    Rounds(u32),
    /// So many messages of the history.
    Messages(u32),
    /// So many tokens were used.
    Tokens(u64),
    /// So much was paid.
    CostMicros(u64),
    /// So much time has passed.
    TimeoutMs(u64),
    /// The last message has a text.
    Text(TextRule),
    /// The last turn called this tool.
    ToolCalled(String),
    /// The last turn handed over to this participant.
    HandoffTo(String),
    /// The last message is from this participant.
    Speaker(String),
    /// What the host evaluates after every message, by this text.
    Expression(String),
    /// What the coordinator says when it is asked whether the goal is reached.
    Coordinator,
    /// One of the last three messages says `complete`, `done` or `finished`, and there are more than three.
    LegacyKeywords,
    /// Any of these.
    Any(Vec<Termination>),
    /// All of these.
    All(Vec<Termination>),
}

/// A text that ends a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TextRule {
    /// The text. It must not be part of a longer word.
    pub text: String,
    /// Whose messages count; none named means everybody's but the one that starts the conversation.
    #[serde(default)]
    pub speakers: Vec<String>,
}

impl TextRule {
    /// A text that these participants must say.
    pub fn new(text: impl Into<String>, speakers: &[&str]) -> TextRule {
        TextRule { text: text.into(), speakers: speakers.iter().map(|name| (*name).to_owned()).collect() }
    }
}

/// How much of the history models see. Instructions are always kept, and a tool call is never parted from its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Reduction {
    /// All of it.
    #[default]
    None,
    /// The last so many messages, instructions not counted.
    MessageCount {
        /// The most messages.
        limit: usize,
    },
    /// The last messages with at most so many tokens, by estimate and instructions not counted.
    TokenCount {
        /// The most tokens.
        limit: u64,
    },
    /// When there are more than `threshold` messages, all but the last `target` are replaced by a summary.
    Summarization {
        /// How many messages stay.
        target: usize,
        /// How many messages are too many.
        threshold: usize,
    },
}

/// What is wrong with a [`Spec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(String);

impl Spec {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first problem, with the name of what has it.
    pub fn validate(&self) -> Result<(), SpecError> {
        let wrong = |message: String| Err(SpecError(message));
        if self.participants.is_empty() {
            return wrong("`participants` must have at least one participant".to_owned());
        }
        let mut names = BTreeSet::new();
        for Participant { name, kind, .. } in &self.participants {
            let reserved = [TERMINATE, COORDINATOR].iter().any(|word| word.eq_ignore_ascii_case(name));
            if name.trim().is_empty() || reserved {
                return wrong(format!("a participant must have a name other than `{name}`"));
            }
            if !names.insert(name.to_lowercase()) {
                return wrong(format!("participants must have different names (got `{name}` twice)"));
            }
            let ParticipantKind::Agent(agent) = kind else { continue };
            let mut tools = BTreeSet::new();
            for AgentTool { tool, .. } in &agent.tools {
                if !tools.insert(&tool.name) {
                    return wrong(format!(
                        "tools of `{name}` must have different names (got `{}` twice)",
                        tool.name
                    ));
                }
            }
        }
        let coordinated = matches!(self.mode, Mode::Selector | Mode::Manager);
        if self.coordinator.is_none() && (coordinated || self.termination.iter().any(asks_coordinator)) {
            return wrong("`coordinator` is missing: the mode or the termination needs it".to_owned());
        }
        if self.response.is_some() && self.voice().is_none() {
            return wrong("`coordinator` is missing: `response` needs a model".to_owned());
        }
        if let Reduction::Summarization { target, threshold } = self.reduction {
            if self.voice().is_none() {
                return wrong("`coordinator` is missing: a summary needs a model".to_owned());
            }
            if target >= threshold {
                return wrong(format!(
                    "`target` must be less than `threshold` (got {target} and {threshold})"
                ));
            }
        }
        let priced = self.limit.cost_micros.is_some() || self.termination.iter().any(asks_cost);
        let unpriced = self.models().find(|model| self.prices.price(model).is_none());
        if let (true, Some(model)) = (priced, unpriced) {
            return wrong(format!("the price of `{model}` is missing: a limit of cost needs it"));
        }
        Ok(())
    }

    fn models(&self) -> impl Iterator<Item = &str> {
        let agents = self.agents().map(|(_, agent)| agent.model.as_str());
        agents.chain(self.coordinator.as_ref().map(|coordinator| coordinator.model.as_str()))
    }

    pub(super) fn agents(&self) -> impl Iterator<Item = (&str, &Agent)> {
        self.participants.iter().filter_map(|participant| match &participant.kind {
            ParticipantKind::Agent(agent) => Some((participant.name.as_str(), &**agent)),
            ParticipantKind::Workflow | ParticipantKind::Human(_) => None,
        })
    }

    /// The participant of this name.
    pub fn participant(&self, name: &str) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.name == name)
    }

    pub(super) fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents().find(|(known, _)| *known == name).map(|(_, agent)| agent)
    }

    /// The model for what nobody in particular says: the coordinator's, else the first agent's.
    pub(super) fn voice(&self) -> Option<(&str, Sampling)> {
        match &self.coordinator {
            Some(coordinator) => Some((&coordinator.model, coordinator.sampling.clone())),
            None => self.agents().next().map(|(_, agent)| (agent.model.as_str(), agent.sampling.clone())),
        }
    }

    /// The most rounds.
    pub fn rounds_max(&self) -> u32 {
        self.limit.rounds.unwrap_or(if self.mode == Mode::Broadcast { 1 } else { 10 })
    }

    pub(super) fn turns_max(&self) -> u32 {
        self.limit.turns.unwrap_or(10)
    }
}

fn asks_coordinator(termination: &Termination) -> bool {
    match termination {
        Termination::Coordinator => true,
        Termination::Any(inner) | Termination::All(inner) => inner.iter().any(asks_coordinator),
        _ => false,
    }
}

fn asks_cost(termination: &Termination) -> bool {
    match termination {
        Termination::CostMicros(_) => true,
        Termination::Any(inner) | Termination::All(inner) => inner.iter().any(asks_cost),
        _ => false,
    }
}
