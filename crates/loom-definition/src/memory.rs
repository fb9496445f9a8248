//! Shared memory in definitions: the operations of `Memory` actions, and which namespaces a workflow may use.
//!
//! The crate `loom-memory` executes the operations. It has the same rules for requests whose parts expressions compute; a
//! test of `loom-engine` compares the two.

use std::sync::Arc;

/// The namespaces that a definition grants its runs, in addition to those that every run may use: its own `run` and
/// `workflow`, and reading `global`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryGrants {
    /// Patterns of namespaces that may be read, such as `chat:*`.
    pub read: Vec<Arc<str>>,
    /// Patterns of namespaces that may be read and written.
    pub write: Vec<Arc<str>>,
}

impl MemoryGrants {
    /// Whether the workflow `own` may read or write a namespace. `run` and `workflow` without a name are its own.
    pub fn allow(&self, writes: bool, namespace: &str, own: &str) -> bool {
        let by_default = match namespace {
            "run" | "workflow" => true,
            "global" => !writes,
            other => other.strip_prefix("workflow:") == Some(own),
        };
        let listed = |patterns: &[Arc<str>]| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => namespace.starts_with(prefix),
                None => namespace == &**pattern,
            })
        };
        by_default || listed(&self.write) || (!writes && listed(&self.read))
    }
}

/// What is wrong with a pattern of namespaces, if anything.
pub(crate) fn wrong_pattern(text: &str) -> Option<&'static str> {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        return Some("`*` may only be the last character");
    }
    match text.split_once(':').map(|(kind, _)| kind) {
        Some("run" | "workflow" | "chat" | "agent" | "actor") if !text.ends_with(':') => None,
        None if text == "global" || text == "*" => None,
        _ => Some(
            "expected `global`, `workflow:NAME`, `chat:ID`, `agent:ID`, `actor:TYPE` or `run:ID`, where the name may end with `*`",
        ),
    }
}

/// What is wrong with a namespace, if anything.
pub(crate) fn wrong_namespace(text: &str) -> Option<&'static str> {
    let Some((kind, name)) = text.split_once(':') else {
        return match text {
            "global" | "run" | "workflow" => None,
            "chat" | "agent" | "actor" => Some("expected a name after the namespace, as in `chat:42`"),
            _ => Some(
                "expected `global`, `run`, `workflow`, `workflow:NAME`, `chat:ID`, `agent:ID` or `actor:TYPE`",
            ),
        };
    };
    if name.is_empty() || name.len() > 256 {
        return Some("the name must have 1 to 256 bytes");
    }
    if name.chars().any(|char| char == '/' || char.is_control()) {
        return Some("the name must not contain `/` or control characters");
    }
    match kind {
        "run" | "workflow" | "chat" | "agent" | "actor" => None,
        _ => Some(
            "expected `global`, `run`, `workflow`, `workflow:NAME`, `chat:ID`, `agent:ID` or `actor:TYPE`",
        ),
    }
}

/// What is wrong with a key, if anything.
pub(crate) fn wrong_key(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("a key must not be empty")
    } else if text.len() > 512 {
        Some("a key must be at most 512 bytes long")
    } else if text.chars().any(char::is_control) {
        Some("a key must not contain control characters")
    } else {
        None
    }
}

/// Splits an address, `namespace/key`, or says what is wrong with it.
pub(crate) fn address(text: &str) -> Result<(&str, &str), &'static str> {
    let (namespace, key) =
        text.split_once('/').ok_or("expected an address `NAMESPACE/KEY`, such as `global/limit`")?;
    match wrong_namespace(namespace).or_else(|| wrong_key(key)) {
        Some(why) => Err(why),
        None => Ok((namespace, key)),
    }
}

/// One operation of `Memory` actions.
#[derive(Clone, Copy, Debug)]
pub struct MemoryOperation {
    /// The value of `operation`.
    pub name: &'static str,
    /// Whether it may change the key.
    pub writes: bool,
    /// The properties that it has besides those that all operations have.
    pub properties: &'static [&'static str],
    /// Properties of which it needs one.
    pub needs: &'static [&'static str],
}

const fn read(
    name: &'static str,
    properties: &'static [&'static str],
    needs: &'static [&'static str],
) -> MemoryOperation {
    MemoryOperation { name, writes: false, properties, needs }
}

const fn write(
    name: &'static str,
    properties: &'static [&'static str],
    needs: &'static [&'static str],
) -> MemoryOperation {
    MemoryOperation { name, writes: true, properties, needs }
}

/// All operations.
pub const MEMORY_OPERATIONS: [MemoryOperation; 17] = [
    read("get", &[], &[]),
    read("exists", &[], &[]),
    write("set", &["value", "ttl"], &["value"]),
    write("delete", &[], &[]),
    write("append", &["value", "values", "max", "ttl"], &["value", "values"]),
    read("range", &["from", "to"], &[]),
    write("trim", &["from", "to", "ttl"], &[]),
    read("length", &[], &[]),
    write("hashSet", &["field", "value", "fields", "ttl"], &["field", "fields"]),
    read("hashGet", &["field"], &["field"]),
    write("hashDelete", &["field", "fields", "ttl"], &["field", "fields"]),
    read("hashAll", &[], &[]),
    write("setAdd", &["value", "values", "ttl"], &["value", "values"]),
    write("setRemove", &["value", "values", "ttl"], &["value", "values"]),
    read("setMembers", &[], &[]),
    read("setHas", &["value"], &["value"]),
    write("increment", &["by", "ttl"], &[]),
];

/// The properties that all operations have.
pub const MEMORY_COMMON: [&str; 4] = ["operation", "key", "ifRevision", "ifAbsent"];

/// Properties that exclude each other.
pub(crate) const EXCLUSIVE: [(&str, &str); 3] =
    [("value", "values"), ("field", "fields"), ("value", "fields")];

/// The operation with this name.
pub(crate) fn operation(name: &str) -> Option<&'static MemoryOperation> {
    MEMORY_OPERATIONS.iter().find(|operation| operation.name == name)
}
