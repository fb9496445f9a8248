//! `Masker`: redacts secrets in text that people read.
//!
//! Labels are the main protection of secrets, and this is the second one. It searches for the text of secrets, wherever
//! that text came from, so it also finds a secret that a service returned or that was copied into a message. Requests to
//! services are never masked.

mod stream;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Labels, Object, Value, ValueRef, percent};

pub use stream::MaskedStream;

/// The replacement for a redacted secret.
pub const MASK: &str = "*sanitized*";

/// The minimum length of a secret to search for, in characters. Shorter texts occur everywhere.
const TOKEN_MIN: usize = 4;

/// Secrets shorter than this many characters are only found as whole words, between characters that are neither letters nor
/// digits.
const SUBSTRING_MIN: usize = 8;

/// Only this many bytes at the start of a longer secret are searched for.
const TEXT_MAX: usize = 16 << 10;

/// The maximum number of remembered secrets.
const TEXTS_MAX: usize = 4_096;

/// Keywords of the language, which are never redacted, because a run's history would be unreadable without them.
const WORDS: [&str; 18] = [
    "aborted",
    "cancelled",
    "faulted",
    "failed",
    "false",
    "ignored",
    "none",
    "null",
    "paused",
    "running",
    "skipped",
    "string",
    "succeeded",
    "suspended",
    "timedout",
    "true",
    "waiting",
    "undefined",
];

/// The secrets to redact. They are found in plain text and in base64, base64url, percent-encoded, JSON-escaped and
/// hexadecimal form, ignoring case. Clones share the same secrets.
#[derive(Clone, Default)]
pub struct Masker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there are any secrets. Checked first, because usually there are none.
    any: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    texts: BTreeSet<Box<str>>,
    /// Built by the first search after a secret was added.
    finder: Option<Arc<Finder>>,
}

struct Finder {
    automaton: AhoCorasick,
    /// Whether each pattern is matched only as a whole word.
    alone: Vec<bool>,
    /// The patterns in lower case, sorted.
    sorted: Vec<Box<[u8]>>,
}

impl Masker {
    /// A masker without secrets.
    pub fn new() -> Masker {
        Masker::default()
    }

    /// Whether there are no secrets to redact.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.0.any.load(Ordering::Acquire)
    }

    /// Adds every string in the secret parts of a value, and the parts of each string that are secrets themselves: the
    /// lines of a key file, the strings of a JSON document, the settings of a connection string.
    pub fn learn(&self, value: &Value) {
        if !value.contains_secret() {
            return;
        }
        each_secret(value, false, &mut |text| self.learn_text(text));
    }

    fn learn_text(&self, text: &str) {
        if text.len() < TOKEN_MIN {
            return;
        }
        if self.0.known.read().unwrap_or_else(PoisonError::into_inner).texts.contains(bounded(text)) {
            return;
        }
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut learned = |text: &str| {
            let text = bounded(text);
            if is_secret(text) && known.texts.len() < TEXTS_MAX && known.texts.insert(text.into()) {
                known.finder = None;
            }
        };
        learned(text);
        if text.contains('\n') {
            text.lines().map(str::trim).filter(|line| line.len() >= SUBSTRING_MIN).for_each(&mut learned);
        }
        if text.starts_with(['{', '['])
            && let Ok(parsed) = Value::from_json_str(text)
        {
            each_text(&parsed, &mut |part| {
                if part.len() >= SUBSTRING_MIN {
                    learned(part);
                }
            });
        }
        if text.contains('=') && text.contains(';') {
            let settings = text.split(';').filter_map(|setting| setting.split_once('='));
            settings
                .filter(|(name, value)| value.len() >= SUBSTRING_MIN && names_secret(name))
                .for_each(|(_, value)| learned(value));
        }
        self.0.any.store(!known.texts.is_empty(), Ordering::Release);
    }

    /// Redacts the secrets in a text.
    #[inline]
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_empty() || text.len() < TOKEN_MIN {
            return Cow::Borrowed(text);
        }
        self.finder().map_or(Cow::Borrowed(text), |finder| finder.mask(text))
    }

    /// Redacts the secrets in the strings and numbers of a value. Property names are not redacted, because a document
    /// would be unreadable without them; those of a secret object are hidden together with the object.
    pub fn mask_value(&self, value: &Value) -> Value {
        if self.is_empty() {
            return value.clone();
        }
        match self.finder() {
            Some(finder) => finder.mask_value(value).unwrap_or_else(|| value.clone()),
            None => value.clone(),
        }
    }

    /// Labels as secret the strings and numbers of a value that contain a secret, such as those in the response of a service
    /// that sends back what it was sent.
    pub fn label_value(&self, value: Value) -> Value {
        if self.is_empty() {
            return value;
        }
        match self.finder() {
            Some(finder) => finder.replaced(&value, &|found| found.clone().into_secret()).unwrap_or(value),
            None => value,
        }
    }

    fn finder(&self) -> Option<Arc<Finder>> {
        let built = self.0.known.read().unwrap_or_else(PoisonError::into_inner).finder.clone();
        if built.is_some() {
            return built;
        }
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.finder.is_none() {
            let patterns = known.texts.iter().flat_map(|text| forms(text)).collect();
            known.finder = Finder::new(&patterns).map(Arc::new);
        }
        known.finder.clone()
    }
}

