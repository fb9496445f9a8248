//! One operation on one key: what it returns, and how it changes the key. Pure.

use std::time::Duration;

use loom_expression::{Labels, Object, Value};
use loom_store::UnixMillis;

use crate::{Content, Entry, Error, Expiry, Key, Operation, Request, Type};

/// The effect of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// What the operation returns.
    pub result: Value,
    /// What it does to the key.
    pub change: Change,
}

/// What happens to a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing; the key keeps its revision.
    None,
    /// The key holds this from now on.
    Put {
        /// The content.
        content: Content,
        /// When the key expires.
        expires: Option<UnixMillis>,
    },
    /// The key is absent from now on.
    Delete,
}

/// What a key holds while operations are applied to it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) content: Content,
    pub(crate) expires: Option<UnixMillis>,
}

/// Applies an operation to what a key holds, if its condition holds. An expired entry counts as absent.
///
/// # Errors
/// [`Error::WrongType`], [`Error::RevisionMismatch`], [`Error::Overflow`].
pub fn apply(request: &Request, current: Option<&Entry>, now: UnixMillis) -> Result<Applied, Error> {
    let current = current.filter(|entry| !entry.is_expired(now));
    check(request, current)?;
    let held = current.map(|entry| Held { content: entry.content.clone(), expires: entry.expires });
    operate(request, held.as_ref(), now)
}

/// Checks the condition of a request against an entry that has not expired.
pub(crate) fn check(request: &Request, current: Option<&Entry>) -> Result<(), Error> {
    let found = current.map(|entry| entry.revision);
    let holds = match request.condition {
        crate::Condition::Any => true,
        crate::Condition::Absent => found.is_none(),
        crate::Condition::Revision(wanted) => found == Some(wanted),
    };
    if holds {
        return Ok(());
    }
    Err(Error::RevisionMismatch { key: request.key.clone(), expected: request.condition, found })
}

/// Applies an operation without its condition.
pub(crate) fn operate(request: &Request, held: Option<&Held>, now: UnixMillis) -> Result<Applied, Error> {
    check_type(&request.key, &request.operation, held)?;
    let value = held.map(|held| held.content.value());
    let labels = value.map_or(Labels::NONE, Value::labels);
    let read = |result: Value| Ok(Applied { result, change: Change::None });
    // A write of a key that has just become empty deletes it.
    let write = |result: Value, kind: Type, value: Value| {
        let change = match Content::new(kind, value) {
            Some(content) => Change::Put { content, expires: expiry(request, held, now) },
            None => Change::Delete,
        };
        Ok(Applied { result, change })
    };
    let unless_same = |result: Value, is_same: bool, kind: Type, value: &dyn Fn() -> Value| {
        if is_same && (held.is_none() || request.expiry == Expiry::Unchanged) {
            return Ok(Applied { result, change: Change::None });
        }
        write(result, kind, value())
    };
    match &request.operation {
        Operation::Get => read(value.cloned().unwrap_or_default()),
        Operation::Exists => read(Value::from(held.is_some())),
        Operation::Set { value } => write(Value::NULL, Type::Value, value.clone()),
        Operation::Delete => Ok(Applied {
            result: Value::from(held.is_some()),
            change: if held.is_some() { Change::Delete } else { Change::None },
        }),
        Operation::Append { values, max } => {
            let mut items = items_of(held);
            items.extend(values.iter().cloned());
            let max = max.map_or(usize::MAX, |max| usize::try_from(max.get()).unwrap_or(usize::MAX));
            items.drain(..items.len().saturating_sub(max));
            let length = count(items.len()).labelled(labels);
            let is_same = values.is_empty()
                && Some(items.len()) == value.and_then(Value::as_array).map(|kept| kept.len());
            unless_same(length, is_same || items.is_empty(), Type::List, &|| {
                Value::from(items.clone()).labelled(labels)
            })
        }
        Operation::Range { from, to } => {
            let items = items_of(held);
            let range = positions(*from, *to, items.len());
            read(Value::from(items[range].to_vec()).labelled(labels))
        }
        Operation::Trim { from, to } => {
            let items = items_of(held);
            let range = positions(*from, *to, items.len());
            let is_same = range.len() == items.len();
            unless_same(count(range.len()).labelled(labels), is_same, Type::List, &|| {
                Value::from(items[range.clone()].to_vec()).labelled(labels)
            })
        }
        Operation::Length => {
            let length = value.map_or(0, |value| match value.as_object() {
                Some(fields) => fields.len(),
                None => value.as_array().map_or(0, |items| items.len()),
            });
            read(count(length).labelled(labels))
        }
        Operation::HashSet { fields } => {
            let mut hash = fields_of(held);
            let before = hash.len();
            hash.extend(fields.iter().map(|(name, value)| (std::sync::Arc::clone(name), value.clone())));
            let added = count(hash.len() - before).labelled(labels);
            unless_same(added, fields.is_empty(), Type::Hash, &|| Value::from(hash.clone()).labelled(labels))
        }
        Operation::HashGet { field } => {
            read(value.and_then(|value| value.get(field)).cloned().unwrap_or_default())
        }
        Operation::HashDelete { fields } => {
            let mut hash = fields_of(held);
            let removed = fields.iter().filter(|name| hash.remove(name).is_some()).count();
            unless_same(count(removed).labelled(labels), removed == 0, Type::Hash, &|| {
                Value::from(hash.clone()).labelled(labels)
            })
        }
        Operation::HashAll => read(value.cloned().unwrap_or_else(|| Value::from(Object::new()))),
        Operation::SetAdd { members } => set_add(members, held, labels, unless_same),
        Operation::SetRemove { members } => {
            let mut set = items_of(held);
            let before = set.len();
            let seen = compared(members, held);
            set.retain(|known| !members.contains(known));
            let removed = before - set.len();
            unless_same(count(removed).labelled(labels | seen), removed == 0, Type::Set, &|| {
                Value::from(set.clone()).labelled(labels)
            })
        }
        Operation::SetMembers => read(Value::from(items_of(held)).labelled(labels)),
        Operation::SetHas { member } => {
            let has = items_of(held).contains(member);
            let seen = compared(std::slice::from_ref(member), held);
            read(Value::from(has).labelled(seen))
        }
        Operation::Increment { by, labels: added } => {
            let before = value.and_then(Value::as_i64).unwrap_or(0);
            let Some(sum) = before.checked_add(*by) else {
                return Err(Error::Overflow { key: request.key.clone(), value: before, by: *by });
            };
            let sum = Value::from(sum).labelled(labels | *added);
            write(sum.clone(), Type::Counter, sum)
        }
    }
}

