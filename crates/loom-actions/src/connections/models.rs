//! The section `models` of the connections file: language models, by the names that definitions use.

use std::sync::Arc;

use loom_expression::Value;
use loom_models::{Dialect, Endpoint, KeyHeader, Price, Script};

use super::{Service, Sources};
use crate::{Failure, url::Url};

/// The properties of an entry.
const PROPERTIES: [&str; 12] = [
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
];

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
    /// Where the answers come from.
    pub(crate) source: Source,
}

/// Where the answers of a model come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// From a provider: the API and the URL, and headers and credentials.
    Provider(Box<(Endpoint, Service)>),
    /// From the connections file.
    Script(Arc<Script>),
}

impl Written {
    pub(super) fn model(&self) -> Result<Model, Failure> {
        self.read().map_err(|reason| {
            let message = format!("The model '{}' cannot be used: {reason}", self.name);
            Failure::lasting("ConnectionNotFound", message)
        })
    }

    fn read(&self) -> Result<Model, String> {
        let value = self.sources.evaluate(&self.raw)?;
        let Some(properties) = value.as_object() else {
            return Err(format!("it must be an object with 'api' ({APIS}) and 'model'."));
        };
        if let Some((name, _)) = properties.iter().find(|(name, _)| !PROPERTIES.contains(&&***name)) {
            return Err(format!("unknown property '{name}'; use {}.", PROPERTIES.join(", ")));
        }
        let text = |name: &str| match value.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(found) => match found.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(format!("'{name}' must be a string, found {}.", found.kind())),
            },
        };
        let required = |name: &str| text(name)?.ok_or_else(|| format!("it has no '{name}'."));
        let price = match value.get("price").filter(|value| !value.is_null()) {
            None => None,
            Some(price) => Some(
                serde_json::from_str::<Price>(&price.to_json_text())
                    .map_err(|error| format!("'price' is wrong: {error}."))?,
            ),
        };
        let api = required("api")?;
        if api.eq_ignore_ascii_case("scripted") {
            return self.scripted(&value, text("model")?, price);
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
        Ok(Model { name: Arc::clone(&self.name), named_by_provider: model, price, source })
    }

    /// A model that needs no provider, for tests and examples.
    fn scripted(&self, value: &Value, model: Option<&str>, price: Option<Price>) -> Result<Model, String> {
        let replies = value.get("replies").ok_or_else(|| "it has no 'replies'.".to_owned())?;
        let script = format!(r#"{{"replies": {}}}"#, replies.to_json_text());
        let script: Script =
            serde_json::from_str(&script).map_err(|error| format!("'replies' is wrong: {error}."))?;
        let named_by_provider = model.unwrap_or("scripted").to_owned();
        let source = Source::Script(Arc::new(script));
        Ok(Model { name: Arc::clone(&self.name), named_by_provider, price, source })
    }
}
