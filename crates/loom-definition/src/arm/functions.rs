//! The pure functions of ARM template expressions.

use std::fmt::Write;

use loom_expression::{Object, Value, ValueRef};

type Evaluated = Result<Value, String>;

/// `base/providers/Type/name[/subtype/name…]`.
pub(super) fn provider_path(base: &str, values: &[Value]) -> Evaluated {
    let Some((kind, names)) = values.split_first() else {
        return Err("missing resource type".to_owned());
    };
    let kind = kind.text().into_owned();
    let mut parts = kind.split('/');
    let mut path = format!("{base}/providers/{}", parts.next().unwrap_or_default());
    let mut names = names.iter();
    for part in parts {
        let name = names.next().ok_or_else(|| format!("missing name for `{part}`"))?;
        // Writing to a String cannot fail.
        let _ = write!(path, "/{part}/{}", name.text());
    }
    if names.next().is_some() {
        return Err(format!("more names than `{kind}` has segments"));
    }
    Ok(Value::from(path))
}

/// Calls the function `name`, which is in lower case; `shown` is the name as written.
pub(super) fn call(name: &str, shown: &str, values: &[Value]) -> Evaluated {
    let text = |index: usize| match values.get(index) {
        Some(value) => match value.as_ref() {
            ValueRef::String(text) => Ok(text.to_owned()),
            _ => Err(format!("argument {} of `{shown}` must be a string", index + 1)),
        },
        None => Err(format!("`{shown}` needs argument {}", index + 1)),
    };
    let integer = |index: usize| {
        let value = values.get(index).ok_or_else(|| format!("`{shown}` needs argument {}", index + 1))?;
        value.as_i64().ok_or_else(|| format!("argument {} of `{shown}` must be an integer", index + 1))
    };
    let boolean = |index: usize| {
        let value = values.get(index).ok_or_else(|| format!("`{shown}` needs argument {}", index + 1))?;
        value.as_bool().ok_or_else(|| format!("argument {} of `{shown}` must be a boolean", index + 1))
    };
    let any =
        |index: usize| values.get(index).ok_or_else(|| format!("`{shown}` needs argument {}", index + 1));
    let overflow = || format!("the result of `{shown}` does not fit in 64 bits");
    Ok(match name {
        "concat" => {
            if values.iter().all(|value| value.as_array().is_some()) && !values.is_empty() {
                let joined =
                    values.iter().filter_map(Value::as_array).flat_map(|items| items.iter().cloned());
                Value::from(joined.collect::<Vec<_>>())
            } else {
                Value::from(values.iter().map(|value| value.text()).collect::<String>())
            }
        }
        "tolower" => Value::from(text(0)?.to_lowercase()),
        "toupper" => Value::from(text(0)?.to_uppercase()),
        "trim" => Value::from(text(0)?.trim()),
        "string" => Value::from(any(0)?.text().into_owned()),
        "int" => match any(0)?.as_i64() {
            Some(number) => Value::from(number),
            None => match text(0)?.trim().parse::<i64>() {
                Ok(number) => Value::from(number),
                Err(_) => return Err(format!("`{}` is not an integer", text(0)?)),
            },
        },
        "bool" => match any(0)?.as_ref() {
            ValueRef::Bool(value) => Value::from(value),
            ValueRef::Int(value) => Value::from(value != 0),
            ValueRef::String(text) if text.eq_ignore_ascii_case("true") => Value::from(true),
            ValueRef::String(text) if text.eq_ignore_ascii_case("false") => Value::from(false),
            _ => {
                return Err(
                    "the argument of `bool` must be a boolean, an integer, or the string true or false"
                        .to_owned(),
                );
            }
        },
        "true" => Value::from(true),
        "false" => Value::from(false),
        "null" => Value::NULL,
        "json" => match Value::from_json_str(&text(0)?) {
            Ok(value) => value,
            Err(error) => return Err(format!("`json`: {error}")),
        },
        "equals" => Value::from(any(0)?.wdl_equals(any(1)?)),
        "not" => Value::from(!boolean(0)?),
        "and" | "or" => {
            let mut result = name == "and";
            for index in 0..values.len() {
                let value = boolean(index)?;
                result = if name == "and" { result && value } else { result || value };
            }
            Value::from(result)
        }
        "greater" => Value::from(integer(0)? > integer(1)?),
        "greaterorequals" => Value::from(integer(0)? >= integer(1)?),
        "less" => Value::from(integer(0)? < integer(1)?),
        "lessorequals" => Value::from(integer(0)? <= integer(1)?),
        "add" => Value::from(integer(0)?.checked_add(integer(1)?).ok_or_else(overflow)?),
        "sub" => Value::from(integer(0)?.checked_sub(integer(1)?).ok_or_else(overflow)?),
        "mul" => Value::from(integer(0)?.checked_mul(integer(1)?).ok_or_else(overflow)?),
        "div" => {
            Value::from(integer(0)?.checked_div(integer(1)?).ok_or_else(|| "division by zero".to_owned())?)
        }
        "mod" => {
            Value::from(integer(0)?.checked_rem(integer(1)?).ok_or_else(|| "division by zero".to_owned())?)
        }
        "coalesce" => values.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::NULL),
        "empty" => Value::from(match any(0)?.as_ref() {
            ValueRef::Null => true,
            ValueRef::String(text) => text.is_empty(),
            ValueRef::Array(items) => items.is_empty(),
            ValueRef::Object(members) => members.is_empty(),
            _ => return Err("the argument of `empty` must be a string, an array or an object".to_owned()),
        }),
        "length" => Value::from(match any(0)?.as_ref() {
            ValueRef::String(text) => text.chars().count() as i64,
            ValueRef::Array(items) => items.len() as i64,
            ValueRef::Object(members) => members.len() as i64,
            _ => return Err("the argument of `length` must be a string, an array or an object".to_owned()),
        }),
        "first" | "last" => match any(0)?.as_ref() {
            ValueRef::Array(items) => {
                let found = if name == "first" { items.first() } else { items.last() };
                found.cloned().unwrap_or(Value::NULL)
            }
            ValueRef::String(text) => {
                let found = if name == "first" { text.chars().next() } else { text.chars().next_back() };
                Value::from(found.map(String::from).unwrap_or_default())
            }
            _ => return Err(format!("argument 1 of `{shown}` must be a string or an array")),
        },
        "contains" => Value::from(match (any(0)?.as_ref(), any(1)?) {
            (ValueRef::String(text), part) => text.contains(&*part.text()),
            (ValueRef::Array(items), wanted) => items.iter().any(|item| item.wdl_equals(wanted)),
            (ValueRef::Object(members), name) => members.get_ignore_case(&name.text()).is_some(),
            _ => return Err("argument 1 of `contains` must be a string, an array or an object".to_owned()),
        }),
        "startswith" => Value::from(text(0)?.to_lowercase().starts_with(&text(1)?.to_lowercase())),
        "endswith" => Value::from(text(0)?.to_lowercase().ends_with(&text(1)?.to_lowercase())),
        "indexof" => {
            let (whole, part) = (text(0)?.to_lowercase(), text(1)?.to_lowercase());
            Value::from(whole.find(&part).map_or(-1, |at| whole[..at].chars().count() as i64))
        }
        "replace" => Value::from(text(0)?.replace(&text(1)?, &text(2)?)),
        "split" => {
            let (whole, separator) = (text(0)?, text(1)?);
            Value::from(whole.split(separator.as_str()).map(Value::from).collect::<Vec<_>>())
        }
        "join" => {
            let items = any(0)?.as_array().ok_or("argument 1 of `join` must be an array")?;
            let texts: Vec<String> = items.iter().map(|item| item.text().into_owned()).collect();
            Value::from(texts.join(&text(1)?))
        }
        "substring" | "take" | "skip" => return part(name, shown, values),
        "createarray" | "array" => Value::from(values.to_vec()),
        "createobject" => {
            let mut object = Object::new();
            for pair in values.chunks(2) {
                let [name, value] = pair else {
                    return Err("`createObject` takes pairs of a name and a value".to_owned());
                };
                object.insert(&*name.text(), value.clone());
            }
            Value::from(object)
        }
        "union" => {
            let mut object = Object::new();
            for value in values {
                let Some(members) = value.as_object() else {
                    return Err("`union` is only supported for objects".to_owned());
                };
                for (name, value) in members {
                    object.insert(&**name, value.clone());
                }
            }
            Value::from(object)
        }
        "format" => Value::from(format_text(&text(0)?, &values[1..])?),
        "padleft" => {
            let (whole, width) = (any(0)?.text().into_owned(), integer(1)?.clamp(0, 1_000) as usize);
            let pad = if values.len() > 2 { text(2)?.chars().next().unwrap_or(' ') } else { ' ' };
            let missing = width.saturating_sub(whole.chars().count());
            let mut padded: String = std::iter::repeat_n(pad, missing).collect();
            padded.push_str(&whole);
            Value::from(padded)
        }
        "uri" => {
            let (base, relative) = (text(0)?, text(1)?);
            let kept = if base.ends_with('/') {
                base.as_str()
            } else {
                base.rsplit_once('/').map_or("", |(left, _)| left)
            };
            Value::from(format!("{}/{}", kept.trim_end_matches('/'), relative.trim_start_matches('/')))
        }
        "uricomponent" => Value::from(percent_encode(&text(0)?)),
        "base64" => Value::from(base64(text(0)?.as_bytes())),
        "uniquestring" => Value::from(stand_in(values, 13)),
        "guid" => {
            let digits = stand_in_hex(values);
            Value::from(format!(
                "{}-{}-{}-{}-{}",
                &digits[..8],
                &digits[8..12],
                &digits[12..16],
                &digits[16..20],
                &digits[20..32]
            ))
        }
        "reference" | "listkeys" | "list" | "listcallbackurl" | "listsecrets" | "newguid" | "utcnow" => {
            return Err(format!("`{shown}` is only available in a deployment"));
        }
        _ => return Err(format!("unsupported template function `{shown}`")),
    })
}

