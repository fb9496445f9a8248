//! `RecordedContext`: an evaluation context that reads from a JSON object, for tests and for `loom eval`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{Context, Lookup, LookupError, MemoryForm, Name, Object, Timestamp, Value, time::parse_utc};

/// A context that reads from a JSON object.
///
/// Its properties are all optional: `parameters` and `variables` (name to value), `trigger` (the result of
/// `trigger()`), `actions` (name to record), `item`, `loops` (name to `{"item": …}` or `{"index": n}`), `workflow`,
/// `results` (block name to the result of `result()`), `now` (a timestamp), `action` (the result of `action()`),
/// `callbackUrl`, `appSettings`, `agentParameters`, `secrets` (name to value), `memory` (`namespace/key` to value),
/// `seed` (an integer).
///
/// Random numbers come from `seed`, 0 by default, so the same context gives the same values.
/// [`RecordedContext::with_seed`] sets another seed.
#[derive(Debug, Default)]
pub struct RecordedContext {
    data: Object,
    now: Option<Timestamp>,
    random: AtomicU64,
}

/// Why an object is not a context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} must be {wanted}", if member.is_empty() { "the context".to_owned() } else { format!("'{member}' of the context") })]
pub struct RecordedContextError {
    /// The property, or an empty string for the context itself.
    pub member: String,
    /// The type it must have, with an article.
    pub wanted: &'static str,
}

/// The properties that map names to values.
const MAPS: [&str; 9] = [
    "parameters",
    "variables",
    "actions",
    "loops",
    "results",
    "appSettings",
    "agentParameters",
    "secrets",
    "memory",
];

impl RecordedContext {
    /// The properties that a context may have.
    pub const MEMBERS: &[&str] = &[
        "parameters",
        "variables",
        "trigger",
        "actions",
        "item",
        "loops",
        "workflow",
        "results",
        "now",
        "action",
        "callbackUrl",
        "appSettings",
        "agentParameters",
        "secrets",
        "memory",
        "seed",
    ];

    /// Reads a context from a JSON value; `null` is an empty context.
    ///
    /// # Errors
    /// If the value or one of its maps is not an object, or `now` is not a timestamp.
    pub fn from_json(value: &Value) -> Result<Self, RecordedContextError> {
        let wrong = |member: &str, wanted| RecordedContextError { member: member.to_owned(), wanted };
        if value.is_null() {
            return Ok(Self::default());
        }
        let data = value.as_object().ok_or_else(|| wrong("", "an object"))?.clone();
        for member in MAPS {
            if data.get(member).is_some_and(|map| map.as_object().is_none()) {
                return Err(wrong(member, "an object"));
            }
        }
        let now = match data.get("now") {
            None => None,
            Some(now) => {
                let parsed = now.as_str().and_then(parse_utc);
                Some(parsed.ok_or_else(|| wrong("now", "a timestamp"))?)
            }
        };
        let seed = data.get("seed").and_then(Value::as_i64).unwrap_or(0) as u64;
        Ok(Self { data, now, random: AtomicU64::new(seed) })
    }

    /// Sets the current time, in place of `now` in the data.
    #[must_use]
    pub fn with_now(mut self, now: Timestamp) -> Self {
        self.now = Some(now);
        self
    }

    /// Whether the data contains the current time.
    pub fn has_now(&self) -> bool {
        self.now.is_some()
    }

    /// Sets the seed of the random numbers.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.random.store(seed, Ordering::Relaxed);
        self
    }

    fn whole(&self, member: &str) -> Lookup {
        self.data.get(member).cloned().ok_or_else(LookupError::not_available)
    }

    fn named(&self, member: &str, name: &str) -> Lookup {
        let map = self.data.get(member).and_then(Value::as_object);
        match map.and_then(|map| map.get_ignore_case(name)) {
            Some(value) => Ok(value.clone()),
            None => Err(LookupError::Unknown {
                available: map.map(|map| map.keys().cloned().collect::<Vec<Arc<str>>>()).unwrap_or_default(),
            }),
        }
    }

    fn in_loop(&self, name: &str, member: &str) -> Lookup {
        let record = self.named("loops", name)?;
        record
            .get(member)
            .cloned()
            .ok_or_else(|| LookupError::NotAvailable { why: format!("the loop '{name}' has no {member}") })
    }
}

impl Context for RecordedContext {
    fn parameter(&self, name: Name<'_>) -> Lookup {
        self.named("parameters", name.text)
    }

    fn variable(&self, name: Name<'_>) -> Lookup {
        self.named("variables", name.text)
    }

    fn action(&self, name: Name<'_>) -> Lookup {
        self.named("actions", name.text)
    }

    fn trigger(&self) -> Lookup {
        self.whole("trigger")
    }

    fn current_action(&self) -> Lookup {
        self.whole("action")
    }

    fn item(&self) -> Lookup {
        self.whole("item")
    }

    fn items(&self, name: Name<'_>) -> Lookup {
        self.in_loop(name.text, "item")
    }

    fn iteration_index(&self, name: Name<'_>) -> Lookup {
        self.in_loop(name.text, "index")
    }

    fn result(&self, name: Name<'_>) -> Lookup {
        self.named("results", name.text)
    }

    fn workflow(&self) -> Lookup {
        self.whole("workflow")
    }

    fn callback_url(&self) -> Lookup {
        self.whole("callbackUrl")
    }

    fn app_setting(&self, name: &str) -> Lookup {
        self.named("appSettings", name)
    }

    fn agent_parameter(&self, name: &str) -> Lookup {
        self.named("agentParameters", name)
    }

    fn secret(&self, name: &str) -> Lookup {
        self.named("secrets", name).map(Value::into_secret)
    }

    fn memory(&self, address: &str, form: MemoryForm) -> Result<Option<Value>, LookupError> {
        if !address.contains('/') {
            let why = "an address has the form 'namespace/key', such as 'global/limit'".to_owned();
            return Err(LookupError::NotAvailable { why });
        }
        let Some(found) = self.data.get("memory").and_then(|memory| memory.get(address)) else {
            return Ok(None);
        };
        let (fits, wanted) = match form {
            MemoryForm::Any => (true, ""),
            MemoryForm::List => (found.as_array().is_some(), "a list"),
            MemoryForm::Hash => (found.as_object().is_some(), "a hash"),
        };
        if fits {
            return Ok(Some(found.clone()));
        }
        Err(LookupError::NotAvailable { why: format!("the key does not hold {wanted}") })
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Generates numbers with SplitMix64 (Steele, Lea and Flood, 2014).
    fn random_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let state = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
