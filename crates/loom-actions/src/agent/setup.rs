//! The inputs of an agent, in the form of Logic Apps: which model, with which instructions, tools and limits. And what agents and chats
//! have in common.

use std::sync::Arc;

use loom_definition::model::{ActionKind, Tool as DefinedTool, ToolRole};
use loom_engine::{Budgets, ports::Call, schema};
use loom_expression::{Object, Value};
use loom_models::{
    Answer, Json, Message, OutputFormat, OutputSchema, ReasoningEffort, Role, Sampling, Tool,
    conversation::{Agent, AgentTool, Limit, Mode, Participant, ParticipantKind, Purpose, Reduction, Spec},
};

use super::{
    chat::{self, Chat, Read},
    offers::{Offer, Offers},
    results::value_of,
};
use crate::{
    Connections, Failure,
    connections::Model,
    models::{json, matching, text},
};

/// What the agent that is handed to reads last if nobody said anything after the handoff.
pub(super) const TEXT_OF_PASSING_ON: &str = "The conversation was handed over to you. Continue it.";

/// The most calls of the model, unless `limit.count` says otherwise.
const COUNT: u32 = 100;

/// The most characters of the name of a tool that providers accept.
const NAME_MAX: usize = 64;

/// An agent or a chat that can run.
pub(super) struct Setup {
    /// The models, by the names of their entries, which are their names in `spec`. The first is that of the first agent.
    models: Vec<Model>,
    pub(super) spec: Spec,
    /// The messages with which the conversation begins.
    pub(super) start: Vec<Message>,
    /// The schemas of answers, by speaker; that of the response of a chat has no speaker.
    pub(super) schemas: Vec<(Option<String>, Value)>,
    pub(super) fails_at_limits: bool,
    /// What a chat has and an agent has not.
    pub(super) chat: Option<Chat>,
    blocks: Vec<Block>,
    offered: Vec<Offered>,
}

/// A block of the action.
pub(super) struct Block {
    pub(super) role: ToolRole,
    pub(super) participant: Option<Arc<str>>,
    /// The name of a tool with actions, as the model knows it.
    name: String,
}

/// A tool that is itself a call, as the model knows it.
pub(super) struct Offered {
    name: String,
    /// The participant of a chat that has it.
    participant: Option<String>,
    /// The index of its block.
    block: u32,
    offer: Offer,
}

/// The tools of an agent, or of one participant of a chat.
pub(super) struct Own<'a> {
    /// All tools of the action.
    pub(super) tools: &'a [DefinedTool],
    pub(super) offers: &'a Offers,
    pub(super) participant: Option<&'a str>,
}

impl Own<'_> {
    /// The tools, with their indexes.
    fn all(&self) -> impl Iterator<Item = (usize, &DefinedTool)> {
        let participant = self.participant;
        self.tools.iter().enumerate().filter(move |(_, tool)| {
            matches!(tool.role, ToolRole::Tool { .. }) && tool.participant.as_deref() == participant
        })
    }

    /// Gives an agent its tools with actions, which keep their names, whatever a server offers. `hands_to` says to whom a tool hands
    /// over.
    pub(super) fn add_actions(
        &self,
        agent: &mut Agent,
        hands_to: impl Fn(&DefinedTool) -> Option<String>,
    ) -> Result<(), Failure> {
        for (_, tool) in self.all().filter(|(index, _)| self.offers.get(*index).is_none()) {
            agent.tools.push(agent_tool(tool, hands_to(tool).as_deref())?);
        }
        Ok(())
    }

    /// Gives an agent what servers and connections offer, under names that no other of its tools has.
    pub(super) fn add_offers(&self, agent: &mut Agent, offered: &mut Vec<Offered>) {
        for (index, tool) in self.all() {
            for offer in self.offers.get(index).into_iter().flatten() {
                let name = unused(&offer.name, &agent.tools);
                let described =
                    Tool::new(name.as_str(), offer.description.as_str(), offer.parameters.clone());
                let mut made = AgentTool::new(described);
                made.approval = matches!(tool.role, ToolRole::Tool { approval: true });
                agent.tools.push(made);
                let participant = self.participant.map(str::to_owned);
                offered.push(Offered { name, participant, block: index as u32, offer: offer.clone() });
            }
        }
    }
}

