//! What models are shown: the requests of turns and of the coordinator, with as much of the history as the reduction leaves.

use std::fmt::Write as _;

use super::{
    event::Purpose,
    spec::{Agent, Coordinator, Mode, Participant, Reduction, Spec, TERMINATE},
    state::{Stage, State, Turn},
};
use crate::{
    json::Json,
    message::{Message, Role},
    request::{OutputFormat, OutputSchema, Request},
    tokens::of_message,
};

/// The most tokens of a coordinator's answer, unless its sampling says otherwise. Generous, because JSON that is cut cannot
/// be read.
const COORDINATOR_TOKENS_MAX: u32 = 1024;

/// How many messages a check of the goal sees.
const CHECKED_MESSAGES: usize = 5;

/// The request of a call, which follows from the state. `None` when the state has no such call to make.
pub(super) fn request(spec: &Spec, state: &State, purpose: &Purpose) -> Option<Request> {
    match purpose {
        Purpose::Turn { speaker } => {
            let turn = state.turns().iter().find(|turn| turn.speaker == *speaker)?;
            Some(turn_request(spec, state, spec.agent(speaker)?, turn))
        }
        Purpose::Select => {
            let coordinator = spec.coordinator.as_ref()?;
            Some(select_request(spec, state, coordinator))
        }
        Purpose::Plan => {
            let coordinator = spec.coordinator.as_ref()?;
            let task = "The conversation makes no progress. Say in a few sentences what is known, why it is stuck, and \
                        which participant should do what next.";
            Some(coordinator_request(spec, state, coordinator, task, None, usize::MAX))
        }
        Purpose::Check { .. } => {
            let coordinator = spec.coordinator.as_ref()?;
            let task = format!("Decide whether this goal is reached: {}.", coordinator.goal);
            let schema = object(&[("terminate", typed("boolean")), ("reason", typed("string"))]);
            let schema = OutputSchema::new("termination", schema);
            Some(coordinator_request(spec, state, coordinator, &task, Some(schema), CHECKED_MESSAGES))
        }
        Purpose::Summarize => {
            let (model, mut sampling) = spec.voice()?;
            sampling.max_tokens = sampling.max_tokens.or(Some(COORDINATOR_TOKENS_MAX));
            let through = summary_end(spec, state)?;
            let system = "Summarize the conversation for those who continue it. Keep decisions, facts, names, numbers and \
                          open questions.";
            let mut text =
                state.summary.as_ref().map_or_else(String::new, |known| format!("{}\n\n", known.text));
            let from = state.summary.as_ref().map_or(0, |known| known.through);
            text.push_str(&transcript(state, from..through));
            let mut request = Request::new(model, vec![Message::system(system), Message::user(text)]);
            request.sampling = sampling;
            Some(request)
        }
        Purpose::Aggregate => {
            let coordinator = spec.coordinator.as_ref()?;
            let task = "All participants have answered. Combine their last messages into one answer.";
            Some(coordinator_request(spec, state, coordinator, task, None, usize::MAX))
        }
        Purpose::Conclude => {
            let (model, mut sampling) = spec.voice()?;
            // The answer may be as long as it must be.
            sampling.max_tokens = spec.coordinator.as_ref().and_then(|known| known.sampling.max_tokens);
            let system = "The conversation is over. Write its result as JSON that matches the schema.";
            let text = reduced_transcript(spec, state, usize::MAX);
            let mut request = Request::new(model, vec![Message::system(system), Message::user(text)]);
            request.messages.extend(state.feedback.iter().cloned());
            request.sampling = sampling;
            request.output = spec.response.clone().map_or(OutputFormat::JsonObject, OutputFormat::JsonSchema);
            Some(request)
        }
    }
}

