//! Actions that transform data without calling a service: Liquid, XSLT, XML schemas, flat files, text chunks.
//!
//! The transformations are those of `loom-transform`. This file reads their inputs, finds their artifacts and gives
//! their results the shape of the service's outputs. They run on the blocking pool, because they may take long.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use loom_definition::model::EffectKind;
use loom_engine::{
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Labels, Object, Value, envelope};
use loom_transform::{chunk, flat_file::FlatFile, liquid, xml_data, xml_schema::Schema, xslt};

use crate::{
    Failure,
    artifacts::{ArtifactKind, Artifacts},
    handlers::failed,
};

/// The content type of XML that an action produces.
const XML: &str = "application/xml; charset=utf-8";

/// One of the transformations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Liquid,
    Xslt,
    XmlValidation,
    XmlParse,
    XmlCompose,
    FlatFileDecoding,
    FlatFileEncoding,
    ChunkText,
}

/// The action types, by their names in the language.
const KINDS: [(&str, Kind); 8] = [
    ("Liquid", Kind::Liquid),
    ("Xslt", Kind::Xslt),
    ("XmlValidation", Kind::XmlValidation),
    ("XmlParse", Kind::XmlParse),
    ("XmlCompose", Kind::XmlCompose),
    ("FlatFileDecoding", Kind::FlatFileDecoding),
    ("FlatFileEncoding", Kind::FlatFileEncoding),
    ("ChunkText", Kind::ChunkText),
];

/// The handlers of all transformations, with the artifacts of a project.
pub fn transform_handlers(artifacts: &Artifacts) -> Vec<(EffectKind, Arc<dyn ActionHandler>)> {
    let artifacts = Arc::new(artifacts.clone());
    let handlers = KINDS.iter().map(|(name, kind)| {
        let handler = TransformHandler { kind: *kind, artifacts: Arc::clone(&artifacts) };
        (EffectKind::Custom(Arc::from(*name)), Arc::new(handler) as Arc<dyn ActionHandler>)
    });
    handlers.collect()
}

struct TransformHandler {
    kind: Kind,
    artifacts: Arc<Artifacts>,
}

impl ActionHandler for TransformHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let variant = call.definition().variant.clone();
        let work = match self.prepare(&call.inputs, variant.as_deref()) {
            Ok(work) => work,
            Err(failure) => return Box::pin(async move { failed(failure) }),
        };
        // The result of a secret is secret, and so is the message of a failure, which may quote it.
        let labels = call.inputs.labels_within();
        let secret = labels.contains(Labels::SECRET);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work.run()).await {
                Ok(Ok(body)) => {
                    let outputs = body.map(|body| {
                        let outputs: Object = [("body", body.labelled(labels))].into_iter().collect();
                        outputs.into()
                    });
                    EffectResult::Done { outcome: Outcome::ok(outputs), hint: RetryHint::default() }
                }
                Ok(Err(error)) if secret => {
                    let message = "The transformation of a secret failed; the reason is not shown because it may \
                                   quote the secret.";
                    failed(Failure::lasting(error.code, message))
                }
                Ok(Err(error)) => failed(Failure::lasting(error.code, error.message)),
                Err(_) => failed(Failure::lasting("InternalError", "The transformation was aborted.")),
            }
        })
    }
}

/// A transformation with everything it needs.
enum Work {
    Liquid {
        template: Arc<str>,
        content: Value,
        output: liquid::Output,
    },
    Xslt {
        stylesheet: Arc<str>,
        artifacts: Arc<Artifacts>,
        content: String,
        parameters: Vec<(String, String)>,
        text_wanted: bool,
    },
    Validate {
        schema: Arc<str>,
        directory: Option<PathBuf>,
        content: String,
    },
    Parse {
        schema: Arc<str>,
        directory: Option<PathBuf>,
        content: String,
    },
    Compose {
        schema: Arc<str>,
        directory: Option<PathBuf>,
        content: Value,
    },
    Decode {
        schema: Arc<str>,
        content: String,
    },
    Encode {
        schema: Arc<str>,
        content: String,
    },
    Chunk {
        text: String,
        encoding: String,
        tokens: usize,
        overlap: usize,
    },
}

impl Work {
    fn run(self) -> Result<Option<Value>, loom_transform::Error> {
        Ok(Some(match self {
            Work::Liquid { template, content, output } => liquid::render(&template, &content, output)?,
            Work::Xslt { stylesheet, artifacts, content, parameters, text_wanted } => {
                // Included stylesheets are looked up by name, only among those of the project.
                let load = |href: &str| {
                    let name = href.rsplit(['/', '\\']).next().unwrap_or(href);
                    artifacts.text(ArtifactKind::Map, name).ok().map(ToString::to_string)
                };
                let made = xslt::transform(&stylesheet, &content, &parameters, &load)?;
                if text_wanted || made.is_text {
                    made.text.into()
                } else {
                    envelope::encode(XML, made.text.as_bytes())
                }
            }
            Work::Validate { schema, directory, content } => {
                Schema::read(&schema, directory.as_deref())?.validate(&content)?;
                return Ok(None);
            }
            Work::Parse { schema, directory, content } => {
                xml_data::parse(&content, &schema, directory.as_deref())?
            }
            Work::Compose { schema, directory, content } => {
                let xml = xml_data::compose(&content, &schema, directory.as_deref())?;
                envelope::encode(XML, xml.as_bytes())
            }
            Work::Decode { schema, content } => {
                envelope::encode(XML, FlatFile::read(&schema)?.decode(&content)?.as_bytes())
            }
            Work::Encode { schema, content } => FlatFile::read(&schema)?.encode(&content)?.into(),
            Work::Chunk { text, encoding, tokens, overlap } => {
                let pieces = chunk::by_tokens(&text, &encoding, tokens, overlap)?;
                let pieces: Value = pieces.into_iter().map(Value::from).collect();
                let body: Object = [("value", pieces)].into_iter().collect();
                body.into()
            }
        }))
    }
}

