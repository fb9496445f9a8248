//! How a key is stored: a head with the type, the revision and flags, then the content as JSON.
//!
//! ```text
//! version 1 (u8) | type (u8) | flags (u8) | revision (u64, little-endian) | content
//! ```
//!
//! The content is JSON text. When parts of it are secret, it is the length of the text (u32, little-endian), the text, and a
//! mask, which is JSON as well: `true` for a secret value, or an object with the masks of some properties or positions.
//! It is then sealed as a whole under its address, unless the store encrypts everything anyway. Content above
//! [`INLINE_BYTES_MAX`] is stored apart, and the head has its hash (32 bytes) instead.

use std::sync::Arc;

use bytes::Bytes;
use loom_expression::{JSON_DEPTH_MAX, Labels, Object, Value, ValueRef};
use loom_store::{ContentHash, Sealer};

use crate::{Content, Key, Namespace, Revision, Type};

/// The greatest size of content that is stored with its key, in bytes.
pub const INLINE_BYTES_MAX: usize = 256 * 1024;

/// The greatest size of content, in bytes of JSON text.
pub const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 11;

/// The content has a mask.
const MASKED: u8 = 1;
/// The content is sealed.
const SEALED: u8 = 2;
/// The content is stored apart.
const APART: u8 = 4;

/// An encoded key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The value to store under the key.
    pub(crate) head: Bytes,
    /// The content to store apart, if it is large.
    pub(crate) apart: Option<(ContentHash, Bytes)>,
}

/// Why content cannot be encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    TooLarge { bytes: usize },
    TooDeep { depth: usize },
}

/// What can be read from a head alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Type,
    pub(crate) revision: Revision,
    /// The hash of the content, if it is stored apart.
    pub(crate) apart: Option<ContentHash>,
    flags: u8,
}

pub(crate) fn encode(
    content: &Content,
    revision: Revision,
    sealer: &Sealer,
    place: &[u8],
) -> Result<Encoded, Unfit> {
    let value = content.value();
    if value.depth() > JSON_DEPTH_MAX {
        return Err(Unfit::TooDeep { depth: value.depth() });
    }
    let mut text = value.to_json_text().into_bytes();
    if text.len() > CONTENT_BYTES_MAX {
        return Err(Unfit::TooLarge { bytes: text.len() });
    }
    let mut flags = 0;
    if !value.labels_within().is_empty() {
        let mut masked = Vec::with_capacity(text.len() + 64);
        masked.extend_from_slice(&(text.len() as u32).to_le_bytes());
        masked.append(&mut text);
        masked.extend_from_slice(mask_of(value).to_json_text().as_bytes());
        flags |= MASKED;
        let secret = value.contains_secret();
        text = match if secret { sealer.seal(place, &masked) } else { None } {
            Some(sealed) => {
                flags |= SEALED;
                sealed
            }
            None => masked,
        };
    }
    let apart = (text.len() > INLINE_BYTES_MAX).then(|| Bytes::from(std::mem::take(&mut text)));
    let apart = apart.map(|content| (ContentHash::of(&content), content));
    if let Some((hash, _)) = &apart {
        flags |= APART;
        text.extend_from_slice(hash.as_bytes());
    }
    let mut head = Vec::with_capacity(HEAD_BYTES + text.len());
    head.extend_from_slice(&[VERSION, number_of(content.kind()), flags]);
    head.extend_from_slice(&revision.0.to_le_bytes());
    head.append(&mut text);
    Ok(Encoded { head: head.into(), apart })
}

/// Reads the beginning of a stored key. The error says what is wrong.
pub(crate) fn head(stored: &[u8]) -> Result<Head, &'static str> {
    let (head, rest) = stored.split_at_checked(HEAD_BYTES).ok_or("it is shorter than a head")?;
    let [version, kind, flags, revision @ ..] = head else { return Err("it is shorter than a head") };
    if *version != VERSION {
        return Err("a newer version of Loom wrote it; use that version");
    }
    let kind = *Type::ALL.get(usize::from(*kind)).ok_or("its type is unknown")?;
    let revision: [u8; 8] = revision.try_into().map_err(|_| "it is shorter than a head")?;
    let apart = if flags & APART == 0 {
        None
    } else {
        Some(hash_from(rest).ok_or("the hash of its content is incomplete")?)
    };
    Ok(Head { kind, revision: Revision(u64::from_le_bytes(revision)), apart, flags: *flags })
}

