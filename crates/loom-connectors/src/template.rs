//! The expressions in policies: text with `@connectionParameters('name', 'default')`, `@headers('name')`,
//! `@queries('name')`, `@body().path`, `@item().path`, `@triggerBody().path` and `@Request.OriginalHTTPMethod`, each also
//! in braces: `@{…}`.
//!
//! This is a language of its own, smaller than that of workflows: `.` after a call of `headers` is text.

use loom_expression::Value;

/// The most steps of a path.
const STEPS_MAX: usize = 32;

/// Text with expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Source { source: Source, default: Option<String>, path: Vec<Access> },
}

/// Where an expression takes its value from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    ConnectionParameter(String),
    Header(String),
    Query(String),
    /// The body of the request or the response.
    Body,
    /// The current item of the collection that a policy goes through.
    Item,
    /// The body of a trigger's response.
    TriggerBody,
    Method,
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Name(String),
    Index(usize),
}

/// Provides the values of expressions; null for those that are absent.
pub(crate) trait Scope {
    fn value(&self, source: &Source) -> Value;
}

impl Template {
    /// # Errors
    /// What is not supported or malformed, quoted.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut reader = Reader { text, at: 0 };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        while let Some(c) = reader.next() {
            if c != '@' {
                plain.push(c);
                continue;
            }
            if reader.skip("@") {
                plain.push('@');
                continue;
            }
            let braced = reader.skip("{");
            match reader.expression()? {
                Some(piece) => {
                    if braced && !reader.skip("}") {
                        return Err(format!("expression `{text}`: expected `}}`"));
                    }
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(piece);
                }
                None if braced => {
                    return Err(format!("expression `{text}`: expected a function after `@{{`"));
                }
                None => plain.push('@'),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template { pieces })
    }

    /// The value of a single expression as it is; otherwise text, which is secret when a part of it is.
    pub(crate) fn evaluate(&self, scope: &dyn Scope) -> Value {
        let value_of = |piece: &Piece| match piece {
            Piece::Text(text) => Value::from(text.as_str()),
            Piece::Source { source, default, path } => {
                let whole = scope.value(source);
                let value = descend(&whole, path).cloned().unwrap_or_default().labelled(whole.labels());
                match default {
                    Some(default) if value.is_null() => Value::from(default.as_str()),
                    _ => value,
                }
            }
        };
        if let [piece] = self.pieces.as_slice() {
            return value_of(piece);
        }
        let mut text = String::new();
        let mut secret = false;
        for piece in &self.pieces {
            let value = value_of(piece);
            secret |= value.contains_secret();
            if !value.is_null() {
                text.push_str(&value.text());
            }
        }
        Value::from(text).secret_if(secret)
    }

    /// The single reference that the template is, for policies that write to it.
    pub(crate) fn as_reference(&self) -> Option<(&Source, &[Access])> {
        match self.pieces.as_slice() {
            [Piece::Source { source, path, .. }] => Some((source, path)),
            _ => None,
        }
    }

    /// The connection parameters that have to be there: those that are named without a default.
    pub(crate) fn required_parameters(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Source { source: Source::ConnectionParameter(name), default: None, .. } => Some(&**name),
            _ => None,
        })
    }
}

/// The value at the end of a path.
pub(crate) fn descend<'a>(value: &'a Value, path: &[Access]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Access::Name(name) => value.get(name),
        Access::Index(index) => value.index(*index),
    })
}

/// Reads a path without a function before it: `a.b`, `['a b'][0].c`. `null` and nothing mean the value itself.
pub(crate) fn path(text: &str) -> Result<Vec<Access>, String> {
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return Ok(Vec::new());
    }
    let dotted = if text.starts_with('[') { text.to_owned() } else { format!(".{text}") };
    let mut reader = Reader { text: &dotted, at: 0 };
    let path = reader.path()?;
    if reader.at < dotted.len() { Err(format!("`{text}` is not a path of properties")) } else { Ok(path) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn name(&mut self) -> String {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
        let rest = self.rest();
        let name =
            rest.get(..rest.find(|c| !is_part(c)).unwrap_or(rest.len())).unwrap_or_default().to_owned();
        self.at += name.len();
        name
    }

    /// What follows an `@`; `None` when it is not an expression.
    fn expression(&mut self) -> Result<Option<Piece>, String> {
        let start = self.at;
        let name = self.name();
        if name.eq_ignore_ascii_case("Request") && self.skip(".OriginalHTTPMethod") {
            return Ok(Some(Piece::Source { source: Source::Method, default: None, path: Vec::new() }));
        }
        if name.is_empty() || !self.skip("(") {
            self.at = start;
            return Ok(None);
        }
        let whole = self.text;
        let malformed = |what: &str| format!("expression `{whole}`: {what}");
        let mut arguments = Vec::new();
        self.spaces();
        while !self.skip(")") {
            let argument = self.quoted();
            arguments
                .push(argument.ok_or_else(|| malformed(&format!("expected a quoted name in `{name}(…)`")))?);
            self.spaces();
            if self.skip(",") {
                self.spaces();
            } else if !self.rest().starts_with(')') {
                return Err(malformed("expected `,` or `)`"));
            }
        }
        let mut arguments = arguments.into_iter();
        let first = arguments.next();
        let named = |make: fn(String) -> Source, first: Option<String>| {
            first.map(make).ok_or_else(|| format!("expression `{whole}`: `{name}` needs a name"))
        };
        let (source, has_path) = match name.to_ascii_lowercase().as_str() {
            "connectionparameters" | "connectionparameter" => {
                (named(Source::ConnectionParameter, first)?, false)
            }
            "headers" | "header" => (named(Source::Header, first)?, false),
            "queries" | "query" | "queryparameters" | "queryparameter" => {
                (named(Source::Query, first)?, false)
            }
            "body" => (Source::Body, true),
            "item" => (Source::Item, true),
            "triggerbody" => (Source::TriggerBody, true),
            _ => return Err(malformed(&format!("the function `{name}` is not supported"))),
        };
        let path = if has_path { self.path()? } else { Vec::new() };
        Ok(Some(Piece::Source { source, default: arguments.next(), path }))
    }

    /// `'text'`, with `''` for a quote in it; double quotes work too.
    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        self.at += 1;
        let mut text = String::new();
        loop {
            let c = self.next()?;
            if c != quote {
                text.push(c);
            } else if self.rest().starts_with(quote) {
                self.at += 1;
                text.push(quote);
            } else {
                return Some(text);
            }
        }
    }

    /// `.name`, `?.name`, `['name']`, `[0]`, as many as there are.
    fn path(&mut self) -> Result<Vec<Access>, String> {
        let mut path = Vec::new();
        loop {
            if path.len() > STEPS_MAX {
                return Err(format!("a path has more than {STEPS_MAX} steps"));
            }
            let start = self.at;
            let _ = self.skip("?");
            if self.skip(".") {
                let dotted = self.rest().starts_with('@');
                if dotted {
                    self.at += 1;
                }
                let name = self.name();
                if name.is_empty() {
                    self.at = start;
                    return Ok(path);
                }
                path.push(Access::Name(if dotted { format!("@{name}") } else { name }));
            } else if self.skip("[") {
                self.spaces();
                let step = match self.quoted() {
                    Some(name) => Some(Access::Name(name)),
                    None => self.name().parse().ok().map(Access::Index),
                };
                self.spaces();
                match step {
                    Some(step) if self.skip("]") => path.push(step),
                    _ => return Err(format!("expression `{}`: expected `['name']` or `[0]`", self.text)),
                }
            } else {
                self.at = start;
                return Ok(path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
