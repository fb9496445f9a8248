//! The outputs of turns and of conversations.

use std::{borrow::Cow, sync::Arc};

use loom_definition::Status;
use loom_engine::event::{EffectResult, ErrorInfo, Outcome, RetryHint};
use loom_expression::{Object, Timestamp, Value};
use loom_models::{
    Answer, Message, Role,
    conversation::{COORDINATOR, End, Entry, Event, LimitKind, ParticipantKind, SelectedBy, Spec, Warning},
};

use super::{chat::Chat, results::value_of, setup::Setup, talk::Talk};
use crate::{
    Failure,
    models::{reason, used},
};

/// Adds an event by its name and members.
type Note<'a> = dyn FnMut(&str, Vec<(&str, Value)>) + 'a;

impl Talk<'_> {
    /// The result of a turn that is not the last: what was said, and the blocks to open.
    pub(super) fn recorded(mut self, answer: Option<&Answer>) -> Result<EffectResult, Failure> {
        let begins = self.must_recall();
        let uses = self.uses();
        if uses.is_empty() && answer.is_none() && self.events.is_empty() && !begins {
            return Err(super::talk::invalid("The agent cannot continue: nothing of it is left to do."));
        }
        let mut outputs = Object::new();
        if let Some(answer) = answer {
            outputs.insert(if self.speaks { "text" } else { "decision" }, answer.message.text());
            let calls: Vec<Value> = self.called(&uses.iter().map(|used| &*used.id).collect::<Vec<_>>());
            outputs.insert("toolCalls", calls);
            outputs.insert("stopReason", reason(&answer.stop));
            let asked = self.setup.model(&self.asked)?;
            outputs.insert("model", answer.model.as_deref().unwrap_or(&asked.named_by_provider));
            if let Some(usage) = answer.usage {
                outputs.insert("usage", used(usage, asked.price));
            }
        }
        if self.setup.chat.is_some() {
            outputs.insert("chat", self.shown());
            outputs.insert("at", i64::try_from(self.at_ms).unwrap_or(i64::MAX));
            outputs.insert("remembered", i64::try_from(self.remembered).unwrap_or(i64::MAX));
        }
        let events = serde_json::to_string(&self.events).expect("events have no key that is not a string");
        outputs.insert("events", Value::from_json_str(&events).unwrap_or_default());
        let outputs = Value::from(outputs).secret_if(self.secret);
        Ok(EffectResult::Turn { outcome: Outcome::ok(Some(outputs)), uses })
    }

    /// The tool calls of the answer, with the ids that the conversation gave them, and the numbers of their uses.
    fn called(&self, uses: &[&str]) -> Vec<Value> {
        let said = self.events.iter().rev().find_map(|event| match event {
            Event::Said { message, .. } => Some(message),
            _ => None,
        });
        let calls = said.into_iter().flat_map(Message::tool_calls).map(|call| {
            let mut shown = Object::new();
            shown.insert("id", call.id.as_str());
            shown.insert("name", call.name.as_str());
            shown.insert("arguments", call.arguments.as_str());
            let is_use = |used: &&str| {
                **used == call.id
                    || used.strip_suffix(&*call.id).is_some_and(|before| {
                        before.strip_suffix(':').is_some_and(|number| number.parse::<u32>().is_ok())
                    })
            };
            if let Some(number) = uses.iter().position(is_use) {
                shown.insert("use", number as i64);
            }
            Value::from(shown)
        });
        calls.collect()
    }

    /// What watchers of a chat are shown of this turn.
    fn shown(&self) -> Vec<Value> {
        let mut shown = Vec::new();
        let mut messages = self.history(self.times.len()).into_iter();
        let mut event = |name: &str, members: Vec<(&str, Value)>| {
            let mut object: Object = members.into_iter().collect();
            object.insert("event", name);
            shown.push(Value::from(object));
        };
        let spec = &self.setup.spec;
        let mut say = |event: &mut Note<'_>| {
            for message in messages.by_ref() {
                event("message", vec![("message", message)]);
            }
        };
        for happened in &self.events {
            match happened {
                Event::SpeakersSelected { round, speakers, by } => {
                    say(&mut event);
                    let round = i64::from(*round);
                    let total = i64::from(spec.rounds_max());
                    let text = format!("Round {round}/{total}");
                    let mut progress = Object::new();
                    progress.insert("current", round);
                    progress.insert("total", total);
                    progress.insert("message", text);
                    event("progress", vec![("progress", progress.into())]);
                    for speaker in speakers {
                        let members = vec![
                            ("speaker", speaker.as_str().into()),
                            ("round", round.into()),
                            ("by", chosen_by(*by).into()),
                        ];
                        event("speaker-selected", members);
                    }
                }
                Event::HandedOff { from, to } => {
                    event("handoff", vec![("from", from.as_str().into()), ("to", to.as_str().into())]);
                }
                Event::Asked { speaker, .. } => {
                    let human = spec.participant(speaker).map(|known| &known.kind);
                    if let Some(ParticipantKind::Human(_)) = human {
                        event("human-needed", vec![("speaker", speaker.as_str().into())]);
                    }
                }
                Event::Warned { warning } => {
                    let name =
                        if matches!(warning, Warning::Limit { .. }) { "budget-warning" } else { "warning" };
                    event(name, vec![("message", warning_text(warning).into())]);
                }
                Event::Concluding { end } | Event::Ended { end } => {
                    say(&mut event);
                    if let End::Terminated { by } = end {
                        let why = if by.is_none() && spec.coordinator.is_some() {
                            "AI coordinator detected goal achievement"
                        } else {
                            "A condition of the termination is met"
                        };
                        event("termination-detected", vec![("reason", why.into())]);
                    }
                }
                _ => {}
            }
        }
        say(&mut event);
        shown
    }

    /// The result of the conversation.
    pub(super) fn result(self, said: Option<(Answer, RetryHint)>) -> EffectResult {
        let end = self.state.end().cloned().unwrap_or(End::Answered);
        match &self.setup.chat {
            Some(chat) => self.result_of_chat(chat, &end),
            None => self.result_of_agent(&end, said),
        }
    }

    fn result_of_agent(self, end: &End, said: Option<(Answer, RetryHint)>) -> EffectResult {
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
        outputs.insert("usage", self.usage());
        outputs.insert("iterations", i64::from(self.state.spent().calls));
        let history = self.state.history();
        let messages: Vec<&Message> = history.iter().map(|entry| &entry.message).collect();
        let messages = serde_json::to_string(&messages).expect("messages have no key that is not a string");
        outputs.insert("messages", Value::from_json_str(&messages).unwrap_or_default());
        if let End::HandedOff { to } = end {
            outputs.insert("handoff", Object::single("name".into(), Value::from(to.as_str())));
        }
        self.ended(end, outputs, hint)
    }

    fn result_of_chat(self, chat: &Chat, end: &End) -> EffectResult {
        let mut outputs = Object::new();
        outputs.insert("conversationId", chat.conversation.as_str());
        outputs.insert("rounds", i64::from(self.state.rounds()));
        outputs.insert("status", end.status());
        outputs.insert("stopReason", reason_of_end(&self.setup.spec, end));
        outputs.insert("history", self.history(0));
        let last = self.state.last_message().map(|entry| entry.message.text()).unwrap_or_default();
        let response = self.state.response().map(value_of);
        outputs.insert("summary", last.as_str());
        outputs.insert("body", response.unwrap_or_else(|| Value::from(last)));
        outputs.insert("usage", self.usage());
        outputs.insert("calls", i64::from(self.state.spent().calls));
        let warnings = self.warned.iter().chain(&self.events).filter_map(|event| match event {
            Event::Warned { warning } => Some(Value::from(warning_text(warning))),
            _ => None,
        });
        let warnings: Vec<Value> = warnings.collect();
        if !warnings.is_empty() {
            outputs.insert("warnings", warnings);
        }
        if let End::HandedOff { to } = end {
            outputs.insert("handedTo", to.as_str());
        }
        self.ended(end, outputs, RetryHint::default())
    }

    fn usage(&self) -> Object {
        let spent = self.state.spent();
        let mut usage = used(spent.usage, None).into_object().unwrap_or_default();
        if self.setup.has_prices() {
            usage.insert("costMicros", i64::try_from(spent.cost_micros).unwrap_or(i64::MAX));
        }
        if spent.estimated {
            usage.insert("estimated", true);
        }
        usage
    }

    fn ended(&self, end: &End, outputs: Object, hint: RetryHint) -> EffectResult {
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

/// The history of a chat: an item for each message, `{id, timestamp, role, name?, content, toolCalls?}`. The calls of tools are in one item
/// with their results.
pub(super) fn history_of(
    spec: &Spec,
    entries: &[Arc<Entry>],
    first: usize,
    at: impl Fn(usize) -> u64,
) -> Vec<Value> {
    let mut items: Vec<Object> = Vec::new();
    let mut open: Vec<Object> = Vec::new();
    for (index, entry) in (first..).zip(entries) {
        if entry.message.role == Role::Tool {
            for result in entry.message.tool_results() {
                if let Some(call) =
                    open.iter_mut().find(|call| call.get("id").and_then(Value::as_str) == Some(&result.id))
                {
                    call.insert("result", result.text());
                    if result.error {
                        call.insert("failed", true);
                    }
                }
            }
            if let Some(item) = items.last_mut() {
                item.insert("toolCalls", open.drain(..).map(Value::from).collect::<Vec<_>>());
            }
            continue;
        }
        let millis = at(index);
        let mut item = Object::new();
        item.insert("id", format!("msg-{millis}-{index}"));
        let time = Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        item.insert("timestamp", time.to_string());
        let name = entry.speaker.clone().or_else(|| entry.message.name.clone());
        item.insert("role", role_of(spec, entry));
        if let Some(name) = name {
            item.insert("name", name);
        }
        item.insert("content", entry.message.text());
        open.extend(entry.message.tool_calls().map(|call| {
            let mut shown = Object::new();
            shown.insert("id", call.id.as_str());
            shown.insert("name", call.name.as_str());
            shown.insert(
                "arguments",
                Value::from_json_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into()),
            );
            shown
        }));
        items.push(item);
    }
    items.into_iter().map(Value::from).collect()
}

