//! Checks what a definition says about shared memory: its grants, its `Memory` actions, and the addresses in expressions.

use std::{num::NonZeroU32, ops::Range, sync::Arc};

use loom_expression::{Reference, Value};

use super::Lowerer;
use crate::{
    diagnostic::{Severity, code, did_you_mean},
    duration::Span,
    findings::head,
    memory::{self, EXCLUSIVE, MEMORY_COMMON, MEMORY_OPERATIONS, MemoryGrants, MemoryOperation},
    text::{Node, Shape, Span32},
    trigger::TriggerKind,
};

/// Policies for calls. Operations on shared memory are not calls: they are committed with the run.
const POLICIES: [&str; 7] =
    ["policy", "retryPolicy", "circuitBreaker", "rateLimit", "bulkhead", "hedge", "onUncertain"];

impl Lowerer<'_, '_, '_> {
    /// The grants in `memory` of the definition.
    pub(super) fn memory_grants(&mut self, definition: &Node) -> MemoryGrants {
        let mut grants = MemoryGrants::default();
        let Some(node) = definition.get("memory") else { return grants };
        let Some(node) = self.found.want_object(node, "memory") else { return grants };
        for member in node.members().unwrap_or_default() {
            let list = match &*member.name {
                "read" => &mut grants.read,
                "write" => &mut grants.write,
                other => {
                    let message = format!("unknown property `{other}` in `memory`");
                    let found = self.found.error(code::BAD_MEMORY_GRANT, member.name_place, message);
                    found.hint = did_you_mean(other, ["read", "write"])
                        .or_else(|| Some("`memory` has the lists `read` and `write`".to_owned()));
                    continue;
                }
            };
            let Some(items) = member.value.items() else {
                let message = format!(
                    "`memory.{}` must be an array of namespaces, found {}",
                    member.name,
                    member.value.kind()
                );
                self.found.error(code::BAD_MEMORY_GRANT, member.value.place, message);
                continue;
            };
            for item in items {
                let what = format!("an entry of `memory.{}` must be", member.name);
                match item.text() {
                    None => {
                        let message = format!("{what} a string, found {}", item.kind());
                        self.found.error(code::BAD_MEMORY_GRANT, item.place, message);
                    }
                    Some(text) => match memory::wrong_pattern(text) {
                        None => list.push(Arc::from(text)),
                        Some(why) => {
                            let message = format!("{what} a pattern of namespaces (got `{text}`)");
                            let found = self.found.error(code::BAD_MEMORY_GRANT, item.place, message);
                            found.hint = Some(why.to_owned());
                        }
                    },
                }
            }
        }
        grants
    }

    /// Checks the inputs of a `Memory` action as far as they are literal.
    pub(super) fn memory_action(&mut self, index: usize) {
        let node = self.outline.actions[index].node;
        for policy in POLICIES {
            if let Some(member) = node.member(policy) {
                let message = format!(
                    "a Memory action does not take `{policy}`: its operation is part of the run, not a call"
                );
                self.found.error(code::BAD_MEMORY, member.name_place, message);
            }
        }
        let Some(inputs) = node.get("inputs") else { return self.lack(index, "inputs") };
        if inputs.text().is_some_and(|text| text.contains('@')) {
            return;
        }
        if inputs.members().is_none() {
            let message = format!("`inputs` of a Memory action must be an object, found {}", inputs.kind());
            self.found.error(code::BAD_MEMORY, inputs.place, message);
            return;
        }
        if inputs.get("operations").is_some() {
            self.memory_transaction(inputs);
        } else if inputs.get("operation").is_none() {
            self.lack(index, "inputs.operation");
        } else {
            let writes = self.memory_operation(inputs, &["retryPolicy"]);
            match inputs.get("key") {
                None => self.lack(index, "inputs.key"),
                Some(key) => self.memory_address(key, writes),
            }
        }
    }

    /// Several operations on one namespace: `{namespace, operations}`.
    fn memory_transaction(&mut self, inputs: &Node) {
        for member in inputs.members().unwrap_or_default() {
            if !["namespace", "operations", "retryPolicy"].contains(&&*member.name) {
                let message = format!("unknown property `{}` beside `operations`", member.name);
                let found = self.found.error(code::BAD_MEMORY, member.name_place, message);
                found.hint = Some("a transaction has `namespace` and `operations`".to_owned());
            }
        }
        let mut writes = Some(false);
        match inputs.get("operations") {
            Some(operations) if operations.items().is_some() => {
                let items = operations.items().unwrap_or_default();
                if items.is_empty() {
                    let message = "`operations` must have at least one operation";
                    self.found.error(code::BAD_MEMORY, operations.place, message);
                }
                for item in items {
                    if item.text().is_some_and(|text| text.contains('@')) {
                        writes = writes.filter(|writes| *writes);
                        continue;
                    }
                    if item.members().is_none() {
                        let message = format!("an operation must be an object, found {}", item.kind());
                        self.found.error(code::BAD_MEMORY, item.place, message);
                        continue;
                    }
                    if item.get("operation").is_none() {
                        self.found.error(code::BAD_MEMORY, head(item), "the operation needs `operation`");
                        continue;
                    }
                    let one = self.memory_operation(item, &[]);
                    writes = match (writes, one) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    };
                    match item.get("key") {
                        None => {
                            self.found.error(code::BAD_MEMORY, head(item), "the operation needs `key`");
                        }
                        Some(key) => {
                            if let Some(text) = self.memory_text(key, "key")
                                && let Some(why) = memory::wrong_key(text)
                            {
                                let message = format!("the key `{text}` is not valid: {why}");
                                self.found.error(code::BAD_MEMORY, key.place, message);
                            }
                        }
                    }
                }
            }
            Some(operations) if operations.text().is_some_and(|text| text.contains('@')) => writes = None,
            Some(operations) => {
                let message = format!("`operations` must be an array, found {}", operations.kind());
                self.found.error(code::BAD_MEMORY, operations.place, message);
            }
            None => {}
        }
        let Some(namespace) = inputs.get("namespace") else {
            self.found.error(code::BAD_MEMORY, head(inputs), "a transaction needs `namespace`");
            return;
        };
        let Some(text) = self.memory_text(namespace, "namespace") else { return };
        if let Some(why) = memory::wrong_namespace(text) {
            let message = format!("the namespace `{text}` is not valid: {why}");
            self.found.error(code::BAD_MEMORY, namespace.place, message);
        } else {
            self.memory_grant(text, writes, namespace.place, Severity::Error);
        }
    }

    /// Checks one operation without its key. Returns whether it writes; `None` when an expression computes that.
    fn memory_operation(&mut self, node: &Node, beside: &[&str]) -> Option<bool> {
        let name = self.memory_text(node.get("operation")?, "operation")?;
        let Some(operation) = memory::operation(name) else {
            let place = node.get("operation").map_or(node.place, |node| node.place);
            let hint = did_you_mean(name, MEMORY_OPERATIONS.iter().map(|operation| operation.name));
            let message = format!("unknown operation `{name}` of shared memory");
            self.found.error(code::BAD_MEMORY, place, message).hint = hint.or_else(|| {
                let names: Vec<&str> = MEMORY_OPERATIONS.iter().map(|operation| operation.name).collect();
                Some(format!("the operations are {}", names.join(", ")))
            });
            return None;
        };
        let known = || MEMORY_COMMON.iter().chain(operation.properties).chain(beside).copied();
        for member in node.members().unwrap_or_default() {
            if known().any(|known| known == &*member.name) {
                self.memory_property(operation, &member.name, &member.value);
                continue;
            }
            let message = format!("unknown property `{}` of the operation `{name}`", member.name);
            let hint = did_you_mean(&member.name, known());
            self.found.error(code::BAD_MEMORY, member.name_place, message).hint = hint;
        }
        if !operation.needs.is_empty() && !operation.needs.iter().any(|need| node.get(need).is_some()) {
            let message = format!("the operation `{name}` needs `{}`", operation.needs.join("` or `"));
            self.found.error(code::BAD_MEMORY, head(node), message);
        }
        if name == "hashSet" && node.get("field").is_some() && node.get("value").is_none() {
            let message = "the operation `hashSet` needs `value` beside `field`";
            self.found.error(code::BAD_MEMORY, head(node), message);
        }
        for (one, other) in EXCLUSIVE {
            let (Some(_), Some(second)) = (node.get(one), node.member(other)) else { continue };
            let message = format!("`{one}` and `{other}` exclude each other; remove one");
            self.found.error(code::BAD_MEMORY, second.name_place, message);
        }
        Some(operation.writes)
    }

    /// Checks the value of a property, unless an expression computes it.
    fn memory_property(&mut self, operation: &MemoryOperation, name: &str, node: &Node) {
        if node.text().is_some_and(|text| text.contains('@')) || matches!(node.shape, Shape::Null) {
            return;
        }
        let integer = || node.integer();
        let (fits, expected) = match name {
            "field" => (node.text().is_some(), "a string"),
            "ifAbsent" => (matches!(node.shape, Shape::Bool(_)), "a boolean"),
            "ifRevision" => (integer().is_some_and(|number| number >= 0), "a revision, which is an integer"),
            "from" | "to" | "by" => (integer().is_some(), "an integer"),
            "max" => (integer().is_some_and(|number| number > 0), "a positive integer"),
            "values" => (node.items().is_some(), "an array"),
            "fields" if operation.name == "hashSet" => (node.members().is_some(), "an object"),
            "fields" => {
                let items = node.items();
                let is_text = |item: &Node| item.text().is_some();
                (items.is_some_and(|items| items.iter().all(is_text)), "an array of strings")
            }
            "ttl" => {
                let fits = match node.text() {
                    Some(text) => Span::parse_iso8601(text).is_ok(),
                    None => node.to_value().as_f64().is_some_and(|seconds| seconds >= 0.0),
                };
                (fits, "a number of seconds or a duration such as PT1H; 0 means no expiry")
            }
            _ => (true, ""),
        };
        if !fits {
            let found = found(node);
            let message = format!("`{name}` must be {expected} (got {found})");
            self.found.error(code::BAD_MEMORY, node.place, message);
        }
    }

    /// A literal string, or none if an expression computes it. Reports any other value.
    fn memory_text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match node.text() {
            Some(text) if text.contains('@') => None,
            Some(text) => Some(text),
            None => {
                let message = format!("`{what}` must be a string, found {}", node.kind());
                self.found.error(code::BAD_MEMORY, node.place, message);
                None
            }
        }
    }

    fn memory_address(&mut self, key: &Node, writes: Option<bool>) {
        let Some(text) = self.memory_text(key, "key") else { return };
        match memory::address(text) {
            Err(why) => {
                let message = format!("the key `{text}` is not valid");
                self.found.error(code::BAD_MEMORY, key.place, message).hint = Some(why.to_owned());
            }
            Ok((namespace, _)) => {
                let place = self.found.part(key, &(0..namespace.len()));
                self.memory_grant(namespace, writes, place, Severity::Error);
            }
        }
    }

    /// Checks the address in a call such as `memory('global/limit')`, at `range` of the file.
    pub(super) fn memory_reference(&mut self, reference: &Reference, range: Range<usize>) {
        let Some(text) = reference.name.as_deref() else { return };
        let (place, refusal) = (Span32::new(range.start, range.end), self.refusal);
        match memory::address(text) {
            Ok((namespace, _)) => self.memory_grant(namespace, Some(false), place, refusal),
            Err(why) => {
                let message = format!("the address `{text}` is not valid");
                self.found.report(refusal, code::BAD_MEMORY, place, message).hint = Some(why.to_owned());
            }
        }
    }

    /// Reads the keys that a MemoryChanged trigger watches.
    pub(super) fn memory_changed(&mut self, name: &str, node: &Node) -> TriggerKind {
        let inputs = node.get("inputs");
        let literal = |lowerer: &mut Self, property: &str| {
            let node = inputs?.get(property)?;
            if let Some(text) = node.text().filter(|text| !text.contains('@')) {
                return Some((text.to_owned(), node.place));
            }
            let found =
                if node.text().is_some() { "an expression".to_owned() } else { node.kind().to_string() };
            let message = format!("`{property}` must be a string without expressions (got {found})");
            lowerer.found.error(code::BAD_MEMORY_CHANGED, node.place, message);
            None
        };
        let mut namespace = Arc::from("");
        match literal(self, "namespace") {
            Some((text, place)) => {
                let why = match &*text {
                    "run" => Some("a trigger has no run"),
                    other => memory::wrong_namespace(other),
                };
                if let Some(why) = why {
                    let message = format!("trigger `{name}` cannot watch the namespace `{text}`");
                    self.found.error(code::BAD_MEMORY_CHANGED, place, message).hint = Some(why.to_owned());
                } else {
                    self.memory_grant(&text, Some(false), place, Severity::Error);
                }
                namespace = Arc::from(text);
            }
            None if inputs.and_then(|inputs| inputs.get("namespace")).is_some() => {}
            None => {
                let message = format!(
                    "trigger `{name}` requires `inputs.namespace`, the namespace of shared memory to watch"
                );
                let place = inputs.map_or_else(|| head(node), head);
                self.found.error(code::BAD_MEMORY_CHANGED, place, message).hint =
                    Some("such as {\"namespace\": \"workflow\", \"prefix\": \"orders/\"}".to_owned());
            }
        }
        let prefix = literal(self, "prefix").map_or_else(
            || Arc::from(""),
            |(text, place)| {
                if !text.is_empty()
                    && let Some(why) = memory::wrong_key(&text)
                {
                    let message = "the prefix is not valid: it must be the beginning of a key".to_owned();
                    self.found.error(code::BAD_MEMORY_CHANGED, place, message).hint = Some(why.to_owned());
                }
                Arc::from(text)
            },
        );
        let mut batch_size = None;
        if let Some(node) = inputs.and_then(|inputs| inputs.get("batchSize")) {
            let number = node.to_value().as_i64().and_then(|number| u32::try_from(number).ok());
            batch_size =
                number.filter(|number| *number <= TriggerKind::CHANGES_MAX).and_then(NonZeroU32::new);
            if batch_size.is_none() {
                let message = format!(
                    "`batchSize` must be between 1 and {} (got {})",
                    TriggerKind::CHANGES_MAX,
                    found(node)
                );
                self.found.error(code::BAD_MEMORY_CHANGED, node.place, message).hint =
                    Some("without `batchSize`, each change starts a run".to_owned());
            }
        }
        TriggerKind::MemoryChanged { namespace, prefix, batch_size }
    }

    /// Reports an access that the definition does not grant. `writes` is none when an expression computes the operation.
    fn memory_grant(&mut self, namespace: &str, writes: Option<bool>, place: Span32, severity: Severity) {
        let Some(writes) = writes else { return };
        if self.grants.allow(writes, namespace, &self.name) {
            return;
        }
        let access = if writes { "write" } else { "read" };
        let message = format!("the workflow may not {access} `{namespace}`");
        let found = self.found.report(severity, code::MEMORY_NOT_GRANTED, place, message);
        found.hint =
            Some(format!("add it to the definition: \"memory\": {{\"{access}\": [\"{namespace}\"]}}"));
    }
}

fn found(node: &Node) -> String {
    let text: String = Value::to_json_text(&node.to_value());
    if text.chars().count() <= 64 { text } else { node.kind().to_string() }
}
