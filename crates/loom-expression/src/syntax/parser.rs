//! Parses tokens into a syntax tree by recursive descent.

use std::{ops::Range, sync::Arc};

use super::{
    Accessor, Call, Expression, Key, Node,
    lexer::{Lexer, Token, error},
};
use crate::{Code, Options, TemplateError};

/// Parses the expression in a range of a template string. The range does not include the leading `@` or the braces.
///
/// # Errors
/// A syntax error with its span in `text`.
pub fn parse_expression(
    text: &str,
    range: Range<usize>,
    options: &Options,
) -> Result<Expression, Box<TemplateError>> {
    let limit = options.limits.expression_chars_max;
    // The number of bytes is an upper bound of the number of characters, so most expressions need no count.
    if range.len() > limit && text[range.clone()].chars().count() > limit {
        let message = format!("The expression is longer than {limit} characters.");
        return Err(error(Code::TooLong, message, None, range));
    }
    let mut lexer = Lexer::new(text, range);
    let (token, span) = lexer.next()?;
    let mut parser = Parser { lexer, token, span, options };
    let expression = parser.expression(0)?;
    match parser.token {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("the end of the expression")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    span: Range<usize>,
    options: &'a Options,
}

type Parsed<T> = Result<T, Box<TemplateError>>;

impl Parser<'_> {
    fn advance(&mut self) -> Parsed<Token> {
        let (token, span) = self.lexer.next()?;
        self.span = span;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn unexpected(&self, wanted: &str) -> Box<TemplateError> {
        let found = match &self.token {
            Token::Mark(mark) => format!("'{mark}'"),
            Token::String(_) => "a string literal".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Identifier(name) => format!("'{name}'"),
            Token::At => "'@'".to_owned(),
            Token::End => "the end of the expression".to_owned(),
        };
        let hint = match &self.token {
            Token::At => Some("write '@' once, at the start of the expression"),
            Token::Mark('[') => Some("expressions have no array literals; use createArray(…)"),
            Token::Mark('(') => {
                Some("parentheses cannot group expressions; nest calls, as in mul(add(1, 2), 3)")
            }
            _ => None,
        };
        error(Code::Syntax, format!("Expected {wanted}, found {found}."), hint, self.span.clone())
    }

    fn expression(&mut self, depth: usize) -> Parsed<Expression> {
        if depth >= self.options.limits.nesting_max {
            let limit = self.options.limits.nesting_max;
            let message = format!("Calls nest deeper than {limit} levels.");
            return Err(error(Code::TooDeep, message, None, self.span.clone()));
        }
        if self.token == Token::At && self.options.loom_spelling {
            self.advance()?;
            if !matches!(self.token, Token::Identifier(_)) {
                return Err(self.unexpected("a function name after '@'"));
            }
        }
        let span = self.span.clone();
        let node = match &self.token {
            Token::String(text) => Node::String(Arc::clone(text)),
            Token::Int(value) => Node::Int(*value),
            Token::Float(value) => Node::Float(*value),
            Token::Identifier(_) => return self.word(depth),
            Token::Mark(_) | Token::At | Token::End => {
                return Err(self.unexpected("a value or a function call"));
            }
        };
        self.advance()?;
        if matches!(self.token, Token::Mark('.' | '[' | '?')) {
            let hint = "only the result of a function call has properties";
            let message = "A literal cannot be followed by '.', '[' or '?'.";
            return Err(error(Code::Syntax, message, Some(hint), self.span.clone()));
        }
        Ok(Expression { node, span })
    }

    fn word(&mut self, depth: usize) -> Parsed<Expression> {
        let name_span = self.span.clone();
        let Token::Identifier(name) = self.advance()? else {
            unreachable!("the caller saw an identifier");
        };
        if self.token == Token::Mark('(') {
            return self.call(name, name_span, depth);
        }
        let node = match name.to_ascii_lowercase().as_str() {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            "null" => Node::Null,
            _ => {
                let message = format!("Expected '(' after the function name '{name}'.");
                let hint = "write a string in single quotes, as in 'text', or a function call, as in name(…)";
                return Err(error(Code::Syntax, message, Some(hint), name_span));
            }
        };
        if matches!(self.token, Token::Mark('.' | '[' | '?')) {
            let message = "A literal cannot be followed by '.', '[' or '?'.";
            return Err(error(Code::Syntax, message, None, self.span.clone()));
        }
        Ok(Expression { node, span: name_span })
    }

    fn call(&mut self, name: Arc<str>, name_span: Range<usize>, depth: usize) -> Parsed<Expression> {
        self.advance()?;
        let mut arguments = Vec::new();
        if self.token != Token::Mark(')') {
            loop {
                arguments.push(self.expression(depth + 1)?);
                match self.token {
                    Token::Mark(',') => self.advance()?,
                    Token::Mark(')') => break,
                    _ => return Err(self.unexpected("',' or ')'")),
                };
            }
        }
        let call_end = self.span.end;
        self.advance()?;
        let mut accessors = Vec::new();
        let mut end = call_end;
        while let Some(accessor) = self.accessor(depth)? {
            end = accessor.span.end;
            accessors.push(accessor);
        }
        let span = name_span.start..end;
        Ok(Expression { node: Node::Call(Call { name, name_span, arguments, call_end, accessors }), span })
    }

    fn accessor(&mut self, depth: usize) -> Parsed<Option<Accessor>> {
        let start = self.span.start;
        let optional = self.token == Token::Mark('?');
        if optional {
            self.advance()?;
        }
        match self.token {
            Token::Mark('.') => {
                self.advance()?;
                let Token::Identifier(name) = &self.token else {
                    return Err(self.unexpected("a property name"));
                };
                let key = Key::Name(Arc::clone(name));
                let span = start..self.span.end;
                self.advance()?;
                Ok(Some(Accessor { optional, key, span }))
            }
            Token::Mark('[') => {
                self.advance()?;
                let key = self.expression(depth + 1)?;
                if self.token != Token::Mark(']') {
                    return Err(self.unexpected("']'"));
                }
                let span = start..self.span.end;
                self.advance()?;
                Ok(Some(Accessor { optional, key: Key::Index(Box::new(key)), span }))
            }
            _ if optional => Err(self.unexpected("'.' or '[' after '?'")),
            _ => Ok(None),
        }
    }
}