fn role_of(spec: &Spec, entry: &Entry) -> &'static str {
    let Some(speaker) = &entry.speaker else {
        return match entry.message.role {
            Role::System => "system",
            Role::Assistant => "agent",
            _ => "user",
        };
    };
    let kind = spec.participant(speaker).map(|known| &known.kind);
    if matches!(kind, Some(ParticipantKind::Human(_))) { "user" } else { "agent" }
}

fn chosen_by(by: SelectedBy) -> &'static str {
    match by {
        SelectedBy::Order => "order",
        SelectedBy::OnlyCandidate => "only-candidate",
        SelectedBy::Coordinator => COORDINATOR,
        SelectedBy::Expression => "expression",
        SelectedBy::Handoff => "handoff",
        SelectedBy::Fallback => "fallback",
        _ => "other",
    }
}

fn warning_text(warning: &Warning) -> String {
    match warning {
        Warning::Limit { limit } => format!("four fifths of the limit of {} are used", limit_name(*limit)),
        Warning::SelectionFellBack { reason } => {
            format!("the coordinator's selection could not be used, so the next in turn speaks: {reason}")
        }
        Warning::CheckFailed { reason } => {
            format!("it could not be checked whether the chat is at its end: {reason}")
        }
        Warning::SummaryFailed { reason } => format!("the history could not be summarized: {reason}"),
        Warning::AggregateFailed { reason } => format!("the answers could not be aggregated: {reason}"),
        Warning::ResponseFailed { reason } => format!("there is no response: {reason}"),
        _ => "something is not as it should be".to_owned(),
    }
}

