//! Cassettes: the responses of a model, recorded once and replayed without it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{answer::Answer, error::ModelError, request::Request};

/// The version of the file.
const VERSION: u32 = 1;

/// The key of a request: equal for requests that ask the same.
///
/// It is the BLAKE3 hash of the request's canonical JSON: compact, with the properties of all objects sorted. How the
/// answer travels (streamed or whole), the address and the key of the endpoint are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey([u8; 32]);

impl RequestKey {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RequestKey {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Request {
    /// The key of the request.
    pub fn key(&self) -> RequestKey {
        let text = self.canonical().to_string();
        RequestKey(*blake3::hash(text.as_bytes()).as_bytes())
    }

    /// The request as JSON whose objects are sorted.
    fn canonical(&self) -> Value {
        let value = serde_json::to_value(self).expect("a request has no key that is not a string");
        sorted(value)
    }
}

/// Sorts objects also where `serde_json` keeps their order, which another crate of the program may ask for.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(object) => {
            let by_name: BTreeMap<String, Value> =
                object.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(by_name.into_iter().collect())
        }
        other => other,
    }
}

/// Recorded answers. In JSON:
///
/// ```json
/// { "version": 1, "interactions": [ { "request": { "model": "m", "messages": [] }, "answer": {} } ] }
/// ```
///
/// An interaction has `answer` or `error`. Requests have the form of [`Request`], answers that of [`Answer`].
///
/// ```
/// use loom_models::{Answer, Cassette, Message, Request};
///
/// let asked = Request::new("m", vec![Message::user("Hello")]);
/// let mut cassette = Cassette::default();
/// cassette.record(&asked, &Ok(Answer::text("Good day")));
///
/// let mut player = cassette.player();
/// assert_eq!(player.replay(&asked).unwrap().unwrap().message.text(), "Good day");
/// let other = Request::new("m", vec![Message::user("Hallo")]);
/// assert_eq!(
///     player.replay(&other).unwrap_err().to_string(),
///     "the cassette has no answer to this request; compared with the recorded request 1, /messages/0/content/0/text \
///      was \"Hello\" and is \"Hallo\"; record it again"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Cassette {
    /// The version of the file: 1.
    pub version: u32,
    /// What was asked and answered, in order.
    pub interactions: Vec<Interaction>,
}

impl Default for Cassette {
    fn default() -> Cassette {
        Cassette { version: VERSION, interactions: Vec::new() }
    }
}

/// One request and what came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Interaction {
    /// The request.
    pub request: Request,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ModelError>,
}

/// A cassette that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CassetteError {
    /// It is not JSON, or not a cassette.
    #[error("cannot read the cassette: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("the version of the cassette must be {VERSION} (got {0})")]
    Version(u32),
    /// An interaction has neither answer nor error, or both.
    #[error("interaction {0} of the cassette must have either `answer` or `error`")]
    Interaction(usize),
}

impl Cassette {
    /// Reads a cassette.
    ///
    /// # Errors
    /// See [`CassetteError`].
    pub fn parse(bytes: &[u8]) -> Result<Cassette, CassetteError> {
        let cassette: Cassette = serde_json::from_slice(bytes)?;
        if cassette.version != VERSION {
            return Err(CassetteError::Version(cassette.version));
        }
        let wrong = |interaction: &Interaction| interaction.answer.is_some() == interaction.error.is_some();
        match cassette.interactions.iter().position(wrong) {
            Some(index) => Err(CassetteError::Interaction(index + 1)),
            None => Ok(cassette),
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a cassette has no key that is not a string");
        text.push('\n');
        text
    }

    /// Adds what came back for a request.
    pub fn record(&mut self, request: &Request, result: &Result<Answer, ModelError>) {
        let (answer, error) = match result {
            Ok(answer) => (Some(answer.clone()), None),
            Err(error) => (None, Some(error.clone())),
        };
        self.interactions.push(Interaction { request: request.clone(), answer, error });
    }

    /// Plays the cassette from its start.
    pub fn player(self) -> Player {
        let mut places: BTreeMap<RequestKey, Vec<usize>> = BTreeMap::new();
        for (index, interaction) in self.interactions.iter().enumerate() {
            places.entry(interaction.request.key()).or_default().push(index);
        }
        Player { cassette: self, places, played: BTreeMap::new() }
    }
}

/// Replays a cassette.
#[derive(Clone, Debug)]
pub struct Player {
    cassette: Cassette,
    places: BTreeMap<RequestKey, Vec<usize>>,
    played: BTreeMap<RequestKey, usize>,
}

impl Player {
    /// What came back when the request was recorded. A request that was recorded several times gets the results in order,
    /// and then the last again.
    ///
    /// # Errors
    /// [`Miss`] when it was not recorded.
    pub fn replay(&mut self, request: &Request) -> Result<Result<Answer, ModelError>, Miss> {
        let key = request.key();
        let Some(places) = self.places.get(&key) else {
            return Err(self.miss(request));
        };
        let played = self.played.entry(key).or_default();
        let place = places[(*played).min(places.len() - 1)];
        *played = played.saturating_add(1);
        let interaction = &self.cassette.interactions[place];
        match (&interaction.answer, &interaction.error) {
            (Some(answer), _) => Ok(Ok(answer.clone())),
            (None, Some(error)) => Ok(Err(error.clone())),
            (None, None) => Err(Miss { nearest: None }),
        }
    }

