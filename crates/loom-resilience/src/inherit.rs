//! Inheritance of settings: named services that inherit from the defaults or from another service, property by property.
//!
//! A file of policies has `defaults` and `services.NAME`. A service may name a `base`, another service, whose properties it
//! inherits; every chain of bases ends at the defaults. A user of a service may override properties in turn. From the
//! weakest to the strongest layer:
//!
//! ```text
//! defaults < base of the base < base < service < overrides of the caller
//! ```
//!
//! Rules of merging, for each property:
//! - An object merges with the inherited object, property by property, at every depth.
//! - Any other value replaces what was inherited. So does a *unit*: an object or a list that only makes sense as a whole,
//!   such as a backoff or the list of limits. The caller names the units by their pointers.
//! - `null` removes the inherited property, for example a breaker that the defaults have.
//!
//! The module knows neither the names of the settings nor their format. It works on anything that implements
//! [`Settings`], such as a JSON tree with spans, and reports for each value the layer that it comes from ([`Source`]), so
//! that a caller can point at the text. `PolicyFile` (feature `config`) applies it to this crate's own
//! [`Policy`](crate::Policy).
//!
//! ```
//! use loom_resilience::inherit::{Inheritance, Settings, Source};
//!
//! enum Json { Number(u32), Object(Vec<(&'static str, Json)>) }
//!
//! impl Settings for Json {
//!     fn members(&self) -> Option<Vec<(&str, &Self)>> {
//!         match self {
//!             Json::Number(_) => None,
//!             Json::Object(members) => Some(members.iter().map(|(name, value)| (*name, value)).collect()),
//!         }
//!     }
//!     fn is_null(&self) -> bool { false }
//! }
//!
//! let defaults = Json::Object(vec![("retry", Json::Object(vec![("attempts", Json::Number(3))]))]);
//! let billing = Json::Object(vec![("retry", Json::Object(vec![("seconds", Json::Number(5))]))]);
//! let file = Inheritance::new().defaults(&defaults).service("billing", None, &billing);
//!
//! let resolved = file.resolve("billing", None, |_| false)?;
//! assert_eq!(resolved.values["/retry/attempts"].source, Source::Defaults);
//! assert_eq!(resolved.values["/retry/seconds"].source, Source::Service("billing"));
//! # Ok::<_, loom_resilience::inherit::InheritError>(())
//! ```

#[cfg(feature = "config")]
mod file;

use std::{collections::BTreeMap, fmt};

#[cfg(feature = "config")]
pub use file::{PolicyFile, PolicyFileError, ResolvedPolicy, ResolvedSetting};

/// A tree of settings, as far as inheritance needs to know it.
pub trait Settings {
    /// The members of an object, in any order; `None` for every other value.
    fn members(&self) -> Option<Vec<(&str, &Self)>>;

    /// Whether the value is `null`, which removes what is inherited.
    fn is_null(&self) -> bool;
}

/// The layer that a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source<'a> {
    /// The defaults.
    Defaults,
    /// The service of this name, which is the resolved one or one of its bases.
    Service(&'a str),
    /// The overrides of the caller.
    Override,
}

impl fmt::Display for Source<'_> {
    /// `defaults`, `services.NAME` or `override`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("defaults"),
            Self::Service(name) => write!(f, "services.{name}"),
            Self::Override => f.write_str("override"),
        }
    }
}

/// Defaults and named services, by reference.
#[derive(Debug)]
pub struct Inheritance<'a, V> {
    defaults: Option<&'a V>,
    services: BTreeMap<&'a str, Named<'a, V>>,
}

#[derive(Debug)]
struct Named<'a, V> {
    base: Option<&'a str>,
    members: &'a V,
}

/// A service that cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// No service has this name.
    #[error("no service named `{name}`{}", suggestion(.nearest.as_deref()))]
    UnknownService {
        /// The name.
        name: String,
        /// The most similar name of a service, if one is similar.
        nearest: Option<String>,
    },
    /// The `base` of a service names no service.
    #[error("the base of `{service}` must be an existing service (got `{base}`){}", suggestion(.nearest.as_deref()))]
    UnknownBase {
        /// The service.
        service: String,
        /// Its base.
        base: String,
        /// The most similar name of a service, if one is similar.
        nearest: Option<String>,
    },
    /// The bases form a cycle.
    #[error("services inherit from each other in a cycle: {}", .path.join(" -> "))]
    Cycle {
        /// The services of the cycle; the first is repeated at the end.
        path: Vec<String>,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// One layer of a chain.
#[derive(Debug)]
pub struct Layer<'a, V> {
    /// Which layer it is.
    pub source: Source<'a>,
    /// Its settings.
    pub settings: &'a V,
}

/// The settings of a service after inheritance.
#[derive(Debug)]
pub struct Resolved<'a, V> {
    /// The values, by JSON pointer (RFC 6901) from the root of a service: `/retry/maxAttempts`.
    pub values: BTreeMap<String, ResolvedValue<'a, V>>,
    /// The members that a `null` removed and that no stronger layer set again, by JSON pointer.
    pub removed: BTreeMap<String, Source<'a>>,
}

/// One value and where it comes from.
#[derive(Debug)]
pub struct ResolvedValue<'a, V> {
    /// The value: a scalar, a list, an empty object or a unit.
    pub value: &'a V,
    /// The layer that set it.
    pub source: Source<'a>,
    /// The weaker layers that had set the same member, from the weakest to the strongest.
    pub overridden: Vec<Source<'a>>,
}

impl<V> Default for Inheritance<'_, V> {
    fn default() -> Self {
        Self { defaults: None, services: BTreeMap::new() }
    }
}

