//! An in-memory catalog of definitions: the versions of each, by id.

use std::{collections::BTreeMap, fmt, sync::Arc};

use loom_expression::Value;

#[cfg(test)]
mod tests;

/// A version of the form `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Raised when callers must change.
    pub major: u32,
    /// Raised when something is added.
    pub minor: u32,
    /// Raised when something is fixed.
    pub patch: u32,
}

impl Version {
    /// The version of a new definition, 1.0.0.
    pub const FIRST: Version = Version { major: 1, minor: 0, patch: 0 };

    /// Parses `1.2.3`; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.').map(|part| {
            if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse::<u32>().ok() } else { None }
        });
        let version = Version { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }

    /// The version after this one.
    ///
    /// # Panics
    /// In debug builds, if the part to raise is [`u32::MAX`]; [`Catalog::publish`] checks that.
    #[must_use]
    pub fn next(self, bump: Bump) -> Version {
        match bump {
            Bump::Patch => Version { patch: self.patch + 1, ..self },
            Bump::Minor => Version { minor: self.minor + 1, patch: 0, ..self },
            Bump::Major => Version { major: self.major + 1, minor: 0, patch: 0 },
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The part of the version to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bump {
    /// 1.0.0 → 1.0.1.
    #[default]
    Patch,
    /// 1.0.1 → 1.1.0.
    Minor,
    /// 1.1.0 → 2.0.0.
    Major,
}

/// One stored version of a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The id of the definition.
    pub id: Arc<str>,
    /// The version.
    pub version: Version,
    /// A free-form description.
    pub description: Option<Arc<str>>,
    /// An object of names and values, or an array of strings; null for none.
    pub tags: Value,
    /// When the id was created, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When this version was published, in milliseconds since the Unix epoch.
    pub updated_at: i64,
    /// The definition as JSON.
    pub definition: Value,
}

/// Why an operation on the catalog failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The id is already in use.
    #[error("workflow `{id}` already exists")]
    AlreadyExists {
        /// The id.
        id: Arc<str>,
    },
    /// The id does not exist.
    #[error("workflow `{id}` does not exist")]
    NotFound {
        /// The id.
        id: Arc<str>,
    },
    /// The part of the version to raise is at its 32-bit maximum.
    #[error("workflow `{id}` cannot have a version after {version}")]
    Exhausted {
        /// The id.
        id: Arc<str>,
        /// The latest version.
        version: Version,
    },
}

/// A definition to store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// A free-form description.
    pub description: Option<Arc<str>>,
    /// An object of names and values, or an array of strings; null for none.
    pub tags: Value,
    /// The definition as JSON.
    pub definition: Value,
}

/// Definitions by id and version.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<Arc<str>, BTreeMap<Version, Entry>>,
}

impl Catalog {
    /// An empty catalog.
    pub fn new() -> Catalog {
        Catalog::default()
    }

    /// Stores a new definition as version 1.0.0.
    ///
    /// # Errors
    /// [`CatalogError::AlreadyExists`] if the id is in use.
    pub fn create(&mut self, id: &str, draft: Draft, now: i64) -> Result<&Entry, CatalogError> {
        let id: Arc<str> = Arc::from(id);
        match self.entries.entry(Arc::clone(&id)) {
            std::collections::btree_map::Entry::Occupied(_) => Err(CatalogError::AlreadyExists { id }),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let entry = entry(id, Version::FIRST, draft, now, now);
                Ok(vacant.insert(BTreeMap::new()).entry(Version::FIRST).or_insert(entry))
            }
        }
    }

    /// A version of a definition; the latest if `version` is `None`.
    pub fn get(&self, id: &str, version: Option<Version>) -> Option<&Entry> {
        let versions = self.entries.get(id)?;
        match version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, entry)| entry),
        }
    }

    /// Stores the next version and keeps the earlier ones.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] if there is no such id, [`CatalogError::Exhausted`] if there can be no next version.
    pub fn publish(&mut self, id: &str, draft: Draft, bump: Bump, now: i64) -> Result<&Entry, CatalogError> {
        let Some(versions) = self.entries.get_mut(id) else {
            return Err(CatalogError::NotFound { id: Arc::from(id) });
        };
        let (version, created_at, id) = versions
            .last_key_value()
            .map(|(version, entry)| (*version, entry.created_at, Arc::clone(&entry.id)))
            .expect("an id has at least one version");
        let full = match bump {
            Bump::Patch => version.patch,
            Bump::Minor => version.minor,
            Bump::Major => version.major,
        } == u32::MAX;
        if full {
            return Err(CatalogError::Exhausted { id, version });
        }
        let version = version.next(bump);
        let entry = entry(id, version, draft, created_at, now);
        Ok(versions.entry(version).or_insert(entry))
    }

    /// All versions of a definition, oldest first; empty if there is no such id.
    pub fn versions(&self, id: &str) -> impl Iterator<Item = &Entry> {
        self.entries.get(id).into_iter().flat_map(BTreeMap::values)
    }

    /// The latest version of every definition, in the order of ids.
    pub fn list(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter_map(|versions| versions.last_key_value().map(|(_, entry)| entry))
    }

    /// Removes all versions of a definition; returns whether it existed.
    pub fn delete(&mut self, id: &str) -> bool {
        self.entries.remove(id).is_some()
    }
}

fn entry(id: Arc<str>, version: Version, draft: Draft, created_at: i64, updated_at: i64) -> Entry {
    let Draft { description, tags, definition } = draft;
    Entry { id, version, description, tags, created_at, updated_at, definition }
}
