//! The operations against a naive model, over random sequences of operations, times and conditions.

use std::collections::BTreeMap;

use loom_expression::{Object, Value};
use loom_memory::{
    Change, Condition, Entry, Error, Expiry, Key, Operation, Request, Revision, Type, apply, transact,
};
use loom_store::UnixMillis;
use proptest::prelude::*;

/// What the model knows of a key: JSON texts, and nothing shared with the code under test.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Value(String),
    List(Vec<String>),
    Hash(Vec<(String, String)>),
    Set(Vec<String>),
    Counter(i64),
}

#[derive(Clone, Debug)]
struct Model {
    kept: Kept,
    revision: u64,
    expires: Option<i64>,
}

#[derive(Debug, PartialEq)]
enum Refused {
    Type,
    Condition,
    Overflow,
}

impl Kept {
    fn kind(&self) -> Type {
        match self {
            Kept::Value(_) => Type::Value,
            Kept::List(_) => Type::List,
            Kept::Hash(_) => Type::Hash,
            Kept::Set(_) => Type::Set,
            Kept::Counter(_) => Type::Counter,
        }
    }

    fn json(&self) -> String {
        match self {
            Kept::Value(text) => text.clone(),
            Kept::List(items) | Kept::Set(items) => format!("[{}]", items.join(",")),
            Kept::Hash(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }
            Kept::Counter(number) => number.to_string(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Kept::List(items) | Kept::Set(items) => items.is_empty(),
            Kept::Hash(fields) => fields.is_empty(),
            Kept::Value(_) | Kept::Counter(_) => false,
        }
    }
}

fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(Value::to_json_text).collect()
}

/// The items of an inclusive range, found by asking of each position whether it is in it.
fn between(items: &[String], from: i64, to: i64) -> Vec<String> {
    let length = items.len() as i128;
    let place = |position: i64| i128::from(position) + if position < 0 { length } else { 0 };
    let is_in = |position: usize| (place(from)..=place(to)).contains(&(position as i128));
    items.iter().enumerate().filter(|(position, _)| is_in(*position)).map(|(_, item)| item.clone()).collect()
}

/// The result, and what the key holds afterwards if the operation wrote.
fn naive(operation: &Operation, kept: Option<Kept>) -> Result<(String, Option<Kept>), Refused> {
    let list = |kept: Option<Kept>| match kept {
        None => Ok(Vec::new()),
        Some(Kept::List(items)) => Ok(items),
        Some(_) => Err(Refused::Type),
    };
    let hash = |kept: Option<Kept>| match kept {
        None => Ok(Vec::new()),
        Some(Kept::Hash(fields)) => Ok(fields),
        Some(_) => Err(Refused::Type),
    };
    let set = |kept: Option<Kept>| match kept {
        None => Ok(Vec::new()),
        Some(Kept::Set(members)) => Ok(members),
        Some(_) => Err(Refused::Type),
    };
    Ok(match operation {
        Operation::Get => (kept.map_or("null".into(), |kept| kept.json()), None),
        Operation::Exists => (kept.is_some().to_string(), None),
        Operation::Delete => (kept.is_some().to_string(), Some(Kept::List(Vec::new()))),
        Operation::Set { value } => match kept {
            None | Some(Kept::Value(_)) => ("null".into(), Some(Kept::Value(value.to_json_text()))),
            Some(_) => return Err(Refused::Type),
        },
        Operation::Append { values, max } => {
            let mut items = list(kept)?;
            for value in texts(values) {
                items.push(value);
            }
            while max.is_some_and(|max| items.len() as u64 > max.get()) {
                items.remove(0);
            }
            (items.len().to_string(), Some(Kept::List(items)))
        }
        Operation::Range { from, to } => (Kept::List(between(&list(kept)?, *from, *to)).json(), None),
        Operation::Trim { from, to } => {
            let items = between(&list(kept)?, *from, *to);
            (items.len().to_string(), Some(Kept::List(items)))
        }
        Operation::Length => match kept {
            None => ("0".into(), None),
            Some(Kept::List(items) | Kept::Set(items)) => (items.len().to_string(), None),
            Some(Kept::Hash(fields)) => (fields.len().to_string(), None),
            Some(_) => return Err(Refused::Type),
        },
        Operation::HashSet { fields } => {
            let mut known = hash(kept)?;
            let mut added = 0;
            for (name, value) in fields {
                if let Some((_, field)) = known.iter_mut().find(|(field, _)| *field == **name) {
                    *field = value.to_json_text();
                } else {
                    added += 1;
                    known.push((name.to_string(), value.to_json_text()));
                }
            }
            (added.to_string(), Some(Kept::Hash(known)))
        }
        Operation::HashGet { field } => {
            let fields = hash(kept)?;
            let found = fields.into_iter().find(|(name, _)| *name == **field);
            (found.map_or("null".into(), |(_, value)| value), None)
        }
        Operation::HashDelete { fields } => {
            let mut known = hash(kept)?;
            let before = known.len();
            known.retain(|(name, _)| !fields.iter().any(|field| **field == **name));
            ((before - known.len()).to_string(), Some(Kept::Hash(known)))
        }
        Operation::HashAll => (Kept::Hash(hash(kept)?).json(), None),
        Operation::SetAdd { members } => {
            let mut known = set(kept)?;
            let mut added = 0;
            for member in texts(members) {
                if !known.contains(&member) {
                    known.push(member);
                    added += 1;
                }
            }
            (added.to_string(), Some(Kept::Set(known)))
        }
        Operation::SetRemove { members } => {
            let mut known = set(kept)?;
            let before = known.len();
            known.retain(|member| !texts(members).contains(member));
            ((before - known.len()).to_string(), Some(Kept::Set(known)))
        }
        Operation::SetMembers => (Kept::Set(set(kept)?).json(), None),
        Operation::SetHas { member } => (set(kept)?.contains(&member.to_json_text()).to_string(), None),
        Operation::Increment { by, .. } => {
            let before = match kept {
                None => 0,
                Some(Kept::Counter(number)) => number,
                Some(_) => return Err(Refused::Type),
            };
            let sum = before.checked_add(*by).ok_or(Refused::Overflow)?;
            (sum.to_string(), Some(Kept::Counter(sum)))
        }
    })
}

