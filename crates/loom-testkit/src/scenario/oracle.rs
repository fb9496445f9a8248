//! Resolves `{"$oracle": ["file.json", "property", …]}`: the object is replaced by a part of another file.

use std::{path::Path, sync::Arc};

use loom_expression::{Object, Value};

use super::read_json;

/// The property that names the part.
const MARK: &str = "$oracle";

/// Resolves all references in `value` to files in `directory`.
pub(super) fn resolve(value: &Value, directory: &Path) -> Result<Value, String> {
    if let Some(items) = value.as_array() {
        let items: Result<Vec<Value>, String> = items.iter().map(|item| resolve(item, directory)).collect();
        return Ok(items?.into());
    }
    let Some(object) = value.as_object() else { return Ok(value.clone()) };
    let mut own = Object::new();
    for (name, member) in object {
        if &**name != MARK {
            own.insert(Arc::clone(name), resolve(member, directory)?);
        }
    }
    let Some(place) = object.get(MARK) else { return Ok(own.into()) };
    let taken = take(place, directory)?;
    if own.is_empty() {
        return Ok(taken);
    }
    let mut joined = taken.as_object().ok_or("properties can be added only to an object")?.clone();
    for (name, member) in &own {
        joined.insert(Arc::clone(name), member.clone());
    }
    Ok(joined.into())
}

fn take(place: &Value, directory: &Path) -> Result<Value, String> {
    let wrong =
        || format!("`{MARK}` must be an array of a file name and the property names that lead to the part");
    let mut names = place.as_array().ok_or_else(wrong)?.iter().map(Value::as_str);
    let file = names.next().flatten().ok_or_else(wrong)?;
    let mut found = read_json(&directory.join(file))?;
    for name in names {
        let name = name.ok_or_else(wrong)?;
        found = found.get(name).cloned().ok_or_else(|| format!("{file} has no property `{name}` here"))?;
    }
    Ok(found)
}
