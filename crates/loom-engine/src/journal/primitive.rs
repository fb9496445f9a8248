//! The encoding of numbers, strings, times and values.

use std::{borrow::Cow, sync::Arc, time::Duration};

use loom_expression::{Array, Labels, Object, Timestamp, Value, ValueRef};
use loom_store::ContentHash;

use super::{
    format::{LARGE_VERSION, Unreadable},
    large::{Draft, INLINE_MAX, LargeValues, Name},
    secret::{Keys, SecretRef},
};

/// The maximum nesting of a value that is decoded, so that damaged bytes cannot exhaust the stack.
const DEPTH_MAX: u32 = 512;

/// The maximum number of entries for which memory is reserved before they have been read.
const LIST_RESERVED_MAX: usize = 1_024;

pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// The destination of large values, and how secret values are hidden. Without it everything stays inline, as it is.
    pub(super) apart: Option<Apart<'a>>,
}

/// The destination of large values, and the references that replace them and secrets.
pub(super) struct Apart<'a> {
    pub(super) values: &'a mut LargeValues,
    pub(super) names: &'a mut Vec<Name>,
    pub(super) secrets: &'a mut Vec<Arc<SecretRef>>,
    /// Whether values that are not in the store yet are moved too.
    pub(super) keeps_new: bool,
}

