//! The section `models` of the connections file: language models, by the names that definitions use.

use std::{path::PathBuf, sync::Arc, time::Duration};

use loom_definition::duration::Span;
use loom_expression::Value;
use loom_models::{Dialect, Endpoint, KeyHeader, Price, Script};

use super::{Service, Sources};
use crate::{Failure, url::Url};

/// The properties of an entry.
pub(super) const PROPERTIES: [&str; 17] = [
    "api",
    "model",
    "baseUrl",
    "deployment",
    "apiVersion",
    "key",
    "headers",
    "authentication",
    "dialect",
    "keyHeader",
    "price",
    "replies",
    "delayPerWord",
    "stream",
    "tools",
    "cassette",
    "cassetteMode",
];

/// The longest `delayPerWord`.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// The values of `api`.
const APIS: &str = "openai, openaiResponses, azureOpenAI, anthropic, gemini, ollama, compatible or scripted";

/// An entry as written. It is evaluated whenever it is used, so that a new version of its key takes effect immediately.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) name: Arc<str>,
    pub(super) raw: Value,
    pub(super) sources: Sources,
}

/// A language model of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The name of the entry.
    pub(crate) name: Arc<str>,
    /// The model, as the provider names it.
    pub(crate) named_by_provider: String,
    /// What its tokens cost.
    pub(crate) price: Option<Price>,
    /// Whether its answers are read while they arrive.
    pub(crate) streams: bool,
    /// Whether it calls tools by writing JSON of a schema, because it cannot call them otherwise.
    pub(crate) tools_by_schema: bool,
    /// Where answers are recorded or replayed.
    pub(crate) tape: Option<Tape>,
    /// How long a scripted model takes for each word.
    pub(crate) delay_per_word: Duration,
    /// Where the answers come from.
    pub(crate) source: Source,
}

/// A file with recorded answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tape {
    pub(crate) file: PathBuf,
    pub(crate) mode: TapeMode,
}

/// What a cassette does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TapeMode {
    /// It answers in place of the model.
    Replay,
    /// It records what the model answers.
    Record,
}

/// Where the answers of a model come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// From a provider: the API and the URL, and headers and credentials.
    Provider(Box<(Endpoint, Service)>),
    /// From the connections file.
    Script(Arc<Script>),
}

impl Model {
    /// The service whose limits apply: the base URL, which the models of a provider share.
    pub(crate) fn service(&self) -> Arc<str> {
        match &self.source {
            Source::Provider(provider) => provider.1.base.shown().trim_end_matches('/').into(),
            Source::Script(_) => format!("model:{}", self.name).into(),
        }
    }
}

/// A property that is a string, if it is there.
pub(super) fn text_in<'a>(value: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    let Some(found) = value.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    found.as_str().map(Some).ok_or_else(|| format!("'{name}' must be a string, found {}.", found.kind()))
}

impl Written {
    /// The evaluated entry: an object with these properties. `expected` says which of them it needs.
    pub(super) fn evaluated(&self, expected: &str, known: &[&str]) -> Result<Value, String> {
        let value = self.sources.evaluate(&self.raw)?;
        let Some(properties) = value.as_object() else {
            return Err(format!("it must be an object with {expected}, found {}.", value.kind()));
        };
        if let Some((name, _)) = properties.iter().find(|(name, _)| !known.contains(&&***name)) {
            return Err(format!("unknown property '{name}'; use {}.", known.join(", ")));
        }
        Ok(value)
    }

    pub(super) fn model(&self) -> Result<Model, Failure> {
        self.read().map_err(|reason| {
            let message = format!("The model '{}' cannot be used: {reason}", self.name);
            Failure::lasting("ConnectionNotFound", message)
        })
    }

