//! A conversation as far as it has come: folded from the turns before, and continued with what has come back since.

use loom_definition::{
    Status,
    model::{ActionKind, ChatExpression, Tool, ToolRole},
};
use loom_engine::ports::{Call, ToolReturned, Turn};
use loom_expression::Value;
use loom_models::{
    Message, Part, Role, ToolResult,
    conversation::{Command, Effect, Evaluation, Event, Refused, State, apply, decide, effects},
};

use super::{
    ask::UseOf,
    results::{reply_of, tool_result, value_to_json},
    setup::{Setup, TEXT_OF_PASSING_ON},
};
use crate::Failure;

/// A conversation, as far as it has come.
pub(super) struct Talk<'a> {
    pub(super) setup: &'a Setup,
    pub(super) call: &'a Call,
    pub(super) state: State,
    /// What has happened in this turn.
    pub(super) events: Vec<Event>,
    /// Whether anything of it is secret.
    pub(super) secret: bool,
    pub(super) at_ms: u64,
    /// The model that this turn asks, by the name of its entry.
    pub(super) asked: String,
    /// Whether what the model says is a message, and not a decision of the coordinator.
    pub(super) speaks: bool,
    /// When each message of the history was recorded, as far as it was.
    pub(super) times: Vec<u64>,
    /// The messages of the history that shared memory has, or is about to have.
    pub(super) remembered: usize,
    /// The warnings of the turns before.
    pub(super) warned: Vec<Event>,
    turn: &'a Turn,
}