impl Offered {
    fn is(&self, speaker: &str, name: &str) -> bool {
        self.name == name && self.participant.as_deref().is_none_or(|of| of == speaker)
    }
}

impl Setup {
    /// Reads the inputs of an agent or a chat.
    pub(super) fn read(call: &Call, connections: &Connections, offers: &Offers) -> Result<Setup, Failure> {
        let action = call.definition();
        let ActionKind::Agent { tools, .. } = &action.kind else {
            return Err(Failure::bad_request("The action is not an Agent."));
        };
        let blocks = tools.iter().map(|tool| Block {
            role: tool.role,
            participant: tool.participant.clone(),
            name: name_of(&tool.name),
        });
        let blocks: Vec<Block> = blocks.collect();
        let fails_at_limits = action.options.fail_when_limits_reached;
        if action.type_name.eq_ignore_ascii_case("GroupChat") {
            let Read { models, spec, start, schemas, chat, offered } = chat::read(call, connections, offers)?;
            let chat = Some(chat);
            return Ok(Setup { models, spec, start, schemas, fails_at_limits, chat, blocks, offered });
        }
        let inputs = &call.inputs;
        let model = model_of(inputs, connections)?;
        let none = Value::NULL;
        let parameters = inputs.get("parameters").unwrap_or(&none);
        let (system, start) = messages(parameters, "parameters.messages")?;
        let settings = parameters.get("agentModelSettings").unwrap_or(&none);
        let (mut agent, schema) = agent(&model, settings)?;
        agent.messages = system;
        let gone = call.turn.as_deref().map_or(&[][..], |turn| &turn.gone);
        let hands_to = |tool: &DefinedTool| {
            let is_gone = gone.iter().any(|gone| Some(gone) == tool.handoff.as_ref());
            tool.handoff.as_deref().filter(|_| !is_gone).map(str::to_owned)
        };
        let own = Own { tools, offers, participant: None };
        own.add_actions(&mut agent, hands_to)?;
        let mut offered = Vec::new();
        own.add_offers(&mut agent, &mut offered);
        let name = action.name.to_string();
        let mut spec = Spec::new(vec![Participant::agent(name.clone(), agent)], Mode::Handoff);
        spec.limit = limit(inputs.get("limit").unwrap_or(&none))?;
        spec.reduction = reduction(settings.get("agentHistoryReductionSettings").unwrap_or(&none))?;
        if let Some(price) = model.price {
            spec.prices.models.insert(model.name.to_string(), price);
        }
        if start.is_empty() && call.turn.as_deref().is_none_or(|turn| turn.handed_over.is_none()) {
            return Err(Failure::bad_request(
                "The agent has no message to answer: 'parameters.messages' needs one with the role User.",
            ));
        }
        let schemas = schema.map(|schema| (Some(name), schema)).into_iter().collect();
        let models = vec![model];
        Ok(Setup { models, spec, start, schemas, fails_at_limits, chat: None, blocks, offered })
    }

    /// The index of a tool, by its speaker and the name that the model knows.
    pub(super) fn tool(&self, speaker: &str, name: &str) -> Option<u32> {
        if let Some(offered) = self.offered.iter().find(|offered| offered.is(speaker, name)) {
            return Some(offered.block);
        }
        self.block(|block| {
            matches!(block.role, ToolRole::Tool { .. })
                && block.name == name
                && block.participant.as_deref().is_none_or(|of| of == speaker)
        })
    }

    /// The arguments of a tool's block for those that the model wrote.
    pub(super) fn arguments(&self, speaker: &str, name: &str, written: Value) -> Value {
        match self.offered.iter().find(|offered| offered.is(speaker, name)) {
            Some(offered) => offered.offer.arguments(written),
            None => written,
        }
    }

    /// The index of the first block of which this holds.
    pub(super) fn block(&self, holds: impl Fn(&Block) -> bool) -> Option<u32> {
        self.blocks.iter().position(holds).map(|index| index as u32)
    }

