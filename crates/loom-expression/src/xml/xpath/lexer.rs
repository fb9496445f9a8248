//! Splits XPath text into tokens, with the specification's rules for `*` and operator names (section 3.7).

use std::fmt;

use super::XPathError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Number(f64),
    Literal(&'a str),
    /// A name, optionally with a prefix.
    Name(&'a str),
    /// An operator that is a word, or `*` for multiplication.
    Operator(&'static str),
    /// `*` as a name test, or `prefix:*`.
    Star(Option<&'a str>),
    Symbol(&'static str),
    Variable(&'a str),
}

/// As an error message names it.
impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(_) => f.write_str("a number"),
            Token::Literal(_) => f.write_str("a string"),
            Token::Name(text) | Token::Operator(text) | Token::Symbol(text) => write!(f, "'{text}'"),
            Token::Star(None) => f.write_str("'*'"),
            Token::Star(Some(prefix)) => write!(f, "'{prefix}:*'"),
            Token::Variable(name) => write!(f, "'${name}'"),
        }
    }
}

const SYMBOLS: [&str; 19] =
    ["//", "::", "..", "!=", "<=", ">=", "/", "(", ")", "[", "]", ".", "@", ",", "|", "+", "-", "=", "<"];

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{b7}')
}

/// Whether a name or `*` after this token is an operator.
fn ends_operand(token: &Token<'_>) -> bool {
    match token {
        Token::Symbol(symbol) => matches!(*symbol, ")" | "]" | "." | ".."),
        Token::Operator(_) => false,
        _ => true,
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, XPathError> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let after_operand = tokens.last().is_some_and(ends_operand);
        let (token, length) = if first == '"' || first == '\'' {
            let end = rest[1..]
                .find(first)
                .ok_or_else(|| XPathError::Invalid("unterminated string literal".to_owned()))?;
            (Token::Literal(&rest[1..=end]), end + 2)
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
            let fraction = match rest[whole..].strip_prefix('.') {
                Some(tail) => 1 + tail.bytes().take_while(u8::is_ascii_digit).count(),
                None => 0,
            };
            let digits = &rest[..whole + fraction];
            (Token::Number(decimal(digits).unwrap_or(f64::NAN)), digits.len())
        } else if first == '$' {
            let length = rest[1..].find(|c| !is_name_char(c) && c != ':').unwrap_or(rest.len() - 1);
            (Token::Variable(&rest[1..=length]), length + 1)
        } else if first == '*' {
            (if after_operand { Token::Operator("*") } else { Token::Star(None) }, 1)
        } else if is_name_start(first) {
            name(rest, after_operand)
        } else if rest.starts_with('>') && !rest.starts_with(">=") {
            (Token::Symbol(">"), 1)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            (Token::Symbol(symbol), symbol.len())
        } else {
            return Err(XPathError::Invalid(format!("unexpected character '{first}'")));
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn name(rest: &str, after_operand: bool) -> (Token<'_>, usize) {
    let part = |text: &str| text.find(|c| !is_name_char(c)).unwrap_or(text.len());
    let length = part(rest);
    if after_operand
        && let Some(operator) =
            ["and", "or", "mod", "div"].into_iter().find(|operator| *operator == &rest[..length])
    {
        return (Token::Operator(operator), length);
    }
    match rest[length..].strip_prefix(':') {
        // `axis::` is not a prefix.
        Some(local) if local.starts_with('*') => (Token::Star(Some(&rest[..length])), length + 2),
        Some(local) if local.starts_with(is_name_start) => {
            let length = length + 1 + part(local);
            (Token::Name(&rest[..length]), length)
        }
        _ => (Token::Name(&rest[..length]), length),
    }
}

/// Parses digits with an optional decimal point at any position.
fn decimal(digits: &str) -> Result<f64, std::num::ParseFloatError> {
    if digits.contains('.') { format!("0{digits}0").parse() } else { digits.parse() }
}
