//! Functions that make objects from objects.

use std::sync::Arc;

use super::{ANY, Arguments, Body, Category, Cost, Function, Lazy, Outcome, ex};
use crate::{Labels, Object, Value, error::Failure};

const fn manipulation(name: &'static str, arity: (usize, usize), body: Body) -> Function {
    Function::new(Category::Manipulation, name, arity, body)
}

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    manipulation("addProperty", (3, 3), Body::Plain(add)).carries().cost(Cost::Items).docs(
        "addProperty(object: object, name: string, value: any) → object",
        "Returns a copy of the object with a new property at the end. A property with this name must not exist.",
    ).examples(&[ex("@addProperty(json('{\"a\":1}'), 'b', 2)", r#"{"a":1,"b":2}"#), ex("@addProperty(json('{\"a\":1}'), 'a', 2)", "error")]),
    manipulation("setProperty", (3, 3), Body::Plain(set)).carries().cost(Cost::Items).docs(
        "setProperty(object: object, name: string, value: any) → object",
        "Returns a copy of the object with the property set. An existing property keeps its position; a new one is added at the end.",
    ).examples(&[ex("@setProperty(json('{\"a\":1,\"b\":2}'), 'a', 3)", r#"{"a":3,"b":2}"#)]),
    manipulation("removeProperty", (2, 2), Body::Plain(remove)).carries().cost(Cost::Items).docs(
        "removeProperty(object: object, name: string) → object",
        "Returns a copy of the object without the property, or the unchanged object if it has no such property.",
    ).examples(&[ex("@removeProperty(json('{\"a\":1,\"b\":2}'), 'a')", r#"{"b":2}"#)]),
    manipulation("mergeObjects", (2, ANY), Body::Plain(merge)).carries().cost(Cost::Items).docs(
        "mergeObjects(object: object, …) → object",
        "Merges objects into one with all their properties. If objects share a property, the last value wins.",
    ).examples(&[ex("@mergeObjects(json('{\"a\":1}'), json('{\"a\":2,\"b\":3}'))", r#"{"a":2,"b":3}"#)]),
    manipulation("coalesce", (1, ANY), Body::Lazy(Lazy::Coalesce)).carries().docs(
        "coalesce(value: any, …) → any",
        "Returns the first value that is not null, or null if there is none. The values after it are not evaluated. Empty strings, arrays and objects are not null.",
    ).examples(&[ex("@coalesce(null, 'hello', 'world')", r#""hello""#), ex("@coalesce(null, null)", "null"), ex("@coalesce('', 'x')", r#""""#)]),
];

/// The object, the labels of the object and the name, and the name of the existing property or of the one to set.
fn target(arguments: &mut Arguments<'_>) -> Result<(Object, Labels, Arc<str>), Failure> {
    if arguments.get(0).as_object().is_none() {
        return Err(arguments.wrong_type(0, "an object"));
    }
    let name = Arc::<str>::from(arguments.str(1)?);
    let labels = arguments.get(0).labels() | arguments.get(1).labels();
    let object = arguments.take(0).into_object().unwrap_or_default();
    let name = object.name_ignore_case(&name).cloned().unwrap_or(name);
    Ok((object, labels, name))
}

fn add(arguments: &mut Arguments<'_>) -> Outcome {
    let (mut object, labels, name) = target(arguments)?;
    if object.contains_key(&name) {
        return Err(arguments
            .bad(1, "the object already has a property with this name; use setProperty() to replace it"));
    }
    object.insert(name, arguments.take(2));
    Ok(Value::from(object).labelled(labels))
}

fn set(arguments: &mut Arguments<'_>) -> Outcome {
    let (mut object, labels, name) = target(arguments)?;
    object.insert(name, arguments.take(2));
    Ok(Value::from(object).labelled(labels))
}

fn remove(arguments: &mut Arguments<'_>) -> Outcome {
    let (mut object, labels, name) = target(arguments)?;
    object.remove(&name);
    Ok(Value::from(object).labelled(labels))
}

fn merge(arguments: &mut Arguments<'_>) -> Outcome {
    for at in 0..arguments.len() {
        if arguments.get(at).as_object().is_none() {
            return Err(arguments.wrong_type(at, "an object"));
        }
    }
    let labels = arguments.labels();
    let mut merged = arguments.take(0).into_object().unwrap_or_default();
    for object in arguments.values[1..].iter().filter_map(Value::as_object) {
        merged.extend(object.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
    }
    Ok(Value::from(merged).labelled(labels))
}
