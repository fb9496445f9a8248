//! Versions of a secret, and which of them is in use. Knows no file and no clock.

use std::{collections::BTreeMap, sync::Arc};

use loom_expression::{Object, Timestamp, Value};

use super::SecretError;

/// The properties of a version, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretProperties {
    /// The name of the secret.
    pub name: Arc<str>,
    /// The number of the version, from 1, in the order in which versions were set.
    pub version: u32,
    /// When it was set.
    pub created_on: Timestamp,
    /// Whether it may be used.
    pub enabled: bool,
    /// Whether it was deleted. It can still be restored.
    pub deleted: bool,
    /// When it becomes valid.
    pub not_before: Option<Timestamp>,
    /// When it expires.
    pub expires_on: Option<Timestamp>,
    /// What the value is, as described by the user who set it.
    pub content_type: Option<Arc<str>>,
    /// Names and values, for people and programs.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
}

impl SecretProperties {
    /// The state of the version at `now`, in one word: `enabled`, `disabled`, `deleted`, `expired` or `waiting`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.deleted {
            "deleted"
        } else if !self.enabled {
            "disabled"
        } else if self.expires_on.is_some_and(|end| end <= now) {
            "expired"
        } else if self.not_before.is_some_and(|start| start > now) {
            "waiting"
        } else {
            "enabled"
        }
    }

    /// The days until the version expires, rounded down; 0 when it has expired.
    pub fn expires_in_days(&self, now: Timestamp) -> Option<i64> {
        let end = self.expires_on?;
        Some((end.unix_millis().saturating_sub(now.unix_millis()) / (24 * 60 * 60 * 1_000)).max(0))
    }

    /// The properties as JSON, as of `now`.
    pub fn to_object(&self, now: Timestamp) -> Object {
        let mut object = Object::new();
        object.insert("name", Arc::clone(&self.name));
        object.insert("version", i64::from(self.version));
        object.insert("state", self.state(now));
        object.insert("createdOn", self.created_on.to_string());
        for (name, time) in [("notBefore", self.not_before), ("expiresOn", self.expires_on)] {
            object.insert(name, time.map_or(Value::NULL, |time| Value::from(time.to_string())));
        }
        object.insert("expiresInDays", self.expires_in_days(now));
        object.insert("contentType", self.content_type.clone().map_or(Value::NULL, Value::from));
        let tags = self.tags.iter();
        let tags: Object =
            tags.map(|(tag, value)| (Arc::clone(tag), Value::from(Arc::clone(value)))).collect();
        object.insert("tags", tags);
        object
    }

    /// Why the version may not be used at `now`, if so.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<SecretError> {
        let name = || self.name.to_string();
        if self.deleted || !self.enabled {
            return Some(SecretError::Disabled { name: name() });
        }
        if self.expires_on.is_some_and(|end| end <= now) {
            return Some(SecretError::Expired { name: name() });
        }
        if self.not_before.is_some_and(|start| start > now) {
            return Some(SecretError::NotYetValid { name: name() });
        }
        None
    }
}

/// How a value is to be stored.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// Whether it may be used immediately.
    pub enabled: bool,
    /// When it becomes valid.
    pub not_before: Option<Timestamp>,
    /// When it ends.
    pub expires_on: Option<Timestamp>,
    /// What the value is.
    pub content_type: Option<Arc<str>>,
    /// Names to values.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
    /// The version that must currently be the newest, so that no change of another writer is lost; 0 when the secret
    /// must be new.
    pub if_version: Option<u32>,
}

impl Default for NewSecret {
    fn default() -> Self {
        NewSecret {
            enabled: true,
            not_before: None,
            expires_on: None,
            content_type: None,
            tags: BTreeMap::new(),
            if_version: None,
        }
    }
}

/// A version with its sealed value.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) properties: SecretProperties,
    /// The id of the data key that it is sealed with.
    pub(super) key: u32,
    pub(super) sealed: Vec<u8>,
}

/// All versions of one secret, oldest first; never empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) versions: Vec<Version>,
    /// The highest number ever used, so that the number of a purged version never refers to another value.
    pub(super) last: u32,
}

impl Record {
    /// The version that is in use at `now`, or the requested one.
    pub(super) fn pick(
        &self,
        name: &str,
        version: Option<&str>,
        now: Timestamp,
    ) -> Result<&Version, SecretError> {
        let Some(wanted) = version else {
            let valid = self.versions.iter().rev().find(|version| version.properties.refusal(now).is_none());
            return valid.ok_or_else(|| SecretError::NoValidVersion { name: name.to_owned() });
        };
        let found = wanted.parse().ok().and_then(|number: u32| self.version(number));
        let found = found.ok_or_else(|| SecretError::VersionNotFound {
            name: name.to_owned(),
            version: wanted.to_owned(),
        })?;
        found.properties.refusal(now).map_or(Ok(found), Err)
    }

    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.properties.version == number)
    }
}