/// `substring`, `take` and `skip`, in characters or items.
fn part(name: &str, shown: &str, values: &[Value]) -> Evaluated {
    let whole = |index: usize| match values.get(index) {
        Some(value) => value
            .as_i64()
            .map(|number| number.max(0) as usize)
            .ok_or_else(|| format!("argument {} of `{shown}` must be an integer", index + 1)),
        None => Ok(usize::MAX),
    };
    let (skip, take) = match name {
        "substring" => (whole(1)?, whole(2)?),
        "take" => (0, whole(1)?),
        _ => (whole(1)?, usize::MAX),
    };
    match values.first().map(Value::as_ref) {
        Some(ValueRef::String(text)) => {
            Ok(Value::from(text.chars().skip(skip).take(take).collect::<String>()))
        }
        Some(ValueRef::Array(items)) if name != "substring" => {
            Ok(Value::from(items.iter().skip(skip).take(take).cloned().collect::<Vec<_>>()))
        }
        _ => Err(format!("argument 1 of `{shown}` must be a string or an array")),
    }
}

/// Replaces `{0}`, `{1}` … by the values. A format specifier, as in `{0:N}`, is not supported.
fn format_text(pattern: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = tail;
            continue;
        }
        let (number, tail) = match after.split_once('}') {
            Some(found) if brace == "{" => found,
            _ => return Err("unmatched brace in `format`".to_owned()),
        };
        let place: usize = number
            .trim()
            .parse()
            .map_err(|_| format!("unsupported placeholder `{{{number}}}` in `format`"))?;
        let value = values.get(place).ok_or_else(|| format!("`format` has no argument for `{{{place}}}`"))?;
        out.push_str(&value.text());
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let joined = chunk
            .iter()
            .enumerate()
            .fold(0u32, |joined, (at, byte)| joined | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(joined >> (18 - 6 * at) & 63) as usize];
            out.push(if at > chunk.len() { '=' } else { letter as char });
        }
    }
    out
}

fn digest(values: &[Value]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        let text = value.text();
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize()
}

fn stand_in(values: &[Value], length: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    digest(values)
        .as_bytes()
        .iter()
        .take(length)
        .map(|byte| LETTERS[usize::from(byte & 31)] as char)
        .collect()
}

fn stand_in_hex(values: &[Value]) -> String {
    digest(values).to_hex()[..32].to_owned()
}
