//! An answer of a model: whole, or as the deltas of a stream.

use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorKind, ModelError},
    json::Json,
    message::{Message, Part, Reasoning, Role, ToolCall},
};

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Answer {
    /// The provider's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The model that answered, which may be a dated version of the one that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it says, with role `assistant`.
    pub message: Message,
    /// Why it ended.
    pub stop: StopReason,
    /// What it used; `None` when the provider did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Answer {
    /// An answer of text that ended as it should.
    pub fn text(text: impl Into<String>) -> Answer {
        Answer {
            id: None,
            model: None,
            message: Message::assistant(text),
            stop: StopReason::Stop,
            usage: None,
        }
    }

    /// An answer that calls tools.
    pub fn calls(calls: impl IntoIterator<Item = ToolCall>) -> Answer {
        let parts = calls.into_iter().map(Part::ToolCall).collect();
        Answer {
            message: Message::new(Role::Assistant, parts),
            stop: StopReason::ToolCalls,
            ..Answer::text("")
        }
    }

    /// Sets the usage.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Answer {
        self.usage = Some(usage);
        self
    }

    /// The answer as deltas, as if it had been streamed in pieces of at most `chars` characters (at least 1).
    pub fn deltas(&self, chars: usize) -> Vec<Delta> {
        let mut deltas = vec![Delta::Start { id: self.id.clone(), model: self.model.clone() }];
        let mut index = 0;
        for part in &self.message.content {
            match part {
                Part::Text { text } => {
                    deltas.extend(pieces(text, chars).map(|text| Delta::Text { text }));
                }
                Part::Reasoning(reasoning) => {
                    let text = pieces(&reasoning.text, chars);
                    deltas.extend(text.map(|text| Delta::Reasoning { text }));
                    deltas.push(Delta::ReasoningEnd {
                        signature: reasoning.signature.clone(),
                        encrypted: reasoning.encrypted.clone(),
                        id: reasoning.id.clone(),
                    });
                }
                Part::ToolCall(call) => {
                    let ToolCall { id, name, arguments, extra } = call.clone();
                    deltas.push(Delta::ToolCall { index, id: Some(id), name, extra });
                    let fragments = pieces(&arguments, chars);
                    deltas.extend(fragments.map(|fragment| Delta::ToolArguments { index, fragment }));
                    index += 1;
                }
                Part::Image(_) | Part::ToolResult(_) => {}
            }
        }
        deltas.extend(self.usage.map(Delta::Usage));
        deltas.push(Delta::Stop { reason: self.stop.clone() });
        deltas
    }
}

fn pieces(text: &str, chars: usize) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(chars.max(1)).map_or(rest.len(), |(at, _)| at);
        let piece;
        (piece, rest) = rest.split_at(end);
        (!piece.is_empty()).then(|| piece.to_owned())
    })
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum StopReason {
    /// The model was done.
    Stop,
    /// One of the request's stop texts.
    StopSequence(String),
    /// It reached its most tokens: the text is cut, and JSON in it is incomplete.
    Length,
    /// It waits for the results of tools.
    ToolCalls,
    /// The provider filtered it.
    ContentFilter,
    /// The model refused. The text says why.
    Refusal,
    /// The context window is full: the answer is cut.
    ContextFull,
    /// The provider paused a long turn; send the answer back to continue it.
    Pause,
    /// It was cancelled by the caller; the text is what had arrived.
    Cancelled,
    /// A reason that this version does not know.
    Other(String),
}

/// The tokens that an answer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Usage {
    /// All tokens of the request, also those from a cache.
    #[serde(default)]
    pub input_tokens: u64,
    /// All tokens of the answer, with its reasoning.
    #[serde(default)]
    pub output_tokens: u64,
    /// Those of the request that were read from a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Those of the request that were written to a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Those of the answer that were reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// Usage without caches.
    pub fn new(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, ..Usage::default() }
    }

    /// Request and answer together.
    pub fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// The sum of two usages.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(other.cache_write_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
        }
    }
}

/// What a piece of a stream adds to an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Delta {
    /// The answer begins.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
    },
    /// More text.
    Text {
        /// The text.
        text: String,
    },
    /// More reasoning.
    Reasoning {
        /// The text.
        text: String,
    },
    /// A stretch of reasoning ends, with the marks that the provider wants back.
    ReasoningEnd {
        /// See [`Reasoning::signature`].
        signature: Option<String>,
        /// See [`Reasoning::encrypted`].
        encrypted: Option<String>,
        /// See [`Reasoning::id`].
        id: Option<String>,
    },
    /// A tool call begins.
    ToolCall {
        /// Counts the calls of the answer from 0.
        index: u32,
        /// The call's id, if the provider gave one.
        id: Option<String>,
        /// The name of the tool.
        name: String,
        /// See [`ToolCall::extra`].
        extra: Option<Json>,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// Which call.
        index: u32,
        /// The next piece of the JSON text.
        fragment: String,
    },
    /// The whole usage so far. It replaces the usage before.
    Usage(Usage),
    /// The answer ends.
    Stop {
        /// Why.
        reason: StopReason,
    },
}