    /// A model, by the name of its entry.
    pub(super) fn model(&self, name: &str) -> Result<&Model, Failure> {
        let found = self.models.iter().find(|model| *model.name == *name);
        found.ok_or_else(|| Failure::bad_request(format!("The chat has no model '{name}'.")))
    }

    /// The name of the first model.
    pub(super) fn voice(&self) -> &str {
        self.models.first().map_or("", |model| &model.name)
    }

    pub(super) fn has_prices(&self) -> bool {
        self.models.iter().any(|model| model.price.is_some())
    }

    pub(super) fn is_structured(&self) -> bool {
        self.spec.participants.iter().any(|participant| match &participant.kind {
            ParticipantKind::Agent(agent) => agent.output != OutputFormat::Text,
            _ => false,
        })
    }

    /// Why a call of a tool cannot be made.
    pub(super) fn refusal(&self, call: &Call, speaker: &str, name: &str, arguments: &Json) -> Option<String> {
        let index = self.tool(speaker, name)?;
        let ActionKind::Agent { tools, .. } = &call.definition().kind else { return None };
        let tool = tools.get(index as usize)?;
        if let Some(to) = &tool.handoff {
            // Otherwise the conversation has handed over already.
            return Some(format!(
                "{to} has already taken part and cannot be handed to again. Answer yourself."
            ));
        }
        // The service checks the arguments of a call itself, and knows more than the schema says.
        let is_call = tool.call.is_some();
        if is_call || tool.parameters.as_object().is_none_or(Object::is_empty) {
            return None;
        }
        match schema::validate(&tool.parameters, &value_of(arguments), Budgets::default().schema_nodes_max) {
            Ok(mismatches) => {
                let first = mismatches.first()?;
                Some(format!("The arguments do not match the schema of the tool: {}", first.message))
            }
            Err(
                schema::Problem::Invalid(why)
                | schema::Problem::Unsupported(why)
                | schema::Problem::TooCostly(why),
            ) => Some(format!("The agentParameterSchema of the tool cannot be used: {why}")),
        }
    }

    /// What is wrong with the form of an answer.
    pub(super) fn problem_of(&self, purpose: &Purpose, answer: &Answer) -> Option<String> {
        let speaker = match purpose {
            Purpose::Turn { speaker } => Some(speaker.as_str()),
            Purpose::Conclude => None,
            _ => return None,
        };
        let (_, schema) = self.schemas.iter().find(|(of, _)| of.as_deref() == speaker)?;
        if answer.message.tool_calls().next().is_some() {
            return None;
        }
        matching(schema, answer, &answer.message.text()).err().map(|failure| failure.message)
    }
}

/// An agent of a model, with the settings of its model, and the schema of its answers.
pub(super) fn agent(model: &Model, settings: &Value) -> Result<(Agent, Option<Value>), Failure> {
    let none = Value::NULL;
    let chat = settings.get("agentChatCompletionSettings").unwrap_or(&none);
    let mut agent = Agent::new(model.name.to_string(), "");
    agent.messages.clear();
    agent.sampling = sampling(chat)?;
    let (output, schema) = response_format(chat)?;
    agent.output = output;
    agent.parallel_tool_calls = match settings
        .get("parallelToolCalls")
        .or_else(|| chat.get("parallelToolCalls"))
    {
        None => None,
        Some(value) if value.is_null() => None,
        Some(value) => Some(value.as_bool().ok_or_else(|| {
            Failure::bad_request(format!("'parallelToolCalls' must be a boolean, found {}.", value.kind()))
        })?),
    };
    Ok((agent, schema))
}

/// The model that the inputs name: by the reference of their model configuration, by `modelId` or by `deploymentId`.
pub(super) fn model_of(inputs: &Value, connections: &Connections) -> Result<Model, Failure> {
    let none = Value::NULL;
    let parameters = inputs.get("parameters").unwrap_or(&none);
    let configured = inputs
        .get("modelConfigurations")
        .and_then(Value::as_object)
        .and_then(|configurations| configurations.values().next());
    let mut named = Vec::new();
    for (name, value) in [
        ("referenceName", configured.unwrap_or(&none)),
        ("modelId", parameters),
        ("deploymentId", parameters),
    ] {
        named.extend(text(value, name)?);
    }
    for name in &named {
        if let Ok(model) = connections.model(Some(name)) {
            return Ok(model);
        }
    }
    connections.model(named.first().copied())
}