/// Redacts in a message everything that it quotes from secret values: their strings and the words in these strings.
/// Every failure that was caused by labelled inputs is passed through this function.
///
/// ```
/// use loom_expression::{Value, without_quotes};
///
/// let uri = Value::from("htp:/internal-host").into_secret();
/// let message = without_quotes("'htp:/internal-host' is not an address.", [&uri]);
/// assert_eq!(message, "'*sanitized*' is not an address.");
/// ```
pub fn without_quotes<'t, 'v>(message: &'t str, about: impl IntoIterator<Item = &'v Value>) -> Cow<'t, str> {
    let mut patterns = BTreeSet::new();
    for value in about {
        if value.contains_secret() {
            each_secret(value, true, &mut |text| {
                let text = bounded(text);
                if text.len() < TOKEN_MIN {
                    // A message about the value must not quote even a short secret.
                    patterns.insert(text.to_owned());
                    return;
                }
                patterns.extend(forms(text));
                let words = text.split(|c: char| !c.is_alphanumeric());
                patterns.extend(words.filter(|word| is_secret(word)).map(str::to_owned));
            });
        }
    }
    patterns.remove("");
    if patterns.is_empty() {
        return Cow::Borrowed(message);
    }
    Finder::new(&patterns).map_or(Cow::Borrowed(MASK), |finder| finder.mask(message))
}

/// Whether a setting with this name holds a secret.
pub fn names_secret(name: &str) -> bool {
    const MARKS: [&str; 17] = [
        "key",
        "secret",
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "token",
        "credential",
        "connectionstring",
        "connstr",
        "connection_string",
        "signature",
        "private",
        "certificate",
        "apikey",
        "auth",
        "sas",
    ];
    let name = name.to_ascii_lowercase();
    let plain = name.replace(['-', '_', '.', ':', ' '], "");
    MARKS.iter().any(|mark| match *mark {
        // Short marks must be whole words, so that `keyboard` and `author` do not count as secrets.
        "key" => plain.ends_with("key") || plain.ends_with("keys") || words(&name).any(|word| word == "key"),
        "auth" | "sas" => words(&name).any(|word| word == *mark) || plain.ends_with("sastoken"),
        mark => plain.contains(&mark.replace('_', "")),
    })
}

/// Whether a text is a list of settings that includes a secret, such as a connection string.
pub fn is_connection_string(text: &str) -> bool {
    text.contains(';')
        && text
            .split(';')
            .filter_map(|setting| setting.split_once('='))
            .any(|(name, value)| !value.trim().is_empty() && names_secret(name))
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphanumeric())
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("empty", &self.is_empty()).finish_non_exhaustive()
    }
}

impl Finder {
    fn new(patterns: &BTreeSet<String>) -> Option<Finder> {
        let alone = patterns.iter().map(|text| text.chars().count() < SUBSTRING_MIN).collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(patterns)
            .ok()?;
        let mut sorted: Vec<Box<[u8]>> =
            patterns.iter().map(|text| text.to_ascii_lowercase().into_bytes().into()).collect();
        sorted.sort_unstable();
        (!patterns.is_empty()).then_some(Finder { automaton, alone, sorted })
    }

