//! The syntax of templates: which strings are evaluated, the grammar of expressions, and their syntax tree.

mod lexer;
mod parser;
mod segments;

use std::{fmt, ops::Range, sync::Arc};

pub use self::{
    parser::parse_expression,
    segments::{Segment, Segments, segments},
};

/// An expression with its span.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The node of the syntax tree.
    pub node: Node,
    /// The span of the expression, in bytes of the whole template string.
    pub span: Range<usize>,
}

/// A node of the syntax tree.
#[derive(Clone, Debug)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer literal.
    Int(i64),
    /// A float literal; finite.
    Float(f64),
    /// A string literal, without its quotes.
    String(Arc<str>),
    /// A function call with its accessors.
    Call(Call),
}

/// `name(arguments)accessors`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name of the function as written.
    pub name: Arc<str>,
    /// The span of the name.
    pub name_span: Range<usize>,
    /// The arguments.
    pub arguments: Vec<Expression>,
    /// The end of the call, after its closing parenthesis.
    pub call_end: usize,
    /// The accessors `.name` and `[key]` after the call.
    pub accessors: Vec<Accessor>,
}

/// An access to a property or an item.
#[derive(Clone, Debug)]
pub struct Accessor {
    /// Whether it is preceded by `?`.
    pub optional: bool,
    /// The property or index.
    pub key: Key,
    /// The span of the accessor.
    pub span: Range<usize>,
}

/// The key of an accessor.
#[derive(Clone, Debug)]
pub enum Key {
    /// `.name`.
    Name(Arc<str>),
    /// `[expression]`.
    Index(Box<Expression>),
}

/// Compares syntax trees without their spans.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        match (&self.node, &other.node) {
            (Node::Null, Node::Null) => true,
            (Node::Bool(left), Node::Bool(right)) => left == right,
            (Node::Int(left), Node::Int(right)) => left == right,
            (Node::Float(left), Node::Float(right)) => left.to_bits() == right.to_bits(),
            (Node::String(left), Node::String(right)) => left == right,
            (Node::Call(left), Node::Call(right)) => {
                left.name == right.name
                    && left.arguments == right.arguments
                    && left.accessors == right.accessors
            }
            _ => false,
        }
    }
}

impl PartialEq for Accessor {
    fn eq(&self, other: &Self) -> bool {
        self.optional == other.optional
            && match (&self.key, &other.key) {
                (Key::Name(left), Key::Name(right)) => left == right,
                (Key::Index(left), Key::Index(right)) => left == right,
                _ => false,
            }
    }
}

/// Formats the expression as text that parses to the same tree.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Null => f.write_str("null"),
            Node::Bool(value) => write!(f, "{value}"),
            Node::Int(value) => write!(f, "{value}"),
            // `{:?}` always writes a decimal point or an exponent, which marks the number as a float.
            Node::Float(value) => write!(f, "{value:?}"),
            Node::String(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Node::Call(call) => call.fmt(f),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (at, argument) in self.arguments.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            argument.fmt(f)?;
        }
        f.write_str(")")?;
        for accessor in &self.accessors {
            if accessor.optional {
                f.write_str("?")?;
            }
            match &accessor.key {
                Key::Name(name) => write!(f, ".{name}")?,
                Key::Index(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
