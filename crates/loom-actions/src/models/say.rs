//! Asks a model, and shows its answer while it arrives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::Method;
use loom_engine::{event::RetryHint, live_text::TextWriter, ports::Call};
use loom_expression::{Object, Value};
use loom_models::{
    Accumulator, Answer, Decoder, Delta, Endpoint, Head, Limits, ModelError, Request, ScriptState,
    emulate_tools, read_emulated,
};

use super::tape::Tapes;
use crate::{
    Connections, Failure,
    connections::{Model, Service, Source},
    handlers::marks,
    requests::{Behaviour, Requests, Spec},
    url::Url,
};

/// The pieces in which scripted answers are shown, in characters.
const SCRIPTED_PIECE: usize = 8;

/// Asks the models of the connections file.
pub(crate) struct Models {
    requests: Arc<Requests>,
    /// How far each scripted model is. A script starts again with the process.
    scripts: Mutex<BTreeMap<Arc<str>, ScriptState>>,
    tapes: Tapes,
}

/// What came back from a model.
pub(crate) struct ModelSaid {
    /// The answer, or the error that the provider reported.
    pub(crate) read: Result<Answer, ModelError>,
    /// The response, if it was read as a whole.
    pub(crate) response: Option<Value>,
    /// What the response says about retries.
    pub(crate) hint: RetryHint,
}

impl ModelSaid {
    /// Whether the response repeats a secret.
    pub(crate) fn quotes_secrets(&self) -> bool {
        self.response.as_ref().is_some_and(Value::contains_secret)
    }
}

impl Models {
    pub(crate) fn new(requests: &Arc<Requests>) -> Models {
        Models { requests: Arc::clone(requests), scripts: Mutex::default(), tapes: Tapes::default() }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.requests.settings().connections
    }

