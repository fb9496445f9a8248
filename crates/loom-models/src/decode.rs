//! Decodes responses to answers: whole, or delta by delta.

use crate::{
    answer::{Accumulator, Answer, Delta},
    codec::{anthropic, chat, ollama, responses},
    endpoint::{Api, Endpoint},
    error::{ErrorKind, ModelError, error_in, error_of, malformed},
    frames::{Frame, Frames},
    json::Json,
    wait::Head,
};

/// Bounds on what a response may make the process hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of one event of a stream. Default: 4 MiB.
    pub event_bytes_max: usize,
    /// The most bytes of a whole response, or of a stream with all that surrounds its text. Default: 64 MiB.
    pub response_bytes_max: usize,
    /// The most bytes of the body of an error that are read; the rest is ignored. Default: 64 KiB.
    pub error_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { event_bytes_max: 4 << 20, response_bytes_max: 64 << 20, error_bytes_max: 64 << 10 }
    }
}

/// Reads the response to a request, of whatever kind it is: a stream, a whole answer (also where a stream was asked for), or
/// an error. Feed it the body as it arrives, in pieces of any size.
///
/// ```
/// # use loom_models::{Accumulator, Decoder, Endpoint, Head, Limits};
/// let head = Head::new(200, [("content-type", "text/event-stream")]);
/// let mut decoder = Decoder::new(&Endpoint::openai(), head, Limits::default(), 0);
/// let mut deltas = Vec::new();
/// decoder.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hel", &mut deltas).unwrap();
/// decoder.feed(b"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", &mut deltas).unwrap();
/// decoder.finish(&mut deltas).unwrap();
///
/// let mut answer = Accumulator::default();
/// answer.extend(&deltas);
/// assert_eq!(answer.finish().unwrap().message.text(), "Hello");
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    head: Head,
    limits: Limits,
    now_ms: u64,
    machine: Machine,
    body: Body,
    bytes: usize,
    failed: Option<ModelError>,
}

#[derive(Clone, Debug)]
enum Body {
    Error(Vec<u8>),
    Whole(Vec<u8>),
    Stream(Frames),
}

/// The machine of an API.
#[derive(Clone, Debug)]
enum Machine {
    Chat(chat::Machine),
    Responses(responses::Machine),
    Anthropic(anthropic::Machine),
    Ollama(ollama::Machine),
}

impl Decoder {
    /// A decoder of one response. `now_ms` is the Unix time, for waits that are dates.
    pub fn new(endpoint: &Endpoint, head: Head, limits: Limits, now_ms: u64) -> Decoder {
        let machine = match endpoint.api {
            Api::ChatCompletions => Machine::Chat(chat::Machine::new(endpoint.dialect.done_mark)),
            Api::Responses => Machine::Responses(responses::Machine::default()),
            Api::Anthropic => Machine::Anthropic(anthropic::Machine::default()),
            Api::Ollama => Machine::Ollama(ollama::Machine::default()),
        };
        let content_type = head.get("content-type").unwrap_or_default().to_ascii_lowercase();
        let body = if !head.is_success() {
            Body::Error(Vec::new())
        } else if content_type.starts_with("text/html")
            || content_type.starts_with("application/json") && endpoint.api != Api::Ollama
        {
            // A page where an answer should be is read whole as well, and then is not JSON.
            Body::Whole(Vec::new())
        } else if endpoint.api == Api::Ollama {
            Body::Stream(Frames::lines(limits.event_bytes_max))
        } else {
            Body::Stream(Frames::events(limits.event_bytes_max))
        };
        Decoder { head, limits, now_ms, machine, body, bytes: 0, failed: None }
    }

