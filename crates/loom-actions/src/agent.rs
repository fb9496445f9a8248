//! `Agent` actions: a language model that calls tools until it has an answer, or hands over to another agent.
//!
//! Each call of the handler is one turn. It folds the conversation from the turns before, adds the results of tools, and asks the
//! model once. The tools that the model asks for are blocks of actions, which the engine executes; see `docs/decisions/0019`.

mod offers;
mod setup;

use std::{borrow::Cow, sync::Arc};

use loom_definition::{Status, model::ActionKind};
use loom_engine::{
    Budgets,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint, ToolUse},
    ports::{ActionHandler, Call, CallFuture, ToolReturned},
    schema,
};
use loom_expression::{Object, Value};
use loom_models::{
    Answer, Json, Message, Role, ToolResult,
    conversation::{Command, Effect, End, Event, LimitKind, Purpose, Refused, State, apply, decide, effects},
};

use self::{
    offers::Offers,
    setup::{Setup, TEXT_OF_PASSING_ON},
};
use crate::{
    Failure,
    handlers::failed,
    mcp::Sessions,
    models::{ModelSaid, Models, failed_answer, failure_of, matching, reason, used},
    requests::Requests,
};

/// The most bytes of a tool's result that a model reads. What is longer is cut.
const RESULT_BYTES_MAX: usize = 256 << 10;

/// Executes `Agent` actions in the form of Logic Apps. The outputs are `lastAssistantMessage` (the text), `body` (the text, or
/// the JSON that `responseFormat` asks for), `text` (what the model said in its last call), `stopReason`, `usage`, `iterations` (calls of the model) and `messages` (the
/// history). An agent that has handed over ends as `HandedOff`, with `handoff`.
pub struct AgentHandler {
    models: Arc<Models>,
    sessions: Arc<Sessions>,
}

impl AgentHandler {
    /// A handler that makes its requests with `requests`.
    pub fn new(requests: &Arc<Requests>) -> AgentHandler {
        AgentHandler::asking(&Arc::new(Models::new(requests)), &Arc::new(Sessions::new(requests)))
    }

    pub(crate) fn asking(models: &Arc<Models>, sessions: &Arc<Sessions>) -> AgentHandler {
        AgentHandler { models: Arc::clone(models), sessions: Arc::clone(sessions) }
    }

    async fn run(&self, call: &Call) -> EffectResult {
        match self.turn(call).await {
            Ok(result) => result,
            Err(failure) => failed(failure),
        }
    }

    /// Makes one turn.
    async fn turn(&self, call: &Call) -> Result<EffectResult, Failure> {
        let offers = Offers::of(call, &self.sessions).await?;
        let setup = Setup::read(call, self.models.connections(), &offers)?;
        let mut talk = Talk::of_earlier_turns(&setup, call)?;
        let at_ms = self.models.now_ms();
        talk.take_results(call, at_ms)?;
        talk.refuse_tools(call, at_ms)?;
        let mut said: Option<(Answer, RetryHint)> = None;
        loop {
            let due = effects(&setup.spec, &talk.state);
            if let Some(end) = talk.state.end().cloned() {
                return Ok(talk.result(&end, said));
            }
            let calls_tools = due.iter().any(|effect| matches!(effect, Effect::CallTool { .. }));
            let asked = due.into_iter().find_map(|effect| match effect {
                Effect::CallModel { call, purpose, request } => Some((call, purpose, request)),
                _ => None,
            });
            let (Some((number, purpose, mut request)), None) = (asked, &said) else {
                if said.is_none() {
                    let why = "The agent cannot continue: nothing of it is left to do.";
                    return Err(Failure::lasting("AgentStateInvalid", why));
                }
                // The next request, if there is one, is a turn of its own: it is made when this one is recorded.
                return Ok(talk.recorded(said.as_ref().map(|(answer, _)| answer), calls_tools));
            };
            request.model.clone_from(&setup.model.named_by_provider);
            let answered = self.models.say(&setup.model, &request, call).await?;
            let secret = call.inputs.contains_secret() || answered.quotes_secrets();
            let ModelSaid { read, response, hint } = answered;
            let answer = match read {
                Ok(answer) => answer,
                Err(error) => {
                    let failure = failure_of(&error, secret);
                    return Ok(failed_answer(&setup.model.name, failure, hint, response));
                }
            };
            talk.secret |= secret;
            let problem = setup.problem_of(&purpose, &answer);
            let command = Command::ModelAnswered {
                call: number,
                answer: answer.clone(),
                problem,
                at_ms: self.models.now_ms(),
            };
            talk.decide(&command)?;
            talk.refuse_tools(call, at_ms)?;
            said = Some((answer, hint));
        }
    }
}

