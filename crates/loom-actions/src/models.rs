//! `AI` actions: a prompt to a language model of the connections file, text or JSON of a schema back.
//!
//! The formats are those of `loom-models`; the request is made like any other, with egress rules, credentials and policies,
//! and each attempt is an attempt of the action.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::Method;
use loom_definition::Status;
use loom_engine::{
    Budgets,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
    schema,
};
use loom_expression::{Object, Value};
use loom_models::{
    Answer as ModelAnswer, Endpoint, Head, Json, Limits, Message, ModelError, OutputFormat, OutputSchema,
    Price, Request, ScriptState, StopReason, Usage,
};

use crate::{
    Failure,
    connections::{Model, Service, Source},
    handlers::{ended, failed, marks},
    requests::{Answer, Behaviour, Progress, Requests, Spec},
    url::Url,
};

/// The inputs of an `AI` action.
const INPUTS: [&str; 11] = [
    "model",
    "prompt",
    "systemPrompt",
    "messages",
    "schema",
    "temperature",
    "topP",
    "maxTokens",
    "stop",
    "seed",
    "extra",
];

/// Executes `AI` actions. The inputs are:
///
/// | input | meaning |
/// |---|---|
/// | `model` | a name in the section `models` of the connections file; may be omitted when there is one |
/// | `prompt` | what the model is asked |
/// | `systemPrompt` | its instructions |
/// | `messages` | the conversation before the prompt: objects with `role` (`system`, `user`, `assistant`) and `content` |
/// | `schema` | a JSON schema (draft 4): the answer is JSON that matches it |
/// | `temperature`, `topP`, `maxTokens`, `stop`, `seed` | how the model samples |
/// | `extra` | properties that are added to the request as they are, for what only one provider has |
///
/// The outputs are `body` (the text, or the JSON), `stopReason`, `usage` and `model`. A failed action has the provider's
/// `response` instead, and a code that begins with `Model`: `ModelRateLimited`, `ModelContextTooLong`, `ModelOutputInvalid`.
pub struct ModelHandler {
    requests: Arc<Requests>,
    /// How far each scripted model is. A script starts again with the process.
    scripts: Mutex<BTreeMap<Arc<str>, ScriptState>>,
}

impl ModelHandler {
    /// A handler that makes its requests with `requests`.
    pub fn new(requests: &Arc<Requests>) -> ModelHandler {
        ModelHandler { requests: Arc::clone(requests), scripts: Mutex::default() }
    }

    async fn run(&self, call: &Call) -> EffectResult {
        match self.attempt(call).await {
            Ok(result) => result,
            Err(failure) => failed(failure),
        }
    }

    async fn attempt(&self, call: &Call) -> Result<EffectResult, Failure> {
        let asked = self.ask(&call.inputs)?;
        match &asked.model.source {
            Source::Script(script) => {
                let name = Arc::clone(&asked.model.name);
                let played = {
                    let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
                    let state = scripts.entry(name).or_insert_with(|| script.start());
                    script.reply(state, &asked.request)
                };
                let read =
                    played.map_err(|error| Failure::lasting("ModelScriptEnded", format!("{error}.")))?;
                Ok(asked.result(&call.inputs, read, None))
            }
            Source::Provider(provider) => {
                let (endpoint, service) = &**provider;
                let spec = asked.spec(endpoint, service, &call.inputs)?;
                let behaviour = Behaviour { no_polling: true, no_marks: true, ..Behaviour::default() };
                match self.requests.perform(&spec, &marks(call), &behaviour, None).await? {
                    Progress::Final(answer) => {
                        let read = decode(endpoint, &answer);
                        Ok(asked.result(&call.inputs, read, Some(answer)))
                    }
                    pending @ Progress::Pending { .. } => Ok(ended(Ok(pending))),
                }
            }
        }
    }

    /// What the inputs ask, of which model.
    fn ask(&self, inputs: &Value) -> Result<Asked, Failure> {
        if let Some(properties) = inputs.as_object()
            && let Some((name, _)) = properties.iter().find(|(name, _)| !INPUTS.contains(&&***name))
        {
            let known = INPUTS.join(", ");
            return Err(Failure::bad_request(format!(
                "Unknown input '{name}' of an AI action; use {known}."
            )));
        }
        let model = self.requests.settings().connections.model(text(inputs, "model")?)?;
        let (request, schema) = request(inputs, &model.named_by_provider)?;
        Ok(Asked { model, request, schema })
    }
}

impl ActionHandler for ModelHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(self.run(call))
    }

    /// The base URL of the model, whose limits all of its models usually share.
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let model = self.requests.settings().connections.model(text(inputs, "model").ok()?).ok()?;
        match model.source {
            Source::Provider(provider) => Some(provider.1.base.shown().trim_end_matches('/').into()),
            Source::Script(_) => Some(format!("model:{}", model.name).into()),
        }
    }

    /// A repeated request changes nothing, though it costs again.
    fn is_idempotent(&self, _: &Value) -> bool {
        true
    }
}

