//! A file of policies, with the property names of this crate: `defaults`, and services that inherit.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::{InheritError, Inheritance, Resolved, Settings, Source};
use crate::{config::ConfigError, policy::Policy};

/// Members of a policy that are replaced as a whole.
const UNITS: [&str; 7] = [
    "/retry/backoff",
    "/breaker/failure_rate/window",
    "/breaker/slow_calls/calls/window",
    "/limiter/limits",
    "/total_timeout",
    "/attempt_timeout",
    "/fallback/on",
];

/// Named policies: `defaults`, and `services.NAME`, which inherit from them or from a `base`, member by member.
///
/// The members of a service are those of [`Policy`], in snake case. See [`inherit`](crate::inherit) for the rules.
///
/// ```
/// # use loom_resilience::PolicyFile;
/// # use std::time::Duration;
/// let file: PolicyFile = r#"{
///     "defaults": {"attempt_timeout": "10s", "breaker": {"failure_threshold": 5}},
///     "services": {
///         "payments": {"breaker": {"failure_threshold": 3}},
///         "refunds": {"base": "payments", "attempt_timeout": "30s"}
///     }
/// }"#
/// .parse()?;
/// let refunds = file.resolve("refunds")?;
/// assert_eq!(refunds.policy.attempt_timeout, Some(Duration::from_secs(30)));
/// assert_eq!(refunds.policy.breaker.unwrap().failure_threshold, Some(3));
///
/// let origin = refunds.settings.iter().find(|setting| setting.pointer == "/breaker/failure_threshold");
/// assert_eq!(origin.unwrap().source, "services.payments");
/// # Ok::<_, loom_resilience::PolicyFileError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyFile {
    defaults: Option<Value>,
    services: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    base: Option<String>,
    members: Value,
}

/// A policy after inheritance, with the origin of each value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResolvedPolicy {
    /// The policy.
    pub policy: Policy,
    /// Every value that a layer sets, sorted by pointer. What no layer sets is this crate's default.
    pub settings: Vec<ResolvedSetting>,
}

/// One value of a [`ResolvedPolicy`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResolvedSetting {
    /// The JSON pointer from the root of the service: `/breaker/failure_threshold`.
    pub pointer: String,
    /// The value; `None` when the layer removes the member.
    pub value: Option<Value>,
    /// The layer: `defaults`, `services.NAME` or `override`.
    pub source: String,
    /// The weaker layers that set the same member.
    pub overridden: Vec<String>,
}

/// A file of policies that is not valid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// The text is not JSON.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// A member of the file has the wrong type or name.
    #[error("{at}: {reason}")]
    Shape {
        /// The JSON pointer.
        at: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A service or its bases cannot be resolved.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// A part of the resolved policy cannot be read.
    #[error("service `{service}`, `{part}` (set by {sources}): {reason}")]
    Part {
        /// The service.
        service: String,
        /// The member of the policy.
        part: String,
        /// The layers that set it.
        sources: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The resolved policy contradicts itself.
    #[error("service `{service}`: {error}")]
    Invalid {
        /// The service.
        service: String,
        /// The issues.
        error: ConfigError,
    },
}

impl Settings for Value {
    fn members(&self) -> Option<Vec<(&str, &Self)>> {
        self.as_object().map(|object| object.iter().map(|(name, value)| (name.as_str(), value)).collect())
    }

    fn is_null(&self) -> bool {
        Self::is_null(self)
    }
}

impl std::str::FromStr for PolicyFile {
    type Err = PolicyFileError;

    fn from_str(text: &str) -> Result<Self, PolicyFileError> {
        let value = serde_json::from_str(text).map_err(|error| PolicyFileError::Syntax {
            line: error.line(),
            column: error.column(),
            reason: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        Self::from_value(value)
    }
}

impl PolicyFile {
    /// Reads a file from a JSON value. Checks names and bases; the policies are checked by [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// The first member that is not of the expected type or name, or the first base that cannot be resolved.
    pub fn from_value(value: Value) -> Result<Self, PolicyFileError> {
        let mut file = Self::default();
        for (name, value) in object(value, "")? {
            match name.as_str() {
                "defaults" => file.defaults = Some(Value::Object(object(value, "/defaults")?)),
                "services" => {
                    for (service, value) in object(value, "/services")? {
                        let entry = Entry::read(value, &format!("/services/{service}"))?;
                        file.services.insert(service, entry);
                    }
                }
                other => {
                    let reason = format!("unknown property `{other}`; expected `defaults` or `services`");
                    return Err(PolicyFileError::Shape { at: format!("/{other}"), reason });
                }
            }
        }
        match file.inheritance().check().into_iter().next() {
            Some(error) => Err(error.into()),
            None => Ok(file),
        }
    }

    /// The names of the services, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The policy of a service.
    ///
    /// # Errors
    /// The service is unknown, or its policy is not valid.
    pub fn resolve(&self, service: &str) -> Result<ResolvedPolicy, PolicyFileError> {
        self.resolve_with(service, &Value::Null)
    }

    /// The policy of a service with `overrides`, an object with members of a policy, on top.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_with(&self, service: &str, overrides: &Value) -> Result<ResolvedPolicy, PolicyFileError> {
        let overrides = (!overrides.is_null()).then_some(overrides);
        let resolved = self.inheritance().resolve(service, overrides, |at| UNITS.contains(&at))?;
        let tree = tree(&resolved);
        let policy = read(&tree, service, &resolved)?;
        policy.validate().map_err(|error| PolicyFileError::Invalid { service: service.to_owned(), error })?;
        let set = resolved.values.iter().map(|(pointer, value)| ResolvedSetting {
            pointer: pointer.clone(),
            value: Some(value.value.clone()),
            source: value.source.to_string(),
            overridden: value.overridden.iter().map(ToString::to_string).collect(),
        });
        let removed = resolved.removed.iter().map(|(pointer, source)| ResolvedSetting {
            pointer: pointer.clone(),
            value: None,
            source: source.to_string(),
            overridden: Vec::new(),
        });
        let mut settings: Vec<_> = set.chain(removed).collect();
        settings.sort_by(|one, other| one.pointer.cmp(&other.pointer));
        Ok(ResolvedPolicy { policy, settings })
    }

    /// The policies of all services. The first error ends it.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_all(&self) -> Result<BTreeMap<String, ResolvedPolicy>, PolicyFileError> {
        self.names().map(|name| Ok((name.to_owned(), self.resolve(name)?))).collect()
    }

    fn inheritance(&self) -> Inheritance<'_, Value> {
        let mut inheritance = Inheritance::new();
        if let Some(defaults) = &self.defaults {
            inheritance = inheritance.defaults(defaults);
        }
        for (name, entry) in &self.services {
            inheritance = inheritance.service(name, entry.base.as_deref(), &entry.members);
        }
        inheritance
    }
}