    /// The Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.requests.now().unix_millis()).unwrap_or(0)
    }

    /// Makes one request. `shows` says whether watchers see the text while it arrives.
    ///
    /// # Errors
    /// [`Failure`] when there is no response.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, so that the provider stops.
    pub(crate) async fn say(
        &self,
        model: &Model,
        request: &Request,
        call: &Call,
        shows: bool,
    ) -> Result<ModelSaid, Failure> {
        if model.tools_by_schema && !request.tools.is_empty() {
            let plain = emulate_tools(request);
            let said = self.ask(model, &plain, call, None).await?;
            return Ok(ModelSaid { read: said.read.map(|answer| read_emulated(request, answer)), ..said });
        }
        if !shows {
            return self.ask(model, request, call, None).await;
        }
        let mut text = call.show.begin();
        self.ask(model, request, call, Some(&mut text)).await
    }

    async fn ask(
        &self,
        model: &Model,
        request: &Request,
        call: &Call,
        mut text: Option<&mut TextWriter>,
    ) -> Result<ModelSaid, Failure> {
        let Some(tape) = &model.tape else { return self.ask_itself(model, request, call, text).await };
        if let Some(read) = self.tapes.replay(tape, request).await? {
            if let Ok(answer) = &read {
                show(&mut text, &answer.deltas(SCRIPTED_PIECE));
            }
            return Ok(ModelSaid { read, response: None, hint: RetryHint::default() });
        }
        if call.inputs.contains_secret() {
            let why = "The request contains a secret, so it cannot be recorded on a cassette.";
            return Err(Failure::lasting("ModelCassetteUnwritable", why));
        }
        let said = self.ask_itself(model, request, call, text).await?;
        self.tapes.record(tape, request, &said.read).await?;
        Ok(said)
    }

    async fn ask_itself(
        &self,
        model: &Model,
        request: &Request,
        call: &Call,
        mut text: Option<&mut TextWriter>,
    ) -> Result<ModelSaid, Failure> {
        let (endpoint, service) = match &model.source {
            Source::Script(script) => {
                let played = {
                    let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
                    let state = scripts.entry(Arc::clone(&model.name)).or_insert_with(|| script.start());
                    script.reply(state, request)
                };
                let read =
                    played.map_err(|error| Failure::lasting("ModelScriptEnded", format!("{error}.")))?;
                if let Ok(answer) = &read {
                    speak(answer, model.delay_per_word, &mut text).await;
                }
                return Ok(ModelSaid { read, response: None, hint: RetryHint::default() });
            }
            Source::Provider(provider) => &**provider,
        };
        let spec = spec(model, endpoint, service, request, &call.inputs)?;
        let behaviour = Behaviour { no_polling: true, no_marks: true, ..Behaviour::default() };
        let mut arriving = self.requests.open(&spec, &marks(call), &behaviour).await?;
        let (after, learned) = self.requests.of_head(&arriving);
        let hint = RetryHint { after, learned, ..RetryHint::default() };
        let head = Head::new(arriving.status, arriving.header_texts());
        let kind = head.get("content-type").unwrap_or_default().to_ascii_lowercase();
        let limits = Limits::default();
        if !(200..300).contains(&arriving.status)
            || !(kind.starts_with("text/event-stream") || kind.starts_with("application/x-ndjson"))
        {
            let answer = self.requests.whole(arriving, limits.response_bytes_max).await?;
            let body = match answer.outputs.get("body") {
                None => String::new(),
                Some(body) => body.as_str().map_or_else(|| body.to_json_text(), str::to_owned),
            };
            let read = endpoint.decode(head, body.as_bytes(), limits, self.now_ms());
            if let Ok(answer) = &read {
                show(&mut text, &answer.deltas(usize::MAX));
            }
            return Ok(ModelSaid { read, response: Some(answer.outputs), hint });
        }
        let mut decoder = Decoder::new(endpoint, head, limits, self.now_ms());
        let (mut answer, mut deltas) = (Accumulator::default(), Vec::new());
        while !decoder.is_done() {
            let Some(part) = arriving.part().await? else { break };
            let fed = decoder.feed(&part, &mut deltas);
            show(&mut text, &deltas);
            answer.extend(&deltas);
            deltas.clear();
            if let Err(error) = fed {
                return Ok(ModelSaid { read: Err(error), response: None, hint });
            }
        }
        let finished = decoder.finish(&mut deltas);
        show(&mut text, &deltas);
        answer.extend(&deltas);
        let read = finished.and_then(|()| answer.finish());
        Ok(ModelSaid { read, response: None, hint })
    }
}

/// Shows a scripted answer, word by word if each takes a while.
async fn speak(answer: &Answer, delay: Duration, text: &mut Option<&mut TextWriter>) {
    if delay.is_zero() {
        return show(text, &answer.deltas(SCRIPTED_PIECE));
    }
    for word in answer.message.text().split_inclusive(char::is_whitespace) {
        tokio::time::sleep(delay).await;
        if let Some(text) = text {
            text.push(word);
        }
    }
}

fn show(text: &mut Option<&mut TextWriter>, deltas: &[Delta]) {
    let Some(text) = text else { return };
    for delta in deltas {
        if let Delta::Text { text: piece } = delta {
            text.push(piece);
        }
    }
}

/// The request to send to a provider.
fn spec(
    model: &Model,
    endpoint: &Endpoint,
    service: &Service,
    request: &Request,
    inputs: &Value,
) -> Result<Spec, Failure> {
    let http = endpoint.encode(request, model.streams).map_err(|error| {
        Failure::bad_request(format!("The model '{}' cannot be asked: {}.", model.name, error.message))
    })?;
    let broken = |_| Failure::bad_request("The request to the model is not JSON.");
    let body = Value::from_json_str(&String::from_utf8_lossy(&http.body)).map_err(broken)?;
    // What the prompt was made from may be secret, so the whole request is.
    let body = body.secret_if(inputs.contains_secret());
    let headers: Object = http.headers.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
    let parts: Object = [("headers", Value::from(headers)), ("body", body)].into_iter().collect();
    let mut spec = Spec::at(Url::parse(&http.url)?, &parts.into(), Method::POST)?;
    spec.authentication = service.authentication.clone();
    spec.add_headers(&service.headers);
    spec.through_connection = true;
    Ok(spec)
}
