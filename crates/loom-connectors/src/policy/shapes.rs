//! Policies that change the shape of a JSON body.

use loom_expression::{Object, Value};

use super::{Action, Reference};
use crate::{
    encoding,
    template::{Access, Scope, Source, descend},
};

/// The body after a policy.
pub(super) fn apply(action: &Action, body: &Value, scope: &dyn Scope) -> Value {
    match action {
        Action::SetProperty { parent, property, value, .. } => each(body, &parent.path, &mut |item| {
            let value = value.evaluate(&ItemScope { item, scope });
            set(item, property, &mut |_| Some(value.clone()))
        }),
        Action::Replace { parent, property, from, to, target } => {
            moved(body, parent, property, target, scope, &|text, scope| {
                let to = to.evaluate(scope);
                Some(Value::from(text.as_str()?.replace(from.as_str(), &to.text())).labelled(text.labels()))
            })
        }
        Action::Encode { parent, property, target } => {
            moved(body, parent, property, target, scope, &|text, _| {
                Some(Value::from(encoding::component(text.as_str()?)).labelled(text.labels()))
            })
        }
        Action::Split { parent, property, delimiters, child, target } => {
            moved(body, parent, property, target, scope, &|text, _| {
                let parts = text.as_str()?.split(|c| delimiters.contains(c)).map(str::trim);
                let parts = parts.filter(|part| !part.is_empty()).map(|part| match child {
                    Some(name) => Value::from(Object::single(name.as_str().into(), part.into())),
                    None => part.into(),
                });
                Some(parts.collect::<Value>().labelled(text.labels()))
            })
        }
        Action::ArrayToObject { parent, property, key, keep_key, target } => {
            moved(body, parent, property, target, scope, &|items, _| {
                let items = items.as_array()?;
                let mut object = Object::new();
                for item in items {
                    let name = descend(item, key).map(encoding::text_of).unwrap_or_default();
                    let value = if *keep_key { item.clone() } else { set(item, key, &mut |_| None) };
                    object.insert(name, value);
                }
                Some(Value::from(object).labelled(items.labels()))
            })
        }
        Action::ObjectToArray { parent, property, key, value, target } => {
            moved(body, parent, property, target, scope, &|object, _| {
                let object = object.as_object()?;
                let items = object.iter().map(|(name, member)| {
                    let pair = [(key.as_str(), Value::from(&**name)), (value.as_str(), member.clone())];
                    Value::from(pair.into_iter().collect::<Object>())
                });
                Some(items.collect::<Value>().labelled(object.labels()))
            })
        }
        Action::Move { parent, property, target_parent, target, members_only } => {
            let from: Vec<Access> = parent.path.iter().chain(property).cloned().collect();
            let to: Vec<Access> = target_parent.path.iter().chain(target).cloned().collect();
            take(body, &from, &to, *members_only)
        }
        Action::SetHeader { .. }
        | Action::SetQuery { .. }
        | Action::SetHost { .. }
        | Action::Route { .. }
        | Action::SetFromUrl { .. }
        | Action::NextLink { .. }
        | Action::Poll { .. }
        | Action::ConnectionStatus => body.clone(),
    }
}

/// Moves the value at `from` to `to`. With `members_only`, the value is an object, and its members are merged into the object at
/// `to`: the moved members win. A body without the value, or with one of another type, stays as it is.
fn take(body: &Value, from: &[Access], to: &[Access], members_only: bool) -> Value {
    let Some(found) = descend(body, from).cloned() else { return body.clone() };
    if from.is_empty() || (members_only && found.as_object().is_none()) {
        return body.clone();
    }
    let rest = set(body, from, &mut |_| None);
    set(&rest, to, &mut |before| {
        let (Some(moved), true) = (found.as_object(), members_only) else { return Some(found.clone()) };
        let labels = before.map(Value::labels).unwrap_or_default() | found.labels();
        let mut merged = before.and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, member) in moved {
            merged.insert(&**name, member.clone());
        }
        Some(Value::from(merged).labelled(labels))
    })
}

/// Converts a property of each parent, and writes the result to its target: a place in the parent (`@item()`), or in the
/// body. A parent without the property, or with one of another type, stays as it is.
fn moved(
    body: &Value,
    parent: &Reference,
    property: &[Access],
    target: &Reference,
    scope: &dyn Scope,
    convert: &dyn Fn(&Value, &dyn Scope) -> Option<Value>,
) -> Value {
    if target.source == Source::Item {
        return each(body, &parent.path, &mut |item| {
            let found = descend(item, property).and_then(|value| convert(value, &ItemScope { item, scope }));
            match found {
                Some(value) => set(item, &target.path, &mut |_| Some(value.clone())),
                None => item.clone(),
            }
        });
    }
    let whole: Vec<Access> = parent.path.iter().chain(property).cloned().collect();
    match descend(body, &whole).and_then(|value| convert(value, &ItemScope { item: body, scope })) {
        Some(value) => set(body, &target.path, &mut |_| Some(value.clone())),
        None => body.clone(),
    }
}

struct ItemScope<'a> {
    item: &'a Value,
    scope: &'a dyn Scope,
}

impl Scope for ItemScope<'_> {
    fn value(&self, source: &Source) -> Value {
        if *source == Source::Item { self.item.clone() } else { self.scope.value(source) }
    }
}

/// Changes the object at a path, or each object of the array at it. On the way, a name goes into each item of an array. What
/// is absent, or of another type, stays as it is.
fn each(value: &Value, path: &[Access], change: &mut dyn FnMut(&Value) -> Value) -> Value {
    if let Some(items) = value.as_array()
        && !matches!(path.first(), Some(Access::Index(_)))
    {
        let items = items.iter().map(|item| each(item, path, change)).collect::<Value>();
        return items.labelled(value.labels());
    }
    let Some((first, rest)) = path.split_first() else {
        return if value.as_object().is_some() { change(value) } else { value.clone() };
    };
    if descend(value, std::slice::from_ref(first)).is_none() {
        return value.clone();
    }
    set(value, std::slice::from_ref(first), &mut |inner| inner.map(|inner| each(inner, rest, change)))
}

/// A copy of a value in which the value at the end of a path is replaced, or removed when `change` returns nothing. Objects
/// on the way are created.
pub(super) fn set(
    value: &Value,
    path: &[Access],
    change: &mut dyn FnMut(Option<&Value>) -> Option<Value>,
) -> Value {
    let Some((first, rest)) = path.split_first() else { return change(Some(value)).unwrap_or_default() };
    match first {
        Access::Name(name) => {
            let Some(mut members) = value.as_object().cloned().or_else(|| value.is_null().then(Object::new))
            else {
                return value.clone();
            };
            let inner = members.get(name).cloned();
            let after = match (&inner, rest.is_empty()) {
                (inner, true) => change(inner.as_ref()),
                (inner, false) => Some(set(inner.as_ref().unwrap_or(&Value::NULL), rest, change)),
            };
            match after {
                Some(after) => {
                    members.insert(name.as_str(), after);
                }
                None => {
                    members.remove(name);
                }
            }
            members.into()
        }
        Access::Index(index) => {
            let Some(items) = value.as_array() else { return value.clone() };
            let items = items.iter().enumerate().filter_map(|(at, item)| {
                if at != *index {
                    return Some(item.clone());
                }
                if rest.is_empty() { change(Some(item)) } else { Some(set(item, rest, change)) }
            });
            items.collect::<Value>().labelled(value.labels())
        }
    }
}
