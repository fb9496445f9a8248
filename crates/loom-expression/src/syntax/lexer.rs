//! Splits the text of an expression into tokens.

use std::{ops::Range, sync::Arc};

use crate::{Code, TemplateError};

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// One of `.` `,` `(` `)` `[` `]` `?`.
    Mark(char),
    String(Arc<str>),
    Int(i64),
    Float(f64),
    Identifier(Arc<str>),
    /// An `@`, which is allowed only in the Loom spelling, before a function name.
    At,
    End,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

pub(super) fn error(
    code: Code,
    message: impl Into<String>,
    hint: Option<&str>,
    span: Range<usize>,
) -> Box<TemplateError> {
    Box::new(TemplateError {
        code,
        message: message.into(),
        hint: hint.map(str::to_owned),
        pointer: String::new(),
        in_name: false,
        span,
    })
}

fn is_identifier_char(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '.' | ',' | '(' | ')' | '{' | '}' | '@' | '[' | ']' | '?' | '\'')
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, range: Range<usize>) -> Self {
        Self { text, at: range.start, end: range.end }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..self.end]
    }

    /// The next token and its span. At the end, returns [`Token::End`] however often it is called.
    pub(super) fn next(&mut self) -> Result<(Token, Range<usize>), Box<TemplateError>> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let mut chars = self.rest().chars();
        let Some(first) = chars.next() else {
            return Ok((Token::End, start..start));
        };
        let token = match first {
            '.' | ',' | '(' | ')' | '[' | ']' | '?' => {
                self.at += 1;
                Token::Mark(first)
            }
            '@' => {
                self.at += 1;
                Token::At
            }
            '\'' => self.string()?,
            '0'..='9' => self.number()?,
            '+' | '-' if chars.next().is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            '"' => {
                let hint = "write strings in single quotes, as in 'text'";
                let span = start..start + 1;
                return Err(error(
                    Code::Syntax,
                    "A string literal must be in single quotes, found a double quote.",
                    Some(hint),
                    span,
                ));
            }
            '{' | '}' => {
                let message = format!("Unexpected character '{first}'.");
                let hint = "expressions have no object literals; use json('…') or setProperty(…)";
                return Err(error(Code::Syntax, message, Some(hint), start..start + 1));
            }
            _ => {
                let length = self.rest().find(|c| !is_identifier_char(c)).unwrap_or(self.rest().len());
                self.at += length;
                Token::Identifier(Arc::from(&self.text[start..self.at]))
            }
        };
        Ok((token, start..self.at))
    }

    fn string(&mut self) -> Result<Token, Box<TemplateError>> {
        let start = self.at;
        let mut value = String::new();
        let mut from = start + 1;
        loop {
            let Some(length) = self.text[from..self.end].find('\'') else {
                let hint = "end the string with a single quote; write a quote inside it twice";
                return Err(error(
                    Code::UnterminatedString,
                    "Unterminated string literal.",
                    Some(hint),
                    start..self.end,
                ));
            };
            let quote = from + length;
            value.push_str(&self.text[from..quote]);
            if self.text[quote + 1..self.end].starts_with('\'') {
                value.push('\'');
                from = quote + 2;
            } else {
                self.at = quote + 1;
                return Ok(Token::String(Arc::from(value)));
            }
        }
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += length;
        length
    }

    fn number(&mut self) -> Result<Token, Box<TemplateError>> {
        let start = self.at;
        if self.rest().starts_with(['+', '-']) {
            self.at += 1;
        }
        self.digits();
        let mut integral = true;
        if self.rest().starts_with('.') {
            integral = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(error(
                    Code::BadNumber,
                    "Expected digits after the decimal point.",
                    None,
                    start..self.at,
                ));
            }
        }
        if self.rest().starts_with(['e', 'E']) {
            integral = false;
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(error(Code::BadNumber, "Expected digits in the exponent.", None, start..self.at));
            }
        }
        if self.rest().starts_with(is_identifier_char) {
            let length = self.rest().find(|c| !is_identifier_char(c)).unwrap_or(self.rest().len());
            let message = format!(
                "'{}' is neither a valid number nor a function name.",
                &self.text[start..self.at + length]
            );
            return Err(error(Code::BadNumber, message, None, start..self.at + length));
        }
        let digits = &self.text[start..self.at];
        let token = if integral {
            digits.parse().ok().map(Token::Int)
        } else {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Token::Float)
        };
        token.ok_or_else(|| {
            error(Code::BadNumber, format!("The number '{digits}' is out of range."), None, start..self.at)
        })
    }
}
