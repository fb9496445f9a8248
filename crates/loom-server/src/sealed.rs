//! JSON in messages and named values that may hold secrets: sealed with the key of the store when it does.
//!
//! JSON text has no labels, so a reader also receives whether it was sealed.

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::Sealer;

/// The first byte of a sealed payload. JSON text never begins with it.
const MARK: u8 = 0;

/// The payload for an object; `secret` says whether it holds a secret.
pub(crate) fn write(sealer: &Sealer, context: &str, object: Object, secret: bool) -> Bytes {
    let text = Value::from(object).to_json_text();
    let sealed = if secret { sealer.seal(context.as_bytes(), text.as_bytes()) } else { None };
    match sealed {
        Some(sealed) => [&[MARK], &sealed[..]].concat().into(),
        None => text.into(),
    }
}

/// The value in a payload, and whether it was sealed. None when it is not JSON, or was sealed with another key.
pub(crate) fn read(sealer: &Sealer, context: &str, payload: &[u8]) -> Option<(Value, bool)> {
    match payload.split_first() {
        Some((&MARK, sealed)) => {
            let text = sealer.open(context.as_bytes(), sealed)?;
            Some((Value::parse_json(&text).ok()?, true))
        }
        _ => Some((Value::parse_json(payload).ok()?, false)),
    }
}
