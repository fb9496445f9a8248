//! Why an operation on shared memory failed.

use loom_store::Error as StoreError;

use crate::{Access, Condition, Key, Namespace, Revision, Type};

/// Why an operation failed. Nothing of its transaction was written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key holds another type than the operation needs.
    #[error("the key `{key}` holds a {found}, but `{operation}` needs a {}", needed.map_or("list, hash or set", Type::name))]
    WrongType {
        /// The key.
        key: Key,
        /// The name of the operation.
        operation: &'static str,
        /// The type that it needs; `None` when it works on lists, hashes and sets.
        needed: Option<Type>,
        /// The type of the key.
        found: Type,
    },
    /// The condition of the caller does not hold.
    #[error("the key `{key}` has changed: expected {expected}, found {}", found.map_or_else(|| "no value".to_owned(), |revision| format!("revision {revision}")))]
    RevisionMismatch {
        /// The key.
        key: Key,
        /// The condition.
        expected: Condition,
        /// The revision of the key, if it holds something.
        found: Option<Revision>,
    },
    /// The sum does not fit in 64 bits. The counter is unchanged.
    #[error("the sum of the counter `{key}` and the number to add exceeds 64 bits")]
    Overflow {
        /// The key.
        key: Key,
        /// The value of the counter.
        value: i64,
        /// The number to add.
        by: i64,
    },
    /// The content would be too large.
    #[error("the content of the key `{key}` would have {bytes} bytes, which exceeds the maximum of 16 MiB")]
    TooLarge {
        /// The key.
        key: Key,
        /// The size of its JSON text, in bytes.
        bytes: usize,
    },
    /// The content would nest too deeply to be read again.
    #[error(
        "the content of the key `{key}` would nest {depth} levels deep, which exceeds the maximum of 256"
    )]
    TooDeep {
        /// The key.
        key: Key,
        /// The number of levels.
        depth: usize,
    },
    /// A request that is not valid.
    #[error("the operation is not valid: {why}")]
    InvalidRequest {
        /// What was expected.
        why: String,
    },
    /// A key that is not valid.
    #[error("the key `{key}` is not valid: it {why}")]
    InvalidKey {
        /// The beginning of the key.
        key: String,
        /// What it must be.
        why: &'static str,
    },
    /// A namespace or a pattern of namespaces that is not valid.
    #[error("the namespace `{namespace}` is not valid: {why}")]
    InvalidNamespace {
        /// The beginning of the namespace.
        namespace: String,
        /// What was expected.
        why: &'static str,
    },
    /// The definition does not grant the access.
    #[error("the workflow may not {access} `{namespace}`; add it to `memory.{access}` of the definition")]
    AccessDenied {
        /// The missing grant.
        access: Access,
        /// The namespace.
        namespace: Namespace,
    },
    /// What the store returned is not what was written, or is sealed with another key.
    #[error("cannot read the key `{key}` of `{namespace}`: {why}")]
    Unreadable {
        /// The namespace.
        namespace: Namespace,
        /// The key.
        key: Key,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// Other processes changed the keys at every attempt.
    #[error("other processes kept changing the keys of `{namespace}`; try again later")]
    Contended {
        /// The namespace.
        namespace: Namespace,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Error {
    /// A short code, which workflows and the API use.
    pub const fn code(&self) -> &'static str {
        match self {
            Error::WrongType { .. } => "WrongType",
            Error::RevisionMismatch { .. } => "RevisionMismatch",
            Error::Overflow { .. } => "CounterOverflow",
            Error::TooLarge { .. } | Error::TooDeep { .. } => "MemoryValueTooLarge",
            Error::InvalidRequest { .. } => "InvalidMemoryOperation",
            Error::InvalidKey { .. } => "InvalidMemoryKey",
            Error::InvalidNamespace { .. } => "InvalidMemoryNamespace",
            Error::AccessDenied { .. } => "AccessDenied",
            Error::Unreadable { .. } => "MemoryUnreadable",
            Error::Contended { .. } => "MemoryContended",
            Error::Store(_) => "MemoryUnavailable",
        }
    }

    /// Whether the same call may succeed later without a change to the request.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Error::Contended { .. } => true,
            Error::Store(why) => why.is_retryable(),
            _ => false,
        }
    }
}