    /// Which recorded request resembles this one longest, and where they part.
    fn miss(&self, request: &Request) -> Miss {
        let asked = request.canonical();
        let compared = self.cassette.interactions.iter().enumerate().filter_map(|(index, interaction)| {
            let mut equal = 0;
            let difference = first_difference(&interaction.request.canonical(), &asked, "", &mut equal)?;
            Some((equal, index, difference))
        });
        let nearest = compared.max_by_key(|(equal, index, _)| (*equal, std::cmp::Reverse(*index)));
        Miss { nearest: nearest.map(|(_, index, difference)| (index + 1, difference)) }
    }
}

/// A request that a cassette has no answer to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cassette has no answer to this request; {}; record it again", self.compared())]
#[non_exhaustive]
pub struct Miss {
    /// The recorded request that is most like it, counted from 1, and where the two first differ.
    pub nearest: Option<(usize, Difference)>,
}

impl Miss {
    fn compared(&self) -> String {
        match &self.nearest {
            Some((number, difference)) => {
                format!("compared with the recorded request {number}, {difference}")
            }
            None => "it is empty".to_owned(),
        }
    }
}

/// The first difference between two JSON values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Where: a JSON pointer.
    pub pointer: String,
    /// What was recorded, shortened; `None` when there was nothing.
    pub recorded: Option<String>,
    /// What is asked, shortened; `None` when there is nothing.
    pub asked: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "the whole" } else { &self.pointer };
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "missing".to_owned());
        write!(f, "{pointer} was {} and is {}", shown(&self.recorded), shown(&self.asked))
    }
}

fn first_difference(recorded: &Value, asked: &Value, pointer: &str, equal: &mut usize) -> Option<Difference> {
    match (recorded, asked) {
        (Value::Object(recorded), Value::Object(asked)) => {
            let mut names: Vec<&String> = recorded.keys().chain(asked.keys()).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().find_map(|name| {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                either(recorded.get(name), asked.get(name), &format!("{pointer}/{escaped}"), equal)
            })
        }
        (Value::Array(recorded), Value::Array(asked)) => {
            (0..recorded.len().max(asked.len())).find_map(|index| {
                either(recorded.get(index), asked.get(index), &format!("{pointer}/{index}"), equal)
            })
        }
        _ if recorded == asked => {
            *equal += 1;
            None
        }
        _ => {
            let (recorded, asked) = shortened(recorded, asked);
            Some(Difference { pointer: pointer.to_owned(), recorded: Some(recorded), asked: Some(asked) })
        }
    }
}

fn either(
    recorded: Option<&Value>,
    asked: Option<&Value>,
    pointer: &str,
    equal: &mut usize,
) -> Option<Difference> {
    match (recorded, asked) {
        (Some(recorded), Some(asked)) => first_difference(recorded, asked, pointer, equal),
        (recorded, asked) => {
            let shown = |value: &Value| cut(&value.to_string(), 0);
            let pointer = pointer.to_owned();
            Some(Difference { pointer, recorded: recorded.map(shown), asked: asked.map(shown) })
        }
    }
}

/// The most characters of a value that are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// Two values as text, both cut to the place where they part.
fn shortened(recorded: &Value, asked: &Value) -> (String, String) {
    let (recorded, asked) = (recorded.to_string(), asked.to_string());
    let same = recorded.chars().zip(asked.chars()).take_while(|(one, two)| one == two).count();
    let from = if recorded.chars().count().max(asked.chars().count()) > SHOWN_CHARS_MAX {
        same.saturating_sub(20)
    } else {
        0
    };
    (cut(&recorded, from), cut(&asked, from))
}

fn cut(text: &str, from: usize) -> String {
    let mut shown: String = if from == 0 { String::new() } else { "…".to_owned() };
    shown.extend(text.chars().skip(from).take(SHOWN_CHARS_MAX));
    if text.chars().count() > from + SHOWN_CHARS_MAX {
        shown.push('…');
    }
    shown
}