fn turn_request(spec: &Spec, state: &State, agent: &Agent, turn: &Turn) -> Request {
    let mut messages = agent.messages.clone();
    if spec.participants.len() > 1 {
        messages.push(Message::system(introduction(spec, &turn.speaker)));
    }
    let mut history = Vec::new();
    let from = summarized(state, &mut history);
    for entry in &state.entries[from..] {
        match &entry.speaker {
            None => history.push(entry.message.clone()),
            Some(speaker) if *speaker == turn.speaker => history.push(entry.message.clone()),
            // What others call and get is their own; what they say is heard under their name.
            Some(speaker) => {
                let text = entry.message.text();
                if entry.is_spoken() && !text.is_empty() {
                    history.push(Message::user(text).named(speaker.as_str()));
                }
            }
        }
    }
    history.extend(turn.messages.iter().cloned());
    messages.extend(reduce(spec.reduction, history));
    messages.extend(turn.feedback.iter().cloned());
    let mut request = Request::new(agent.model.as_str(), messages);
    request.tools = agent.tools.iter().map(|tool| tool.tool.clone()).collect();
    request.parallel_tool_calls = agent.parallel_tool_calls.filter(|_| !agent.tools.is_empty());
    request.sampling = agent.sampling.clone();
    request.output = agent.output.clone();
    request.extra = agent.extra.clone();
    request
}

fn introduction(spec: &Spec, speaker: &str) -> String {
    let mut text = format!("You are {speaker}. You take part in a conversation with:");
    for participant in spec.participants.iter().filter(|participant| participant.name != speaker) {
        describe(participant, &mut text);
    }
    text.push_str("\nSpeak only for yourself.");
    text
}

fn describe(participant: &Participant, text: &mut String) {
    let Participant { name, role, description, .. } = participant;
    let role = if role.is_empty() { String::new() } else { format!(" ({role})") };
    let description = if description.is_empty() { String::new() } else { format!(": {description}") };
    write!(text, "\n- {name}{role}{description}").expect("a string accepts everything");
}

/// Adds the summary, and returns where the messages begin that it does not cover.
fn summarized(state: &State, messages: &mut Vec<Message>) -> usize {
    match &state.summary {
        None => 0,
        Some(summary) => {
            messages.push(Message::user(format!("The conversation so far, in summary:\n{}", summary.text)));
            summary.through
        }
    }
}

/// Who may be selected. Nobody is excluded if nobody would be left.
pub(super) fn candidates<'a>(spec: &'a Spec, state: &State) -> Vec<&'a str> {
    let names = || spec.participants.iter().map(|participant| participant.name.as_str());
    let permitted: Vec<&str> = match &state.candidates {
        Some(known) => {
            names().filter(|name| known.iter().any(|known| known.eq_ignore_ascii_case(name))).collect()
        }
        None => names().collect(),
    };
    let permitted = if permitted.is_empty() { names().collect() } else { permitted };
    let others: Vec<&str> = permitted
        .iter()
        .copied()
        .filter(|name| spec.allow_repeated_speaker || state.last_speaker.as_deref() != Some(*name))
        .collect();
    if others.is_empty() { permitted } else { others }
}

fn select_request(spec: &Spec, state: &State, coordinator: &Coordinator) -> Request {
    let mut names: Vec<Json> = candidates(spec, state).into_iter().map(Json::from).collect();
    if coordinator.may_terminate {
        names.push(TERMINATE.into());
    }
    let next = Json::object([("type", Json::from("string")), ("enum", Json::Array(names))]);
    // The name comes first, so that it is there even when the rest is cut, and the model cannot talk itself out of the form.
    let manages = spec.mode == Mode::Manager;
    let properties = if manages {
        vec![
            ("next", next),
            ("instruction", typed("string")),
            ("progress", typed("boolean")),
            ("reason", typed("string")),
        ]
    } else {
        vec![("next", next), ("reason", typed("string"))]
    };
    let mut task = format!("Select who speaks next. The goal: {}.", coordinator.goal);
    if manages {
        task.push_str(
            " Give the next participant an instruction, and say whether the last message brought progress.",
        );
    }
    if coordinator.may_terminate {
        write!(task, " Select {TERMINATE} when the goal is reached.").expect("a string accepts everything");
    }
    let schema = OutputSchema::new("selection", object(&properties));
    let mut request = coordinator_request(spec, state, coordinator, &task, Some(schema), usize::MAX);
    request.messages.extend(state.feedback.iter().cloned());
    request
}