/// Reads the content of a stored key: the rest of `stored`, or `apart`.
pub(crate) fn content(
    head: Head,
    stored: &[u8],
    apart: Option<&[u8]>,
    sealer: &Sealer,
    place: &[u8],
) -> Result<Content, &'static str> {
    let bytes = match (head.apart, apart) {
        (None, _) => stored.get(HEAD_BYTES..).unwrap_or_default(),
        (Some(hash), Some(apart)) if ContentHash::of(apart) == hash => apart,
        (Some(_), Some(_)) => return Err("its content does not have the hash that the key names"),
        (Some(_), None) => return Err("its content is missing"),
    };
    let opened = if head.flags & SEALED == 0 {
        None
    } else {
        const OTHER_KEY: &str = "it cannot be opened with the key of this data directory; put back the `loom.key` that it was written with";
        Some(sealer.open(place, bytes).ok_or(OTHER_KEY)?)
    };
    let bytes = opened.as_deref().unwrap_or(bytes);
    let value = if head.flags & MASKED == 0 {
        parse(bytes)?
    } else {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or("its content is incomplete")?;
        let (text, mask) =
            rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or("its content is incomplete")?;
        masked(parse(text)?, &parse(mask)?)
    };
    Content::new(head.kind, value).ok_or("its content does not fit its type")
}

/// What a content is sealed under, so that it can be opened nowhere else.
pub(crate) fn place(namespace: &Namespace, key: &Key) -> Vec<u8> {
    format!("memory/{namespace}/{key}").into_bytes()
}

fn parse(text: &[u8]) -> Result<Value, &'static str> {
    const NOT_JSON: &str = "its content is not JSON";
    let text = std::str::from_utf8(text).map_err(|_| NOT_JSON)?;
    Value::from_json_str_within(text, usize::MAX).map_err(|_| NOT_JSON)
}

fn hash_from(bytes: &[u8]) -> Option<ContentHash> {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in bytes.get(..32)? {
        write!(text, "{byte:02x}").ok()?;
    }
    text.parse().ok()
}

const fn number_of(kind: Type) -> u8 {
    match kind {
        Type::Value => 0,
        Type::List => 1,
        Type::Hash => 2,
        Type::Set => 3,
        Type::Counter => 4,
    }
}

/// The mask of a value with labels: the labels of all of it, as `true` for secret or else the number of [`Labels::bits`]; or an
/// object with the masks of its labelled properties or items; or both, in an array, if a part has more labels than the whole.
fn mask_of(value: &Value) -> Value {
    let (own, within) = (value.labels(), value.labels_within());
    let all = if own == Labels::SECRET { Value::from(true) } else { Value::from(i64::from(own.bits())) };
    if own == within {
        return all;
    }
    let labelled = |member: &Value| (!member.labels_within().is_empty()).then(|| mask_of(member));
    let mask: Object = match value.as_ref() {
        ValueRef::Object(members) => {
            members.iter().filter_map(|(name, member)| Some((Arc::clone(name), labelled(member)?))).collect()
        }
        ValueRef::Array(items) => items
            .iter()
            .enumerate()
            .filter_map(|(place, item)| Some((place.to_string(), labelled(item)?)))
            .collect(),
        _ => Object::new(),
    };
    if own.is_empty() { Value::from(mask) } else { vec![all, Value::from(mask)].into() }
}