/// Applies a request to the model of one key.
fn model(request: &Request, key: &mut Option<Model>, now: i64, revision: u64) -> Result<String, Refused> {
    if key.as_ref().is_some_and(|known| known.expires.is_some_and(|expires| expires <= now)) {
        *key = None;
    }
    let holds = match request.condition {
        Condition::Any => true,
        Condition::Absent => key.is_none(),
        Condition::Revision(wanted) => key.as_ref().map(|known| known.revision) == Some(wanted.0),
    };
    if !holds {
        return Err(Refused::Condition);
    }
    let before = key.as_ref().map(|known| known.kept.clone());
    let (result, written) = naive(&request.operation, before.clone())?;
    let Some(kept) = written else { return Ok(result) };
    let is_set = matches!(request.operation, Operation::Set { .. });
    let expires = match request.expiry {
        Expiry::Never => None,
        Expiry::After(time) => Some(now + time.as_millis() as i64),
        Expiry::Unchanged if is_set => None,
        Expiry::Unchanged => key.as_ref().and_then(|known| known.expires),
    };
    // These write even what was there before.
    let always = match &request.operation {
        Operation::Set { .. } | Operation::Increment { .. } => true,
        Operation::Append { values, .. } => !values.is_empty(),
        Operation::HashSet { fields } => !fields.is_empty(),
        _ => false,
    };
    let is_same = !always && before.as_ref() == Some(&kept) && request.expiry == Expiry::Unchanged;
    if kept.is_empty() {
        *key = None;
    } else if !is_same {
        *key = Some(Model { kept, revision, expires });
    }
    Ok(result)
}

fn json() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4_i64).prop_map(Value::from),
        Just(Value::from(1.0)),
        Just(Value::NULL),
        "[ab]".prop_map(Value::from),
        (0..2_i64).prop_map(|number| Value::from(vec![Value::from(number)])),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let values = || prop::collection::vec(json(), 0..4);
    let position = || prop_oneof![-5..6_i64, Just(i64::MIN), Just(i64::MAX)];
    let field = || "[xyz]".prop_map(std::sync::Arc::<str>::from);
    prop_oneof![
        Just(Operation::Get),
        Just(Operation::Exists),
        json().prop_map(|value| Operation::Set { value }),
        Just(Operation::Delete),
        Just(Operation::Delete),
        (values(), 0..5_u64)
            .prop_map(|(values, max)| Operation::Append { values, max: std::num::NonZeroU64::new(max) }),
        (position(), position()).prop_map(|(from, to)| Operation::Range { from, to }),
        (position(), position()).prop_map(|(from, to)| Operation::Trim { from, to }),
        Just(Operation::Length),
        prop::collection::vec((field(), json()), 0..3)
            .prop_map(|fields| Operation::HashSet { fields: fields.into_iter().collect::<Object>() }),
        field().prop_map(|field| Operation::HashGet { field }),
        prop::collection::vec(field(), 0..3).prop_map(|fields| Operation::HashDelete { fields }),
        Just(Operation::HashAll),
        values().prop_map(|members| Operation::SetAdd { members }),
        values().prop_map(|members| Operation::SetRemove { members }),
        Just(Operation::SetMembers),
        json().prop_map(|member| Operation::SetHas { member }),
        prop_oneof![-3..4_i64, Just(i64::MAX), Just(i64::MIN)].prop_map(Operation::increment),
    ]
}

