//! Collection functions: arrays, objects, and strings as sequences of characters.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use super::{ANY, Arguments, Body, Category, Cost, Function, Outcome, ex, logic::compare_text};
use crate::{
    Array, Kind, Labels, Object, Value, ValueRef, envelope,
    error::Failure,
    utf16,
    value::{TextBuilder, compare_numbers},
};

/// A function that returns its arguments or parts of them, which keep their labels.
const fn collection(
    name: &'static str,
    arity: (usize, usize),
    body: fn(&mut Arguments<'_>) -> Outcome,
) -> Function {
    Function::new(Category::Collection, name, arity, Body::Plain(body))
}

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(Category::Collection, "contains", (2, 2), Body::Pair(holds, contains)).docs(
        "contains(collection: string | array | object, value: any) → boolean",
        "Checks whether a string contains a substring (case-sensitive), an array contains an equal item, or an object has a property with that name (case-insensitive).",
    ).examples(&[ex("@contains('hello world', 'world')", "true"), ex("@contains(createArray(1, 2), 2.0)", "true"), ex("@contains(json('{\"a\":null}'), 'a')", "true"), ex("@contains(null, 'a')", "error")]),
    collection("empty", (1, 1), empty).cost(Cost::Flat).docs(
        "empty(collection: string | array | object | null) → boolean",
        "Checks whether a string, an array or an object is empty. Null counts as empty.",
    ).examples(&[ex("@empty('')", "true"), ex("@empty(createArray(null))", "false"), ex("@empty(null)", "true"), ex("@empty(0)", "error")]),
    collection("first", (1, 1), first).cost(Cost::Flat).carries().docs(
        "first(collection: string | array) → any",
        "Returns the first item of an array or the first character of a string, or null if it is empty.",
    ).examples(&[ex("@first(createArray(0, 1, 2))", "0"), ex("@first('hello')", r#""h""#), ex("@first('')", "null")]),
    collection("last", (1, 1), last).cost(Cost::Flat).carries().docs(
        "last(collection: string | array) → any",
        "Returns the last item of an array or the last character of a string, or null if it is empty.",
    ).examples(&[ex("@last(createArray(0, 1, 2))", "2"), ex("@last('abc')", r#""c""#)]),
    collection("join", (2, 2), join).docs(
        "join(items: array, delimiter: string) → string",
        "Joins the items, converted to strings, with the delimiter between them.",
    ).examples(&[ex("@join(createArray('a', 'b', 'c'), '.')", r#""a.b.c""#), ex("@join(createArray(1, true, null), '|')", r#""1|True|""#)]),
    collection("skip", (2, 2), skip).cost(Cost::Items).carries().docs(
        "skip(collection: array | string, count: integer) → array | string",
        "Removes the first items of an array or characters of a string and returns the rest. The count must not be negative; a count beyond the end returns an empty result.",
    ).examples(&[ex("@skip(createArray(0, 1, 2, 3), 1)", "[1,2,3]"), ex("@skip('abc', 5)", r#""""#)]),
    collection("take", (2, 2), take).cost(Cost::Items).carries().docs(
        "take(collection: array | string, count: integer) → array | string",
        "Returns the first items of an array or characters of a string. The count must not be negative; a count beyond the end returns everything.",
    ).examples(&[ex("@take('abcde', 3)", r#""abc""#), ex("@take(createArray(0, 1, 2), 2)", "[0,1]")]),
    collection("reverse", (1, 1), reverse).cost(Cost::Items).carries().docs(
        "reverse(items: array) → array",
        "Returns the items in reverse order.",
    ).examples(&[ex("@reverse(createArray(0, 1, 2))", "[2,1,0]")]),
    collection("sort", (1, 2), sort).carries().docs(
        "sort(items: array, property?: string) → array",
        "Sorts the items in ascending order: numbers by value, strings ignoring case, false before true. With a property name, sorts objects by that property. The sort is stable; items of different types are an error.",
    ).examples(&[ex("@sort(createArray(2, 1, 0, 3))", "[0,1,2,3]"), ex("@sort(json('[{\"n\":2},{\"n\":1}]'), 'n')", r#"[{"n":1},{"n":2}]"#), ex("@sort(createArray(1, 'a'))", "error")]),
    collection("union", (2, ANY), union).carries().docs(
        "union(collection: array | object, …) → array | object",
        "Combines arrays into one without duplicate items, in order of first appearance, or objects into one with all their properties. If objects share a property, the last value wins.",
    ).examples(&[ex("@union(createArray(1, 2, 3), createArray(1, 2, 10))", "[1,2,3,10]"), ex("@union(json('{\"x\":1}'), json('{\"x\":2,\"y\":3}'))", r#"{"x":2,"y":3}"#)]),
    collection("intersection", (2, ANY), intersection).carries().docs(
        "intersection(collection: array | object, …) → array | object",
        "Returns the distinct items of the first array that occur in all other arrays, or the properties that all objects have with equal values.",
    ).examples(&[ex("@intersection(createArray(1, 2, 3), createArray(101, 2, 1, 10), createArray(6, 8, 1, 2))", "[1,2]"), ex("@intersection(json('{\"a\":1,\"b\":2}'), json('{\"b\":2}'))", r#"{"b":2}"#)]),
    collection("createArray", (1, ANY), create_array).cost(Cost::Flat).carries().docs(
        "createArray(value: any, …) → array",
        "Creates an array of the values, which may have different types.",
    ).examples(&[ex("@createArray('h', 1, null)", r#"["h",1,null]"#)]),
    collection("array", (1, 1), create_array).cost(Cost::Flat).carries().docs(
        "array(value: any) → array",
        "Creates an array with the value as its only item.",
    ).examples(&[ex("@array('hello')", r#"["hello"]"#), ex("@array(createArray(1))", "[[1]]")]),
    collection("chunk", (2, 2), chunk).cost(Cost::Items).carries().docs(
        "chunk(collection: string | array, size: integer) → array",
        "Splits an array or a string into chunks of the given size, which must be at least 1. The last chunk may be shorter.",
    ).examples(&[ex("@chunk(createArray(1, 2, 3), 2)", "[[1,2],[3]]"), ex("@chunk('abcde', 2)", r#"["ab","cd","e"]"#)]),
    collection("range", (2, 2), range).docs(
        "range(start: integer, count: integer) → array of integers",
        "Creates an array of consecutive integers beginning with the start. The count must be between 1 and 100,000.",
    ).examples(&[ex("@range(1, 4)", "[1,2,3,4]"), ex("@range(1, 0)", "error")]),
];

/// Whether the value is in the collection; `None` if the first argument is not a collection or cannot hold the second.
fn holds(collection: &Value, wanted: &Value) -> Option<Value> {
    let found = match collection.as_ref() {
        ValueRef::String(text) => text.contains(wanted.as_str()?),
        ValueRef::Array(items) => items.iter().any(|item| item.wdl_equals(wanted)),
        ValueRef::Object(object) => object.get_ignore_case(wanted.as_str()?).is_some(),
        _ => return None,
    };
    Some(Value::from(found))
}

fn contains(arguments: &mut Arguments<'_>) -> Outcome {
    holds(arguments.get(0), arguments.get(1)).ok_or_else(|| match arguments.get(0).as_ref() {
        ValueRef::String(_) | ValueRef::Object(_) => arguments.wrong_type(1, "a string"),
        _ => arguments.wrong_type(0, "a string, an array or an object"),
    })
}

fn empty(arguments: &mut Arguments<'_>) -> Outcome {
    let empty = match arguments.get(0).as_ref() {
        ValueRef::Null => true,
        ValueRef::String(text) => text.is_empty(),
        ValueRef::Array(items) => items.is_empty(),
        ValueRef::Object(object) => object.is_empty(),
        _ => return Err(arguments.wrong_type(0, "a string, an array or an object")),
    };
    Ok(Value::from(empty))
}

fn text_or_array(arguments: &Arguments<'_>) -> Failure {
    arguments.wrong_type(0, "a string or an array")
}

fn first(arguments: &mut Arguments<'_>) -> Outcome {
    let whole = arguments.get(0);
    let value = match whole.as_ref() {
        ValueRef::String("") => Value::NULL,
        ValueRef::String(_) => utf16::slice(whole, 0, 1),
        ValueRef::Array(items) => items.first().cloned().unwrap_or_default(),
        _ => return Err(text_or_array(arguments)),
    };
    Ok(value.labelled(whole.labels()))
}

fn last(arguments: &mut Arguments<'_>) -> Outcome {
    let whole = arguments.get(0);
    let value = match whole.as_ref() {
        ValueRef::String("") => Value::NULL,
        ValueRef::String(text) => {
            arguments.budget.pay_text(text.len())?;
            let length = utf16::length(text);
            utf16::slice(whole, length - 1, length)
        }
        ValueRef::Array(items) => items.last().cloned().unwrap_or_default(),
        _ => return Err(text_or_array(arguments)),
    };
    Ok(value.labelled(whole.labels()))
}

fn array<'a>(arguments: &'a Arguments<'_>, at: usize) -> Result<&'a Array, Failure> {
    arguments.get(at).as_array().ok_or_else(|| arguments.wrong_type(at, "an array"))
}

fn join(arguments: &mut Arguments<'_>) -> Outcome {
    let (items, delimiter) = (array(arguments, 0)?, arguments.str(1)?);
    let mut text = TextBuilder::default();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push_value(arguments.get(1));
        }
        arguments.budget.pay_text(delimiter.len())?;
        envelope::push_text(item, &mut text);
        arguments.check_text_bytes(text.len())?;
    }
    Ok(text.finish())
}

fn size(arguments: &Arguments<'_>) -> Result<usize, Failure> {
    usize::try_from(arguments.int(1)?).map_err(|_| arguments.bad(1, "the count must not be negative"))
}

fn skip(arguments: &mut Arguments<'_>) -> Outcome {
    let whole = arguments.get(0);
    let rest = match whole.as_ref() {
        ValueRef::String(text) => {
            let length = utf16::length(text);
            utf16::slice(whole, size(arguments)?.min(length), length)
        }
        ValueRef::Array(items) => items.iter().skip(size(arguments)?).cloned().collect(),
        _ => return Err(text_or_array(arguments)),
    };
    Ok(rest.labelled(whole.labels() | arguments.get(1).labels()))
}

fn take(arguments: &mut Arguments<'_>) -> Outcome {
    let whole = arguments.get(0);
    let head = match whole.as_ref() {
        ValueRef::String(text) => utf16::slice(whole, 0, size(arguments)?.min(utf16::length(text))),
        ValueRef::Array(items) => items.iter().take(size(arguments)?).cloned().collect(),
        _ => return Err(text_or_array(arguments)),
    };
    Ok(head.labelled(whole.labels() | arguments.get(1).labels()))
}

fn reverse(arguments: &mut Arguments<'_>) -> Outcome {
    let reversed: Value = array(arguments, 0)?.iter().rev().cloned().collect();
    Ok(reversed.labelled(arguments.get(0).labels()))
}

fn sort(arguments: &mut Arguments<'_>) -> Outcome {
    let items = array(arguments, 0)?;
    let key = arguments.opt_str(1)?;
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let by = match key {
            None => item,
            Some(name) => item
                .get(name)
                .ok_or_else(|| arguments.bad(0, &format!("an item has no property '{name}' to sort by")))?,
        };
        keyed.push((by, item));
    }
    // Sorting compares each item about log2(n) times; the content of the items was paid for once already.
    let comparisons = items.len().max(1).ilog2();
    arguments.budget.pay((items.len() as u64).saturating_mul(u64::from(comparisons)))?;
    // If every item can be compared with the first, every item can be compared with every other.
    let class = |value: &Value| match value.kind() {
        Kind::Integer | Kind::Float | Kind::Decimal => Some(Kind::Float),
        Kind::String => Some(Kind::String),
        Kind::Boolean => Some(Kind::Boolean),
        Kind::Null | Kind::Array | Kind::Object => None,
    };
    for (by, _) in &keyed {
        if class(by).is_none() || class(by) != class(keyed[0].0) {
            let why = format!("items of type '{}' and '{}' cannot be compared", keyed[0].0.kind(), by.kind());
            return Err(arguments.bad(0, &why));
        }
    }
    keyed.sort_by(|(left, _), (right, _)| match (left.as_ref(), right.as_ref()) {
        (ValueRef::String(left), ValueRef::String(right)) => compare_text(left, right),
        (ValueRef::Bool(left), ValueRef::Bool(right)) => left.cmp(&right),
        _ => compare_numbers(left, right).unwrap_or(Ordering::Equal),
    });
    let by: Labels = keyed.iter().map(|(by, _)| by.labels()).collect();
    let sorted: Value = keyed.into_iter().map(|(_, item)| item.clone()).collect();
    // The order reveals something about the items and about the name of the property.
    Ok(sorted.labelled(by | arguments.labels()))
}

/// The values seen so far, under keys that are equal exactly if the values are.
#[derive(Default)]
struct Seen(HashSet<SeenKey>);

#[derive(PartialEq, Eq, Hash)]
enum SeenKey {
    Null,
    Bool(bool),
    Int(i64),
    String(Arc<str>),
    /// The JSON text of a number that does not fit in a 64-bit integer, or of a container in canonical form.
    Json(String),
}

impl SeenKey {
    fn of(value: &Value) -> Self {
        match value.as_ref() {
            ValueRef::Null => Self::Null,
            ValueRef::Bool(value) => Self::Bool(value),
            ValueRef::String(shown) => match (value.unpaired_utf16(), value.as_arc_str()) {
                (Some(units), _) => Self::Json(format!("{shown:?} {units:?}")),
                (None, text) => text.cloned().map_or(Self::Null, Self::String),
            },
            _ => match canonical(value) {
                whole if whole.as_i64().is_some() => Self::Int(whole.as_i64().unwrap_or_default()),
                other => Self::Json(other.to_json_text()),
            },
        }
    }
}

/// The value with numbers in their simplest type and properties sorted by name, so that equal values have equal text.
fn canonical(value: &Value) -> Value {
    // 2^63. Every whole double below it converts exactly to a 64-bit integer.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match value.as_ref() {
        ValueRef::Float(float) if float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float) => {
            Value::from(float as i64)
        }
        ValueRef::Decimal(decimal) => {
            let simple = decimal.normalize();
            let whole = if simple.is_integer() { i64::try_from(simple).ok() } else { None };
            whole.map_or_else(|| Value::from(simple), Value::from)
        }
        ValueRef::Array(items) => items.iter().map(canonical).collect(),
        ValueRef::Object(object) => {
            let mut members: Vec<(&Arc<str>, &Value)> = object.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members = members.into_iter().map(|(key, value)| (Arc::clone(key), canonical(value)));
            Value::from(members.collect::<Object>())
        }
        _ => value.clone(),
    }
}

impl Seen {
    fn of(values: &Array) -> Self {
        Self(values.iter().map(SeenKey::of).collect())
    }

    /// Adds the value; returns false if an equal one was added before.
    fn insert(&mut self, value: &Value) -> bool {
        self.0.insert(SeenKey::of(value))
    }

    fn contains(&self, value: &Value) -> bool {
        self.0.contains(&SeenKey::of(value))
    }
}

impl Array {
    /// The indexes of the items that are equal to an earlier item, as the language's `equals` compares them. Takes
    /// time linear in the size of the items.
    pub fn repeated(&self) -> Vec<usize> {
        let mut seen = Seen::default();
        let repeated = self.iter().enumerate().filter(|(_, item)| !seen.insert(item));
        repeated.map(|(index, _)| index).collect()
    }
}

/// Whether the arguments are all arrays (true) or all objects (false).
fn all_arrays(arguments: &Arguments<'_>) -> Result<bool, Failure> {
    let arrays = arguments.get(0).as_array().is_some();
    for at in 0..arguments.len() {
        let value = arguments.get(at);
        if !(if arrays { value.as_array().is_some() } else { value.as_object().is_some() }) {
            let wanted = if arrays {
                "an array, like the first"
            } else if at == 0 {
                "an array or an object"
            } else {
                "an object, like the first"
            };
            return Err(arguments.wrong_type(at, wanted));
        }
    }
    Ok(arrays)
}

fn union(arguments: &mut Arguments<'_>) -> Outcome {
    if all_arrays(arguments)? {
        // Which items remain depends on all items.
        let labels = arguments.labels_within();
        let mut seen = Seen::default();
        let mut items = Vec::new();
        for item in arguments.values.iter().filter_map(Value::as_array).flatten() {
            if seen.insert(item) {
                items.push(item.clone());
                arguments.check_items(items.len())?;
            }
        }
        return Ok(Value::from(items).labelled(labels));
    }
    let labels = arguments.labels();
    let mut merged = arguments.take(0).into_object().unwrap_or_default();
    for object in arguments.values[1..].iter().filter_map(Value::as_object) {
        merged.extend(object.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
    }
    Ok(Value::from(merged).labelled(labels))
}

fn intersection(arguments: &mut Arguments<'_>) -> Outcome {
    let labels = arguments.labels_within();
    let value = if all_arrays(arguments)? {
        let others: Vec<Seen> =
            arguments.values[1..].iter().filter_map(Value::as_array).map(Seen::of).collect();
        let mut taken = Seen::default();
        let items = arguments.get(0).as_array().into_iter().flatten();
        items
            .filter(|item| others.iter().all(|seen| seen.contains(item)) && taken.insert(item))
            .cloned()
            .collect()
    } else {
        let members = arguments.get(0).as_object().into_iter().flatten();
        let common = members.filter(|(key, value)| {
            let others = arguments.values[1..].iter().filter_map(Value::as_object);
            others.into_iter().all(|object| object.get(key).is_some_and(|other| other.wdl_equals(value)))
        });
        Value::from(common.map(|(key, value)| (Arc::clone(key), value.clone())).collect::<Object>())
    };
    // Which items remain depends on all arguments.
    Ok(value.labelled(labels))
}

#[expect(clippy::unnecessary_wraps, reason = "all bodies have one signature")]
fn create_array(arguments: &mut Arguments<'_>) -> Outcome {
    Ok((0..arguments.len()).map(|at| std::mem::take(&mut arguments.values[at])).collect())
}

fn chunk(arguments: &mut Arguments<'_>) -> Outcome {
    let whole = arguments.get(0);
    let size = usize::try_from(arguments.int(1)?)
        .ok()
        .filter(|&size| size > 0)
        .ok_or_else(|| arguments.bad(1, "the size must be at least 1"))?;
    let pieces: Value = match whole.as_ref() {
        ValueRef::Array(items) => {
            items.chunks(size).map(|piece| piece.iter().cloned().collect::<Value>()).collect()
        }
        ValueRef::String(text) => {
            let length = utf16::length(text);
            arguments.check_items(length.div_ceil(size))?;
            Value::from(utf16::chunks(whole, size))
        }
        _ => return Err(text_or_array(arguments)),
    };
    Ok(pieces.labelled(whole.labels() | arguments.get(1).labels()))
}

fn range(arguments: &mut Arguments<'_>) -> Outcome {
    let (start, count) = (arguments.int(0)?, arguments.int(1)?);
    if !(1..=100_000).contains(&count) {
        return Err(arguments.bad(1, "the count must be between 1 and 100000"));
    }
    let end = start.checked_add(count).filter(|&end| end <= 2_147_483_647);
    let end = end.ok_or_else(|| arguments.bad(0, "the last integer must be at most 2147483647"))?;
    if start < -2_147_483_648 {
        return Err(arguments.bad(0, "the first integer must be at least -2147483648"));
    }
    arguments.check_items(count as usize)?;
    arguments.budget.pay(count as u64 / 2)?;
    Ok((start..end).collect())
}