impl<'a> Talk<'a> {
    pub(super) fn of_earlier_turns(
        setup: &'a Setup,
        call: &'a Call,
        at_ms: u64,
    ) -> Result<Talk<'a>, Failure> {
        let turn = call.turn.as_deref();
        let turn = turn.ok_or_else(|| invalid("The call of the agent has no turn."))?;
        let mut talk = Talk {
            setup,
            call,
            state: State::default(),
            events: Vec::new(),
            secret: call.inputs.contains_secret(),
            at_ms,
            asked: String::new(),
            speaks: true,
            times: Vec::new(),
            remembered: 0,
            warned: Vec::new(),
            turn,
        };
        for outputs in &turn.earlier {
            talk.secret |= outputs.contains_secret();
            for event in events_of(outputs)? {
                apply(&mut talk.state, &event);
                if let Event::Warned { .. } = event {
                    talk.warned.push(event);
                }
            }
            if setup.chat.is_some() {
                let number = |name: &str| outputs.get(name).and_then(Value::as_i64).unwrap_or(0);
                talk.times.resize(talk.state.entries().len(), number("at").unsigned_abs());
                talk.remembered = usize::try_from(number("remembered")).unwrap_or(0);
            }
        }
        Ok(talk)
    }

    pub(super) fn decide(&mut self, command: &Command) -> Result<(), Failure> {
        let events = decide(&self.setup.spec, &self.state, command).map_err(|refused| match refused {
            Refused::Spec(error) => Failure::bad_request(format!("The agent cannot run: {error}.")),
            // A record that another program has written, or a fault of this one.
            other => invalid(&format!("The agent cannot continue: {other}.")),
        })?;
        for event in &events {
            apply(&mut self.state, event);
        }
        self.events.extend(events);
        Ok(())
    }

    /// Whether this turn is the first of a conversation whose earlier history has to be read.
    pub(super) fn must_recall(&self) -> bool {
        let remembers = self.setup.chat.as_ref().is_some_and(|chat| chat.memory.is_some());
        remembers && self.turn.earlier.is_empty()
    }

    /// Begins the conversation, or adds what the blocks of the last turn returned.
    pub(super) fn take_results(&mut self) -> Result<(), Failure> {
        if self.must_recall() {
            return Ok(());
        }
        for returned in &self.turn.results {
            self.secret |= returned.outcome.outputs.as_ref().is_some_and(Value::contains_secret);
        }
        let begins = self.turn.earlier.is_empty() || self.recalled().is_some();
        if begins {
            let mut messages = Vec::new();
            if let Some(outputs) = &self.turn.handed_over {
                messages.extend(passed_on(outputs)?);
                self.secret |= outputs.contains_secret();
            }
            if let Some(returned) = self.recalled() {
                messages.extend(self.recall(returned)?);
            }
            self.remembered = messages.len();
            messages.extend(self.setup.start.iter().cloned());
            return self.decide(&Command::Start { messages, at_ms: self.at_ms });
        }
        let turn = self.turn;
        for returned in &turn.results {
            self.take(returned)?;
        }
        Ok(())
    }

    /// What a read of the earlier history returned.
    fn recalled(&self) -> Option<&'a ToolReturned> {
        self.turn.results.iter().find(|returned| self.role(returned.tool) == Some(ToolRole::Recall))
    }

    pub(super) fn block(&self, index: u32) -> Option<&'a Tool> {
        let ActionKind::Agent { tools, .. } = &self.call.definition().kind else { return None };
        tools.get(index as usize)
    }

    fn role(&self, index: u32) -> Option<ToolRole> {
        self.block(index).map(|tool| tool.role)
    }

    /// Takes the result of a block.
    fn take(&mut self, returned: &ToolReturned) -> Result<(), Failure> {
        let (at_ms, outcome) = (self.at_ms, &returned.outcome);
        let asked = effects(&self.setup.spec, &self.state)
            .into_iter()
            .find(|effect| UseOf::effect(self.setup, effect).is_some_and(|known| known.id == *returned.id));
        let succeeded = outcome.status == Status::Succeeded;
        let command = match asked {
            Some(Effect::CallTool { call, id, name, .. }) => {
                Command::ToolReturned { call, result: tool_result(&id, &name, outcome), at_ms }
            }
            Some(Effect::Approve { call, id, .. }) => {
                let body = outcome.outputs.as_ref().and_then(|outputs| outputs.get("body"));
                let decided = body.and_then(|body| body.get("approved")?.as_bool()).filter(|_| succeeded);
                let reason = body.and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()));
                let (approved, reason) = match decided {
                    Some(approved) => (approved, reason),
                    None if outcome.status == Status::TimedOut => {
                        let approves =
                            self.block(returned.tool).is_some_and(|tool| self.approves_by_default(tool));
                        (approves, Some("nobody decided in time".to_owned()))
                    }
                    None => (false, outcome.error.as_ref().map(|error| error.message.clone())),
                };
                Command::ToolDecided { call, id, approved, reason, at_ms }
            }
            Some(Effect::Ask { speaker, round }) => match reply_of(outcome) {
                Ok(text) => {
                    let message = Message::new(Role::User, vec![Part::text(text)]);
                    Command::Replied { speaker, round, message, at_ms }
                }
                Err(reason) => Command::Unanswered { speaker, round, reason, at_ms },
            },
            Some(Effect::Evaluate { number, .. }) if succeeded => {
                let value = value_to_json(&outcome.outputs.clone().unwrap_or_default());
                Command::Evaluated { number, value, at_ms }
            }
            // An expression that cannot be evaluated, and history that cannot be written.
            Some(Effect::Evaluate { .. }) | None if !succeeded => {
                let (code, message) = match &outcome.error {
                    Some(error) => (error.code.to_string(), error.message.clone()),
                    None => ("ActionFailed".to_owned(), format!("It ended as {}.", outcome.status)),
                };
                let name = self.block(returned.tool).map(|tool| tool.name.to_string()).unwrap_or_default();
                return Err(Failure::lasting(
                    code,
                    format!("The chat cannot continue after '{name}': {message}"),
                ));
            }
            _ => return Ok(()),
        };
        self.decide(&command)
    }

    fn approves_by_default(&self, approval: &Tool) -> bool {
        let block = self.call.workflow.block(approval.block);
        let action = block.actions.first().map(|action| self.call.workflow.action(*action));
        let Some(ActionKind::Effect { inputs, .. }) = action.map(|action| &action.kind) else { return false };
        let default = inputs.source_value().get("default").and_then(Value::as_str);
        default.is_some_and(|text| text.eq_ignore_ascii_case("approve"))
    }

    /// The messages that begin the conversation, of what shared memory has.
    fn recall(&self, returned: &ToolReturned) -> Result<Vec<Message>, Failure> {
        let outcome = &returned.outcome;
        if outcome.status != Status::Succeeded {
            let why = outcome.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            let code = outcome.error.as_ref().map_or("ActionFailed", |error| &*error.code).to_owned();
            return Err(Failure::lasting(code, format!("The history of the chat cannot be read: {why}")));
        }
        let outputs = outcome.outputs.clone().unwrap_or_default();
        let items = outputs.get("body").cloned().unwrap_or_default();
        let alone = self.setup.spec.participants.len() == 1;
        let mut messages = Vec::new();
        for item in items.as_array().into_iter().flatten() {
            let text = |name: &str| item.get(name).and_then(Value::as_str);
            let Some(content) = text("content").filter(|content| !content.is_empty()) else { continue };
            messages.push(match (text("role"), text("name")) {
                (Some("system"), _) => Message::system(content),
                (Some("agent"), _) if alone => Message::assistant(content),
                (_, Some(name)) => Message::user(content).named(name),
                _ => Message::user(content),
            });
        }
        Ok(messages)
    }

    /// Answers calls of tools that cannot be made, so that the model reads why.
    pub(super) fn refuse_tools(&mut self) -> Result<(), Failure> {
        for effect in effects(&self.setup.spec, &self.state) {
            let (Effect::CallTool { call, id, speaker, name, arguments }
            | Effect::Approve { call, id, speaker, name, arguments }) = &effect
            else {
                continue;
            };
            let Some(reason) = self.setup.refusal(self.call, speaker, name, arguments) else { continue };
            let at_ms = self.at_ms;
            let command = if let Effect::Approve { .. } = effect {
                Command::ToolDecided {
                    call: *call,
                    id: id.clone(),
                    approved: false,
                    reason: Some(reason),
                    at_ms,
                }
            } else {
                let result = ToolResult::failed(id.clone(), name.clone(), reason);
                Command::ToolReturned { call: *call, result, at_ms }
            };
            self.decide(&command)?;
        }
        Ok(())
    }

    /// Whether something has happened in a chat that is not recorded.
    pub(super) fn has_unrecorded(&self) -> bool {
        self.setup.chat.is_some() && (!self.events.is_empty() || self.remembers_more() || self.must_recall())
    }

    /// Whether shared memory lacks messages of the history.
    pub(super) fn remembers_more(&self) -> bool {
        let remembers = self.setup.chat.as_ref().is_some_and(|chat| chat.memory.is_some());
        remembers && self.remembered < self.state.entries().len()
    }

    /// Whether what has happened must be recorded before a model is called: watchers learn who speaks before they receive its text,
    /// and history is written soon.
    pub(super) fn must_record(&self) -> bool {
        let announces = self.events.iter().any(|event| matches!(event, Event::SpeakersSelected { .. }));
        self.setup.chat.is_some() && (announces || self.remembers_more())
    }
}