fn limit_name(limit: LimitKind) -> &'static str {
    match limit {
        LimitKind::Rounds => "rounds",
        LimitKind::Turns => "turns",
        LimitKind::Calls => "calls",
        LimitKind::Tokens => "tokens",
        LimitKind::Cost => "cost",
        LimitKind::Timeout => "time",
        _ => "something",
    }
}

/// Why an agent ended, for people and expressions.
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

/// Why a chat ended, for people and expressions.
fn reason_of_end(spec: &Spec, end: &End) -> String {
    match end {
        End::Answered => "answered".to_owned(),
        End::Terminated { by: Some(entry) } => match spec.termination.get(*entry as usize) {
            Some(condition) => format!("termination[{entry}]: {}", super::chat::condition_name(condition)),
            None => format!("termination[{entry}]"),
        },
        End::Terminated { by: None } => "terminated".to_owned(),
        End::Limit { limit } => match limit {
            LimitKind::Rounds => "roundLimit".to_owned(),
            LimitKind::Turns => "turnLimit".to_owned(),
            LimitKind::Calls => "callLimit".to_owned(),
            other => format!("{}Limit", limit_name(*other).trim_end_matches('s')),
        },
        End::HandedOff { .. } => "handoff".to_owned(),
        End::Stalled => "stalled".to_owned(),
        End::NoReply { .. } => "noReply".to_owned(),
        other => other.status().to_owned(),
    }
}

impl Setup {
    /// How the action ends, and the code and the message of its error.
    fn verdict(&self, end: &End) -> (Status, Option<(&'static str, String)>) {
        let failed = |code, message: String| (Status::Failed, Some((code, message)));
        let what = if self.chat.is_some() { "chat" } else { "agent" };
        match end {
            // A chat that hands over to somebody outside is at its end; there is no agent beside it.
            End::HandedOff { .. } if self.chat.is_some() => (Status::Succeeded, None),
            End::HandedOff { .. } => (Status::HandedOff, None),
            End::Limit { limit } if self.fails_at_limits => {
                let code = if self.chat.is_some() { "ChatLimitReached" } else { "AgentLimitReached" };
                failed(
                    code,
                    format!(
                        "The {what} reached its limit of {} before it had an answer.",
                        limit_name(*limit)
                    ),
                )
            }
            End::Answered | End::Terminated { .. } | End::Limit { .. } | End::Stopped { .. } => {
                (Status::Succeeded, None)
            }
            End::Unreadable { speaker, reason } => {
                let who = if self.chat.is_some() {
                    format!("The participant '{speaker}' failed")
                } else {
                    format!("The model '{}' failed", self.voice())
                };
                failed("ModelOutputInvalid", format!("{who}: {reason}."))
            }
            End::ModelFailed { speaker, error } => failed(
                "ChatModelFailed",
                format!("The model of the participant '{speaker}' failed: {error}."),
            ),
            End::NoReply { speaker, reason } => {
                failed("ChatNoReply", format!("The participant '{speaker}' did not reply: {reason}."))
            }
            End::NoSpeaker { reason } => failed("ChatNoSpeaker", format!("{reason}.")),
            End::Stalled => {
                failed("ChatStalled", "The chat made no progress in spite of new plans.".to_owned())
            }
            other => failed("AgentFailed", format!("The {what} ended: {}.", other.status())),
        }
    }
}