    fn read(&self) -> Result<Model, String> {
        let value = self.evaluated(&format!("'api' ({APIS}) and 'model'"), &PROPERTIES)?;
        let text = |name: &str| text_in(&value, name);
        let required = |name: &str| text(name)?.ok_or_else(|| format!("it has no '{name}'."));
        let price = match value.get("price").filter(|value| !value.is_null()) {
            None => None,
            Some(price) => Some(
                serde_json::from_str::<Price>(&price.to_json_text())
                    .map_err(|error| format!("'price' is wrong: {error}."))?,
            ),
        };
        let streams = match value.get("stream").filter(|value| !value.is_null()) {
            None => true,
            Some(stream) => stream
                .as_bool()
                .ok_or_else(|| format!("'stream' must be a boolean, found {}.", stream.kind()))?,
        };
        let tools_by_schema = match text("tools")? {
            None | Some("native") => false,
            Some("schema") => true,
            Some(other) => return Err(format!("'tools' must be native or schema (got {other}).")),
        };
        let tape = match (text("cassette")?, text("cassetteMode")?) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err("'cassetteMode' needs 'cassette', the name of the file.".to_owned());
            }
            (Some(file), mode) => {
                let mode = match mode {
                    None | Some("replay") => TapeMode::Replay,
                    Some("record") => TapeMode::Record,
                    Some(other) => {
                        return Err(format!("'cassetteMode' must be replay or record (got {other})."));
                    }
                };
                let directory = self.sources.directory.clone().unwrap_or_default();
                Some(Tape { file: directory.join(file), mode })
            }
        };
        let api = required("api")?;
        if api.eq_ignore_ascii_case("scripted") {
            return self.scripted(&value, text("model")?, price, tools_by_schema, tape);
        }
        if value.get("delayPerWord").is_some() {
            return Err("'delayPerWord' is for models with the 'api' scripted.".to_owned());
        }
        let mut endpoint = match api.to_ascii_lowercase().as_str() {
            "openai" => Endpoint::openai(),
            "openairesponses" => Endpoint::openai_responses(),
            "anthropic" => Endpoint::anthropic(),
            "gemini" => Endpoint::gemini(),
            "ollama" => Endpoint::ollama(),
            "compatible" => Endpoint::compatible(required("baseUrl")?),
            "azureopenai" => match text("apiVersion")? {
                Some(version) => Endpoint::azure(required("baseUrl")?, required("deployment")?, version),
                None => Endpoint::azure_v1(required("baseUrl")?),
            },
            _ => return Err(format!("'api' must be {APIS} (got {api}).")),
        };
        if let (Some(base), false) = (text("baseUrl")?, api.eq_ignore_ascii_case("azureOpenAI")) {
            base.clone_into(&mut endpoint.base);
        }
        if let Some(header) = text("keyHeader")? {
            endpoint.key_header = match header.to_ascii_lowercase().as_str() {
                "authorization" => KeyHeader::Bearer,
                "x-api-key" => KeyHeader::XApiKey,
                "api-key" => KeyHeader::ApiKey,
                _ => {
                    return Err(format!(
                        "'keyHeader' must be authorization, x-api-key or api-key (got {header})."
                    ));
                }
            };
        }
        if let Some(dialect) = value.get("dialect").filter(|value| !value.is_null()) {
            let read = serde_json::from_str::<Dialect>(&dialect.to_json_text());
            endpoint.dialect = read.map_err(|error| format!("'dialect' is wrong: {error}."))?;
        }
        let model = match (text("model")?, text("deployment")?) {
            (Some(model), _) | (None, Some(model)) => model.to_owned(),
            (None, None) => return Err("it has no 'model'.".to_owned()),
        };
        let base = Url::parse(&endpoint.base).map_err(|error| format!("{error}."))?;
        let mut headers = value.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(key) = text("key")? {
            let (name, key) = endpoint.key_header.header(key);
            headers.insert(name, Value::from(key).into_secret());
        }
        let authentication = value.get("authentication").cloned().unwrap_or_default();
        let service = Service { headers, authentication, ..Service::new(base) };
        let source = Source::Provider(Box::new((endpoint, service)));
        let name = Arc::clone(&self.name);
        Ok(Model {
            name,
            named_by_provider: model,
            price,
            streams,
            tools_by_schema,
            tape,
            delay_per_word: Duration::ZERO,
            source,
        })
    }

    /// A model that needs no provider, for tests and examples.
    fn scripted(
        &self,
        value: &Value,
        model: Option<&str>,
        price: Option<Price>,
        tools_by_schema: bool,
        tape: Option<Tape>,
    ) -> Result<Model, String> {
        let replies = value.get("replies").ok_or_else(|| "it has no 'replies'.".to_owned())?;
        let script = format!(r#"{{"replies": {}}}"#, replies.to_json_text());
        let script: Script =
            serde_json::from_str(&script).map_err(|error| format!("'replies' is wrong: {error}."))?;
        let named_by_provider = model.unwrap_or("scripted").to_owned();
        let source = Source::Script(Arc::new(script));
        let name = Arc::clone(&self.name);
        let delay_per_word = delay_per_word(value)?;
        Ok(Model {
            name,
            named_by_provider,
            price,
            streams: true,
            tools_by_schema,
            tape,
            delay_per_word,
            source,
        })
    }
}

/// How long a scripted model takes for each word, so that its text arrives as that of a real one does.
fn delay_per_word(value: &Value) -> Result<Duration, String> {
    let Some(given) = value.get("delayPerWord").filter(|given| !given.is_null()) else {
        return Ok(Duration::ZERO);
    };
    let span = Span::from_value(given).map_err(|why| format!("'delayPerWord': {why}."))?;
    let delay = span.approximate();
    if delay > DELAY_MAX {
        let shown = given.to_json_text();
        return Err(format!("'delayPerWord' must be at most PT1M (got {shown})."));
    }
    Ok(delay)
}
