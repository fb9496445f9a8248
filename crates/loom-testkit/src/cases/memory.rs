//! Shared memory in cases: what keys hold at the start, and what they are expected to hold at the end.
//!
//! `{"global/limit": {"value": 100}, "chat:42/log": {"list": ["a"]}, "workflow/seen": {"set": []}}`: an address, and the type of
//! the key with its content. As an expectation, `null` is an absent key.

use std::sync::Arc;

use loom_engine::RunId;
use loom_expression::{Object, Value};
use loom_memory::{Address, Error, Namespace, Operation, Own, Request, SharedMemory, StoredMemory, Type};

use super::{
    Difference,
    compare::{compare_exact, meant},
};

const TYPES: [&str; 5] = ["value", "list", "hash", "set", "counter"];

/// A key, and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// As the case says it.
    address: Arc<str>,
    namespace: Namespace,
    key: Arc<str>,
    /// None for an absent key.
    holds: Option<(&'static str, Value)>,
}

/// Reads `memory` of a case, or of its expectations, for a workflow of this name.
pub(crate) fn read(members: &Object, workflow: &Arc<str>, at: &str) -> Result<Vec<Known>, Difference> {
    let own = Own { run: RunId::MIN, workflow: Arc::clone(workflow) };
    let mut known = Vec::new();
    for (address, content) in members {
        let wrong = |what: String| Difference::of(format!("{at}.{address}"), what);
        let parsed = Address::parse(address, Some(&own)).map_err(|why| wrong(why.to_string()))?;
        if parsed.namespace.run().is_some() {
            return Err(wrong("a case cannot name keys of a run, because its id is not known".to_owned()));
        }
        let holds = if content.is_null() {
            None
        } else {
            let object = content.as_object().filter(|object| object.len() == 1);
            let found = object.and_then(|object| object.iter().next());
            let Some((name, value)) = found else {
                let example =
                    r#"must be an object with the type of the key, such as {"value": 1} or {"list": ["a"]}"#;
                return Err(wrong(example.to_owned()));
            };
            let Some(kind) = TYPES.into_iter().find(|kind| *kind == &**name) else {
                return Err(wrong(format!(
                    "unknown type `{name}`; {}",
                    meant(name, &TYPES, "expected one of")
                )));
            };
            Some((kind, value.clone()))
        };
        let (namespace, key) = (parsed.namespace, Arc::clone(parsed.key.as_arc_str()));
        known.push(Known { address: Arc::clone(address), namespace, key, holds });
    }
    Ok(known)
}

/// Writes what keys hold at the start of a case.
pub(crate) async fn fill(memory: &StoredMemory, known: &[Known]) -> Result<(), Difference> {
    for Known { address, namespace, key, holds } in known {
        let wrong = |what: String| Difference::of(format!("memory.{address}"), what);
        let Some((kind, value)) = holds else { continue };
        let items = || value.as_array().map(|items| items.to_vec());
        let operation = match *kind {
            "list" => items().map(|values| Operation::Append { values, max: None }),
            "set" => items().map(|members| Operation::SetAdd { members }),
            "hash" => value.as_object().cloned().map(|fields| Operation::HashSet { fields }),
            "counter" => value.as_i64().map(Operation::increment),
            _ => Some(Operation::set(value.clone())),
        };
        let expected = match *kind {
            "hash" => "an object",
            "counter" => "an integer",
            _ => "an array",
        };
        let operation = operation.ok_or_else(|| wrong(format!("`{kind}` must be {expected}")))?;
        let request = Request::new(key, operation).map_err(|why| wrong(why.to_string()))?;
        outcome(memory, namespace, request).await.map_err(|why| wrong(why.to_string()))?;
    }
    Ok(())
}

/// Compares what keys hold with what a case expects.
pub(crate) async fn check(memory: &StoredMemory, known: &[Known], found: &mut Vec<Difference>) {
    for Known { address, namespace, key, holds } in known {
        let at = format!("memory.{address}");
        let read = match Request::new(key, Operation::Get) {
            Ok(get) => outcome(memory, namespace, get).await,
            Err(why) => Err(why),
        };
        let actual = match read {
            Ok((kind, value)) => kind.map(|kind| (kind.name(), value)),
            Err(why) => {
                found.push(Difference::of(at, why.to_string()));
                continue;
            }
        };
        match (holds, actual) {
            (None, None) => {}
            (None, Some((kind, value))) => {
                found.push(Difference::between(
                    at,
                    "no such key",
                    format!("a {kind}: {}", value.to_json_text()),
                ));
            }
            (Some((kind, _)), None) => {
                found.push(Difference::between(at, format!("a {kind}"), "no such key"));
            }
            (Some((wanted, _)), Some((kind, _))) if *wanted != kind => {
                found.push(Difference::between(at, format!("a {wanted}"), format!("a {kind}")));
            }
            (Some((_, wanted)), Some((_, value))) => compare_exact(&at, wanted, Some(&value), found),
        }
    }
}

/// The type of a key and the result of an operation.
async fn outcome(
    memory: &StoredMemory,
    namespace: &Namespace,
    request: Request,
) -> Result<(Option<Type>, Value), Error> {
    let mut outcomes = memory.transact(namespace, vec![request]).await?;
    let outcome = outcomes.remove(0);
    Ok((outcome.kind, outcome.value))
}