impl TransformHandler {
    fn prepare(&self, inputs: &Value, variant: Option<&str>) -> Result<Work, Failure> {
        let content = || match inputs.get("content") {
            None => Err(Failure::bad_request("The action has no 'content'.")),
            Some(content) if content.is_null() => {
                Err(Failure::bad_request("The 'content' of the action is null."))
            }
            Some(content) => Ok(content),
        };
        let text = || Ok::<_, Failure>(envelope::text(content()?).into_owned());
        let schema = || self.artifact(ArtifactKind::Schema, inputs);
        let directory = || self.artifacts.schemas_directory().map(PathBuf::from);
        Ok(match self.kind {
            Kind::Liquid => {
                let variant = variant.unwrap_or("JsonToJson").to_ascii_lowercase();
                let (xml, output) = match variant.as_str() {
                    "jsontojson" => (false, liquid::Output::Json),
                    "jsontotext" => (false, liquid::Output::Text),
                    "xmltojson" => (true, liquid::Output::Json),
                    "xmltotext" => (true, liquid::Output::Text),
                    _ => {
                        let message = format!(
                            "The kind of a Liquid action must be JsonToJson, JsonToText, XmlToJson or XmlToText (got \
                             '{variant}')."
                        );
                        return Err(Failure::bad_request(message));
                    }
                };
                let content = if xml { of_xml(&text()?)? } else { of_json(content()?)? };
                Work::Liquid { template: self.artifact(ArtifactKind::Map, inputs)?, content, output }
            }
            Kind::Xslt => {
                let parameters = inputs.get("xsltParameters").and_then(Value::as_object);
                let parameters = parameters.into_iter().flat_map(Object::iter);
                let options = inputs.get("transformOptions").and_then(Value::as_str).unwrap_or_default();
                let has =
                    |option: &str| options.split(',').any(|name| name.trim().eq_ignore_ascii_case(option));
                Work::Xslt {
                    stylesheet: self.artifact(ArtifactKind::Map, inputs)?,
                    artifacts: Arc::clone(&self.artifacts),
                    content: text()?,
                    parameters: parameters
                        .map(|(name, value)| (name.to_string(), value.text().into_owned()))
                        .collect(),
                    text_wanted: has("GenerateTextOutput"),
                }
            }
            Kind::XmlValidation => {
                Work::Validate { schema: schema()?, directory: directory(), content: text()? }
            }
            Kind::XmlParse => Work::Parse { schema: schema()?, directory: directory(), content: text()? },
            Kind::XmlCompose => {
                Work::Compose { schema: schema()?, directory: directory(), content: of_json(content()?)? }
            }
            Kind::FlatFileDecoding => Work::Decode { schema: schema()?, content: text()? },
            Kind::FlatFileEncoding => Work::Encode { schema: schema()?, content: text()? },
            Kind::ChunkText => {
                let strategy = inputs.get("chunkingStrategy").and_then(Value::as_str).unwrap_or("TokenSize");
                if !strategy.eq_ignore_ascii_case("TokenSize") {
                    let message = format!("'chunkingStrategy' must be TokenSize (got '{strategy}').");
                    return Err(Failure::bad_request(message));
                }
                let text = inputs.get("text").filter(|text| !text.is_null());
                let text = text.ok_or_else(|| Failure::bad_request("The action has no 'text'."))?;
                let encoding = inputs.get("encodingModel").and_then(Value::as_str).unwrap_or("cl100k_base");
                Work::Chunk {
                    text: envelope::text(text).into_owned(),
                    encoding: encoding.to_owned(),
                    tokens: number(inputs, "tokenSize", 5_000)?,
                    overlap: number(inputs, "pageOverlapLength", 0)?,
                }
            }
        })
    }

    /// The artifact that `integrationAccount.map` or `map` name, or their equivalents for schemas.
    fn artifact(&self, kind: ArtifactKind, inputs: &Value) -> Result<Arc<str>, Failure> {
        let member = if kind == ArtifactKind::Map { "map" } else { "schema" };
        let within = inputs.get("integrationAccount").and_then(|account| account.get(member));
        let named = inputs.get(member).or(within);
        let name = named.and_then(|named| named.get("name").unwrap_or(named).as_str());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(Failure::bad_request(format!("The action's '{member}.name' is missing.")));
        };
        self.artifacts.text(kind, name).cloned()
    }
}

fn number(inputs: &Value, name: &str, default: usize) -> Result<usize, Failure> {
    let Some(value) = inputs.get(name).filter(|value| !value.is_null()) else { return Ok(default) };
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| {
        Failure::bad_request(format!("'{name}' must be a whole number of at least 0 (got {}).", value.text()))
    })
}

/// Returns JSON content as it is, or parses the text of an envelope or a string.
fn of_json(content: &Value) -> Result<Value, Failure> {
    let text: Cow<'_, str> = match content.as_str() {
        Some(text) => text.into(),
        None if envelope::content_type(content).is_some() => envelope::text(content),
        None => return Ok(content.clone()),
    };
    Value::from_json_str(&text)
        .map_err(|error| Failure::lasting("InvalidJson", format!("The content is not valid JSON: {error}.")))
}

/// XML content as `json(xml(…))` reads it, without the parts that Liquid cannot refer to.
fn of_xml(text: &str) -> Result<Value, Failure> {
    xml_data::loosely(text).map_err(|error| Failure::lasting(error.code, error.message))
}
