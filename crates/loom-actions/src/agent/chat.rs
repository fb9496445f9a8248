//! The inputs of a `GroupChat`: participants, mode, coordinator, termination and limits, as the conversation that they describe.

use std::sync::Arc;

use loom_definition::{duration::Span, model::ActionKind};
use loom_engine::ports::Call;
use loom_expression::{Object, Value};
use loom_models::{
    Message, OutputSchema, Tool,
    conversation::{
        AgentTool, Coordinator, Human, Limit, Mode, Participant, ParticipantKind, Spec, Termination, TextRule,
    },
};

use super::{
    offers::Offers,
    setup::{
        Offered, Own, agent, count, messages, model_of, money, name_of, no_parameters, number, reduction,
    },
};
use crate::{
    Connections, Failure,
    connections::Model,
    models::{json, text},
};

/// What a chat has and an agent has not.
pub(super) struct Chat {
    /// Identifies the conversation, for people and programs.
    pub(super) conversation: String,
    /// The address of the history in shared memory, if it is kept there.
    pub(super) memory: Option<String>,
}

/// A chat as its inputs describe it.
pub(super) struct Read {
    pub(super) models: Vec<Model>,
    pub(super) spec: Spec,
    pub(super) start: Vec<Message>,
    pub(super) schemas: Vec<(Option<String>, Value)>,
    pub(super) chat: Chat,
    pub(super) offered: Vec<Offered>,
}

/// The modes, as definitions spell them.
const MODES: [(&str, Mode); 6] = [
    ("roundRobin", Mode::RoundRobin),
    ("selector", Mode::Selector),
    ("expression", Mode::Expression),
    ("broadcast", Mode::Broadcast),
    ("manager", Mode::Manager),
    ("handoff", Mode::Handoff),
];

/// The model of the first agent, whose service the limits of the chat apply to.
pub(super) fn first_model(inputs: &Value, connections: &Connections) -> Option<Model> {
    let participants = inputs.get("participants").and_then(Value::as_object)?;
    let agents = participants.values().filter_map(|participant| participant.get("agent"));
    let first = agents.chain(inputs.get("coordinator")).next()?;
    model(first, connections).ok()
}

fn model(of: &Value, connections: &Connections) -> Result<Model, Failure> {
    let mut inputs = Object::single(Arc::from("parameters"), of.clone());
    if let Some(configurations) = of.get("modelConfigurations") {
        inputs.insert("modelConfigurations", configurations.clone());
    }
    model_of(&inputs.into(), connections)
}

