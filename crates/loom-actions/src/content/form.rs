//! `application/x-www-form-urlencoded`, by the rules of the URL standard: `+` is a space, and everything is UTF-8.

use loom_expression::{Object, Value, ValueRef, envelope, percent};

pub(super) const TYPE: &str = "application/x-www-form-urlencoded";

/// Decodes a form to `[{"key": …, "value": …}]`, in order, including empty fields.
pub fn decode_form(bytes: &[u8]) -> Value {
    let pairs = bytes.split(|&byte| byte == b'&').map(|member| {
        let mut halves = member.splitn(2, |&byte| byte == b'=');
        let key = percent::decode_form(halves.next().unwrap_or_default());
        let value = percent::decode_form(halves.next().unwrap_or_default());
        [("key", Value::from(key)), ("value", Value::from(value))].into_iter().collect::<Object>()
    });
    pairs.collect::<Value>()
}

/// Encodes fields as a form.
pub fn encode_form(fields: &[(String, String)]) -> String {
    let mut out = String::new();
    for (key, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        push_escaped(&mut out, key);
        out.push('=');
        push_escaped(&mut out, value);
    }
    out
}

/// The fields of `$formdata`, if the value has that shape.
pub(super) fn fields_of(value: &Value) -> Option<Vec<(String, String)>> {
    let fields = value.as_array()?.iter().map(|field| {
        let key = field.get("key")?.as_str()?.to_owned();
        let value = field.get("value").map(|value| envelope::text(value).into_owned()).unwrap_or_default();
        Some((key, value))
    });
    fields.collect()
}

/// The fields of a flat object; `None` when a property is an object. An array repeats its name.
pub(super) fn fields_of_object(object: &Object) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::with_capacity(object.len());
    for (name, value) in object {
        match value.as_ref() {
            ValueRef::Object(_) => return None,
            ValueRef::Array(items) => {
                fields.extend(items.iter().map(|item| (name.to_string(), item.text().into_owned())));
            }
            _ => fields.push((name.to_string(), value.text().into_owned())),
        }
    }
    Some(fields)
}

fn push_escaped(out: &mut String, text: &str) {
    out.push_str(&percent::encode(text).replace("%20", "+").replace('~', "%7E"));
}
