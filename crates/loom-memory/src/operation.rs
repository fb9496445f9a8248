//! What callers ask for: an operation on a key, with its condition and its expiry.

use std::{borrow::Borrow, fmt, num::NonZeroU64, sync::Arc, time::Duration};

use loom_expression::{Labels, Object, Value};

use crate::{Error, Revision, Type};

/// The greatest length of a key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// A key within a namespace: 1 to [`KEY_BYTES_MAX`] bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks a key.
    ///
    /// # Errors
    /// [`Error::InvalidKey`].
    pub fn new(text: &str) -> Result<Key, Error> {
        let why = if text.is_empty() {
            "must not be empty"
        } else if text.len() > KEY_BYTES_MAX {
            "must be at most 512 bytes long"
        } else if text.chars().any(char::is_control) {
            "must not contain control characters"
        } else {
            return Ok(Key(Arc::from(text)));
        };
        Err(Error::InvalidKey { key: text.chars().take(64).collect(), why })
    }

    /// The text.
    pub const fn as_arc_str(&self) -> &Arc<str> {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One operation on one key, as it is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The key.
    pub key: Key,
    /// What to do.
    pub operation: Operation,
    /// What must hold for the key before the transaction.
    pub condition: Condition,
    /// When the key expires after a write. Ignored by operations that only read.
    pub expiry: Expiry,
}

impl Request {
    /// A request without a condition, with [`Expiry::Unchanged`].
    ///
    /// # Errors
    /// [`Error::InvalidKey`].
    pub fn new(key: &str, operation: Operation) -> Result<Request, Error> {
        let key = Key::new(key)?;
        Ok(Request { key, operation, condition: Condition::Any, expiry: Expiry::Unchanged })
    }

    /// The request with this condition.
    #[must_use]
    pub fn if_only(mut self, condition: Condition) -> Request {
        self.condition = condition;
        self
    }

    /// The request with this expiry.
    #[must_use]
    pub fn expiring(mut self, expiry: Expiry) -> Request {
        self.expiry = expiry;
        self
    }
}

/// What must hold for a key before a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// The key is absent.
    Absent,
    /// The key has this revision.
    Revision(Revision),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Any => f.write_str("anything"),
            Condition::Absent => f.write_str("no value"),
            Condition::Revision(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// When a key expires after a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As before the write. After [`Operation::Set`], and for a new key: never.
    #[default]
    Unchanged,
    /// Never.
    Never,
    /// This long after the write, rounded up to milliseconds.
    After(Duration),
}

impl Expiry {
    /// The expiry that a time to live in milliseconds stands for: 0 means never.
    pub fn after_millis(millis: u64) -> Expiry {
        NonZeroU64::new(millis)
            .map_or(Expiry::Never, |millis| Expiry::After(Duration::from_millis(millis.get())))
    }
}