pub(super) fn read(call: &Call, connections: &Connections, offers: &Offers) -> Result<Read, Failure> {
    let inputs = &call.inputs;
    let ActionKind::Agent { tools, .. } = &call.definition().kind else {
        return Err(Failure::bad_request("The action is not a GroupChat."));
    };
    let written = inputs.get("participants").and_then(Value::as_object);
    let written = written.ok_or_else(|| Failure::bad_request("'participants' must be an object."))?;
    let mut models: Vec<Model> = Vec::new();
    let mut schemas = Vec::new();
    let mut offered = Vec::new();
    let mut participants = Vec::new();
    for (name, one) in written {
        let described = |name: &str| text(one, name).map(|text| text.unwrap_or_default().to_owned());
        let kind = if let Some(given) = one.get("agent") {
            let model = model(given, connections)?;
            let none = Value::NULL;
            let (mut agent, schema) = agent(&model, given.get("agentModelSettings").unwrap_or(&none))?;
            let (mut system, examples) = messages(given, &format!("{name}.agent.messages"))?;
            system.extend(examples);
            agent.messages = system;
            let own = Own { tools, offers, participant: Some(name) };
            own.add_actions(&mut agent, |tool| tool.handoff.as_deref().map(|to| canonical(written, to)))?;
            for to in given.get("handoffs").and_then(Value::as_array).into_iter().flatten() {
                let to = canonical(written, to.as_str().unwrap_or_default());
                let about =
                    written.get(&to).and_then(|to| to.get("description")?.as_str()).unwrap_or_default();
                let tool = Tool::new(
                    name_of(&format!("transfer_to_{to}")),
                    format!("Hand over the conversation to {to}. {about}").trim(),
                    no_parameters(),
                );
                agent.tools.push(AgentTool::handoff(tool, to));
            }
            own.add_offers(&mut agent, &mut offered);
            schemas.extend(schema.map(|schema| (Some(name.to_string()), schema)));
            add(&mut models, model);
            ParticipantKind::Agent(Box::new(agent))
        } else if let Some(given) = one.get("human") {
            let mut human = Human::default();
            human.default = text(given, "default")?.map(str::to_owned);
            ParticipantKind::Human(human)
        } else {
            ParticipantKind::Workflow
        };
        let participant = Participant::new(name.to_string(), kind);
        participants.push(participant.described(described("role")?, described("description")?));
    }
    let mode = match text(inputs, "mode")? {
        None => Mode::RoundRobin,
        Some(given) => {
            let known = MODES.iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
            known.map(|(_, mode)| *mode).ok_or_else(|| {
                let names = MODES.map(|(name, _)| name).join(", ");
                Failure::bad_request(format!("'mode' must be one of {names} (got '{given}')."))
            })?
        }
    };
    let mut spec = Spec::new(participants, mode);
    spec.allow_repeated_speaker = flag(inputs, "allowRepeatedSpeaker")?.unwrap_or(false);
    spec.narrow_candidates = inputs.get("candidates").is_some();
    if let Some(given) = inputs.get("coordinator").filter(|given| !given.is_null()) {
        let model = model(given, connections)?;
        spec.coordinator = Some(coordinator(given, &model)?);
        add(&mut models, model);
    }
    let none = Value::NULL;
    spec.limit = limit(inputs.get("limit").unwrap_or(&none))?;
    spec.termination = terminations(inputs.get("termination").unwrap_or(&none))?;
    let memory = inputs.get("memory").filter(|memory| !memory.is_null());
    let reduced = memory.and_then(|memory| memory.get("agentHistoryReductionSettings"));
    let reduced = reduced.or_else(|| inputs.get("agentHistoryReductionSettings")).unwrap_or(&none);
    spec.reduction = reduction(reduced)?;
    if let Some(response) = inputs.get("response").filter(|response| !response.is_null()) {
        let given = response.get("json_schema").cloned().unwrap_or_default();
        let schema = given.get("schema").unwrap_or(&given).clone();
        let name = text(&given, "name")?.unwrap_or("response");
        spec.response = Some(OutputSchema::new(name_of(name), json(&schema)?));
        schemas.push((None, schema));
    }
    for model in &models {
        if let Some(price) = model.price {
            spec.prices.models.insert(model.name.to_string(), price);
        }
    }
    let initial = inputs.get("initialMessage").cloned().unwrap_or_default();
    let initial = initial.as_str().map_or_else(|| initial.to_json_text(), str::to_owned);
    if initial.trim().is_empty() {
        return Err(Failure::bad_request("'initialMessage' must not be empty."));
    }
    let memory = match memory {
        None => None,
        Some(memory) => Some(address(text(memory, "key")?.unwrap_or_default())?),
    };
    let conversation = match (text(inputs, "conversationId")?, &memory) {
        (Some(id), _) => id.to_owned(),
        (None, Some(address)) if address.starts_with("chat:") => {
            address.trim_start_matches("chat:").split('/').next().unwrap_or_default().to_owned()
        }
        (None, _) => format!("chat-{}", call.run),
    };
    let chat = Chat { conversation, memory };
    Ok(Read { models, spec, start: vec![Message::user(initial)], schemas, chat, offered })
}

/// An address of shared memory. A namespace alone means its key `history`.
fn address(key: &str) -> Result<String, Failure> {
    match key.trim() {
        "" => Err(Failure::bad_request("'memory.key' must be an address, such as chat:support/history.")),
        key if key.contains('/') => Ok(key.to_owned()),
        key => Ok(format!("{key}/history")),
    }
}

fn add(models: &mut Vec<Model>, model: Model) {
    if models.iter().all(|known| known.name != model.name) {
        models.push(model);
    }
}

/// The name of a participant as the definition spells it.
fn canonical(participants: &Object, name: &str) -> String {
    participants.name_ignore_case(name).map_or_else(|| name.to_owned(), std::string::ToString::to_string)
}

fn flag(given: &Value, name: &str) -> Result<Option<bool>, Failure> {
    match given.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value.as_bool().map(Some).ok_or_else(|| {
            Failure::bad_request(format!("'{name}' must be a boolean, found {}.", value.kind()))
        }),
    }
}

