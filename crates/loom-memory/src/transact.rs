//! Several operations on keys of one namespace, of which all take effect or none. Pure.

use std::collections::BTreeMap;

use loom_expression::Value;
use loom_store::UnixMillis;

use crate::{
    Applied, Change, Entry, Error, Key, Request,
    apply::{Held, check, operate},
};

/// The effect of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Transacted {
    /// What each operation returns.
    pub results: Vec<Value>,
    /// The keys that change, each at most once. [`Change::None`] does not occur.
    pub changes: BTreeMap<Key, Change>,
}

/// Applies operations in order, each to what the earlier ones left. Conditions are checked against `current`, so a condition
/// is about the state before the transaction. Expired entries count as absent.
///
/// # Errors
/// The first error; no operation has an effect then.
pub fn transact(
    requests: &[Request],
    current: &BTreeMap<Key, Entry>,
    now: UnixMillis,
) -> Result<Transacted, Error> {
    let alive = |key: &Key| current.get(key).filter(|entry| !entry.is_expired(now));
    for request in requests {
        check(request, alive(&request.key))?;
    }
    let mut results = Vec::with_capacity(requests.len());
    let mut changes: BTreeMap<Key, Change> = BTreeMap::new();
    for request in requests {
        let held = match changes.get(&request.key) {
            None | Some(Change::None) => alive(&request.key)
                .map(|entry| Held { content: entry.content.clone(), expires: entry.expires }),
            Some(Change::Put { content, expires }) => {
                Some(Held { content: content.clone(), expires: *expires })
            }
            Some(Change::Delete) => None,
        };
        let Applied { result, change } = operate(request, held.as_ref(), now)?;
        results.push(result);
        if change != Change::None {
            changes.insert(request.key.clone(), change);
        }
    }
    // A key that was absent, written and deleted again has not changed.
    changes.retain(|key, change| *change != Change::Delete || alive(key).is_some());
    Ok(Transacted { results, changes })
}
