//! `AI` actions: a prompt to a language model of the connections file, text or JSON of a schema back.
//!
//! The formats are those of `loom-models`; the request is made like any other, with egress rules, credentials and policies,
//! and each attempt is an attempt of the action.

mod say;
mod tape;

use std::sync::Arc;

use loom_definition::Status;
use loom_engine::{
    Budgets,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
    schema,
};
use loom_expression::{Object, Value};
use loom_models::{
    Answer as ModelAnswer, Json, Message, ModelError, OutputFormat, OutputSchema, Price, Request, StopReason,
    Usage,
};

pub(crate) use self::say::{ModelSaid, Models};
use crate::{Failure, connections::Model, handlers::failed, requests::Requests};

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
    models: Arc<Models>,
}

impl ModelHandler {
    /// A handler that makes its requests with `requests`.
    pub fn new(requests: &Arc<Requests>) -> ModelHandler {
        ModelHandler::asking(&Arc::new(Models::new(requests)))
    }

    pub(crate) fn asking(models: &Arc<Models>) -> ModelHandler {
        ModelHandler { models: Arc::clone(models) }
    }

    async fn run(&self, call: &Call) -> EffectResult {
        match self.attempt(call).await {
            Ok(result) => result,
            Err(failure) => failed(failure),
        }
    }

    async fn attempt(&self, call: &Call) -> Result<EffectResult, Failure> {
        let asked = self.ask(&call.inputs)?;
        let said = self.models.say(&asked.model, &asked.request, call, true).await?;
        Ok(asked.result(&call.inputs, said))
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
        let model = self.models.connections().model(text(inputs, "model")?)?;
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
        Some(self.models.connections().model(text(inputs, "model").ok()?).ok()?.service())
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

pub(crate) fn text<'a>(inputs: &'a Value, name: &str) -> Result<Option<&'a str>, Failure> {
    match inputs.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Failure::bad_request(format!("'{name}' must be a string, found {}.", value.kind()))),
        },
    }
}

pub(crate) fn json(value: &Value) -> Result<Json, Failure> {
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
    /// The result of an attempt, with the response if there was one.
    fn result(&self, inputs: &Value, said: ModelSaid) -> EffectResult {
        let secret = inputs.contains_secret() || said.quotes_secrets();
        let hint = said.hint;
        let failure = match said.read {
            Ok(read) => match self.outputs(&read, secret) {
                Ok(outputs) => {
                    let outcome = Outcome::ok(Some(outputs));
                    return EffectResult::Done { outcome, hint };
                }
                Err(failure) => failure,
            },
            Err(error) => failure_of(&error, secret),
        };
        failed_answer(&self.model.name, failure, hint, said.response)
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

/// The failure that a provider's error is. A provider may quote the request in its message.
pub(crate) fn failure_of(error: &ModelError, secret: bool) -> Failure {
    let why = if secret { error.kind.to_string() } else { error.to_string() };
    let failure = Failure::lasting(format!("Model{:?}", error.kind), why);
    Failure { transient: error.is_retryable(), after: error.wait(), ..failure }
}

/// The result of an attempt that brought no answer that can be used.
pub(crate) fn failed_answer(
    model: &str,
    failure: Failure,
    hint: RetryHint,
    response: Option<Value>,
) -> EffectResult {
    // The wait of a response was read with this host's limit.
    let hint = RetryHint { transient: failure.transient, after: hint.after.or(failure.after), ..hint };
    let code = failure.code;
    let message = format!("The model '{model}' failed: {}.", failure.message);
    // Beside `error`, not in place of it, which outputs with a `statusCode` would be.
    let outputs = response.map(|response| Value::from(Object::single("response".into(), response)));
    let outcome = Outcome {
        status: Status::Failed,
        code: code.clone(),
        outputs,
        error: Some(Arc::new(ErrorInfo::new(code, message))),
    };
    EffectResult::Done { outcome, hint }
}

/// The JSON of an answer. One that does not match is a failure that another attempt may correct.
pub(crate) fn matching(schema: &Value, answer: &ModelAnswer, text: &str) -> Result<Value, Failure> {
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

pub(crate) fn reason(stop: &StopReason) -> &str {
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

pub(crate) fn used(usage: Usage, price: Option<Price>) -> Value {
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
