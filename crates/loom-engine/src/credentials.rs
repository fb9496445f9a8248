//! Redaction of the credentials in a request's inputs.

use std::sync::Arc;

use loom_expression::{MASK, Object, Value};

/// The properties of `authentication` that identify a caller but prove nothing.
const OPEN: [&str; 9] =
    ["type", "username", "tenant", "authority", "audience", "clientId", "identity", "scheme", "resource"];

/// The inputs of a request with the secret properties of `authentication` masked; none when there is nothing to mask. The
/// requests of a webhook, below `subscribe` and `unsubscribe`, are included.
pub fn mask_credentials(inputs: &Value) -> Option<Value> {
    let mut shown: Option<Object> = None;
    let members = inputs.as_object()?;
    for (name, member) in members {
        let without = match &**name {
            "authentication" if member.as_object().is_none() && !member.is_null() => Some(Value::from(MASK)),
            "authentication" => mask_properties(member, is_open),
            "subscribe" | "unsubscribe" => mask_credentials(member),
            _ => None,
        };
        if let Some(without) = without {
            shown.get_or_insert_with(|| members.clone()).insert(Arc::clone(name), without);
        }
    }
    shown.map(Value::from)
}

fn is_open(name: &str) -> bool {
    OPEN.iter().any(|open| name.eq_ignore_ascii_case(open))
}

/// The object with all properties masked except those for which `open` returns true; none when there is nothing to mask.
pub fn mask_properties(value: &Value, open: impl Fn(&str) -> bool) -> Option<Value> {
    let members = value.as_object()?;
    if members.keys().all(|name| open(name)) {
        return None;
    }
    let shown = members
        .iter()
        .map(|(name, value)| (Arc::clone(name), if open(name) { value.clone() } else { Value::from(MASK) }));
    Some(Value::from(shown.collect::<Object>()).labelled(value.labels()))
}
