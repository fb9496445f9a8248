//! The codecs, and what they share. Each has an encoder of requests and a machine that turns events into deltas; a whole
//! answer is read by the same machine.

pub(crate) mod anthropic;
pub(crate) mod chat;
pub(crate) mod ollama;
pub(crate) mod responses;

use crate::{
    answer::{Delta, StopReason, Usage},
    error::{ErrorKind, ModelError, unsupported},
    json::Json,
    message::{Message, Part, Role},
    request::Sampling,
};

/// The most tool calls of one answer.
pub(crate) const TOOL_CALLS_MAX: usize = 256;

/// What a machine knows at the end of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) stop: Option<StopReason>,
    pub(crate) usage: Option<Usage>,
    pub(crate) called: bool,
    pub(crate) refused: bool,
    /// The end was reported; what follows is ignored.
    pub(crate) done: bool,
}

impl Ending {
    /// Reports the usage when it is new.
    pub(crate) fn usage(&mut self, usage: Usage, deltas: &mut Vec<Delta>) {
        if self.usage != Some(usage) {
            self.usage = Some(usage);
            deltas.push(Delta::Usage(usage));
        }
    }

    /// Reports the end. Peers disagree on what an answer with calls, or a refusal, ends with.
    pub(crate) fn end(&mut self, deltas: &mut Vec<Delta>) {
        let reason = match self.stop.take() {
            Some(StopReason::Stop) | None if self.refused => StopReason::Refusal,
            Some(StopReason::Stop) | None if self.called => StopReason::ToolCalls,
            Some(StopReason::ToolCalls) if !self.called => StopReason::Stop,
            None => StopReason::Stop,
            Some(reason) => reason,
        };
        deltas.push(Delta::Stop { reason });
        self.done = true;
    }
}

/// Calls under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    calls: Vec<PartialCall>,
}

#[derive(Clone, Debug)]
struct PartialCall {
    /// What the peer calls it: an index or an id of an item.
    key: Option<String>,
    id: Option<String>,
    named: bool,
    arguments: String,
    extra: Option<Json>,
}

/// A piece of a call, as a peer sends it.
#[derive(Debug, Default)]
pub(crate) struct CallPiece<'a> {
    pub(crate) key: Option<String>,
    pub(crate) id: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) arguments: String,
    pub(crate) extra: Option<Json>,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds a piece to its call, or begins a call.
    ///
    /// A piece belongs to the call with its key, unless both have ids that differ: some peers number all calls 0. A piece
    /// without a key begins a call when it has an id or a name, and else belongs to the last call.
    pub(crate) fn add(&mut self, piece: CallPiece<'_>, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        let id = piece.id.filter(|id| !id.is_empty());
        let name = piece.name.filter(|name| !name.is_empty());
        let place = match &piece.key {
            Some(key) => self.calls.iter().rposition(|call| call.key.as_ref() == Some(key)),
            None if id.is_some() => self.calls.iter().rposition(|call| call.id.as_deref() == id),
            None if name.is_some() => None,
            None => self.calls.len().checked_sub(1),
        };
        let place = place.filter(|place| {
            let known = self.calls[*place].id.as_deref();
            id.is_none() || known.is_none() || known == id
        });
        let place = match place {
            Some(place) => place,
            None if self.calls.len() == TOOL_CALLS_MAX => {
                let message = format!("the answer has more than {TOOL_CALLS_MAX} tool calls");
                return Err(ModelError::new(ErrorKind::AnswerTooLarge, message));
            }
            None => {
                let key = piece.key.clone();
                self.calls.push(PartialCall {
                    key,
                    id: None,
                    named: false,
                    arguments: String::new(),
                    extra: None,
                });
                self.calls.len() - 1
            }
        };
        let index = place as u32;
        let call = &mut self.calls[place];
        call.id = call.id.take().or(id.map(str::to_owned));
        call.extra = piece.extra.or(call.extra.take());
        if call.named {
            call.arguments.push_str(&piece.arguments);
            if !piece.arguments.is_empty() {
                deltas.push(Delta::ToolArguments { index, fragment: piece.arguments });
            }
            return Ok(());
        }
        call.arguments.push_str(&piece.arguments);
        // Until the name is known, the call cannot be reported.
        if let Some(name) = name {
            call.named = true;
            let (id, extra) = (call.id.clone(), call.extra.clone());
            deltas.push(Delta::ToolCall { index, id, name: name.to_owned(), extra });
            if !call.arguments.is_empty() {
                deltas.push(Delta::ToolArguments { index, fragment: call.arguments.clone() });
            }
        }
        Ok(())
    }

    /// What the peer calls the call with this id.
    pub(crate) fn key_of(&self, id: &str) -> Option<String> {
        let known = self.calls.iter().find(|call| call.id.as_deref() == Some(id));
        known.and_then(|call| call.key.clone())
    }

    /// Adds what the whole arguments have beyond the pieces so far.
    pub(crate) fn complete(&mut self, key: &str, whole: &str, deltas: &mut Vec<Delta>) {
        let place = self.calls.iter().rposition(|call| call.key.as_deref() == Some(key));
        let Some(index) = place else { return };
        let call = &mut self.calls[index];
        if let Some(rest) = whole.strip_prefix(call.arguments.as_str()).filter(|rest| !rest.is_empty()) {
            call.arguments.push_str(rest);
            // A call without a name is reported with all of its arguments once the name is known.
            if call.named {
                deltas.push(Delta::ToolArguments { index: index as u32, fragment: rest.to_owned() });
            }
        }
    }

    /// Checks that every call is one.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.calls.iter().any(|call| !call.named) {
            return Err(crate::error::malformed("a tool call of the answer has no name"));
        }
        Ok(())
    }
}

