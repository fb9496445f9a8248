//! Tokenizes the code of a script into words: names, strings and punctuation.
//!
//! Implements enough of JavaScript's lexical grammar to tell code from comments, strings and regular expressions. Any input is
//! accepted; input that is not JavaScript yields meaningless words.

/// One word of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// A string, decoded.
    Text(String),
    /// A number, a regular expression, or a template literal with substitutions; the words in the substitutions follow.
    Other,
    /// One character of punctuation. `?.` reads as a dot.
    Mark(char),
}

/// The words of `code`, in order.
pub(super) fn words(code: &str) -> Vec<Word<'_>> {
    let mut reader = Reader { rest: code, words: Vec::new(), places: Vec::new() };
    while reader.next() {}
    reader.words
}

struct Reader<'a> {
    rest: &'a str,
    words: Vec<Word<'a>>,
    /// The number of open braces in each template substitution that is being read.
    places: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// Reads one word, or skips white space or a comment. False at the end.
    fn next(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        match first {
            _ if is_space(first) => self.rest = self.rest.trim_start_matches(is_space),
            '/' if self.rest.starts_with("//") => {
                self.pass(self.rest.find(is_line_end));
            }
            '/' if self.rest.starts_with("/*") => {
                self.pass(self.rest[2..].find("*/").map(|end| end + 4));
            }
            '/' if self.expects_value() => self.pattern(),
            '\'' | '"' => self.text(first),
            '`' => self.template(1),
            '}' if self.places.last() == Some(&0) => {
                self.places.pop();
                self.template(1);
            }
            '0'..='9' => {
                self.take(|c| c.is_alphanumeric() || c == '_' || c == '.');
                self.words.push(Word::Other);
            }
            _ if is_name(first) => {
                let name = self.take(|c| is_name(c) || c.is_numeric());
                self.words.push(Word::Name(name));
            }
            '?' if self.rest.starts_with("?.") => {
                self.rest = &self.rest[2..];
                self.words.push(Word::Mark('.'));
            }
            _ => {
                match (first, self.places.last_mut()) {
                    ('{', Some(open)) => *open += 1,
                    ('}', Some(open)) => *open -= 1,
                    _ => {}
                }
                self.rest = &self.rest[first.len_utf8()..];
                self.words.push(Word::Mark(first));
            }
        }
        true
    }

    /// Whether a slash here begins a regular expression. After a closing bracket it is ambiguous, and taken as a division.
    fn expects_value(&self) -> bool {
        const BEFORE_VALUES: [&str; 14] = [
            "return",
            "typeof",
            "case",
            "in",
            "of",
            "delete",
            "void",
            "throw",
            "new",
            "do",
            "else",
            "instanceof",
            "yield",
            "await",
        ];
        match self.words.last() {
            None => true,
            Some(Word::Name(name)) => BEFORE_VALUES.contains(name),
            Some(Word::Text(_) | Word::Other) => false,
            Some(Word::Mark(mark)) => !matches!(mark, ')' | ']' | '}'),
        }
    }

    fn pass(&mut self, end: Option<usize>) {
        self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Reads a regular expression, which ends on the same line; otherwise the slash is a division.
    fn pattern(&mut self) {
        let (mut in_class, mut escaped) = (false, false);
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if is_line_end(c) => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '[' => in_class = true,
                ']' => in_class = false,
                '/' if !in_class => {
                    self.rest = &self.rest[at + 1..];
                    self.take(is_name);
                    return self.words.push(Word::Other);
                }
                _ => {}
            }
        }
        self.rest = &self.rest[1..];
        self.words.push(Word::Mark('/'));
    }

    /// Reads a quoted string, which ends at the end of the line at the latest.
    fn text(&mut self, quote: char) {
        let mut text = String::new();
        self.rest = &self.rest[1..];
        while let Some(c) = self.rest.chars().next() {
            if c == '\n' || c == '\r' {
                break;
            }
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                _ if c == quote => break,
                '\\' => text.extend(self.escape()),
                _ => text.push(c),
            }
        }
        self.words.push(Word::Text(text));
    }

    /// Reads a template literal, or its continuation after a substitution, up to its end or the next substitution.
    fn template(&mut self, begins: usize) {
        let mut text = String::new();
        let whole = self.rest.starts_with('`');
        self.rest = &self.rest[begins..];
        while let Some(c) = self.rest.chars().next() {
            if self.rest.starts_with("${") {
                self.rest = &self.rest[2..];
                self.places.push(0);
                return self.words.push(Word::Other);
            }
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '`' => break,
                '\\' => text.extend(self.escape()),
                _ => text.push(c),
            }
        }
        self.words.push(if whole { Word::Text(text) } else { Word::Other });
    }

    /// Decodes an escape sequence after its backslash. An unpaired surrogate yields nothing.
    fn escape(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        match c {
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' if self.rest.starts_with('{') => {
                let (digits, rest) = self.rest[1..].split_once('}')?;
                self.rest = rest;
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)
            }
            'u' => self.digits(4),
            'x' => self.digits(2),
            '\r' => {
                self.rest = self.rest.strip_prefix('\n').unwrap_or(self.rest);
                None
            }
            _ if is_line_end(c) => None,
            _ => Some(c),
        }
    }

    fn digits(&mut self, count: usize) -> Option<char> {
        let digits = self.rest.get(..count)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        self.rest = &self.rest[count..];
        char::from_u32(number)
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}