fn coordinator_request(
    spec: &Spec,
    state: &State,
    coordinator: &Coordinator,
    task: &str,
    schema: Option<OutputSchema>,
    last: usize,
) -> Request {
    let mut system =
        "You coordinate a conversation. You do not take part in it. The participants:".to_owned();
    for participant in &spec.participants {
        describe(participant, &mut system);
    }
    if !coordinator.instructions.is_empty() {
        write!(system, "\n{}", coordinator.instructions).expect("a string accepts everything");
    }
    write!(system, "\n{task}").expect("a string accepts everything");
    let text = reduced_transcript(spec, state, last);
    let mut request =
        Request::new(coordinator.model.as_str(), vec![Message::system(system), Message::user(text)]);
    request.sampling = coordinator.sampling.clone();
    request.sampling.max_tokens = request.sampling.max_tokens.or(Some(COORDINATOR_TOKENS_MAX));
    request.sampling.temperature = request.sampling.temperature.or(Some(0.0));
    request.output = schema.map_or(OutputFormat::Text, OutputFormat::JsonSchema);
    request
}

fn typed(name: &str) -> Json {
    Json::object([("type", Json::from(name))])
}

fn object(properties: &[(&str, Json)]) -> Json {
    let required: Vec<Json> = properties.iter().map(|(name, _)| Json::from(*name)).collect();
    Json::object([
        ("type", Json::from("object")),
        ("properties", Json::object(properties.iter().cloned())),
        ("required", required.into()),
        ("additionalProperties", false.into()),
    ])
}

/// The history as text, of which the last messages remain that the reduction allows.
fn reduced_transcript(spec: &Spec, state: &State, last: usize) -> String {
    let mut lines = Vec::new();
    let from = summarized(state, &mut lines);
    let spoken = (from..state.entries.len()).filter(|index| state.entries[*index].is_spoken());
    let spoken: Vec<usize> = spoken.collect();
    for index in &spoken[spoken.len().saturating_sub(last)..] {
        lines.push(Message::user(transcript(state, *index..index + 1).trim_end()));
    }
    let lines: Vec<String> = reduce(spec.reduction, lines).iter().map(Message::text).collect();
    lines.join("\n")
}

fn transcript(state: &State, range: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for entry in state.entries.get(range).unwrap_or_default() {
        let said = entry.message.text();
        if entry.is_spoken() && !said.is_empty() {
            let who = entry.speaker.as_deref().unwrap_or("user");
            writeln!(text, "{who}: {said}").expect("a string accepts everything");
        }
    }
    text
}

/// How many messages the next summary covers; `None` when there are not too many.
pub(super) fn summary_end(spec: &Spec, state: &State) -> Option<usize> {
    let Reduction::Summarization { target, threshold } = spec.reduction else { return None };
    let from = state.summary.as_ref().map_or(0, |summary| summary.through);
    let count = state.entries.len();
    // A summary that failed is tried again when the history has grown by as much again.
    if count - from <= threshold || (state.unsummarized > 0 && count - state.unsummarized <= threshold) {
        return None;
    }
    let mut through = count - target;
    // A result belongs to its call.
    while through > from && state.entries.get(through).is_some_and(|entry| entry.message.role == Role::Tool) {
        through -= 1;
    }
    (through > from).then_some(through)
}

/// Leaves out the first messages. System messages stay, and so does the last group, however large it is. A group is one
/// message, or a message with tool calls and the results that follow it.
pub(super) fn reduce(reduction: Reduction, messages: Vec<Message>) -> Vec<Message> {
    let (room, cost): (u64, fn(&Message) -> u64) = match reduction {
        Reduction::None | Reduction::Summarization { .. } => return messages,
        Reduction::MessageCount { limit } => (limit as u64, |_| 1),
        Reduction::TokenCount { limit } => (limit, of_message),
    };
    let system: u64 = messages.iter().filter(|message| message.role == Role::System).map(cost).sum();
    let mut groups: Vec<(usize, u64)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match (message.role, groups.last_mut()) {
            (Role::System, _) => {}
            (Role::Tool, Some((_, group))) => *group += cost(message),
            _ => groups.push((index, cost(message))),
        }
    }
    let mut left = room.saturating_sub(system);
    let mut from = messages.len();
    for (position, (start, group)) in groups.iter().rev().enumerate() {
        if *group > left && position > 0 {
            break;
        }
        left = left.saturating_sub(*group);
        from = *start;
    }
    let kept = messages.into_iter().enumerate();
    kept.filter(|(index, message)| *index >= from || message.role == Role::System)
        .map(|(_, message)| message)
        .collect()
}

/// Whether a call can be in flight in this stage; a guard against a state that was stored by hand.
pub(super) fn waits_for_coordinator(state: &State) -> bool {
    !matches!(state.stage, Stage::Speak { .. }) && !state.calls.is_empty()
}