    /// Takes the next bytes of the body and adds what they mean to `deltas`.
    ///
    /// # Errors
    /// What the stream reports, or that it is not what the API promises. Later calls return the same error.
    pub fn feed(&mut self, bytes: &[u8], deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take(bytes, deltas);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn take(&mut self, mut bytes: &[u8], deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > self.limits.response_bytes_max && !matches!(self.body, Body::Error(_)) {
            let message = format!("the response exceeds {} bytes", self.limits.response_bytes_max);
            return Err(ModelError::new(ErrorKind::AnswerTooLarge, message));
        }
        match &mut self.body {
            Body::Error(body) => {
                let room = self.limits.error_bytes_max.saturating_sub(body.len());
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Body::Whole(body) => body.extend_from_slice(bytes),
            Body::Stream(frames) => {
                while !bytes.is_empty() && !self.machine.is_done() {
                    let (taken, frame) = frames.next(bytes)?;
                    bytes = &bytes[taken..];
                    if let Some(frame) = frame {
                        self.machine.frame(&frame, deltas)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the answer has ended, so that the rest of the body need not be read.
    pub fn is_done(&self) -> bool {
        self.machine.is_done()
    }

    /// Reports that the body has ended.
    ///
    /// # Errors
    /// The error that the response is, or [`ErrorKind::Truncated`] when a stream has not reached its end mark.
    pub fn finish(mut self, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match &mut self.body {
            Body::Error(body) => Err(error_of(&self.head, body, self.now_ms)),
            Body::Whole(body) => self.machine.whole(body, deltas),
            Body::Stream(frames) => {
                if !self.machine.is_done()
                    && let Some(frame) = frames.rest()
                {
                    // The last event is cut unless it can be read.
                    match self.machine.frame(&frame, deltas) {
                        Err(error) if error.kind == ErrorKind::Malformed => return Err(truncated()),
                        other => other?,
                    }
                }
                self.machine.end(deltas)
            }
        }
    }
}

fn truncated() -> ModelError {
    ModelError::new(ErrorKind::Truncated, "the stream ended before its end mark")
}

impl Machine {
    fn is_done(&self) -> bool {
        match self {
            Machine::Chat(machine) => machine.ending.done,
            Machine::Responses(machine) => machine.ending.done,
            Machine::Anthropic(machine) => machine.ending.done,
            Machine::Ollama(machine) => machine.ending.done,
        }
    }

    fn frame(&mut self, frame: &Frame, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        let data = frame.data.trim();
        if data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            return match self {
                Machine::Chat(machine) => machine.done(deltas),
                // Proxies add it to streams that have an end mark of their own.
                _ => Ok(()),
            };
        }
        let event: Json = data.parse().map_err(|error| {
            let start: String = data.chars().take(100).collect();
            malformed(format!("an event of the stream is not JSON ({error}): {start}"))
        })?;
        if frame.name == "error" {
            let plain = || ModelError::new(ErrorKind::Server, data.chars().take(300).collect::<String>());
            return Err(error_in(&event).unwrap_or_else(plain));
        }
        let name = event.text_at("type").unwrap_or(&frame.name);
        match self {
            Machine::Chat(machine) => machine.event(&event, deltas),
            Machine::Responses(machine) => machine.event(name, &event, deltas),
            Machine::Anthropic(machine) => machine.event(name, &event, deltas),
            Machine::Ollama(machine) => machine.event(&event, deltas),
        }
    }

    fn whole(&mut self, body: &[u8], deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        let json = Json::parse(body).map_err(|error| {
            // A body that ends inside its JSON was cut; the peer may do better next time.
            let kind = if error.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
            ModelError::new(kind, format!("the response is not JSON: {error}"))
        })?;
        match self {
            Machine::Chat(machine) => machine.whole(&json, deltas),
            Machine::Responses(machine) => machine.whole(&json, deltas),
            Machine::Anthropic(machine) => machine.whole(&json, deltas),
            Machine::Ollama(machine) => machine.event(&json, deltas).and_then(|()| machine.end(deltas)),
        }
    }

    fn end(&mut self, deltas: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_done() {
            return Ok(());
        }
        match self {
            Machine::Chat(machine) => machine.end(deltas),
            Machine::Responses(_) | Machine::Anthropic(_) | Machine::Ollama(_) => Err(truncated()),
        }
    }
}

impl Endpoint {
    /// Reads a response whose whole body is there.
    ///
    /// # Errors
    /// The error that the response is, or that it is not what the API promises.
    pub fn decode(&self, head: Head, body: &[u8], limits: Limits, now_ms: u64) -> Result<Answer, ModelError> {
        let mut decoder = Decoder::new(self, head, limits, now_ms);
        if matches!(decoder.body, Body::Stream(_)) && !starts_an_event(body) {
            // A peer that does not say what it sends.
            decoder.body = Body::Whole(Vec::new());
        }
        let mut deltas = Vec::new();
        decoder.feed(body, &mut deltas)?;
        decoder.finish(&mut deltas)?;
        let mut accumulator = Accumulator::default();
        accumulator.extend(&deltas);
        accumulator.finish()
    }
}

/// Whether a body is a stream and not one JSON object.
fn starts_an_event(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    !start.starts_with(b"{") || body.trim_ascii_end().contains(&b'\n') && Json::parse(body).is_err()
}