impl ActionHandler for AgentHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(self.run(call))
    }

    /// The base URL of the model, whose limits all of its models usually share.
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        Some(setup::model_of(inputs, self.models.connections()).ok()?.service())
    }

    /// A repeated request changes nothing, though it costs again.
    fn is_idempotent(&self, _: &Value) -> bool {
        true
    }
}

/// A conversation, as far as it has come.
struct Talk<'a> {
    setup: &'a Setup,
    state: State,
    /// What has happened in this turn.
    events: Vec<Event>,
    /// What the model said before it called tools, or why it ended; from this turn.
    secret: bool,
}

impl<'a> Talk<'a> {
    fn of_earlier_turns(setup: &'a Setup, call: &Call) -> Result<Talk<'a>, Failure> {
        let turn = call.turn.as_deref();
        let mut talk = Talk {
            setup,
            state: State::default(),
            events: Vec::new(),
            secret: call.inputs.contains_secret(),
        };
        for outputs in turn.into_iter().flat_map(|turn| &turn.earlier) {
            talk.secret |= outputs.contains_secret();
            for event in events_of(outputs)? {
                apply(&mut talk.state, &event);
            }
        }
        Ok(talk)
    }

    fn decide(&mut self, command: &Command) -> Result<(), Failure> {
        let events = decide(&self.setup.spec, &self.state, command).map_err(|refused| match refused {
            Refused::Spec(error) => Failure::bad_request(format!("The agent cannot run: {error}.")),
            // A record that another program has written, or a fault of this one.
            other => Failure::lasting("AgentStateInvalid", format!("The agent cannot continue: {other}.")),
        })?;
        for event in &events {
            apply(&mut self.state, event);
        }
        self.events.extend(events);
        Ok(())
    }

    /// Begins the conversation, or adds what the tools of the last turn returned.
    fn take_results(&mut self, call: &Call, at_ms: u64) -> Result<(), Failure> {
        let Some(turn) = call.turn.as_deref() else {
            return Err(Failure::lasting("AgentStateInvalid", "The call of the agent has no turn."));
        };
        if turn.earlier.is_empty() {
            let mut messages = Vec::new();
            if let Some(outputs) = &turn.handed_over {
                messages.extend(passed_on(outputs)?);
                self.secret |= outputs.contains_secret();
            }
            messages.extend(self.setup.start.iter().cloned());
            return self.decide(&Command::Start { messages, at_ms });
        }
        for returned in &turn.results {
            self.secret |= returned.outcome.outputs.as_ref().is_some_and(Value::contains_secret);
            let asked = effects(&self.setup.spec, &self.state).into_iter().find_map(|effect| match effect {
                Effect::CallTool { call, id, name, .. } if *id == *returned.id => Some((call, name)),
                _ => None,
            });
            if let Some((call, name)) = asked {
                let result = tool_result(returned, &name);
                self.decide(&Command::ToolReturned { call, result, at_ms })?;
            }
        }
        Ok(())
    }

    /// Answers calls of tools that cannot be made, so that the model reads why.
    fn refuse_tools(&mut self, call: &Call, at_ms: u64) -> Result<(), Failure> {
        for effect in effects(&self.setup.spec, &self.state) {
            let Effect::CallTool { call: asked, id, name, arguments, .. } = effect else { continue };
            if let Some(reason) = self.setup.refusal(call, &name, &arguments) {
                let result = ToolResult::failed(id, name, reason);
                self.decide(&Command::ToolReturned { call: asked, result, at_ms })?;
            }
        }
        Ok(())
    }

    /// The result of a turn that is not the last: what was said, and the tools to use.
    fn recorded(self, answer: Option<&Answer>, calls_tools: bool) -> EffectResult {
        let mut uses = Vec::new();
        let mut numbers = Vec::new();
        if calls_tools {
            for effect in effects(&self.setup.spec, &self.state) {
                let Effect::CallTool { id, name, arguments, .. } = effect else { continue };
                if let Some((tool, arguments)) = self.setup.use_of(&name, value_of(&arguments)) {
                    numbers.push(id.clone());
                    let arguments = arguments.secret_if(self.secret);
                    uses.push(ToolUse { id: id.into(), tool, arguments });
                }
            }
        }
        let mut outputs = Object::new();
        if let Some(answer) = answer {
            outputs.insert("text", answer.message.text());
            // With the ids that the conversation gave them.
            let called = self.events.iter().rev().find_map(|event| match event {
                Event::Said { message, .. } => Some(message),
                _ => None,
            });
            let calls = called.into_iter().flat_map(Message::tool_calls).map(|call| {
                let mut shown = Object::new();
                shown.insert("id", call.id.as_str());
                shown.insert("name", call.name.as_str());
                shown.insert("arguments", call.arguments.as_str());
                if let Some(number) = numbers.iter().position(|id| *id == call.id) {
                    shown.insert("use", number as i64);
                }
                Value::from(shown)
            });
            outputs.insert("toolCalls", calls.collect::<Vec<Value>>());
            outputs.insert("stopReason", reason(&answer.stop));
            outputs.insert("model", answer.model.as_deref().unwrap_or(&self.setup.model.named_by_provider));
            if let Some(usage) = answer.usage {
                outputs.insert("usage", used(usage, self.setup.model.price));
            }
        }
        let events = serde_json::to_string(&self.events).expect("events have no key that is not a string");
        outputs.insert("events", Value::from_json_str(&events).unwrap_or_default());
        let outputs = Value::from(outputs).secret_if(self.secret);
        EffectResult::Turn { outcome: Outcome::ok(Some(outputs)), uses }
    }

    /// The result of the last turn.
    fn result(self, end: &End, said: Option<(Answer, RetryHint)>) -> EffectResult {
        let mut outputs = Object::new();
        let said_now = said.as_ref().map(|(answer, _)| answer.message.text()).unwrap_or_default();
        // What was said together with a handoff is the last message as well.
        let last = self.state.last_message().map(|entry| entry.message.text());
        let last =
            if matches!(end, End::HandedOff { .. }) { said_now.clone() } else { last.unwrap_or_default() };
        if said.is_some() {
            outputs.insert("text", said_now);
        }
        let hint = said.map(|(_, hint)| hint).unwrap_or_default();
        outputs.insert("lastAssistantMessage", last.as_str());
        let structured =
            if self.setup.is_structured() { Value::from_json_str(last.trim()).ok() } else { None };
        outputs.insert("body", structured.unwrap_or_else(|| Value::from(last.as_str())));
        outputs.insert("stopReason", stop_of(end));
        let spent = self.state.spent();
        let mut usage = used(spent.usage, None).into_object().unwrap_or_default();
        if self.setup.model.price.is_some() {
            usage.insert("costMicros", i64::try_from(spent.cost_micros).unwrap_or(i64::MAX));
        }
        if spent.estimated {
            usage.insert("estimated", true);
        }
        outputs.insert("usage", usage);
        outputs.insert("iterations", i64::from(spent.calls));
        let history = self.state.history();
        let messages: Vec<&Message> = history.iter().map(|entry| &entry.message).collect();
        let messages = serde_json::to_string(&messages).expect("messages have no key that is not a string");
        outputs.insert("messages", Value::from_json_str(&messages).unwrap_or_default());
        if let End::HandedOff { to } = end {
            outputs.insert("handoff", Object::single("name".into(), Value::from(to.as_str())));
        }
        let outputs = Value::from(outputs).secret_if(self.secret);
        let (status, failure) = self.setup.verdict(end);
        let outcome = match failure {
            None => {
                let code = if status == Status::HandedOff { "HandedOff" } else { "OK" };
                Outcome { status, code: Cow::Borrowed(code), ..Outcome::ok(Some(outputs)) }
            }
            Some((code, message)) => Outcome {
                outputs: Some(outputs),
                error: Some(Arc::new(ErrorInfo::new(code, message))),
                ..Outcome::failed(code, ErrorInfo::default())
            },
        };
        EffectResult::Done { outcome, hint: RetryHint { transient: false, ..hint } }
    }
}

/// Why a conversation ended, for people and expressions.
fn stop_of(end: &End) -> &'static str {
    match end {
        End::Answered | End::Terminated { .. } => "stop",
        End::Limit { limit } => match limit {
            LimitKind::Tokens => "tokenLimit",
            LimitKind::Cost => "costLimit",
            LimitKind::Timeout => "timeout",
            _ => "iterationLimit",
        },
        End::HandedOff { .. } => "handoff",
        other => other.status(),
    }
}