fn whole(given: &Value, name: &str) -> Result<Option<u32>, Failure> {
    Ok(count(given, name)?.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
}

fn coordinator(given: &Value, model: &Model) -> Result<Coordinator, Failure> {
    let goal = text(given, "goal")?.unwrap_or("the task is complete");
    let mut made = Coordinator::new(model.name.to_string(), goal);
    text(given, "instructions")?.unwrap_or_default().clone_into(&mut made.instructions);
    let none = Value::NULL;
    made.sampling = super::setup::sampling(given.get("agentChatCompletionSettings").unwrap_or(&none))?;
    made.attempts = whole(given, "attempts")?.unwrap_or(made.attempts);
    made.may_terminate = flag(given, "mayTerminate")?.unwrap_or(made.may_terminate);
    let from_zero = |name: &str, default: u32| -> Result<u32, Failure> {
        match number(given, name)? {
            None => Ok(default),
            Some(0.0) => Ok(0),
            Some(_) => Ok(whole(given, name)?.unwrap_or(default)),
        }
    };
    made.stalls_max = from_zero("stallsMax", made.stalls_max)?;
    made.replans_max = from_zero("replansMax", made.replans_max)?;
    Ok(made)
}

fn limit(given: &Value) -> Result<Limit, Failure> {
    let mut limit = Limit::default();
    limit.rounds = whole(given, "rounds")?;
    limit.turns = whole(given, "turns")?;
    limit.calls = whole(given, "count")?;
    limit.tokens = count(given, "tokens")?;
    limit.cost_micros = money(given, "cost")?;
    Ok(limit)
}

fn terminations(given: &Value) -> Result<Vec<Termination>, Failure> {
    let Some(entries) = given.as_array() else {
        if given.is_null() {
            return Ok(Vec::new());
        }
        return Err(Failure::bad_request(format!("'termination' must be an array, found {}.", given.kind())));
    };
    entries.iter().map(termination).collect()
}

/// An entry of the termination: all of its conditions.
fn termination(entry: &Value) -> Result<Termination, Failure> {
    let Some(members) = entry.as_object() else {
        return Err(Failure::bad_request("An entry of 'termination' must be an object with a condition."));
    };
    let mut all = Vec::new();
    for (name, value) in members {
        let word = |what: &str| {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| {
                Failure::bad_request(format!("'{what}' must be a string, found {}.", value.kind()))
            })
        };
        let positive = || {
            let number = count(entry, name)?;
            number.ok_or_else(|| Failure::bad_request(format!("'{name}' must be a positive integer.")))
        };
        let small = || positive().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        all.push(match name.to_ascii_lowercase().as_str() {
            "rounds" => Termination::Rounds(small()?),
            "messages" => Termination::Messages(small()?),
            "tokens" => Termination::Tokens(positive()?),
            "cost" => Termination::CostMicros(money(entry, name)?.unwrap_or(u64::MAX)),
            "timeout" => {
                let span = Span::from_value(value)
                    .map_err(|why| Failure::bad_request(format!("'timeout' of the termination: {why}")))?;
                Termination::TimeoutMs(u64::try_from(span.approximate().as_millis()).unwrap_or(u64::MAX))
            }
            "text" => {
                let words = value.as_str().or_else(|| value.get("text")?.as_str()).unwrap_or_default();
                let speakers = value.get("speakers").and_then(Value::as_array);
                let speakers: Vec<&str> = speakers.into_iter().flatten().filter_map(Value::as_str).collect();
                Termination::Text(TextRule::new(words, &speakers))
            }
            "toolcalled" => Termination::ToolCalled(name_of(&word("toolCalled")?)),
            "handoffto" => Termination::HandoffTo(word("handoffTo")?),
            "speaker" => Termination::Speaker(word("speaker")?),
            // The definition has replaced the expression by its number.
            "expression" | "external" => Termination::Expression(value.text().into_owned()),
            "coordinator" => Termination::Coordinator,
            "legacykeywords" => Termination::LegacyKeywords,
            "any" => Termination::Any(terminations(value)?),
            "all" => Termination::All(terminations(value)?),
            other => {
                return Err(Failure::bad_request(format!("Unknown condition '{other}' in 'termination'.")));
            }
        });
    }
    Ok(if all.len() == 1 { all.remove(0) } else { Termination::All(all) })
}

/// What people call a condition.
pub(super) fn condition_name(condition: &Termination) -> String {
    match condition {
        Termination::Rounds(rounds) => format!("{rounds} rounds"),
        Termination::Messages(messages) => format!("{messages} messages"),
        Termination::Tokens(tokens) => format!("{tokens} tokens"),
        Termination::CostMicros(_) => "cost".to_owned(),
        Termination::TimeoutMs(_) => "timeout".to_owned(),
        Termination::Text(rule) => format!("text `{}`", rule.text),
        Termination::ToolCalled(name) => format!("tool `{name}` called"),
        Termination::HandoffTo(name) => format!("handoff to `{name}`"),
        Termination::Speaker(name) => format!("speaker `{name}`"),
        Termination::Expression(_) => "expression".to_owned(),
        Termination::Coordinator => "goal reached".to_owned(),
        Termination::LegacyKeywords => "keyword".to_owned(),
        Termination::Any(inner) => joined(inner, " or "),
        Termination::All(inner) => joined(inner, " and "),
        _ => "condition".to_owned(),
    }
}

fn joined(conditions: &[Termination], with: &str) -> String {
    conditions.iter().map(condition_name).collect::<Vec<_>>().join(with)
}