/// An operation on one of two keys; its condition names the revision of the key if `current` is true.
fn step() -> impl Strategy<Value = (Request, bool, i64)> {
    let condition = prop_oneof![4 => Just((Condition::Any, false)), 1 => Just((Condition::Absent, false)), 2 => Just((Condition::Any, true))];
    let expiry = prop_oneof![4 => Just(Expiry::Unchanged), 1 => Just(Expiry::Never), 2 => (1..40_u64).prop_map(Expiry::after_millis)];
    ("[kl]", operation(), condition, expiry, 0..12_i64).prop_map(
        |(key, operation, (condition, current), expiry, later)| {
            let request = Request::new(&key, operation).expect("the key is valid");
            (request.if_only(condition).expiring(expiry), current, later)
        },
    )
}

fn refused(why: &Error) -> Refused {
    match why {
        Error::WrongType { .. } => Refused::Type,
        Error::RevisionMismatch { .. } => Refused::Condition,
        Error::Overflow { .. } => Refused::Overflow,
        why => panic!("{why}"),
    }
}

fn change(entries: &mut BTreeMap<Key, Entry>, key: &Key, change: Change, revision: u64) {
    match change {
        Change::None => {}
        Change::Delete => drop(entries.remove(key)),
        Change::Put { content, expires } => {
            entries.insert(key.clone(), Entry { content, revision: Revision(revision), expires });
        }
    }
}

/// What the entries hold at a time, in the words of the model.
fn shown(entries: &BTreeMap<Key, Entry>, now: i64) -> Vec<(String, Type, String, u64, Option<i64>)> {
    let alive = entries.iter().filter(|(_, entry)| !entry.is_expired(UnixMillis(now)));
    alive
        .map(|(key, entry)| {
            let (content, expires) = (&entry.content, entry.expires.map(|expires| expires.0));
            (key.to_string(), content.kind(), content.value().to_json_text(), entry.revision.0, expires)
        })
        .collect()
}

fn shown_model(
    keys: &BTreeMap<String, Option<Model>>,
    now: i64,
) -> Vec<(String, Type, String, u64, Option<i64>)> {
    let alive = keys.iter().filter_map(|(key, known)| Some((key, known.as_ref()?)));
    let alive = alive.filter(|(_, known)| known.expires.is_none_or(|expires| expires > now));
    alive
        .map(|(key, known)| {
            (key.clone(), known.kept.kind(), known.kept.json(), known.revision, known.expires)
        })
        .collect()
}

proptest! {
    #[test]
    fn operations_do_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        let mut keys: BTreeMap<String, Option<Model>> = BTreeMap::new();
        let mut now = 1_000;
        for (number, (mut request, current, later)) in steps.into_iter().enumerate() {
            now += later;
            if let (true, Some(entry)) = (current, entries.get(&request.key)) {
                request.condition = Condition::Revision(entry.revision);
            }
            let revision = number as u64 + 1;
            let expected = model(&request, keys.entry(request.key.to_string()).or_default(), now, revision);
            let applied = apply(&request, entries.get(&request.key), UnixMillis(now));
            let found = match applied {
                Ok(applied) => {
                    change(&mut entries, &request.key, applied.change, revision);
                    Ok(applied.result.to_json_text())
                }
                Err(why) => Err(refused(&why)),
            };
            prop_assert_eq!(found, expected, "{:?}", request);
            prop_assert_eq!(shown(&entries, now), shown_model(&keys, now), "after {:?}", request);
        }
    }

    /// A transaction is its operations one after the other, unless one of them fails; then it is nothing.
    #[test]
    fn a_transaction_is_all_of_its_operations_or_none(
        before in prop::collection::vec(step(), 0..8),
        steps in prop::collection::vec(step(), 1..8),
    ) {
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        let now = 1_000;
        for (request, ..) in before {
            if let Ok(applied) = apply(&request, entries.get(&request.key), UnixMillis(now)) {
                change(&mut entries, &request.key, applied.change, 1);
            }
        }
        let requests: Vec<Request> = steps.into_iter().map(|(request, ..)| request.if_only(Condition::Any)).collect();
        let mut one_by_one = entries.clone();
        let mut expected = Ok(Vec::new());
        for request in &requests {
            let applied = apply(request, one_by_one.get(&request.key), UnixMillis(now));
            match (applied, &mut expected) {
                (Ok(applied), Ok(results)) => {
                    change(&mut one_by_one, &request.key, applied.change, 2);
                    results.push(applied.result.to_json_text());
                }
                (Err(why), Ok(_)) => {
                    expected = Err(refused(&why));
                    break;
                }
                (_, Err(_)) => break,
            }
        }
        let transacted = transact(&requests, &entries, UnixMillis(now));
        let found = transacted.map(|transacted| {
            for (key, changed) in transacted.changes {
                change(&mut entries, &key, changed, 2);
            }
            transacted.results.iter().map(Value::to_json_text).collect::<Vec<_>>()
        });
        let is_done = found.is_ok();
        prop_assert_eq!(found.map_err(|why| refused(&why)), expected);
        if is_done {
            prop_assert_eq!(shown(&entries, now), shown(&one_by_one, now));
        }
    }
}