/// The events that a turn has recorded.
fn events_of(outputs: &Value) -> Result<Vec<Event>, Failure> {
    let text = outputs.get("events").map(Value::to_json_text).unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("The record of an earlier turn of the agent cannot be read: {error}.");
        Failure::lasting("AgentStateInvalid", message)
    })
}

/// What an agent that hands over passes on: what people and agents said, without tools.
fn passed_on(outputs: &Value) -> Result<Vec<Message>, Failure> {
    let text = outputs.get("messages").map_or_else(|| "[]".to_owned(), Value::to_json_text);
    let messages: Vec<Message> = serde_json::from_str(&text).map_err(|error| {
        let message = format!("The history that was handed over cannot be read: {error}.");
        Failure::lasting("AgentStateInvalid", message)
    })?;
    let said = messages.into_iter().filter_map(|message| {
        let text = message.text();
        let passes = matches!(message.role, Role::User | Role::Assistant) && !text.is_empty();
        passes.then(|| Message::new(message.role, vec![loom_models::Part::text(text)]))
    });
    let mut said: Vec<Message> = said.collect();
    // Providers expect a model to answer somebody.
    if said.last().is_none_or(|last| last.role != Role::User) {
        said.push(Message::user(TEXT_OF_PASSING_ON));
    }
    Ok(said)
}