/// The expression that an evaluation asks for.
pub(super) fn expression_of(evaluation: &Evaluation) -> Option<ChatExpression> {
    match evaluation {
        Evaluation::Next => Some(ChatExpression::Next),
        Evaluation::Candidates => Some(ChatExpression::Candidates),
        Evaluation::Termination { expression, .. } => {
            expression.parse().ok().map(ChatExpression::Termination)
        }
        _ => None,
    }
}

pub(super) fn invalid(message: &str) -> Failure {
    Failure::lasting("AgentStateInvalid", message.to_owned())
}

/// The events that a turn has recorded.
fn events_of(outputs: &Value) -> Result<Vec<Event>, Failure> {
    let text = outputs.get("events").map(Value::to_json_text).unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| {
        invalid(&format!("The record of an earlier turn of the agent cannot be read: {error}."))
    })
}

/// What an agent that hands over passes on: what people and agents said, without tools.
fn passed_on(outputs: &Value) -> Result<Vec<Message>, Failure> {
    let text = outputs.get("messages").map_or_else(|| "[]".to_owned(), Value::to_json_text);
    let messages: Vec<Message> = serde_json::from_str(&text)
        .map_err(|error| invalid(&format!("The history that was handed over cannot be read: {error}.")))?;
    let said = messages.into_iter().filter_map(|message| {
        let text = message.text();
        let passes = matches!(message.role, Role::User | Role::Assistant) && !text.is_empty();
        passes.then(|| Message::new(message.role, vec![Part::text(text)]))
    });
    let mut said: Vec<Message> = said.collect();
    // Providers expect a model to answer somebody.
    if said.last().is_none_or(|last| last.role != Role::User) {
        said.push(Message::user(TEXT_OF_PASSING_ON));
    }
    Ok(said)
}
