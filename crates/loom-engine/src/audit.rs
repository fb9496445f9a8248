//! The audit: who used which version of a secret when, who changed it, and who answered the questions of runs to people. Never a value,
//! or anything about one.
//!
//! Entries are named values that are written once. Those of a run are part of the commit that depends on the reading, so they
//! cost no sync of their own, and no effect of the run can precede them. Their names sort the newest first.

use std::sync::Arc;

use bytes::Bytes;
use loom_expression::{Object, Timestamp, Value};
use loom_store::{KeyExpectation, KeyWrite, UnixMillis};

use crate::event::RunId;

/// The namespace of the entries.
pub const ENTRIES: &str = "secrets/audit";

/// The namespace that has the last use of each secret, by its name.
pub const LAST_USE: &str = "secrets/used";

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What was done, with a secret or in the name of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A run, a trigger or a connection read it.
    Read,
    /// It was read and not given.
    Denied,
    /// Its mark was removed from a value.
    Declassify,
    /// A person was shown its value.
    Reveal,
    /// A version was created.
    Set,
    /// Versions were enabled.
    Enable,
    /// Versions were disabled.
    Disable,
    /// It was deleted, and can be restored.
    Delete,
    /// It was restored.
    Undelete,
    /// Versions were removed permanently.
    Purge,
    /// Everything was encrypted with a new key.
    Rotate,
    /// Its newest version is about to expire.
    Expiring,
    /// A person approved what a run asked.
    Approve,
    /// A person rejected what a run asked.
    Reject,
    /// A person replied to what a run asked.
    Reply,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 15] = [
        Operation::Read,
        Operation::Denied,
        Operation::Declassify,
        Operation::Reveal,
        Operation::Set,
        Operation::Enable,
        Operation::Disable,
        Operation::Delete,
        Operation::Undelete,
        Operation::Purge,
        Operation::Rotate,
        Operation::Expiring,
        Operation::Approve,
        Operation::Reject,
        Operation::Reply,
    ];

    /// Its name in entries.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Denied => "denied",
            Operation::Declassify => "declassify",
            Operation::Reveal => "reveal",
            Operation::Set => "set",
            Operation::Enable => "enable",
            Operation::Disable => "disable",
            Operation::Delete => "delete",
            Operation::Undelete => "undelete",
            Operation::Purge => "purge",
            Operation::Rotate => "rotate",
            Operation::Expiring => "expiring",
            Operation::Approve => "approve",
            Operation::Reject => "reject",
            Operation::Reply => "reply",
        }
    }

    /// The operation of a name.
    pub fn parse(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it happened.
    pub at: Timestamp,
    /// What was done.
    pub operation: Operation,
    /// The secret, with its provider: `embedded:api-key`. None when the operation concerns no single secret.
    pub secret: Option<Arc<str>>,
    /// The version, if the provider has versions.
    pub version: Option<Arc<str>>,
    /// Who did it: `run`, `trigger`, `connection`, or the caller of the API or the command line.
    pub by: Arc<str>,
    /// The workflow.
    pub workflow: Option<Arc<str>>,
    /// The run.
    pub run: Option<RunId>,
    /// The action, or the trigger.
    pub action: Option<Arc<str>>,
    /// Why it was denied.
    pub reason: Option<Arc<str>>,
}

impl AuditEntry {
    /// An entry with only what every entry has.
    pub fn new(at: Timestamp, operation: Operation, by: impl Into<Arc<str>>) -> AuditEntry {
        AuditEntry {
            at,
            operation,
            secret: None,
            version: None,
            by: by.into(),
            workflow: None,
            run: None,
            action: None,
            reason: None,
        }
    }

    /// The writes that record the entry. `unique` distinguishes it from other entries of the same millisecond; the same entry
    /// written again changes nothing. It is kept for `days`.
    pub fn writes(&self, unique: &str, days: u32) -> Vec<KeyWrite> {
        let millis = self.at.unix_millis();
        let expires = UnixMillis(millis.saturating_add(i64::from(days) * DAY_MS));
        let text = Bytes::from(Value::from(self.to_object()).to_json_text());
        let write = |namespace: &str, key: Arc<str>| KeyWrite {
            namespace: namespace.into(),
            key,
            expect: KeyExpectation::Any,
            value: Some(text.clone()),
            expires: Some(expires),
            run: None,
        };
        let mut writes = vec![write(ENTRIES, format!("{:016x}-{unique}", u64::MAX - millis as u64).into())];
        if self.operation == Operation::Read
            && let Some(secret) = &self.secret
        {
            writes.push(write(LAST_USE, Arc::clone(secret)));
        }
        writes
    }

    /// The entry that [`AuditEntry::to_object`] wrote; none if it is not one.
    pub fn from_value(value: &Value) -> Option<AuditEntry> {
        let text = |member: &str| value.get(member).and_then(Value::as_arc_str).cloned();
        Some(AuditEntry {
            at: text("at")?.parse().ok()?,
            operation: Operation::parse(&text("operation")?)?,
            secret: text("secret"),
            version: text("version"),
            by: text("by")?,
            workflow: text("workflow"),
            run: text("run").and_then(|run| run.parse().ok()),
            action: text("action"),
            reason: text("reason"),
        })
    }

    /// The entry as it is stored and shown.
    pub fn to_object(&self) -> Object {
        let mut object = Object::new();
        object.insert("at", self.at.to_string());
        object.insert("operation", self.operation.name());
        object.insert("by", Arc::clone(&self.by));
        let members = [
            ("secret", self.secret.clone()),
            // What follows the number of a version is for programs.
            (
                "version",
                self.version.as_deref().map(|version| version.split('-').next().unwrap_or_default().into()),
            ),
            ("workflow", self.workflow.clone()),
            ("run", self.run.map(|run| run.to_string().into())),
            ("action", self.action.clone()),
            ("reason", self.reason.clone()),
        ];
        for (name, text) in members {
            if let Some(text) = text {
                object.insert(name, text);
            }
        }
        object
    }
}

/// Records what is read outside of the commits of runs: by triggers, and when a run is loaded again.
pub trait AuditSink: Send + Sync {
    /// Records entries, at the current time, whatever theirs is. Does not wait, and never fails the reading.
    fn record(&self, entries: Vec<AuditEntry>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_entries_sort_first_and_show_what_was_done() {
        let at = |millis| Timestamp::from_unix_millis(millis);
        let mut entry = AuditEntry::new(at(1_000), Operation::Read, "run");
        entry.secret = Some("embedded:key".into());
        entry.version = Some("3-17".into());
        let older = entry.writes("a", 1);
        let newer = AuditEntry { at: at(2_000), ..entry.clone() }.writes("a", 1);
        assert!(newer[0].key < older[0].key);
        assert_eq!(older[0].expires, Some(UnixMillis(1_000 + DAY_MS)));
        assert_eq!(&*older[1].key, "embedded:key");
        let shown = Value::from(entry.to_object()).to_json_text();
        assert_eq!(
            shown,
            r#"{"at":"1970-01-01T00:00:01.0000000Z","operation":"read","by":"run","secret":"embedded:key","version":"3"}"#
        );
        let set = AuditEntry { operation: Operation::Set, ..entry };
        assert_eq!(set.writes("a", 1).len(), 1, "a change is not a use");
        for operation in Operation::ALL {
            assert_eq!(Operation::parse(operation.name()), Some(operation));
        }
    }
}
