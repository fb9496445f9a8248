//! The JSON reader: RFC 8259, except that comments, trailing commas and duplicate keys are recorded as notes.

use std::{collections::HashMap, sync::Arc};

use loom_expression::json_escape::{self, Escape};

use super::node::{Member, Node, Number, Shape, Span32};

/// Limits on the text that the reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest text, in bytes. At most 4 GiB, because a [`Span32`] has 32-bit offsets.
    pub bytes: usize,
    /// The deepest nesting of arrays and objects.
    pub depth: usize,
}

impl Default for Limits {
    /// 16 MiB, sixteen times the limit of the hosted service, and a depth of 200.
    fn default() -> Limits {
        Limits { bytes: 16 << 20, depth: 200 }
    }
}

/// The result of [`read`].
#[derive(Clone, Debug)]
pub struct Read {
    /// The value.
    pub root: Node,
    /// What was tolerated, in file order; at most [`NOTES_MAX`] notes.
    pub notes: Vec<Note>,
}

/// The most notes that are recorded for one text; further ones are dropped.
pub const NOTES_MAX: usize = 100;

/// Something that is not strict JSON, or ambiguous, and was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What was accepted.
    pub kind: NoteKind,
    /// Where it is.
    pub place: Span32,
}

/// The kinds of [`Note`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// `//` or `/* */`.
    Comment,
    /// A comma before a closing bracket.
    TrailingComma,
    /// A key that the same object already contains.
    DuplicateKey {
        /// The key.
        name: Arc<str>,
        /// The position of its first occurrence.
        first: Span32,
    },
    /// An escape that is half of a surrogate pair, read as U+FFFD.
    LoneSurrogate,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// The kind of error.
    pub kind: ReadErrorKind,
    /// What is wrong.
    pub message: String,
    /// Where it is.
    pub place: Span32,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that help to explain it, such as a bracket that is not closed.
    pub related: Vec<(Span32, String)>,
}

/// The kinds of [`ReadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// Longer than [`Limits::bytes`].
    TooLarge,
    /// Not JSON.
    Syntax,
    /// JSON that ends too early.
    Truncated,
    /// Deeper than [`Limits::depth`].
    TooDeep,
}

/// Reads a text that consists of one JSON value.
///
/// # Errors
/// [`ReadError`] at the first byte that is neither JSON nor tolerated as a [`Note`].
pub fn read(source: &str, limits: &Limits) -> Result<Read, Box<ReadError>> {
    if source.len() > limits.bytes.min(u32::MAX as usize) {
        return Err(Box::new(ReadError {
            kind: ReadErrorKind::TooLarge,
            message: format!(
                "the file has {} bytes, which exceeds the limit of {}",
                source.len(),
                limits.bytes.min(u32::MAX as usize)
            ),
            place: Span32::default(),
            hint: Some(
                "keep data out of the definition: pass it in the trigger body or as a parameter".to_owned(),
            ),
            related: Vec::new(),
        }));
    }
    let mut reader = Reader {
        source,
        bytes: source.as_bytes(),
        at: if source.starts_with('\u{feff}') { 3 } else { 0 },
        notes: Vec::new(),
        open: Vec::new(),
        depth_max: limits.depth,
        keys: HashMap::new(),
    };
    reader.space()?;
    if reader.at == reader.bytes.len() {
        let message = if source.trim_start_matches('\u{feff}').trim().is_empty() {
            "the file is empty"
        } else {
            "the file contains only comments"
        };
        return Err(reader.fail(ReadErrorKind::Truncated, message, reader.at, reader.at));
    }
    if let Some(line) = yaml_line(&source[reader.at..]) {
        let end = reader.at + line.len();
        let mut error = reader.fail(ReadErrorKind::Syntax, "expected JSON, found YAML", reader.at, end);
        error.hint = Some("Loom does not read YAML; convert the file to JSON".to_owned());
        return Err(error);
    }
    let root = reader.value()?;
    reader.space()?;
    if reader.at < reader.bytes.len() {
        let mut error = reader.unexpected("the end of the file");
        error.hint =
            Some("a file contains one JSON value; look for a bracket that closes too early".to_owned());
        return Err(error);
    }
    Ok(Read { root, notes: reader.notes })
}