/// Adds the members that the set does not have. A member that is secret now makes an equal one that was not secret, too.
fn set_add(
    members: &[Value],
    held: Option<&Held>,
    labels: Labels,
    unless_same: impl Fn(Value, bool, Type, &dyn Fn() -> Value) -> Result<Applied, Error>,
) -> Result<Applied, Error> {
    let mut set = items_of(held);
    let (mut added, mut is_same) = (0, true);
    for member in members {
        match set.iter().position(|known| known == member) {
            None => {
                set.push(member.clone());
                (added, is_same) = (added + 1, false);
            }
            Some(place) if set[place].labels_within().contains(member.labels_within()) => {}
            Some(place) => {
                set[place] = set[place].clone().labelled(member.labels_within());
                is_same = false;
            }
        }
    }
    let result = count(added).labelled(labels | compared(members, held));
    unless_same(result, is_same, Type::Set, &|| Value::from(set.clone()).labelled(labels))
}

/// The labels of everything that a result about membership depends on.
fn compared(members: &[Value], held: Option<&Held>) -> Labels {
    let within = held.map_or(Labels::NONE, |held| held.content.value().labels_within());
    members.iter().map(Value::labels_within).fold(within, Labels::union)
}

fn check_type(key: &Key, operation: &Operation, held: Option<&Held>) -> Result<(), Error> {
    let types = operation.types();
    match held.map(|held| held.content.kind()) {
        Some(found) if !types.contains(&found) => Err(Error::WrongType {
            key: key.clone(),
            operation: operation.name(),
            needed: if let [one] = types { Some(*one) } else { None },
            found,
        }),
        _ => Ok(()),
    }
}

fn items_of(held: Option<&Held>) -> Vec<Value> {
    held.map(|held| held.content.items().into_vec()).unwrap_or_default()
}

fn fields_of(held: Option<&Held>) -> Object {
    held.map(|held| held.content.fields()).unwrap_or_default()
}

fn count(number: usize) -> Value {
    Value::from(number as i64)
}

/// The positions of an inclusive range, limited to those that exist. Negative positions count from the end.
fn positions(from: i64, to: i64, length: usize) -> std::ops::Range<usize> {
    let length_signed = length as i64;
    let place = |position: i64| if position < 0 { length_signed.saturating_add(position) } else { position };
    let first = place(from).clamp(0, length_signed);
    let end = place(to).saturating_add(1).clamp(first, length_signed);
    first as usize..end as usize
}

/// When the key expires after a write.
fn expiry(request: &Request, held: Option<&Held>, now: UnixMillis) -> Option<UnixMillis> {
    match request.expiry {
        Expiry::Never => None,
        Expiry::After(time) => Some(now.plus(millis_up(time))),
        Expiry::Unchanged if matches!(request.operation, Operation::Set { .. }) => None,
        Expiry::Unchanged => held.and_then(|held| held.expires),
    }
}

fn millis_up(time: Duration) -> i64 {
    let millis = time.as_nanos().div_ceil(1_000_000);
    i64::try_from(millis).unwrap_or(i64::MAX)
}