/// What to do with a key. Ranges are inclusive and count from 0; a negative position counts from the end, so `0..=-1` is
/// everything.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Reads what the key holds, whatever its type, as JSON. `null` when it is absent.
    Get,
    /// Whether the key holds something.
    Exists,
    /// Replaces a value. Returns `null`.
    Set {
        /// The new value.
        value: Value,
    },
    /// Deletes the key, whatever its type. Returns whether it held something.
    Delete,
    /// Appends items to a list. Returns its length.
    Append {
        /// The items.
        values: Vec<Value>,
        /// Only the newest items, at most so many, are kept.
        max: Option<NonZeroU64>,
    },
    /// Reads items of a list. `[]` when it is absent.
    Range {
        /// The first position.
        from: i64,
        /// The last position.
        to: i64,
    },
    /// Removes all items of a list outside a range. Returns its length.
    Trim {
        /// The first position.
        from: i64,
        /// The last position.
        to: i64,
    },
    /// The number of items of a list, hash or set. 0 when it is absent.
    Length,
    /// Sets fields of a hash. Returns the number of new fields.
    HashSet {
        /// The fields.
        fields: Object,
    },
    /// Reads a field of a hash. `null` when it is absent.
    HashGet {
        /// The name.
        field: Arc<str>,
    },
    /// Deletes fields of a hash. Returns how many there were.
    HashDelete {
        /// The names.
        fields: Vec<Arc<str>>,
    },
    /// Reads all fields of a hash. `{}` when it is absent.
    HashAll,
    /// Adds members to a set, unless it has them. Returns the number of new members.
    SetAdd {
        /// The members. Members are equal when their JSON text is.
        members: Vec<Value>,
    },
    /// Removes members from a set. Returns how many there were.
    SetRemove {
        /// The members.
        members: Vec<Value>,
    },
    /// Reads all members of a set, in the order in which they were added. `[]` when it is absent.
    SetMembers,
    /// Whether a set has a member.
    SetHas {
        /// The member.
        member: Value,
    },
    /// Adds to a counter; an absent one is 0. Returns the sum.
    Increment {
        /// The number to add, which may be negative.
        by: i64,
        /// The labels of the number.
        labels: Labels,
    },
}

impl Operation {
    /// Adds `by`, which has no labels, to a counter.
    pub const fn increment(by: i64) -> Operation {
        Operation::Increment { by, labels: Labels::NONE }
    }

    /// Appends one item to a list without a maximum.
    pub fn append(value: impl Into<Value>) -> Operation {
        Operation::Append { values: vec![value.into()], max: None }
    }

    /// Replaces a value.
    pub fn set(value: impl Into<Value>) -> Operation {
        Operation::Set { value: value.into() }
    }

    /// The name of the operation in workflows, in the API and in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Exists => "exists",
            Operation::Set { .. } => "set",
            Operation::Delete => "delete",
            Operation::Append { .. } => "append",
            Operation::Range { .. } => "range",
            Operation::Trim { .. } => "trim",
            Operation::Length => "length",
            Operation::HashSet { .. } => "hashSet",
            Operation::HashGet { .. } => "hashGet",
            Operation::HashDelete { .. } => "hashDelete",
            Operation::HashAll => "hashAll",
            Operation::SetAdd { .. } => "setAdd",
            Operation::SetRemove { .. } => "setRemove",
            Operation::SetMembers => "setMembers",
            Operation::SetHas { .. } => "setHas",
            Operation::Increment { .. } => "increment",
        }
    }

    /// Whether the operation may change the key.
    pub const fn writes(&self) -> bool {
        match self {
            Operation::Set { .. }
            | Operation::Delete
            | Operation::Append { .. }
            | Operation::Trim { .. }
            | Operation::HashSet { .. }
            | Operation::HashDelete { .. }
            | Operation::SetAdd { .. }
            | Operation::SetRemove { .. }
            | Operation::Increment { .. } => true,
            Operation::Get
            | Operation::Exists
            | Operation::Range { .. }
            | Operation::Length
            | Operation::HashGet { .. }
            | Operation::HashAll
            | Operation::SetMembers
            | Operation::SetHas { .. } => false,
        }
    }

    /// The types that the operation works on.
    pub const fn types(&self) -> &'static [Type] {
        match self {
            Operation::Get | Operation::Exists | Operation::Delete => &Type::ALL,
            Operation::Set { .. } => &[Type::Value],
            Operation::Append { .. } | Operation::Range { .. } | Operation::Trim { .. } => &[Type::List],
            Operation::Length => &[Type::List, Type::Hash, Type::Set],
            Operation::HashSet { .. }
            | Operation::HashGet { .. }
            | Operation::HashDelete { .. }
            | Operation::HashAll => &[Type::Hash],
            Operation::SetAdd { .. }
            | Operation::SetRemove { .. }
            | Operation::SetMembers
            | Operation::SetHas { .. } => &[Type::Set],
            Operation::Increment { .. } => &[Type::Counter],
        }
    }
}
