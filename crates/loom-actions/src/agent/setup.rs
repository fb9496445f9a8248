//! The inputs of an agent, in the form of Logic Apps: which model, with which instructions, tools and limits.

use loom_definition::model::{ActionKind, Tool as DefinedTool};
use loom_engine::ports::Call;
use loom_expression::{Object, Value};
use loom_models::{
    Message, OutputFormat, OutputSchema, ReasoningEffort, Role, Sampling, Tool,
    conversation::{Agent, AgentTool, Limit, Mode, Participant, Reduction, Spec},
};

use super::offers::{Offer, Offers};
use crate::{
    Connections, Failure,
    connections::Model,
    models::{json, text},
};

/// What the agent that is handed to reads last if nobody said anything after the handoff.
pub(super) const TEXT_OF_PASSING_ON: &str = "The conversation was handed over to you. Continue it.";

/// The most calls of the model, unless `limit.count` says otherwise.
const COUNT: u32 = 100;

/// The most characters of the name of a tool that providers accept.
const NAME_MAX: usize = 64;

/// An agent that can run.
pub(super) struct Setup {
    pub(super) model: Model,
    pub(super) spec: Spec,
    /// The messages with which the conversation begins.
    pub(super) start: Vec<Message>,
    /// The schema of its answer.
    pub(super) response_schema: Option<Value>,
    pub(super) fails_at_limits: bool,
    /// The tools, as the model knows them.
    tools: Vec<Known>,
}

/// A tool, as the model knows it.
struct Known {
    name: String,
    /// Its index in the definition.
    tool: u32,
    /// For a tool that is itself a call.
    offer: Option<Offer>,
}

impl Setup {
    /// Reads the inputs of an agent.
    pub(super) fn read(call: &Call, connections: &Connections, offers: &Offers) -> Result<Setup, Failure> {
        let action = call.definition();
        let ActionKind::Agent { tools, .. } = &action.kind else {
            return Err(Failure::bad_request("The action is not an Agent."));
        };
        let inputs = &call.inputs;
        let model = model_of(inputs, connections)?;
        let none = Value::NULL;
        let parameters = inputs.get("parameters").unwrap_or(&none);
        let (system, start) = messages(parameters)?;
        let settings = parameters.get("agentModelSettings").unwrap_or(&none);
        let chat = settings.get("agentChatCompletionSettings").unwrap_or(&none);
        let mut agent = Agent::new(model.name.to_string(), "");
        agent.messages = system;
        agent.sampling = sampling(chat)?;
        let (output, response_schema) = response_format(chat)?;
        agent.output = output;
        agent.parallel_tool_calls =
            match settings.get("parallelToolCalls").or_else(|| chat.get("parallelToolCalls")) {
                None => None,
                Some(value) if value.is_null() => None,
                Some(value) => Some(value.as_bool().ok_or_else(|| {
                    Failure::bad_request(format!(
                        "'parallelToolCalls' must be a boolean, found {}.",
                        value.kind()
                    ))
                })?),
            };
        let gone = call.turn.as_deref().map_or(&[][..], |turn| &turn.gone);
        let mut known: Vec<Known> = Vec::new();
        // Tools with actions keep their names, whatever a server offers.
        for (index, tool) in tools.iter().enumerate().filter(|(index, _)| offers.get(*index).is_none()) {
            let is_gone = gone.iter().any(|gone| Some(gone) == tool.handoff.as_ref());
            let name = name_of(&tool.name);
            agent.tools.push(agent_tool(tool, &name, is_gone)?);
            known.push(Known { name, tool: index as u32, offer: None });
        }
        for (index, offer) in (0..tools.len())
            .flat_map(|index| offers.get(index).into_iter().flatten().map(move |offer| (index, offer)))
        {
            let name = unused(&offer.name, &known);
            let described = Tool::new(name.as_str(), offer.description.as_str(), offer.parameters.clone());
            agent.tools.push(AgentTool::new(described));
            known.push(Known { name, tool: index as u32, offer: Some(offer.clone()) });
        }
        let mut spec = Spec::new(vec![Participant::agent(action.name.to_string(), agent)], Mode::Handoff);
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
        let fails_at_limits = action.options.fail_when_limits_reached;
        Ok(Setup { model, spec, start, response_schema, fails_at_limits, tools: known })
    }