/// The value, labelled where the mask says.
fn masked(value: Value, mask: &Value) -> Value {
    let masks = match mask.as_ref() {
        ValueRef::Object(masks) => masks,
        ValueRef::Array(both) => {
            return both.iter().rev().fold(value, masked);
        }
        ValueRef::Bool(true) => return value.into_secret(),
        ValueRef::Int(bits) => return value.labelled(Labels::from_bits(u8::try_from(bits).unwrap_or(0))),
        _ => return value,
    };
    if value.as_object().is_some() {
        let mut members = value.into_object().unwrap_or_default();
        // Only what is labelled is replaced: most of an object usually is not.
        for (name, mask) in masks {
            if let Some(member) = members.get(name).cloned() {
                members.insert(Arc::clone(name), masked(member, mask));
            }
        }
        return members.into();
    }
    match value.as_ref() {
        ValueRef::Array(items) => items
            .iter()
            .enumerate()
            .map(|(place, item)| match masks.get(&place.to_string()) {
                Some(mask) => masked(item.clone(), mask),
                None => item.clone(),
            })
            .collect(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &[u8] = b"memory/global/k";

    fn json(text: &str) -> Value {
        Value::from_json_str(text).expect(text)
    }

    fn round_trip(content: &Content, sealer: &Sealer) -> (Encoded, Content) {
        let encoded = encode(content, Revision(7), sealer, PLACE).expect("it fits");
        let head = head(&encoded.head).expect("it was just written");
        assert_eq!((head.kind, head.revision), (content.kind(), Revision(7)));
        let apart = encoded.apart.as_ref().map(|(_, content)| &content[..]);
        let read = super::content(head, &encoded.head, apart, sealer, PLACE).expect("it was just written");
        (encoded, read)
    }

    /// The paths of the secret parts of a value.
    fn secrets(value: &Value) -> String {
        mask_of(value).to_json_text()
    }

    #[test]
    fn what_is_stored_reads_back() {
        for (kind, text) in [
            (Type::Value, r#"{"a":[1,1.0,-0.5,"ä\u0000",null,true],"b":123456789012345678901234567890}"#),
            (Type::Value, "null"),
            (Type::List, r#"[[],{},""]"#),
            (Type::Hash, r#"{"":0,"x":{"y":[]}}"#),
            (Type::Set, "[1,1.0]"),
            (Type::Counter, "-9223372036854775808"),
        ] {
            let content = Content::new(kind, json(text)).expect(text);
            let (encoded, read) = round_trip(&content, &Sealer::new(&[1; 32]));
            assert_eq!(read, content);
            assert_eq!(read.value().to_json_text(), text);
            assert!(encoded.apart.is_none());
            assert_eq!(&encoded.head[..3], [1, number_of(kind), 0]);
        }
    }

    #[test]
    fn secret_parts_are_sealed_and_come_back_as_secret_where_they_were() {
        let mut hash = Object::new();
        hash.insert("open", 1);
        hash.insert("token", Value::from("hunter2").into_secret());
        hash.insert("list", vec![Value::from(1), Value::from(false).into_secret(), json(r#"{"a":1}"#)]);
        let content = Content::new(Type::Hash, Value::from(hash)).expect("a hash");
        for (sealer, is_sealed) in [(Sealer::new(&[1; 32]), true), (Sealer::none(), false)] {
            let (encoded, read) = round_trip(&content, &sealer);
            assert_eq!(read, content);
            assert_eq!(secrets(read.value()), r#"{"token":true,"list":{"1":true}}"#);
            let shows = encoded.head.windows(7).any(|window| window == b"hunter2");
            assert_eq!(shows, !is_sealed, "a store with a key of its own encrypts everything; others seal");
        }
        // A sealed content opens only with its key, and only at its place.
        let encoded = encode(&content, Revision(7), &Sealer::new(&[1; 32]), PLACE).expect("it fits");
        let head = head(&encoded.head).expect("it was just written");
        for (key, place) in [(2, PLACE), (1, b"memory/global/l" as &[u8])] {
            let why = super::content(head, &encoded.head, None, &Sealer::new(&[key; 32]), place);
            assert!(why.expect_err("another key or place").contains("loom.key"));
        }
    }

    #[test]
    fn every_label_comes_back_where_it_was() {
        let both = Labels::SECRET | Labels::UNTRUSTED;
        let mut inner = Object::new();
        inner.insert("token", Value::from("hunter2").into_secret());
        inner.insert("said", 1);
        let inner = Value::from(inner).labelled(Labels::UNTRUSTED);
        let items = vec![inner, Value::from(2).labelled(Labels::UNTRUSTED), Value::from(3)];
        let content = Content::new(Type::List, Value::from(items)).expect("a list");
        for sealer in [Sealer::new(&[1; 32]), Sealer::none()] {
            let (_, read) = round_trip(&content, &sealer);
            assert_eq!(secrets(read.value()), r#"{"0":[2,{"token":3,"said":2}],"1":2}"#);
            let inner = read.value().index(0).expect("the first item");
            assert_eq!((inner.labels(), inner.labels_within()), (Labels::UNTRUSTED, both));
        }
        // Only secrets are sealed.
        let open =
            Content::new(Type::Value, Value::from("open").labelled(Labels::UNTRUSTED)).expect("a value");
        let (encoded, read) = round_trip(&open, &Sealer::new(&[1; 32]));
        assert!(encoded.head.windows(4).any(|window| window == b"open"));
        assert_eq!(read.value().labels(), Labels::UNTRUSTED);
    }

    #[test]
    fn large_content_is_stored_apart_and_checked_against_its_hash() {
        let text =
            |bytes: usize| Content::new(Type::Value, Value::from("x".repeat(bytes - 2))).expect("a value");
        let (inline, _) = round_trip(&text(INLINE_BYTES_MAX), &Sealer::none());
        assert!(inline.apart.is_none());
        let (encoded, read) = round_trip(&text(INLINE_BYTES_MAX + 1), &Sealer::none());
        assert_eq!(read, text(INLINE_BYTES_MAX + 1));
        assert_eq!(encoded.head.len(), HEAD_BYTES + 32);
        let head = head(&encoded.head).expect("it was just written");
        let read = |apart| super::content(head, &encoded.head, apart, &Sealer::none(), PLACE);
        assert_eq!(read(None), Err("its content is missing"));
        assert_eq!(read(Some(b"{}")), Err("its content does not have the hash that the key names"));
        let refused = encode(&text(CONTENT_BYTES_MAX + 1), Revision(1), &Sealer::none(), PLACE);
        assert_eq!(refused, Err(Unfit::TooLarge { bytes: CONTENT_BYTES_MAX + 1 }));
    }

    #[test]
    fn content_that_could_not_be_read_again_is_refused() {
        let nested = |depth: usize| {
            let value = (0..depth).fold(Value::from(1), |inner, _| Value::from(vec![inner]));
            Content::new(Type::Value, value).expect("a value")
        };
        let (_, read) = round_trip(&nested(JSON_DEPTH_MAX), &Sealer::none());
        assert_eq!(read, nested(JSON_DEPTH_MAX));
        let refused = encode(&nested(JSON_DEPTH_MAX + 1), Revision(1), &Sealer::none(), PLACE);
        assert_eq!(refused, Err(Unfit::TooDeep { depth: JSON_DEPTH_MAX + 1 }));
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        assert_eq!(head(b""), Err("it is shorter than a head"));
        assert_eq!(head(&[2; 11]), Err("a newer version of Loom wrote it; use that version"));
        let mut stored = encode(
            &Content::new(Type::List, json("[1]")).expect("a list"),
            Revision(1),
            &Sealer::none(),
            PLACE,
        )
        .expect("it fits")
        .head
        .to_vec();
        let read = |stored: &[u8]| super::content(head(stored)?, stored, None, &Sealer::none(), PLACE);
        assert_eq!(read(&stored[..12]), Err("its content is not JSON"));
        stored[1] = 4;
        assert_eq!(read(&stored), Err("its content does not fit its type"));
        stored[1] = 9;
        assert_eq!(read(&stored), Err("its type is unknown"));
        stored[1..3].copy_from_slice(&[1, APART]);
        assert_eq!(read(&stored), Err("the hash of its content is incomplete"));
    }
}