/// The first line of `text`, if it can only be the beginning of a YAML document: a comment with `#`, a directive, the
/// start of a document, the entry of a sequence, or an unquoted key.
fn yaml_line(text: &str) -> Option<&str> {
    let line = text.lines().next().unwrap_or_default().trim_end();
    let key = line.split_once(':').is_some_and(|(key, value)| {
        key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '$')
            && key.chars().all(|character| character.is_alphanumeric() || "_-$. ".contains(character))
            && (value.is_empty() || value.starts_with(' '))
    });
    let yaml =
        key || line == "---" || ["# ", "--- ", "- ", "%YAML "].iter().any(|start| line.starts_with(start));
    yaml.then_some(line)
}

struct Reader<'a> {
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    notes: Vec<Note>,
    /// The open brackets with their offsets, innermost last.
    open: Vec<(usize, u8)>,
    depth_max: usize,
    /// The property names read so far, so that the many repeated ones in a definition share one allocation.
    keys: HashMap<&'a str, Arc<str>>,
}

type Step<T> = Result<T, Box<ReadError>>;

#[expect(clippy::unnecessary_box_returns, reason = "the error is large, and every step returns it boxed")]
impl<'a> Reader<'a> {
    fn fail(
        &self,
        kind: ReadErrorKind,
        message: impl Into<String>,
        start: usize,
        end: usize,
    ) -> Box<ReadError> {
        let related = match self.open.last() {
            // The deepest object is too deep, whether it is closed or not.
            Some((opened, _)) if kind == ReadErrorKind::TooDeep => {
                vec![(Span32::new(*opened, *opened + 1), "inside this one".to_owned())]
            }
            Some((opened, bracket)) => {
                let what = if *bracket == b'{' { "object" } else { "array" };
                vec![(Span32::new(*opened, *opened + 1), format!("this {what} is not closed"))]
            }
            None => Vec::new(),
        };
        Box::new(ReadError {
            kind,
            message: message.into(),
            place: Span32::new(start, end),
            hint: None,
            related,
        })
    }

    /// What is at the current position, for a message.
    fn describe(&self) -> String {
        match self.source[self.at..].chars().next() {
            None => "the end of the file".to_owned(),
            Some(character) if character.is_control() => {
                format!("control character U+{:04X}", character as u32)
            }
            Some(character) => format!("`{character}`"),
        }
    }

    /// An error at the current position, where `wanted` was expected.
    fn unexpected(&self, wanted: &str) -> Box<ReadError> {
        let Some(character) = self.source[self.at..].chars().next() else {
            let mut error = self.fail(
                ReadErrorKind::Truncated,
                format!("expected {wanted}, found the end of the file"),
                self.at,
                self.at,
            );
            if let Some((_, bracket)) = self.open.last() {
                let close = if *bracket == b'{' { '}' } else { ']' };
                error.hint = Some(format!(
                    "the file may be truncated: {} bracket{} not closed, and the innermost needs `{close}`",
                    self.open.len(),
                    if self.open.len() == 1 { " is" } else { "s are" },
                ));
            }
            return error;
        };
        let end = self.at + character.len_utf8();
        let message = format!("expected {wanted}, found {}", self.describe());
        let mut error = self.fail(ReadErrorKind::Syntax, message, self.at, end);
        error.hint = match character {
            '\'' => Some("JSON strings must be in double quotes".to_owned()),
            '}' | ']' => Some("look for a missing value or a mismatched bracket".to_owned()),
            _ => None,
        };
        error
    }

