//! `Masker`: takes secret texts out of what people read.
//!
//! Labels are the rule, and this is the net below it: it knows texts, not where they came from, so it also finds a secret that
//! a service has sent back, or that somebody has copied into a message. What is sent to others never goes through here.

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

/// What stands in the place of something secret.
pub const MASK: &str = "*sanitized*";

/// Texts of fewer characters are not looked for: they occur everywhere.
const TOKEN_MIN: usize = 4;

/// Shorter texts are only found where they stand alone, between characters that are neither letters nor digits.
const SUBSTRING_MIN: usize = 8;

/// Longer texts are looked for by their beginning.
const TEXT_MAX: usize = 16 << 10;

/// The most texts that are remembered.
const TEXTS_MAX: usize = 4_096;

/// The language's own words, which are never taken for secrets: whoever reads a history needs them.
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

/// Texts that must not be read, and the search for them: as they are, and as base64, base64url, percent-encoded, JSON-escaped
/// and hexadecimal text, whatever the case. Clones share what they know.
#[derive(Clone, Default)]
pub struct Masker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether anything is known; looked at first, because mostly nothing is.
    any: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    texts: BTreeSet<Box<str>>,
    /// Built on the first search after a text was learned.
    finder: Option<Arc<Finder>>,
}

struct Finder {
    automaton: AhoCorasick,
    /// Whether each pattern only counts where it stands alone.
    alone: Vec<bool>,
}

impl Masker {
    /// One that knows nothing yet.
    pub fn new() -> Masker {
        Masker::default()
    }

    /// Whether nothing is known.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.0.any.load(Ordering::Acquire)
    }

    /// Remembers every text in the secret parts of a value, and the parts of it that are secrets of their own: the lines
    /// of a key file, the strings of a JSON document, the settings of a connection string.
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

    /// The text without what is secret in it.
    #[inline]
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_empty() || text.len() < TOKEN_MIN {
            return Cow::Borrowed(text);
        }
        self.finder().map_or(Cow::Borrowed(text), |finder| finder.mask(text))
    }

    /// The value without what is secret in its texts and numbers. Names of members stay: they are how a document is read, and
    /// those of secret objects are hidden with their object.
    pub fn mask_value(&self, value: &Value) -> Value {
        if self.is_empty() {
            return value.clone();
        }
        match self.finder() {
            Some(finder) => finder.mask_value(value).unwrap_or_else(|| value.clone()),
            None => value.clone(),
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

/// A message about values that may be secret, without what it quotes of them: neither their texts nor the words these are
/// made of. Every failure that was made from labelled inputs goes through here.
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
                    // Even a short one must not be quoted by what is made of it.
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

/// Whether a setting of this name holds a secret.
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
        // Short marks are words of their own, or there would be no `keyboard` and no `author`.
        "key" => plain.ends_with("key") || plain.ends_with("keys") || words(&name).any(|word| word == "key"),
        "auth" | "sas" => words(&name).any(|word| word == *mark) || plain.ends_with("sastoken"),
        mark => plain.contains(&mark.replace('_', "")),
    })
}

/// Whether a text holds settings of which one is a secret, as connection strings do.
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
        (!patterns.is_empty()).then_some(Finder { automaton, alone })
    }

    /// Where secrets are, in order and apart.
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

    /// The value with something taken out; none when there is nothing in it.
    fn mask_value(&self, value: &Value) -> Option<Value> {
        match value.as_ref() {
            ValueRef::String(text) => match self.mask(text) {
                Cow::Borrowed(_) => None,
                Cow::Owned(masked) => Some(Value::from(masked)),
            },
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => {
                let text = value.text();
                let whole = 0..text.len();
                self.places(&text).contains(&whole).then(|| Value::from(MASK))
            }
            ValueRef::Array(items) => {
                let masked: Vec<Option<Value>> = items.iter().map(|item| self.mask_value(item)).collect();
                masked.iter().any(Option::is_some).then(|| {
                    let items = masked.into_iter().zip(items.iter());
                    items.map(|(masked, item)| masked.unwrap_or_else(|| item.clone())).collect()
                })
            }
            ValueRef::Object(members) => {
                let masked: Vec<Option<Value>> =
                    members.values().map(|member| self.mask_value(member)).collect();
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

/// The beginning of the text, as far as it is remembered.
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

/// The text, and how others write it.
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
        // Base64 of a text in which this one begins after 0, 1 or 2 bytes of a group: only the characters that depend on
        // nothing else.
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

/// Every text in the secret parts of a value, and the names of members if they are wanted.
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