    /// The index of a tool, by the name that the model knows, and whether it is itself a call, whose service checks the arguments.
    pub(super) fn tool(&self, name: &str) -> Option<(u32, bool)> {
        let known = self.tools.iter().find(|known| known.name == name)?;
        Some((known.tool, known.offer.is_some()))
    }

    /// The index of a tool, and the arguments of its block for those that the model wrote.
    pub(super) fn use_of(&self, name: &str, written: Value) -> Option<(u32, Value)> {
        let known = self.tools.iter().find(|known| known.name == name)?;
        let arguments = match &known.offer {
            Some(offer) => offer.arguments(written),
            None => written,
        };
        Some((known.tool, arguments))
    }

    pub(super) fn is_structured(&self) -> bool {
        self.spec.participants.iter().any(|participant| match &participant.kind {
            loom_models::conversation::ParticipantKind::Agent(agent) => agent.output != OutputFormat::Text,
            _ => false,
        })
    }
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
fn unused(name: &str, known: &[Known]) -> String {
    let plain = name_of(name);
    let mut unused = plain.clone();
    let mut number = 2;
    while known.iter().any(|known| known.name == unused) {
        let end = format!("_{number}");
        unused = format!("{}{end}", &plain[..plain.len().min(NAME_MAX - end.len())]);
        number += 1;
    }
    unused
}

fn agent_tool(tool: &DefinedTool, name: &str, is_gone: bool) -> Result<AgentTool, Failure> {
    let parameters = if tool.parameters.as_object().is_none_or(Object::is_empty) {
        serde_json::from_str(r#"{"type": "object", "properties": {}}"#)
            .map_err(|error| Failure::bad_request(error.to_string()))?
    } else {
        json(&tool.parameters)?
    };
    let described = Tool::new(name, &*tool.description, parameters);
    Ok(match &tool.handoff {
        Some(to) if !is_gone => AgentTool::handoff(described, &**to),
        _ => AgentTool::new(described),
    })
}

/// The instructions, and the messages with which the conversation begins.
fn messages(parameters: &Value) -> Result<(Vec<Message>, Vec<Message>), Failure> {
    let (mut system, mut start) = (Vec::new(), Vec::new());
    let Some(given) = parameters.get("messages").filter(|given| !given.is_null()) else {
        return Ok((system, start));
    };
    let Some(given) = given.as_array() else {
        return Err(Failure::bad_request(format!(
            "'parameters.messages' must be an array, found {}.",
            given.kind()
        )));
    };
    for (index, message) in given.iter().enumerate() {
        let wrong = |why: &str| Failure::bad_request(format!("'parameters.messages[{index}]' {why}."));
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

fn number(value: &Value, name: &str) -> Result<Option<f64>, Failure> {
    match value.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(found) => {
            found.text().trim().parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("'{name}' must be a number (got {}).", found.kind()))
            })
        }
    }
}

fn count(value: &Value, name: &str) -> Result<Option<u64>, Failure> {
    match number(value, name)? {
        None => Ok(None),
        Some(number) if number.fract() == 0.0 && (1.0..9e15).contains(&number) => Ok(Some(number as u64)),
        Some(number) => {
            Err(Failure::bad_request(format!("'{name}' must be a positive integer (got {number}).")))
        }
    }
}

fn sampling(chat: &Value) -> Result<Sampling, Failure> {
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

fn response_format(chat: &Value) -> Result<(OutputFormat, Option<Value>), Failure> {
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
    limit.cost_micros = match number(given, "cost")? {
        None => None,
        Some(cost) if cost > 0.0 && cost < 9e9 => Some((cost * 1e6).round() as u64),
        Some(cost) => {
            return Err(Failure::bad_request(format!("'limit.cost' must be positive (got {cost}).")));
        }
    };
    Ok(limit)
}

fn reduction(settings: &Value) -> Result<Reduction, Failure> {
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