/// Builds an answer from deltas.
///
/// ```
/// # use loom_models::{Accumulator, Answer, Usage};
/// let answer = Answer::text("Hello, world").with_usage(Usage::new(3, 4));
/// let mut accumulator = Accumulator::default();
/// accumulator.extend(&answer.deltas(5));
/// assert_eq!(accumulator.finish().unwrap(), answer);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    id: Option<String>,
    model: Option<String>,
    parts: Vec<Part>,
    /// Where in `parts` the call with each index is.
    calls: Vec<(u32, usize)>,
    usage: Option<Usage>,
    stop: Option<StopReason>,
    /// Whether the last part is reasoning that may still grow.
    reasoning: bool,
}

impl Accumulator {
    /// Adds a delta. One that contradicts the earlier ones (arguments of an unknown call) is ignored: a decoder never
    /// returns such a delta.
    pub fn push(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { id, model } => {
                self.id = id.clone().or(self.id.take());
                self.model = model.clone().or(self.model.take());
            }
            Delta::Text { text } => {
                self.reasoning = false;
                if let Some(Part::Text { text: last }) = self.parts.last_mut() {
                    last.push_str(text);
                } else {
                    self.parts.push(Part::text(text.as_str()));
                }
            }
            Delta::Reasoning { text } => self.open_reasoning().text.push_str(text),
            Delta::ReasoningEnd { signature, encrypted, id } => {
                let reasoning = self.open_reasoning();
                reasoning.signature.clone_from(signature);
                reasoning.encrypted.clone_from(encrypted);
                reasoning.id.clone_from(id);
                self.reasoning = false;
            }
            Delta::ToolCall { index, id, name, extra } => {
                self.reasoning = false;
                self.calls.push((*index, self.parts.len()));
                let id = id.clone().unwrap_or_default();
                let extra = extra.clone();
                self.parts.push(Part::ToolCall(ToolCall { extra, ..ToolCall::new(id, name.as_str(), "") }));
            }
            Delta::ToolArguments { index, fragment } => {
                let place = self.calls.iter().rev().find(|(known, _)| known == index);
                if let Some(Part::ToolCall(call)) = place.and_then(|(_, at)| self.parts.get_mut(*at)) {
                    call.arguments.push_str(fragment);
                }
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Stop { reason } => self.stop = Some(reason.clone()),
        }
    }

    fn open_reasoning(&mut self) -> &mut Reasoning {
        if !self.reasoning {
            self.parts.push(Part::Reasoning(Reasoning::default()));
            self.reasoning = true;
        }
        match self.parts.last_mut() {
            Some(Part::Reasoning(reasoning)) => reasoning,
            _ => unreachable!("`reasoning` is set only while the last part is reasoning"),
        }
    }

    /// The text so far.
    pub fn text(&self) -> String {
        crate::message::text_of(&self.parts)
    }

    /// The whole answer. Calls without an id, or with the id of another call, get one of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when no delta said that the answer ended.
    pub fn finish(mut self) -> Result<Answer, ModelError> {
        match self.stop.take() {
            Some(stop) => Ok(self.end(stop)),
            None => Err(ModelError::new(ErrorKind::Truncated, "the answer ended before its end mark")),
        }
    }

    /// What had arrived when the caller cancelled. Tool calls are dropped, because their arguments may be incomplete.
    pub fn cancelled(mut self) -> Answer {
        self.parts.retain(|part| !matches!(part, Part::ToolCall(_)));
        self.end(StopReason::Cancelled)
    }

    fn end(self, stop: StopReason) -> Answer {
        let mut parts = self.parts;
        name_calls(&mut parts);
        Answer {
            id: self.id,
            model: self.model,
            message: Message::new(Role::Assistant, parts),
            stop,
            usage: self.usage,
        }
    }
}

impl<'a> Extend<&'a Delta> for Accumulator {
    fn extend<I: IntoIterator<Item = &'a Delta>>(&mut self, deltas: I) {
        for delta in deltas {
            self.push(delta);
        }
    }
}

/// Gives each tool call an id that no other call of the answer has.
fn name_calls(parts: &mut [Part]) {
    let mut known = std::collections::BTreeSet::new();
    for (index, part) in parts.iter_mut().enumerate() {
        let Part::ToolCall(call) = part else { continue };
        if call.id.is_empty() {
            call.id = format!("call_{index}");
        }
        while !known.insert(call.id.clone()) {
            call.id.push_str("_2");
        }
    }
}