/// A name that providers accept: letters, digits, `_` and `-`.
pub(super) fn name_of(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().take(NAME_MAX).map(plain).collect()
}

/// A name that providers accept, and no other tool has.
fn unused(name: &str, known: &[AgentTool]) -> String {
    let plain = name_of(name);
    let mut unused = plain.clone();
    let mut number = 2;
    while known.iter().any(|known| known.tool.name == unused) {
        let end = format!("_{number}");
        unused = format!("{}{end}", &plain[..plain.len().min(NAME_MAX - end.len())]);
        number += 1;
    }
    unused
}

fn agent_tool(tool: &DefinedTool, handoff: Option<&str>) -> Result<AgentTool, Failure> {
    let parameters = if tool.parameters.as_object().is_none_or(Object::is_empty) {
        no_parameters()
    } else {
        json(&tool.parameters)?
    };
    let described = Tool::new(name_of(&tool.name), &*tool.description, parameters);
    let mut made = match handoff {
        Some(to) => AgentTool::handoff(described, to),
        None => AgentTool::new(described),
    };
    made.approval = matches!(tool.role, ToolRole::Tool { approval: true });
    Ok(made)
}

/// The schema of a tool that takes nothing.
pub(super) fn no_parameters() -> Json {
    Json::object([("type", Json::from("object")), ("properties", Json::Object(Vec::new()))])
}

/// The instructions, and the messages with which the conversation begins.
pub(super) fn messages(parameters: &Value, what: &str) -> Result<(Vec<Message>, Vec<Message>), Failure> {
    let (mut system, mut start) = (Vec::new(), Vec::new());
    let Some(given) = parameters.get("messages").filter(|given| !given.is_null()) else {
        return Ok((system, start));
    };
    let Some(given) = given.as_array() else {
        return Err(Failure::bad_request(format!("'{what}' must be an array, found {}.", given.kind())));
    };
    for (index, message) in given.iter().enumerate() {
        let wrong = |why: &str| Failure::bad_request(format!("'{what}[{index}]' {why}."));
        let content = message.get("content").ok_or_else(|| wrong("has no 'content'"))?;
        // Designers write a trigger's body here, which need not be text.
        let content = content.as_str().map_or_else(|| content.to_json_text(), str::to_owned);
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        match role.as_str() {
            "system" | "developer" => system.push(Message::system(content)),
            "user" => start.push(Message::user(content)),
            "assistant" => start.push(Message::assistant(content)),
            _ => return Err(wrong("must have the role System, User or Assistant")),
        }
    }
    // What only the model has said needs somebody who asks.
    if start.iter().all(|message| message.role == Role::Assistant) {
        start.clear();
    }
    Ok((system, start))
}

pub(super) fn number(value: &Value, name: &str) -> Result<Option<f64>, Failure> {
    match value.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(found) => {
            found.text().trim().parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("'{name}' must be a number (got {}).", found.kind()))
            })
        }
    }
}

pub(super) fn count(value: &Value, name: &str) -> Result<Option<u64>, Failure> {
    match number(value, name)? {
        None => Ok(None),
        Some(number) if number.fract() == 0.0 && (1.0..9e15).contains(&number) => Ok(Some(number as u64)),
        Some(number) => {
            Err(Failure::bad_request(format!("'{name}' must be a positive integer (got {number}).")))
        }
    }
}