/// The arguments of a call, which most peers send as a string and some as an object.
pub(crate) fn arguments(json: Option<&Json>) -> String {
    match json {
        None => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Arguments as an object, for APIs that only take objects. What is not an object is kept under a name that shows it.
pub(crate) fn arguments_object(text: &str) -> Json {
    match text.parse() {
        Ok(object @ Json::Object(_)) => object,
        _ if text.trim().is_empty() => Json::Object(Vec::new()),
        _ => Json::object([("invalid_arguments", Json::from(text))]),
    }
}

/// The text of a message for an API without names: a name precedes it.
pub(crate) fn named_text(message: &Message) -> String {
    match &message.name {
        Some(name) => format!("{name}: {}", message.text()),
        None => message.text(),
    }
}

/// The parts of a message for an API without names.
pub(crate) fn named_parts(message: &Message) -> Vec<Part> {
    let mut parts = message.content.clone();
    if let Some(name) = &message.name {
        match parts.iter_mut().find_map(|part| if let Part::Text { text } = part { Some(text) } else { None })
        {
            Some(text) => *text = format!("{name}: {text}"),
            None => parts.insert(0, Part::text(format!("{name}:"))),
        }
    }
    parts
}

/// The system messages as one text, and the others.
pub(crate) fn split_system(messages: &[Message]) -> (String, Vec<&Message>) {
    let (system, others): (Vec<&Message>, Vec<&Message>) =
        messages.iter().partition(|message| message.role == Role::System);
    let texts: Vec<String> =
        system.iter().map(|message| message.text()).filter(|text| !text.is_empty()).collect();
    (texts.join("\n\n"), others)
}

/// Refuses the sampling parameters that an API lacks.
pub(crate) fn refuse(api: &str, sampling: &Sampling, lacks: &[&str]) -> Result<(), ModelError> {
    let set = [
        ("topK", sampling.top_k.is_some()),
        ("frequencyPenalty", sampling.frequency_penalty.is_some()),
        ("presencePenalty", sampling.presence_penalty.is_some()),
        ("stop", !sampling.stop.is_empty()),
        ("seed", sampling.seed.is_some()),
    ];
    match set.iter().find(|(name, set)| *set && lacks.contains(name)) {
        Some((name, _)) => Err(unsupported(format!("{api} does not support `{name}`; remove it"))),
        None => Ok(()),
    }
}

/// Adds properties that have a value.
pub(crate) fn put<V: Into<Json>>(body: &mut Vec<(String, Json)>, name: &str, value: Option<V>) {
    if let Some(value) = value {
        body.push((name.to_owned(), value.into()));
    }
}

pub(crate) fn strings(texts: &[String]) -> Option<Json> {
    (!texts.is_empty()).then(|| Json::Array(texts.iter().map(|text| Json::from(text.as_str())).collect()))
}