impl Writer<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(super) fn uint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    pub(super) fn int(&mut self, number: i64) {
        self.uint((number << 1 ^ number >> 63) as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.uint(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn time(&mut self, at: Timestamp) {
        self.int(at.ticks() - Timestamp::UNIX_EPOCH.ticks());
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.uint(duration.as_secs());
        self.uint(u64::from(duration.subsec_nanos()));
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.byte(0),
            Some(value) => {
                self.byte(1);
                write(self, value);
            }
        }
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.uint(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    pub(super) fn value(&mut self, value: &Value) {
        if value.depth() > DEPTH_MAX as usize {
            // A value that could not be decoded must not be written. Only a handler of the host can produce one.
            tracing::error!(
                depth = value.depth(),
                "a value is nested too deeply for the journal; storing its JSON text instead"
            );
            return self.value(&Value::from(value.to_json_text()));
        }
        let marks = marks_of(value.labels());
        if marks & tag::SECRET != 0 && self.hidden(value, marks) {
            return;
        }
        if let Some(digits) = value.exact_digits() {
            self.byte(tag::DECIMAL | marks);
            return self.text(digits);
        }
        if let Some(units) = value.unpaired_utf16() {
            self.byte(tag::UTF16 | marks);
            self.uint(units.len() as u64);
            return units.iter().for_each(|unit| self.uint(u64::from(*unit)));
        }
        match value.as_ref() {
            ValueRef::Null => self.byte(tag::NULL | marks),
            ValueRef::Bool(false) => self.byte(tag::FALSE | marks),
            ValueRef::Bool(true) => self.byte(tag::TRUE | marks),
            ValueRef::Int(number) => {
                self.byte(tag::INT | marks);
                self.int(number);
            }
            ValueRef::Float(number) => {
                self.byte(tag::FLOAT | marks);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            ValueRef::Decimal(number) => {
                self.byte(tag::DECIMAL | marks);
                self.text(&number.to_string());
            }
            ValueRef::String(text) if text.len() < INLINE_MAX - 8 => {
                self.byte(tag::TEXT | marks);
                self.text(text);
            }
            ValueRef::String(text) => self.perhaps_apart(value, marks, |w| {
                w.byte(tag::TEXT | marks);
                w.text(text);
            }),
            ValueRef::Array(items) => self.perhaps_apart(value, marks, |w| {
                w.byte(tag::ARRAY | marks);
                w.uint(items.len() as u64);
                for item in items {
                    w.value(item);
                }
            }),
            ValueRef::Object(members) => self.perhaps_apart(value, marks, |w| {
                w.byte(tag::OBJECT | marks);
                w.uint(members.len() as u64);
                for (name, member) in members {
                    w.text(name);
                    w.value(member);
                }
            }),
        }
    }

    /// Writes a secret value as a reference to where it was read, or sealed. False when it has to be written as it is.
    fn hidden(&mut self, value: &Value, marks: u8) -> bool {
        let Some(apart) = &mut self.apart else { return false };
        if let Some(read) = apart.values.keys.reference(value) {
            apart.secrets.push(read);
            self.byte(tag::READ | marks);
            return true;
        }
        if !apart.values.keys.seals() {
            return false;
        }
        if let Some(name) = apart.values.name_of(value) {
            apart.names.push(name);
            self.byte(tag::LARGE | marks);
            return true;
        }
        let mut plain = Vec::new();
        Writer { out: &mut plain, apart: None }.value(value);
        let Some(sealed) = apart.values.keys.seal(&plain) else { return false };
        if apart.keeps_new && sealed.len() > INLINE_MAX {
            let mut draft = Draft::default();
            draft.begin(LARGE_VERSION);
            Writer { out: &mut draft.bytes, apart: None }.sealed(&sealed);
            apart.names.push(apart.values.keep(value, draft));
            self.byte(tag::LARGE | marks);
        } else {
            self.sealed(&sealed);
        }
        true
    }

    fn sealed(&mut self, sealed: &[u8]) {
        self.byte(tag::SEALED | tag::SECRET);
        self.uint(sealed.len() as u64);
        self.out.extend_from_slice(sealed);
    }

    /// Writes a value, which is replaced by a tag if it is large and stored separately.
    fn perhaps_apart(&mut self, value: &Value, marks: u8, write: impl FnOnce(&mut Self)) {
        let Some(apart) = &mut self.apart else { return write(self) };
        if let Some(name) = apart.values.name_of(value) {
            apart.names.push(name);
            return self.byte(tag::LARGE | marks);
        }
        let (start, named, read) = (self.out.len(), apart.names.len(), apart.secrets.len());
        write(self);
        let Some(apart) = self.apart.as_mut().filter(|apart| apart.keeps_new) else { return };
        if self.out.len() - start <= INLINE_MAX {
            return;
        }
        let mut draft = Draft::default();
        draft.begin(LARGE_VERSION);
        // Its own labels stay here: the stored value is the same whether or not it has them.
        draft.bytes.push(self.out[start] & !tag::MARKS);
        draft.bytes.extend_from_slice(&self.out[start + 1..]);
        draft.names = apart.names.split_off(named);
        draft.secrets = apart.secrets.split_off(read);
        apart.names.push(apart.values.keep(value, draft));
        self.out.truncate(start);
        self.byte(tag::LARGE | marks);
    }
}

/// The marks of a value with these labels.
#[inline]
fn marks_of(labels: Labels) -> u8 {
    if labels.is_empty() {
        return 0;
    }
    let mark = |label, mark| if labels.contains(label) { mark } else { 0 };
    mark(Labels::SECRET, tag::SECRET) | mark(Labels::UNTRUSTED, tag::UNTRUSTED)
}

/// The labels of a value with these marks.
fn labels_of(marks: u8) -> Labels {
    let label = |mark, label| if marks & mark != 0 { label } else { Labels::NONE };
    label(tag::SECRET, Labels::SECRET) | label(tag::UNTRUSTED, Labels::UNTRUSTED)
}

/// Tags of values. The two highest bits mark a secret and an untrusted value.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DECIMAL: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const ARRAY: u8 = 7;
    pub(super) const OBJECT: u8 = 8;
    /// A value that is stored separately: the next of the hashes at the head of the frame.
    pub(super) const LARGE: u8 = 9;
    /// A string with unpaired surrogates, as UTF-16 code units.
    pub(super) const UTF16: u8 = 10;
    /// A secret that was read: the next of the references at the head of the frame.
    pub(super) const READ: u8 = 11;
    /// A secret value, sealed.
    pub(super) const SEALED: u8 = 12;
    pub(super) const SECRET: u8 = 0x80;
    pub(super) const UNTRUSTED: u8 = 0x40;
    pub(super) const MARKS: u8 = SECRET | UNTRUSTED;
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The large values that have not been encountered yet.
    large: std::slice::Iter<'a, Value>,
    /// The secrets that have not been encountered yet.
    secrets: std::slice::Iter<'a, Value>,
    /// Opens sealed values.
    keys: Option<&'a Keys>,
}

/// What the bytes of a frame, a snapshot or a large value refer to.
#[derive(Clone, Copy, Default)]
pub(super) struct Outside<'a> {
    pub(super) large: &'a [Value],
    pub(super) secrets: &'a [Value],
    /// Without keys, sealed values are replaced by a secret null.
    pub(super) keys: Option<&'a Keys>,
}

type Read<T> = Result<T, Unreadable>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0, large: [].iter(), secrets: [].iter(), keys: None }
    }

    /// The same reader with these values.
    pub(super) fn with(mut self, outside: Outside<'a>) -> Reader<'a> {
        self.large = outside.large.iter();
        self.secrets = outside.secrets.iter();
        self.keys = outside.keys;
        self
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The hashes of the large values.
    pub(super) fn names(&mut self) -> Read<Vec<ContentHash>> {
        self.list(|r| {
            let mut hash = [0; 32];
            hash.copy_from_slice(r.take(32)?);
            Ok(ContentHash::from_bytes(hash))
        })
    }

    /// The references to secrets.
    pub(super) fn secrets(&mut self) -> Read<Vec<SecretRef>> {
        self.list(|r| Ok(SecretRef { name: r.arc_text()?, version: r.option(Reader::arc_text)? }))
    }

    pub(super) fn unreadable<T>(&self, reason: &'static str) -> Read<T> {
        Err(Unreadable { reason, offset: self.at })
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        match self.bytes.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => self.unreadable("unexpected end of data"),
        }
    }

    /// Reads the next byte if it is this one.
    pub(super) fn skip_byte(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let taken = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        match taken {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => self.unreadable("unexpected end of data"),
        }
    }

    pub(super) fn uint(&mut self) -> Read<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.unreadable("number with too many bytes")
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        match u32::try_from(self.uint()?) {
            Ok(number) => Ok(number),
            Err(_) => self.unreadable("number out of range"),
        }
    }

    pub(super) fn int(&mut self) -> Read<i64> {
        let number = self.uint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(super) fn text(&mut self) -> Read<&'a str> {
        let length = self.uint()?;
        let Ok(length) = usize::try_from(length) else { return self.unreadable("string too long") };
        let start = self.at;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Unreadable { reason: "string is not valid UTF-8", offset: start })
    }

    pub(super) fn arc_text(&mut self) -> Read<Arc<str>> {
        self.text().map(Arc::from)
    }

    pub(super) fn code(&mut self) -> Read<Cow<'static, str>> {
        let text = self.text()?;
        // Common codes need no allocation.
        let known = ["OK", "NotSpecified", "ActionSkipped", "ActionFailed", "BadRequest", ""];
        let known = known.into_iter().find(|known| *known == text);
        Ok(known.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed))
    }

    pub(super) fn time(&mut self) -> Read<Timestamp> {
        let ticks = self.int()?.checked_add(Timestamp::UNIX_EPOCH.ticks());
        match ticks.and_then(Timestamp::from_ticks) {
            Some(time) => Ok(time),
            None => self.unreadable("time out of range"),
        }
    }

    pub(super) fn duration(&mut self) -> Read<Duration> {
        let seconds = self.uint()?;
        match self.u32()? {
            nanos @ 0..1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => self.unreadable("duration out of range"),
        }
    }

    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => self.unreadable("presence byte is neither 0 nor 1"),
        }
    }

    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let length = self.uint()?;
        let mut items = Vec::with_capacity(self.at_most_left(length).min(LIST_RESERVED_MAX));
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn value(&mut self) -> Read<Value> {
        self.nested_value(0)
    }

    /// A decimal, or an integer of any size.
    fn decimal(&mut self) -> Read<Option<Value>> {
        let text = self.text()?;
        let number = text.parse::<loom_expression::Decimal>().map(Value::from).ok();
        Ok(number.or_else(|| Value::from_digits(text)))
    }

    fn nested_value(&mut self, depth: u32) -> Read<Value> {
        if depth > DEPTH_MAX {
            return self.unreadable("value nested too deeply");
        }
        let mark = self.byte()?;
        let value = match mark & !tag::MARKS {
            tag::NULL => Value::NULL,
            tag::FALSE => Value::from(false),
            tag::TRUE => Value::from(true),
            tag::INT => Value::from(self.int()?),
            tag::FLOAT => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                Value::from(f64::from_le_bytes(bytes))
            }
            tag::UTF16 => {
                let units = self.list(|r| match u16::try_from(r.uint()?) {
                    Ok(unit) => Ok(unit),
                    Err(_) => r.unreadable("UTF-16 code unit out of range"),
                })?;
                Value::from_utf16(&units)
            }
            tag::DECIMAL => match self.decimal()? {
                Some(number) => number,
                None => return self.unreadable("decimal is not a valid number"),
            },
            tag::TEXT => Value::from(self.arc_text()?),
            tag::ARRAY => {
                let length = self.uint()?;
                // A length must not reserve memory unchecked: each item takes at least a byte, and arrays may be nested.
                let mut items = Vec::with_capacity(self.at_most_left(length).min(LIST_RESERVED_MAX));
                for _ in 0..length {
                    items.push(self.nested_value(depth + 1)?);
                }
                Value::from(Array::from(items))
            }
            tag::OBJECT => {
                let length = self.uint()?;
                let mut members = Object::with_capacity(self.at_most_left(length).min(LIST_RESERVED_MAX));
                for _ in 0..length {
                    let name = self.arc_text()?;
                    members.insert(name, self.nested_value(depth + 1)?);
                }
                Value::from(members)
            }
            tag::LARGE => match self.large.next() {
                Some(value) => value.clone(),
                None => return self.unreadable("large value without a hash"),
            },
            tag::READ => match self.secrets.next() {
                Some(value) => value.clone(),
                None => return self.unreadable("secret without a reference"),
            },
            tag::SEALED => {
                let length = self.uint()?;
                let Ok(length) = usize::try_from(length) else { return self.unreadable("value too long") };
                let sealed = self.take(length)?;
                match self.keys {
                    None => Value::NULL,
                    Some(keys) => match keys.open(sealed) {
                        Some(plain) => Reader::new(&plain).nested_value(depth)?,
                        None => return self.unreadable("value that was sealed with another key"),
                    },
                }
            }
            _ => return self.unreadable("unknown value tag"),
        };
        Ok(if mark & tag::MARKS == 0 { value } else { value.labelled(labels_of(mark)) })
    }

    fn at_most_left(&self, length: u64) -> usize {
        usize::try_from(length).unwrap_or(usize::MAX).min(self.bytes.len() - self.at)
    }
}