    /// The ranges of secrets in the text, in order and without overlap.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = self
            .automaton
            .find_overlapping_iter(text)
            .filter(|found| !self.alone[found.pattern().as_usize()] || stands_alone(text, &found.range()))
            .map(|found| found.range())
            .collect();
        places.sort_by_key(|place| (place.start, place.end));
        places.dedup_by(|next, before| {
            let joined = next.start <= before.end;
            if joined {
                before.end = before.end.max(next.end);
            }
            joined
        });
        places
    }

    fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let places = self.places(text);
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut rest = 0;
        for place in places {
            masked.push_str(&text[rest..place.start]);
            masked.push_str(MASK);
            rest = place.end;
        }
        masked.push_str(&text[rest..]);
        Cow::Owned(masked)
    }

    /// The redacted value; `None` if there is nothing to redact.
    fn mask_value(&self, value: &Value) -> Option<Value> {
        self.replaced(value, &|found| match found.as_str() {
            Some(text) => Value::from(self.mask(text).into_owned()),
            None => Value::from(MASK),
        })
    }

    /// The value with other strings and numbers in place of those that contain a secret; `None` if there are none.
    fn replaced(&self, value: &Value, with: &dyn Fn(&Value) -> Value) -> Option<Value> {
        match value.as_ref() {
            ValueRef::String(text) => match self.mask(text) {
                Cow::Borrowed(_) => None,
                Cow::Owned(_) => Some(with(value)),
            },
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => {
                let text = value.text();
                let whole = 0..text.len();
                self.places(&text).contains(&whole).then(|| with(value))
            }
            ValueRef::Array(items) => {
                let masked: Vec<Option<Value>> = items.iter().map(|item| self.replaced(item, with)).collect();
                masked.iter().any(Option::is_some).then(|| {
                    let items = masked.into_iter().zip(items.iter());
                    items.map(|(masked, item)| masked.unwrap_or_else(|| item.clone())).collect()
                })
            }
            ValueRef::Object(members) => {
                let masked: Vec<Option<Value>> =
                    members.values().map(|member| self.replaced(member, with)).collect();
                masked.iter().any(Option::is_some).then(|| {
                    let members = masked.into_iter().zip(members.iter());
                    let members = members.map(|(masked, (name, member))| {
                        (Arc::clone(name), masked.unwrap_or_else(|| member.clone()))
                    });
                    Value::from(members.collect::<Object>())
                })
            }
            ValueRef::Null | ValueRef::Bool(_) => None,
        }
    }
}

fn stands_alone(text: &str, place: &Range<usize>) -> bool {
    let before = text[..place.start].chars().next_back();
    let after = text[place.end..].chars().next();
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

/// The start of the text that is remembered.
fn bounded(text: &str) -> &str {
    if text.len() <= TEXT_MAX {
        return text;
    }
    let end = (0..=TEXT_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

fn is_secret(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.chars().count() >= TOKEN_MIN && !WORDS.iter().any(|word| trimmed.eq_ignore_ascii_case(word))
}

/// The text and its encoded forms.
fn forms(text: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([text.to_owned()]);
    let trimmed = text.trim();
    forms.insert(trimmed.to_owned());
    let json = Value::from(text).to_json_text();
    forms.insert(json[1..json.len() - 1].to_owned());
    let percent = percent::encode(text);
    forms.insert(percent.replace("%20", "+"));
    forms.insert(percent);
    forms.insert(percent::escape(text));
    forms.insert(text.bytes().fold(String::with_capacity(2 * text.len()), |mut hex, byte| {
        use fmt::Write as _;
        // Writing to a `String` cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }));
    for before in 0..3_usize {
        // The base64 forms of the text at an offset of 0, 1 or 2 bytes in a group of three. Characters that also depend
        // on the bytes around it are cut off.
        let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(text.bytes()).collect();
        let encoded = STANDARD.encode(&bytes);
        let core = encoded.get((before * 8).div_ceil(6)..bytes.len() * 8 / 6).unwrap_or_default();
        let least = if before == 0 { TOKEN_MIN } else { SUBSTRING_MIN };
        if core.len() >= least {
            forms.insert(core.replace('+', "-").replace('/', "_"));
            forms.insert(core.to_owned());
        }
        if before == 0 {
            let whole = encoded.trim_end_matches('=');
            forms.insert(whole.replace('+', "-").replace('/', "_"));
            forms.insert(whole.to_owned());
        }
    }
    forms.retain(|form| form.chars().count() >= TOKEN_MIN);
    forms
}

/// Visits every string in the secret parts of a value, and the property names if `names` is true.
fn each_secret(value: &Value, names: bool, found: &mut impl FnMut(&str)) {
    match value.as_ref() {
        _ if !value.labels_within().contains(Labels::SECRET) => {}
        ValueRef::Array(items) => items.iter().for_each(|item| each_secret(item, names, found)),
        ValueRef::Object(members) => {
            for (name, member) in members {
                if names && value.is_secret() {
                    found(name);
                }
                each_secret(member, names, found);
            }
        }
        _ => found(&value.text()),
    }
}

fn each_text(value: &Value, found: &mut impl FnMut(&str)) {
    match value.as_ref() {
        ValueRef::Array(items) => items.iter().for_each(|item| each_text(item, found)),
        ValueRef::Object(members) => members.values().for_each(|member| each_text(member, found)),
        ValueRef::String(text) => found(text),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