impl Entry {
    fn read(value: Value, at: &str) -> Result<Self, PolicyFileError> {
        let mut members = object(value, at)?;
        let base = match members.remove("base") {
            None => None,
            Some(Value::String(base)) => Some(base),
            Some(other) => {
                let reason = format!("expected the name of a service, found {}", kind(&other));
                return Err(PolicyFileError::Shape { at: format!("{at}/base"), reason });
            }
        };
        Ok(Self { base, members: Value::Object(members) })
    }
}

fn object(value: Value, at: &str) -> Result<Map<String, Value>, PolicyFileError> {
    match value {
        Value::Object(members) => Ok(members),
        other => {
            let at = if at.is_empty() { "/" } else { at };
            let reason = format!("expected an object, found {}", kind(&other));
            Err(PolicyFileError::Shape { at: at.to_owned(), reason })
        }
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The values as one object again.
fn tree(resolved: &Resolved<'_, Value>) -> Map<String, Value> {
    let mut root = Map::new();
    for (pointer, value) in &resolved.values {
        let names = pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"));
        insert(&mut root, &names.collect::<Vec<_>>(), value.value.clone());
    }
    root
}

fn insert(object: &mut Map<String, Value>, names: &[String], value: Value) {
    match names {
        [] => {}
        [last] => drop(object.insert(last.clone(), value)),
        [name, rest @ ..] => {
            // What is on the way is an object: a scalar there would have removed what is below it.
            let entry = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(members) = entry {
                insert(members, rest, value);
            }
        }
    }
}

/// Reads the policy, part by part where the whole fails, so that the error names the part and its layers.
fn read(
    tree: &Map<String, Value>,
    service: &str,
    resolved: &Resolved<'_, Value>,
) -> Result<Policy, PolicyFileError> {
    let whole = serde_json::from_value(Value::Object(tree.clone()));
    let reason = match whole {
        Ok(policy) => return Ok(policy),
        Err(error) => error.to_string(),
    };
    let part_error = tree.iter().find_map(|(part, value)| {
        let alone = Map::from_iter([(part.clone(), value.clone())]);
        let error = serde_json::from_value::<Policy>(Value::Object(alone)).err()?;
        Some((part.clone(), error.to_string()))
    });
    let (part, reason) = part_error.unwrap_or_else(|| (String::new(), reason));
    let prefix = format!("/{part}");
    let below = format!("{prefix}/");
    let mut sources: Vec<Source<'_>> = resolved
        .values
        .iter()
        .filter(|(pointer, _)| **pointer == prefix || pointer.starts_with(&below))
        .map(|(_, value)| value.source)
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let sources = Listed(&sources).to_string();
    Err(PolicyFileError::Part { service: service.to_owned(), part, sources, reason })
}

struct Listed<'a>(&'a [Source<'a>]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, source) in self.0.iter().enumerate() {
            write!(f, "{}{source}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
