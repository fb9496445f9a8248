//! What a key holds: content of one type, its revision and its expiry.

use std::fmt;

use loom_expression::{Array, Object, Value};
use loom_store::UnixMillis;

/// The type of a key. It is fixed from the first write until the key is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Any JSON value, which is replaced as a whole.
    Value,
    /// Values in order.
    List,
    /// Values by name.
    Hash,
    /// Different values, in the order in which they were added.
    Set,
    /// An integer of 64 bits.
    Counter,
}

impl Type {
    /// All types.
    pub const ALL: [Type; 5] = [Type::Value, Type::List, Type::Hash, Type::Set, Type::Counter];

    /// The name of the type in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Value => "value",
            Type::List => "list",
            Type::Hash => "hash",
            Type::Set => "set",
            Type::Counter => "counter",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a key holds. A list, hash or set is never empty, because an empty one is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    kind: Type,
    // An array for a list and a set, an object for a hash, an integer for a counter.
    value: Value,
}

impl Content {
    /// Content of a type; `None` when the value does not have the form of that type.
    pub fn new(kind: Type, value: Value) -> Option<Content> {
        let fits = match kind {
            Type::Value => true,
            Type::List | Type::Set => value.as_array().is_some_and(|items| !items.is_empty()),
            Type::Hash => value.as_object().is_some_and(|fields| !fields.is_empty()),
            Type::Counter => value.as_i64().is_some(),
        };
        fits.then_some(Content { kind, value })
    }

    /// The type.
    pub const fn kind(&self) -> Type {
        self.kind
    }

    /// The content as JSON: an array for a list or a set, an object for a hash, an integer for a counter.
    pub const fn value(&self) -> &Value {
        &self.value
    }

    pub(crate) fn items(&self) -> Array {
        self.value.as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn fields(&self) -> Object {
        self.value.as_object().cloned().unwrap_or_default()
    }
}

/// Changes with every write of a key, and is never used twice, also not after the key was deleted and written again.
/// Revisions of one key increase; those of different keys are in no particular order. All keys that one transaction writes
/// have the same revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key that holds something.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it holds.
    pub content: Content,
    /// The revision of the last write.
    pub revision: Revision,
    /// When it expires. From then on the key is absent.
    pub expires: Option<UnixMillis>,
}

impl Entry {
    /// Whether the key is absent at this time.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