    fn note(&mut self, kind: NoteKind, start: usize, end: usize) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note { kind, place: Span32::new(start, end) });
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) -> Step<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Step<()> {
        let start = self.at;
        let rest = &self.bytes[start..];
        if rest.starts_with(b"//") {
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            self.at += length;
        } else if rest.starts_with(b"/*") {
            let Some(length) = self.source[start + 2..].find("*/") else {
                let mut error = self.fail(ReadErrorKind::Truncated, "unterminated comment", start, start + 2);
                error.hint = Some("close it with `*/`".to_owned());
                return Err(error);
            };
            self.at += length + 4;
        } else {
            return Err(self.unexpected("a value, a comma or a bracket"));
        }
        self.note(NoteKind::Comment, start, self.at);
        Ok(())
    }

    fn value(&mut self) -> Step<Node> {
        let start = self.at;
        let shape = match self.peek() {
            Some(b'{') => return self.object(),
            Some(b'[') => return self.array(),
            Some(b'"') => Shape::String(Arc::from(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Shape::Number(self.number()?),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { place: Span32::new(start, self.at), shape, computed: false })
    }

    fn word(&mut self) -> Step<Shape> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))
            .unwrap_or(rest.len());
        let word = &self.source[start..start + length];
        let shape = match word {
            "null" => Shape::Null,
            "true" => Shape::Bool(true),
            "false" => Shape::Bool(false),
            _ => {
                let mut error = self.fail(
                    ReadErrorKind::Syntax,
                    format!("expected a JSON value, found `{word}`"),
                    start,
                    start + length,
                );
                let lower = word.to_ascii_lowercase();
                error.hint = Some(match lower.as_str() {
                    "none" | "undefined" | "nil" => "write `null`".to_owned(),
                    "true" | "false" | "null" => format!("write `{lower}` in lower case"),
                    "nan" | "infinity" => "JSON has no such number; use null or a string".to_owned(),
                    _ => "strings must be in double quotes".to_owned(),
                });
                return Err(error);
            }
        };
        self.at += length;
        Ok(shape)
    }

    fn enter(&mut self, bracket: u8) -> Step<usize> {
        let start = self.at;
        if self.open.len() >= self.depth_max {
            let message = format!("arrays and objects are nested more than {} levels deep", self.depth_max);
            return Err(self.fail(ReadErrorKind::TooDeep, message, start, start + 1));
        }
        self.open.push((start, bracket));
        self.at += 1;
        Ok(start)
    }

    fn leave(&mut self) {
        self.at += 1;
        self.open.pop();
    }

    fn array(&mut self) -> Step<Node> {
        let start = self.enter(b'[')?;
        let mut items = Vec::new();
        self.space()?;
        while self.peek() != Some(b']') {
            items.push(self.value()?);
            self.space()?;
            match self.peek() {
                Some(b']') => {}
                Some(b',') => self.comma(b']')?,
                _ => return Err(self.missing_comma("`,` or `]`")),
            }
        }
        self.leave();
        Ok(Node { place: Span32::new(start, self.at), shape: Shape::Array(items), computed: false })
    }

    fn object(&mut self) -> Step<Node> {
        let start = self.enter(b'{')?;
        let mut members: Vec<Member> = Vec::new();
        // A small object is searched; a large one gets an index, so that no input takes quadratic time.
        let mut index: HashMap<Arc<str>, Span32> = HashMap::new();
        self.space()?;
        while self.peek() != Some(b'}') {
            let name_start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.bad_name());
            }
            let name = self.name()?;
            let name_place = Span32::new(name_start, self.at);
            let first = if members.len() < 16 {
                members.iter().find(|member| member.name == name).map(|member| member.name_place)
            } else {
                if index.is_empty() {
                    index =
                        members.iter().map(|member| (Arc::clone(&member.name), member.name_place)).collect();
                }
                index.insert(Arc::clone(&name), name_place)
            };
            if let Some(first) = first {
                self.note(
                    NoteKind::DuplicateKey { name: Arc::clone(&name), first },
                    name_start,
                    name_place.end as usize,
                );
            }
            self.space()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            self.space()?;
            let value = self.value()?;
            members.push(Member { name, name_place, value });
            self.space()?;
            match self.peek() {
                Some(b'}') => {}
                Some(b',') => self.comma(b'}')?,
                _ => return Err(self.missing_comma("`,` or `}`")),
            }
        }
        self.leave();
        Ok(Node { place: Span32::new(start, self.at), shape: Shape::Object(members), computed: false })
    }

    /// Moves past a comma, and notes one before the closing bracket.
    fn comma(&mut self, close: u8) -> Step<()> {
        let comma = self.at;
        self.at += 1;
        self.space()?;
        if self.peek() == Some(close) {
            self.note(NoteKind::TrailingComma, comma, comma + 1);
        }
        Ok(())
    }

    fn missing_comma(&self, wanted: &str) -> Box<ReadError> {
        let mut error = self.unexpected(wanted);
        if matches!(self.peek(), Some(b'"' | b'{' | b'[' | b'0'..=b'9' | b'-' | b'a'..=b'z')) {
            error.hint = Some("add a comma before it".to_owned());
        }
        error
    }

    fn bad_name(&self) -> Box<ReadError> {
        let mut error = self.unexpected("a property name in double quotes");
        if self.peek().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$') {
            error.hint = Some("property names must be in double quotes".to_owned());
        }
        error
    }

    fn name(&mut self) -> Step<Arc<str>> {
        let start = self.at + 1;
        // Nearly every name is short and without escapes; such a name is looked up without being copied first.
        let rest = &self.bytes[start..];
        if let Some(length) = rest.iter().take(64).position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
            && rest[length] == b'"'
        {
            let name = &self.source[start..start + length];
            self.at = start + length + 1;
            return Ok(Arc::clone(self.keys.entry(name).or_insert_with(|| Arc::from(name))));
        }
        self.string().map(Arc::from)
    }

    fn string(&mut self) -> Step<std::borrow::Cow<'a, str>> {
        let open = self.at;
        self.at += 1;
        let start = self.at;
        let mut decoded: Option<String> = None;
        let mut copied = start;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) else {
                return Err(self.unclosed(open, self.bytes.len()));
            };
            self.at += length;
            match self.bytes[self.at] {
                b'"' => {
                    let tail = &self.source[copied..self.at];
                    self.at += 1;
                    return Ok(match decoded {
                        None => std::borrow::Cow::Borrowed(tail),
                        Some(mut text) => {
                            text.push_str(tail);
                            std::borrow::Cow::Owned(text)
                        }
                    });
                }
                b'\\' => {
                    let mut text = decoded.take().unwrap_or_default();
                    text.push_str(&self.source[copied..self.at]);
                    text.push(self.escape()?);
                    decoded = Some(text);
                    copied = self.at;
                }
                b'\n' | b'\r' => return Err(self.unclosed(open, self.at)),
                control => {
                    let mut error = self.fail(
                        ReadErrorKind::Syntax,
                        format!("unescaped control character U+{control:04X} in a string"),
                        self.at,
                        self.at + 1,
                    );
                    error.hint = Some(match control {
                        b'\t' => "write it as \\t".to_owned(),
                        _ => format!("write it as \\u{control:04x}"),
                    });
                    return Err(error);
                }
            }
        }
    }

    fn unclosed(&self, open: usize, end: usize) -> Box<ReadError> {
        let kind = if end == self.bytes.len() { ReadErrorKind::Truncated } else { ReadErrorKind::Syntax };
        let mut error = self.fail(kind, "unterminated string", open, end.max(open + 1));
        error.hint = Some(if end == self.bytes.len() {
            "the file ends inside this string; it may be truncated".to_owned()
        } else {
            "a string must end on the line where it begins; write a line break in it as \\n".to_owned()
        });
        error
    }

    fn escape(&mut self) -> Step<char> {
        let start = self.at;
        let Some((escape, length)) = json_escape::read(&self.bytes[start..]) else {
            return Err(self.invalid_escape(start));
        };
        self.at += length;
        Ok(match escape {
            Escape::Char(character) => character,
            Escape::Half(_) => {
                self.note(NoteKind::LoneSurrogate, start, start + length);
                char::REPLACEMENT_CHARACTER
            }
        })
    }

    #[cold]
    fn invalid_escape(&mut self, start: usize) -> Box<ReadError> {
        match self.bytes.get(start + 1) {
            None => self.unclosed(start, self.bytes.len()),
            Some(b'u') => {
                let end = (start + 2..self.bytes.len().min(start + 6))
                    .find(|at| !self.bytes[*at].is_ascii_hexdigit())
                    .unwrap_or(self.bytes.len().min(start + 6));
                let mut error = self.fail(
                    ReadErrorKind::Syntax,
                    "expected four hexadecimal digits after \\u",
                    start,
                    end,
                );
                error.hint = Some("for example \\u00e9".to_owned());
                error
            }
            Some(_) => {
                let width = self.source[start + 1..].chars().next().map_or(1, char::len_utf8);
                let text = &self.source[start..start + 1 + width];
                let mut error = self.fail(
                    ReadErrorKind::Syntax,
                    format!("invalid escape `{text}`"),
                    start,
                    start + 1 + width,
                );
                error.hint = Some("write a backslash as \\\\".to_owned());
                error
            }
        }
    }

    fn number(&mut self) -> Step<Number> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while reader.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                reader.at += 1;
            }
            reader.at - from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.at;
        let count = digits(self);
        if count == 0 {
            return Err(self.unexpected("a digit"));
        }
        if count > 1 && self.bytes[whole] == b'0' {
            let mut error =
                self.fail(ReadErrorKind::Syntax, "a number must not start with 0", start, self.at);
            error.hint = Some("remove the leading zeros, or write a string".to_owned());
            return Err(error);
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if digits(self) == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        let text = &self.source[start..self.at];
        Ok(match text.parse::<i64>() {
            Ok(value) if integer => Number::Integer(value),
            _ => Number::Other(text.into()),
        })
    }
}