/// A request, and what its answer must be.
struct Asked {
    model: Model,
    request: Request,
    schema: Option<Value>,
}

fn text<'a>(inputs: &'a Value, name: &str) -> Result<Option<&'a str>, Failure> {
    match inputs.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Failure::bad_request(format!("'{name}' must be a string, found {}.", value.kind()))),
        },
    }
}

fn json(value: &Value) -> Result<Json, Failure> {
    value
        .to_json_text()
        .parse()
        .map_err(|_| Failure::bad_request("The inputs of the AI action are not JSON."))
}

fn request(inputs: &Value, model: &str) -> Result<(Request, Option<Value>), Failure> {
    let mut messages = Vec::new();
    if let Some(instructions) = text(inputs, "systemPrompt")? {
        messages.push(Message::system(instructions));
    }
    let given = inputs.get("messages").filter(|value| !value.is_null());
    let given = match given.map(Value::as_array) {
        None => Vec::new(),
        Some(Some(items)) => items.iter().cloned().collect(),
        Some(None) => return Err(Failure::bad_request("'messages' must be an array.")),
    };
    for (index, message) in given.iter().enumerate() {
        messages.push(one_message(message, index)?);
    }
    match text(inputs, "prompt")? {
        Some(prompt) => messages.push(Message::user(prompt)),
        None if given.is_empty() => {
            return Err(Failure::bad_request("The AI action needs 'prompt' or 'messages'."));
        }
        None => {}
    }
    let mut request = Request::new(model, messages);
    let schema = inputs.get("schema").filter(|value| !value.is_null()).cloned();
    if let Some(schema) = &schema {
        request.output = OutputFormat::JsonSchema(OutputSchema::new("answer", json(schema)?));
    }
    let number = |name: &str| match inputs.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.to_json_text().parse::<f64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                Err(Failure::bad_request(format!("'{name}' must be a number, found {}.", value.kind())))
            }
        },
    };
    let whole = |name: &str| match number(name)? {
        None => Ok(None),
        Some(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(Some(number as i64)),
        Some(number) => Err(Failure::bad_request(format!("'{name}' must be an integer (got {number})."))),
    };
    request.sampling.temperature = number("temperature")?;
    request.sampling.top_p = number("topP")?;
    request.sampling.seed = whole("seed")?;
    request.sampling.max_tokens = match whole("maxTokens")? {
        None => None,
        Some(tokens) => Some(u32::try_from(tokens).ok().filter(|tokens| *tokens > 0).ok_or_else(|| {
            Failure::bad_request(format!("'maxTokens' must be a positive integer (got {tokens})."))
        })?),
    };
    if let Some(stop) = inputs.get("stop").filter(|value| !value.is_null()) {
        let texts: Option<Vec<String>> = match (stop.as_str(), stop.as_array()) {
            (Some(text), _) => Some(vec![text.to_owned()]),
            (None, Some(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            (None, None) => None,
        };
        request.sampling.stop =
            texts.ok_or_else(|| Failure::bad_request("'stop' must be a string or an array of strings."))?;
    }
    if let Some(extra) = inputs.get("extra").filter(|value| !value.is_null()) {
        let Json::Object(properties) = json(extra)? else {
            return Err(Failure::bad_request("'extra' must be an object."));
        };
        request.extra = properties.into_iter().collect();
    }
    Ok((request, schema))
}

fn one_message(value: &Value, index: usize) -> Result<Message, Failure> {
    let wrong = |why: &str| Failure::bad_request(format!("'messages[{index}]' {why}."));
    let content =
        value.get("content").and_then(Value::as_str).ok_or_else(|| wrong("must have a string 'content'"))?;
    let role = value.get("role").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let message = match role.as_str() {
        "system" => Message::system(content),
        "user" => Message::user(content),
        "assistant" => Message::assistant(content),
        _ => return Err(wrong("must have the role system, user or assistant")),
    };
    Ok(message)
}

impl Asked {
    /// The request to send to a provider.
    fn spec(&self, endpoint: &Endpoint, service: &Service, inputs: &Value) -> Result<Spec, Failure> {
        let http = endpoint.encode(&self.request, false).map_err(|error| {
            let name = &self.model.name;
            Failure::bad_request(format!("The model '{name}' cannot be asked: {}.", error.message))
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

    /// The result of an attempt, with the response if there was one.
    fn result(
        &self,
        inputs: &Value,
        read: Result<ModelAnswer, ModelError>,
        response: Option<Answer>,
    ) -> EffectResult {
        let quoted = response.as_ref().is_some_and(|response| response.outputs.contains_secret());
        let secret = inputs.contains_secret() || quoted;
        let (after, learned) =
            response.as_ref().map_or((None, None), |response| (response.after, response.learned));
        let hint = RetryHint { after, learned, ..RetryHint::default() };
        let failure = match read {
            Ok(read) => match self.outputs(&read, secret) {
                Ok(outputs) => {
                    let outcome = Outcome::ok(Some(outputs));
                    return EffectResult::Done { outcome, hint };
                }
                Err(failure) => failure,
            },
            Err(error) => {
                // A provider may quote the request in its message.
                let why = if secret { error.kind.to_string() } else { error.to_string() };
                let failure = Failure::lasting(format!("Model{:?}", error.kind), why);
                Failure { transient: error.is_retryable(), after: error.wait(), ..failure }
            }
        };
        // The wait of a response was read with this host's limit.
        let hint = RetryHint { transient: failure.transient, after: hint.after.or(failure.after), ..hint };
        let code = failure.code;
        let message = format!("The model '{}' failed: {}.", self.model.name, failure.message);
        // Beside `error`, not in place of it, which outputs with a `statusCode` would be.
        let outputs = response.map(|response| {
            let outputs: Object = [("response", response.outputs)].into_iter().collect();
            Value::from(outputs)
        });
        let outcome = Outcome {
            status: Status::Failed,
            code: code.clone(),
            outputs,
            error: Some(Arc::new(ErrorInfo::new(code, message))),
        };
        EffectResult::Done { outcome, hint }
    }

    fn outputs(&self, answer: &ModelAnswer, secret: bool) -> Result<Value, Failure> {
        let text = answer.message.text();
        let body = match &self.schema {
            None => Value::from(text),
            Some(schema) => matching(schema, answer, &text)?,
        };
        let mut outputs = Object::new();
        // The model may repeat what it was told.
        outputs.insert("body", body.secret_if(secret));
        outputs.insert("stopReason", reason(&answer.stop));
        outputs.insert("model", answer.model.as_deref().unwrap_or(&self.model.named_by_provider));
        if let Some(usage) = answer.usage {
            outputs.insert("usage", used(usage, self.model.price));
        }
        Ok(outputs.into())
    }
}

/// The answer in a response.
fn decode(endpoint: &Endpoint, answer: &Answer) -> Result<ModelAnswer, ModelError> {
    let body = match answer.outputs.get("body") {
        None => String::new(),
        Some(body) => body.as_str().map_or_else(|| body.to_json_text(), str::to_owned),
    };
    let headers = answer.outputs.get("headers").and_then(Value::as_object);
    let headers = headers.into_iter().flatten().map(|(name, value)| (&**name, value.text().into_owned()));
    let head = Head::new(answer.status, headers);
    endpoint.decode(head, body.as_bytes(), Limits::default(), 0)
}

/// The JSON of an answer. One that does not match is a failure that another attempt may correct.
fn matching(schema: &Value, answer: &ModelAnswer, text: &str) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::transient("ModelOutputInvalid", why);
    if answer.stop == StopReason::Length {
        return Err(wrong("the answer was cut off before its JSON ended; raise 'maxTokens'".to_owned()));
    }
    let value = Value::from_json_str(text.trim())
        .map_err(|error| wrong(format!("the answer is not JSON: {error}")))?;
    match schema::validate(schema, &value, Budgets::default().schema_nodes_max) {
        Ok(mismatches) => match mismatches.first() {
            None => Ok(value),
            Some(first) => Err(wrong(format!("the answer does not match the schema: {}", first.message))),
        },
        Err(
            schema::Problem::Invalid(why)
            | schema::Problem::Unsupported(why)
            | schema::Problem::TooCostly(why),
        ) => Err(Failure::bad_request(format!("the schema cannot be used: {why}"))),
    }
}

fn reason(stop: &StopReason) -> &str {
    match stop {
        StopReason::Stop | StopReason::StopSequence(_) => "stop",
        StopReason::Length => "length",
        StopReason::ToolCalls => "toolCalls",
        StopReason::ContentFilter => "contentFilter",
        StopReason::Refusal => "refusal",
        StopReason::Other(reason) => reason,
        _ => "other",
    }
}

fn used(usage: Usage, price: Option<Price>) -> Value {
    let count = |tokens: u64| Value::from(i64::try_from(tokens).unwrap_or(i64::MAX));
    let mut used: Object = [
        ("inputTokens", count(usage.input_tokens)),
        ("outputTokens", count(usage.output_tokens)),
        ("totalTokens", count(usage.total())),
        ("cachedTokens", count(usage.cached_tokens)),
        ("reasoningTokens", count(usage.reasoning_tokens)),
    ]
    .into_iter()
    .collect();
    if let Some(price) = price {
        used.insert("costMicros", count(price.cost_micros(usage)));
    }
    used.into()
}