/// What a model reads of a tool: the body of the last action, its outputs, or its error.
fn tool_result(returned: &ToolReturned, name: &str) -> ToolResult {
    let Outcome { status, outputs, error, .. } = &returned.outcome;
    let id = &*returned.id;
    if *status == Status::Succeeded {
        let outputs = outputs.clone().unwrap_or_default();
        let shown = outputs.get("body").unwrap_or(&outputs);
        let text = shown.as_str().map_or_else(|| shown.to_json_text(), str::to_owned);
        return ToolResult::new(id, name, cut(text));
    }
    let why = match error {
        Some(error) => format!("{}: {}", error.code, error.message),
        None => format!("the tool ended as {status}"),
    };
    let body = outputs.as_ref().and_then(|outputs| outputs.get("body"));
    let body = body.map(|body| body.as_str().map_or_else(|| body.to_json_text(), str::to_owned));
    let body = body.filter(|body| !why.contains(body.as_str())).map(|body| format!("\n{body}"));
    ToolResult::failed(id, name, cut(format!("{why}{}", body.unwrap_or_default())))
}

fn cut(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let end = (0..=RESULT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n[The result was cut here.]");
    }
    text
}

fn value_of(json: &Json) -> Value {
    Value::from_json_str(&json.to_string()).unwrap_or_default()
}

impl Setup {
    /// Why a call of a tool cannot be made.
    fn refusal(&self, call: &Call, name: &str, arguments: &Json) -> Option<String> {
        let (index, is_call) = self.tool(name)?;
        let ActionKind::Agent { tools, .. } = &call.definition().kind else { return None };
        let tool = tools.get(index as usize)?;
        if let Some(to) = &tool.handoff {
            // Otherwise the conversation has handed over already.
            return Some(format!(
                "{to} has already taken part and cannot be handed to again. Answer yourself."
            ));
        }
        // The service checks the arguments of a call itself, and knows more than the schema says.
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
    fn problem_of(&self, purpose: &Purpose, answer: &Answer) -> Option<String> {
        let schema = self.response_schema.as_ref()?;
        let is_turn = matches!(purpose, Purpose::Turn { .. });
        if !is_turn || answer.message.tool_calls().next().is_some() {
            return None;
        }
        matching(schema, answer, &answer.message.text()).err().map(|failure| failure.message)
    }

    /// How the action ends, and the code and the message of its error.
    fn verdict(&self, end: &End) -> (Status, Option<(&'static str, String)>) {
        match end {
            End::HandedOff { .. } => (Status::HandedOff, None),
            End::Limit { limit } if self.fails_at_limits => {
                let message = format!("The agent reached its limit ({limit:?}) before it had an answer.");
                (Status::Failed, Some(("AgentLimitReached", message)))
            }
            End::Answered | End::Terminated { .. } | End::Limit { .. } | End::Stopped { .. } => {
                (Status::Succeeded, None)
            }
            End::Unreadable { reason, .. } => {
                let message = format!("The model '{}' failed: {reason}.", self.model.name);
                (Status::Failed, Some(("ModelOutputInvalid", message)))
            }
            other => (Status::Failed, Some(("AgentFailed", format!("The agent ended: {}.", other.status())))),
        }
    }
}
