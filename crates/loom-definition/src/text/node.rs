//! The tree that the reader returns: JSON values, each with its position.

use std::{ops::Range, sync::Arc};

use loom_expression::{
    Value,
    json_escape::{self, Escape},
};

/// A range of bytes in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span32 {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span32 {
    /// The range from `start` to `end`, exclusive. Offsets must fit in 32 bits, which [`Limits`](super::Limits) ensures.
    pub fn new(start: usize, end: usize) -> Span32 {
        Span32 { start: start as u32, end: end as u32 }
    }

    /// The same as a standard range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether this range contains all of `inner`.
    pub fn holds(self, inner: Span32) -> bool {
        self.start <= inner.start && inner.end <= self.end
    }
}

/// A JSON value and its position.
#[derive(Clone, Debug)]
pub struct Node {
    /// The bytes of the value, quotes and brackets included.
    pub place: Span32,
    /// The value.
    pub shape: Shape,
    /// Whether the value was computed from the text at `place`, which then does not contain it literally.
    pub computed: bool,
}

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Shape {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, decoded.
    String(Arc<str>),
    /// An array.
    Array(Vec<Node>),
    /// An object: every member in file order, duplicates included.
    Object(Vec<Member>),
}

/// A number as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// An integer that fits in 64 bits.
    Integer(i64),
    /// Any other number, as written.
    Other(Box<str>),
}

/// One property of an object.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name, decoded.
    pub name: Arc<str>,
    /// The bytes of the name, quotes included.
    pub name_place: Span32,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A value that was computed from the text at `place`, which it does not contain literally.
    pub fn computed(value: &Value, place: Span32) -> Node {
        use loom_expression::ValueRef;
        let shape = match value.as_ref() {
            ValueRef::Null => Shape::Null,
            ValueRef::Bool(value) => Shape::Bool(value),
            ValueRef::Int(value) => Shape::Number(Number::Integer(value)),
            ValueRef::Float(_) | ValueRef::Decimal(_) => {
                Shape::Number(Number::Other(value.to_json_text().into_boxed_str()))
            }
            ValueRef::String(value) => Shape::String(Arc::from(value)),
            ValueRef::Array(items) => {
                Shape::Array(items.iter().map(|item| Node::computed(item, place)).collect())
            }
            ValueRef::Object(members) => Shape::Object(
                members
                    .iter()
                    .map(|(name, value)| Member {
                        name: Arc::from(&**name),
                        name_place: place,
                        value: Node::computed(value, place),
                    })
                    .collect(),
            ),
        };
        Node { place, shape, computed: true }
    }

    /// The properties, if it is an object.
    pub fn members(&self) -> Option<&[Member]> {
        match &self.shape {
            Shape::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.shape {
            Shape::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one and fits in 64 bits.
    pub fn integer(&self) -> Option<i64> {
        match &self.shape {
            Shape::Number(Number::Integer(value)) => Some(*value),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn boolean(&self) -> Option<bool> {
        match self.shape {
            Shape::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.shape, Shape::Null)
    }

    /// The property called `name`: one with exactly this name, else one that differs in case only. Of several, the last.
    pub fn member(&self, name: &str) -> Option<&Member> {
        let members = self.members()?;
        let last =
            |same: fn(&str, &str) -> bool| members.iter().rev().find(|member| same(&member.name, name));
        last(|left, right| left == right).or_else(|| last(str::eq_ignore_ascii_case))
    }

    /// The value of the property called `name`, as [`Node::member`] finds it; `None` if it is `null`.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.member(name).map(|member| &member.value).filter(|value| !value.is_null())
    }

    /// The JSON type with its article, for messages: "an object", "a string".
    pub fn kind(&self) -> &'static str {
        match &self.shape {
            Shape::Null => "null",
            Shape::Bool(_) => "a boolean",
            Shape::Number(_) => "a number",
            Shape::String(_) => "a string",
            Shape::Array(_) => "an array",
            Shape::Object(_) => "an object",
        }
    }

    /// The plain value. Of duplicate properties the last one wins, at the position of the first.
    pub fn to_value(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::NULL,
            Shape::Bool(value) => Value::from(*value),
            Shape::Number(Number::Integer(value)) => Value::from(*value),
            Shape::Number(Number::Other(text)) => Value::parse_json(text.as_bytes()).unwrap_or(Value::NULL),
            Shape::String(text) => Value::from(Arc::clone(text)),
            Shape::Array(items) => Value::from(items.iter().map(Node::to_value).collect::<Vec<_>>()),
            Shape::Object(members) => Value::from(
                members
                    .iter()
                    .map(|member| (Arc::clone(&member.name), member.value.to_value()))
                    .collect::<loom_expression::Object>(),
            ),
        }
    }

    /// The JSON pointer (RFC 6901) to the innermost value that contains `place`.
    pub fn pointer_to(&self, place: Span32) -> String {
        let mut pointer = String::new();
        let mut node = self;
        'down: while !node.computed && node.place != place {
            match &node.shape {
                Shape::Array(items) => {
                    let found = items.partition_point(|item| item.place.end < place.end);
                    if let Some(item) = items.get(found).filter(|item| item.place.holds(place)) {
                        pointer.push('/');
                        pointer.push_str(&found.to_string());
                        node = item;
                        continue 'down;
                    }
                }
                Shape::Object(members) => {
                    let found = members.partition_point(|member| member.value.place.end < place.end);
                    if let Some(member) = members.get(found)
                        && (member.value.place.holds(place) || member.name_place.holds(place))
                    {
                        push_token(&mut pointer, &member.name);
                        if !member.value.place.holds(place) {
                            break;
                        }
                        node = &member.value;
                        continue 'down;
                    }
                }
                _ => {}
            }
            break;
        }
        pointer
    }

    /// The value at a JSON pointer (RFC 6901); `None` if there is none.
    pub fn follow(&self, pointer: &str) -> Option<&Node> {
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            node = match &node.shape {
                Shape::Array(items) => items.get(token.parse::<usize>().ok()?)?,
                Shape::Object(members) => &members.iter().rev().find(|member| *member.name == *token)?.value,
                _ => return None,
            };
        }
        Some(node)
    }
}