impl<'a, V: Settings> Inheritance<'a, V> {
    /// No defaults and no services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the defaults.
    #[must_use]
    pub const fn defaults(mut self, settings: &'a V) -> Self {
        self.defaults = Some(settings);
        self
    }

    /// Adds a service. Members that only the file has, such as `base`, must not be among `settings`.
    #[must_use]
    pub fn service(mut self, name: &'a str, base: Option<&'a str>, settings: &'a V) -> Self {
        self.services.insert(name, Named { base, members: settings });
        self
    }

    /// The names of the services, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.services.keys().copied()
    }

    /// The layers of a service, from the weakest to the strongest.
    ///
    /// # Errors
    /// The service or one of its bases is unknown, or the bases form a cycle.
    pub fn chain(&self, name: &str) -> Result<Vec<Layer<'a, V>>, InheritError> {
        let mut layers: Vec<Layer<'a, V>> = Vec::new();
        let mut next = self.services.get_key_value(name).map(|(name, _)| *name);
        if next.is_none() {
            return Err(InheritError::UnknownService { name: name.to_owned(), nearest: self.nearest(name) });
        }
        let mut path: Vec<&str> = Vec::new();
        while let Some(service) = next {
            if let Some(start) = path.iter().position(|seen| *seen == service) {
                let cycle = path[start..].iter().chain([&service]);
                return Err(InheritError::Cycle { path: cycle.map(ToString::to_string).collect() });
            }
            let Some(named) = self.services.get(service) else {
                let of = path.last().copied().unwrap_or(name);
                return Err(InheritError::UnknownBase {
                    service: of.to_owned(),
                    base: service.to_owned(),
                    nearest: self.nearest(service),
                });
            };
            path.push(service);
            layers.push(Layer { source: Source::Service(service), settings: named.members });
            next = named.base;
        }
        layers.extend(self.defaults.map(|settings| Layer { source: Source::Defaults, settings }));
        layers.reverse();
        Ok(layers)
    }

    /// The settings of a service, with `overrides` on top. `is_unit` says which pointers are replaced as a whole.
    ///
    /// # Errors
    /// As [`chain`](Self::chain).
    pub fn resolve(
        &self,
        name: &str,
        overrides: Option<&'a V>,
        is_unit: impl Fn(&str) -> bool,
    ) -> Result<Resolved<'a, V>, InheritError> {
        let mut layers = self.chain(name)?;
        layers.extend(overrides.map(|settings| Layer { source: Source::Override, settings }));
        Ok(merge(&layers, is_unit))
    }

    /// The errors of all services, each once.
    pub fn check(&self) -> Vec<InheritError> {
        let mut errors: Vec<InheritError> = Vec::new();
        for error in self.names().filter_map(|name| self.chain(name).err()) {
            let known = errors.iter().any(|known| match (known, &error) {
                // Every service of a cycle, and every one that leads into it, meets the same cycle.
                (InheritError::Cycle { path: one }, InheritError::Cycle { path: other }) => {
                    other.iter().all(|name| one.contains(name))
                }
                (one, other) => one == other,
            });
            if !known {
                errors.push(error);
            }
        }
        errors
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let candidates = self.names().map(|known| (distance(known, name), known));
        let (distance, known) = candidates.min()?;
        (distance <= (name.chars().count() / 3).max(1)).then(|| known.to_owned())
    }
}

/// Merges layers, from the weakest to the strongest. `is_unit` says which pointers are replaced as a whole.
pub fn merge<'a, V: Settings>(layers: &[Layer<'a, V>], is_unit: impl Fn(&str) -> bool) -> Resolved<'a, V> {
    let mut resolved = Resolved { values: BTreeMap::new(), removed: BTreeMap::new() };
    for layer in layers {
        let members = layer.settings.members().unwrap_or_default();
        for (name, value) in members {
            resolved.add(format!("/{}", escaped(name)), value, layer.source, &is_unit);
        }
    }
    resolved
}

impl<'a, V: Settings> Resolved<'a, V> {
    fn add(&mut self, pointer: String, value: &'a V, source: Source<'a>, is_unit: &impl Fn(&str) -> bool) {
        if let Some(members) = value.members()
            && !members.is_empty()
            && !is_unit(&pointer)
        {
            // An object replaces a scalar, an empty object and a removal, and merges with another object.
            self.values.remove(&pointer);
            self.removed.remove(&pointer);
            for (name, member) in members {
                self.add(format!("{pointer}/{}", escaped(name)), member, source, is_unit);
            }
            return;
        }
        let empty_object = value.members().is_some_and(|members| members.is_empty()) && !is_unit(&pointer);
        if empty_object && self.has_below(&pointer) {
            return;
        }
        let mut overridden = self.clear(&pointer);
        if value.is_null() {
            self.removed.insert(pointer, source);
            return;
        }
        overridden.dedup();
        self.values.insert(pointer, ResolvedValue { value, source, overridden });
    }

    fn has_below(&self, pointer: &str) -> bool {
        let prefix = format!("{pointer}/");
        self.values.keys().any(|known| known.starts_with(&prefix))
    }

    /// Removes a member and everything below it. Returns the layers that had set it.
    fn clear(&mut self, pointer: &str) -> Vec<Source<'a>> {
        let prefix = format!("{pointer}/");
        let within = |known: &String| *known == pointer || known.starts_with(&prefix);
        self.removed.retain(|known, _| !within(known));
        let mut sources = Vec::new();
        self.values.retain(|known, value| {
            if within(known) {
                sources.append(&mut value.overridden);
                sources.push(value.source);
                return false;
            }
            true
        });
        sources
    }
}

/// A member's name in a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The edit distance of two names (V. Levenshtein, 1965).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
