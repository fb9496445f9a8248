//! Parses ARM template expressions: calls, literals, `.name` and `[index]`.

use loom_expression::Value;

/// A parsed expression.
#[derive(Debug)]
pub(super) enum Expression {
    Literal(Value),
    Call(String, Vec<Expression>),
    Member(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
}

const NESTING_MAX: usize = 64;

/// Parses the text between the brackets.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { rest: text, depth: 0 };
    let expression = parser.expression()?;
    parser.space();
    if parser.rest.is_empty() {
        Ok(expression)
    } else {
        Err(format!("expected the end of the expression, found `{}`", shorten(parser.rest)))
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, character: char) -> bool {
        self.space();
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn want(&mut self, character: char) -> Result<(), String> {
        if self.eat(character) {
            return Ok(());
        }
        Err(match self.rest {
            "" => format!("expected `{character}`, found the end of the expression"),
            rest => format!("expected `{character}`, found `{}`", shorten(rest)),
        })
    }

    fn expression(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err("the expression is nested too deeply".to_owned());
        }
        let mut expression = self.primary()?;
        loop {
            if self.eat('.') {
                let name = self.word();
                if name.is_empty() {
                    return Err("expected a name after `.`".to_owned());
                }
                expression = Expression::Member(Box::new(expression), name);
            } else if self.eat('[') {
                let index = self.expression()?;
                self.want(']')?;
                expression = Expression::Index(Box::new(expression), Box::new(index));
            } else {
                break;
            }
        }
        self.depth -= 1;
        Ok(expression)
    }

    fn primary(&mut self) -> Result<Expression, String> {
        self.space();
        if self.rest.starts_with('\'') {
            return self.string().map(|text| Expression::Literal(Value::from(text)));
        }
        if self.rest.starts_with(|character: char| character.is_ascii_digit() || character == '-') {
            let length =
                self.rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(self.rest.len(), |at| at + 1);
            let (number, rest) = self.rest.split_at(length);
            let value: i64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
            self.rest = rest;
            return Ok(Expression::Literal(Value::from(value)));
        }
        let name = self.word();
        if name.is_empty() {
            return Err(match self.rest {
                "" => "unexpected end of the expression".to_owned(),
                rest => format!("expected an expression, found `{}`", shorten(rest)),
            });
        }
        if !self.eat('(') {
            return match name.to_ascii_lowercase().as_str() {
                "true" => Ok(Expression::Literal(Value::from(true))),
                "false" => Ok(Expression::Literal(Value::from(false))),
                "null" => Ok(Expression::Literal(Value::NULL)),
                _ => Err(format!("expected `(` after `{name}`")),
            };
        }
        let mut arguments = Vec::new();
        if !self.eat(')') {
            loop {
                arguments.push(self.expression()?);
                if !self.eat(',') {
                    break;
                }
            }
            self.want(')')?;
        }
        Ok(Expression::Call(name, arguments))
    }

    fn word(&mut self) -> String {
        self.space();
        let length = self
            .rest
            .find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '$' | '-')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word.to_owned()
    }

    /// A quoted string, in which two quotes are an escape for one.
    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character != '\'' {
                text.push(character);
            } else if characters.peek().is_some_and(|(_, next)| *next == '\'') {
                characters.next();
                text.push('\'');
            } else {
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
        }
        Err("unterminated string".to_owned())
    }
}