/// Appends a name to a JSON pointer, with `~` and `/` escaped.
pub(crate) fn push_token(pointer: &mut String, name: &str) {
    pointer.push('/');
    for character in name.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Maps an offset in the decoded content of a string to an offset in the file, across the escapes of the JSON text.
///
/// `place` is the string with its quotes, `decoded` a byte offset in its content. An offset past the content maps to the
/// closing quote.
pub fn file_offset(source: &str, place: Span32, decoded: usize) -> usize {
    let range = place.range();
    let Some(raw) = source.get(range.clone()) else { return range.start };
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'"') {
        return range.start;
    }
    let mut at = 1;
    let mut produced = 0;
    while at + 1 < bytes.len() {
        let (consumed, made) = if bytes[at] == b'\\' {
            escape_lengths(&raw[at..])
        } else {
            let width = raw[at..].chars().next().map_or(1, char::len_utf8);
            (width, width)
        };
        if produced + made > decoded {
            // A character that is not escaped has the same bytes in both, so its inner bytes map one to one.
            return range.start + if made == consumed { at + (decoded - produced) } else { at };
        }
        at += consumed;
        produced += made;
    }
    range.start + at
}

/// The bytes of an escape, and the bytes of its character in UTF-8.
fn escape_lengths(rest: &str) -> (usize, usize) {
    match json_escape::read(rest.as_bytes()) {
        Some((Escape::Char(character), length)) => (length, character.len_utf8()),
        Some((Escape::Half(_), length)) => (length, char::REPLACEMENT_CHARACTER.len_utf8()),
        None => (2, 1),
    }
}