pub(super) fn sampling(chat: &Value) -> Result<Sampling, Failure> {
    let mut sampling = Sampling::default();
    sampling.max_tokens = match count(chat, "maxTokens")? {
        None => None,
        Some(tokens) => Some(u32::try_from(tokens).map_err(|_| {
            Failure::bad_request(format!("'maxTokens' must be at most {} (got {tokens}).", u32::MAX))
        })?),
    };
    sampling.temperature = number(chat, "temperature")?;
    sampling.top_p = number(chat, "topP")?;
    sampling.frequency_penalty = number(chat, "frequencyPenalty")?;
    sampling.presence_penalty = number(chat, "presencePenalty")?;
    sampling.reasoning_effort = match text(chat, "reasoningEffort")? {
        None => None,
        Some(effort) => {
            let read: Result<ReasoningEffort, _> =
                serde_json::from_value(serde_json::Value::from(effort.to_lowercase()));
            Some(read.map_err(|_| {
                let known = "none, minimal, low, medium or high";
                Failure::bad_request(format!("'reasoningEffort' must be {known} (got {effort})."))
            })?)
        }
    };
    Ok(sampling)
}

pub(super) fn response_format(chat: &Value) -> Result<(OutputFormat, Option<Value>), Failure> {
    let Some(format) = chat.get("responseFormat").filter(|format| !format.is_null()) else {
        return Ok((OutputFormat::Text, None));
    };
    match text(format, "type")?.unwrap_or("text") {
        "text" => Ok((OutputFormat::Text, None)),
        "json_object" => Ok((OutputFormat::JsonObject, None)),
        "json_schema" => {
            let given = format.get("json_schema").cloned().unwrap_or_default();
            let schema = given.get("schema").unwrap_or(&given).clone();
            if schema.as_object().is_none() {
                let why = "'responseFormat.json_schema' must have an object 'schema'.";
                return Err(Failure::bad_request(why));
            }
            let name = text(&given, "name")?.unwrap_or("answer");
            let output = OutputSchema::new(name_of(name), json(&schema)?);
            Ok((OutputFormat::JsonSchema(output), Some(schema)))
        }
        other => {
            let known = "text, json_object or json_schema";
            Err(Failure::bad_request(format!("'responseFormat.type' must be {known} (got {other}).")))
        }
    }
}

fn limit(given: &Value) -> Result<Limit, Failure> {
    let mut limit = Limit::default();
    let turns = count(given, "count")?.unwrap_or(u64::from(COUNT));
    limit.turns = Some(u32::try_from(turns).unwrap_or(u32::MAX));
    limit.rounds = Some(1);
    limit.tokens = count(given, "tokens")?;
    limit.cost_micros = money(given, "cost")?;
    Ok(limit)
}

/// Money, in millionths.
pub(super) fn money(given: &Value, name: &str) -> Result<Option<u64>, Failure> {
    match number(given, name)? {
        None => Ok(None),
        Some(cost) if cost > 0.0 && cost < 9e9 => Ok(Some((cost * 1e6).round() as u64)),
        Some(cost) => Err(Failure::bad_request(format!("'{name}' must be positive (got {cost})."))),
    }
}

pub(super) fn reduction(settings: &Value) -> Result<Reduction, Failure> {
    let Some(kind) = text(settings, "agentHistoryReductionType")? else { return Ok(Reduction::None) };
    // The designer writes the settings of a type into an object of its name.
    let own = settings.get(kind).unwrap_or(settings);
    let required = |name: &str, default: Option<u64>| {
        count(own, name)?.or(default).ok_or_else(|| {
            Failure::bad_request(format!("'agentHistoryReductionSettings' of type {kind} needs '{name}'."))
        })
    };
    let length = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match kind {
        "maximumTokenCountReduction" => {
            Ok(Reduction::TokenCount { limit: required("maximumTokenCount", Some(128_000))? })
        }
        "messageCountReduction" => {
            Ok(Reduction::MessageCount { limit: length(required("messageCountLimit", None)?) })
        }
        "summarizationReduction" => Ok(Reduction::Summarization {
            target: length(required("targetMessageCount", None)?),
            threshold: length(required("thresholdMessageCount", None)?),
        }),
        other => Err(Failure::bad_request(format!(
            "'agentHistoryReductionType' must be maximumTokenCountReduction, messageCountReduction or \
             summarizationReduction (got {other})."
        ))),
    }
}
