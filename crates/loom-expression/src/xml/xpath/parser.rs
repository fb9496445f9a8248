//! Parses XPath tokens into a syntax tree.

use super::{
    XPathError,
    functions::{self, Function},
    lexer::{Token, tokens},
    nodes::Axis,
};

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    Number(f64),
    Literal(String),
    Call(Function, Vec<Expr>),
    Negate(Box<Expr>),
    /// An operand, followed by operators with their right operands. Each operator applies to the result of everything
    /// before it, so that a chain of any length does not nest.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    Path(Box<Path>),
    /// A variable, by the name as written. Only host languages have variables.
    Variable(String),
    /// A function of the host language, by the name as written.
    Host(String, Vec<Expr>),
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Union,
}

/// A location path, or a filtered expression with further steps.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) start: Start,
    pub(super) predicates: Vec<Expr>,
    pub(super) steps: Vec<Step>,
}

/// The start of a path.
#[derive(Debug)]
pub(super) enum Start {
    Root,
    Context,
    Expr(Expr),
}

/// `axis::test[predicate]…`.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expr>,
}

/// A node test.
#[derive(Debug)]
pub(super) enum Test {
    Any,
    AnyName,
    /// A local name with its namespace, which may be empty.
    Name {
        namespace: String,
        local: String,
    },
    /// Any name in a namespace.
    Namespace(String),
    Text,
    Comment,
    Instruction(Option<String>),
}

/// How deeply parentheses, predicates, signs and right operands may nest.
const NESTING_MAX: usize = 60;

/// A function that returns the namespace of a prefix in scope of an expression.
pub(super) type Prefixes<'p> = &'p dyn Fn(&str) -> Option<String>;

/// Parses an expression. With `prefixes`, it is an expression of a host language, which has its own variables and
/// functions.
pub(super) fn parse(text: &str, prefixes: Option<Prefixes<'_>>) -> Result<Expr, XPathError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, prefixes };
    let expression = parser.binary(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(invalid(&format!("expected the end of the expression, found {token}"))),
    }
}

fn invalid(why: &str) -> XPathError {
    XPathError::Invalid(why.to_owned())
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    prefixes: Option<Prefixes<'a>>,
}

type Parsed<T> = Result<T, XPathError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at)
    }

    fn peek_second(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at + 1)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(found)) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.expected(&format!("'{symbol}'"))) }
    }

    /// Says what should be next, and what is there instead.
    fn expected(&self, what: &str) -> XPathError {
        match self.peek() {
            Some(token) => invalid(&format!("expected {what}, found {token}")),
            None => invalid(&format!("expected {what}, found the end of the expression")),
        }
    }

    fn operator(&self) -> Option<(Operator, usize)> {
        let name = match self.peek()? {
            Token::Operator(name) | Token::Symbol(name) => *name,
            _ => return None,
        };
        Some(match name {
            "or" => (Operator::Or, 1),
            "and" => (Operator::And, 2),
            "=" => (Operator::Equal, 3),
            "!=" => (Operator::NotEqual, 3),
            "<" => (Operator::Less, 4),
            "<=" => (Operator::LessOrEqual, 4),
            ">" => (Operator::Greater, 4),
            ">=" => (Operator::GreaterOrEqual, 4),
            "+" => (Operator::Add, 5),
            "-" => (Operator::Subtract, 5),
            "*" => (Operator::Multiply, 6),
            "div" => (Operator::Divide, 6),
            "mod" => (Operator::Modulo, 6),
            "|" => (Operator::Union, 8),
            _ => return None,
        })
    }

    /// Parses operators with a higher precedence than `above`, which are all left-associative.
    fn binary(&mut self, above: usize) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(invalid(&format!("it nests deeper than {NESTING_MAX} levels")));
        }
        let first = if self.take("-") {
            // The unary minus has a higher precedence than all operators except the union.
            Expr::Negate(Box::new(self.binary(7)?))
        } else {
            self.path()?
        };
        let mut chain = Vec::new();
        while let Some((operator, strength)) = self.operator() {
            if strength <= above {
                break;
            }
            self.at += 1;
            chain.push((operator, self.binary(strength)?));
        }
        self.depth -= 1;
        Ok(if chain.is_empty() { first } else { Expr::Chain(Box::new(first), chain) })
    }

    fn path(&mut self) -> Parsed<Expr> {
        let mut steps = Vec::new();
        let start;
        let mut predicates = Vec::new();
        if self.take("//") {
            start = Start::Root;
            steps.push(anywhere());
            steps.push(self.step()?);
        } else if self.take("/") {
            start = Start::Root;
            if !self.starts_step() {
                return Ok(path_expr(start, predicates, steps));
            }
            steps.push(self.step()?);
        } else if self.starts_primary() {
            let primary = self.primary()?;
            predicates = self.predicates()?;
            if predicates.is_empty() && !self.is("/") && !self.is("//") {
                return Ok(primary);
            }
            start = Start::Expr(primary);
        } else if self.starts_step() {
            start = Start::Context;
            steps.push(self.step()?);
        } else {
            return Err(self.expected("a value or a path"));
        }
        loop {
            if self.take("//") {
                steps.push(anywhere());
            } else if !self.take("/") {
                return Ok(path_expr(start, predicates, steps));
            }
            steps.push(self.step()?);
        }
    }

    fn starts_step(&self) -> bool {
        match self.peek() {
            Some(Token::Name(_) | Token::Star(_)) => true,
            Some(Token::Symbol(symbol)) => matches!(*symbol, "." | ".." | "@"),
            _ => false,
        }
    }

    fn starts_primary(&self) -> bool {
        match self.peek() {
            Some(Token::Number(_) | Token::Literal(_) | Token::Variable(_) | Token::Symbol("(")) => true,
            Some(Token::Name(name)) => {
                self.peek_second() == Some(&Token::Symbol("("))
                    && !matches!(*name, "node" | "text" | "comment" | "processing-instruction")
            }
            _ => false,
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek().cloned();
        self.at += 1;
        match token {
            Some(Token::Number(number)) => Ok(Expr::Number(number)),
            Some(Token::Literal(text)) => Ok(Expr::Literal(text.to_owned())),
            Some(Token::Variable(name)) if self.prefixes.is_some() => Ok(Expr::Variable(name.to_owned())),
            Some(Token::Variable(name)) => Err(invalid(&format!("unknown variable '${name}'"))),
            Some(Token::Symbol("(")) => {
                let inner = self.binary(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Token::Name(name)) => self.call(name),
            _ => {
                self.at -= 1;
                Err(self.expected("a value"))
            }
        }
    }

    fn call(&mut self, name: &str) -> Parsed<Expr> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        if !self.take(")") {
            loop {
                arguments.push(self.binary(0)?);
                if self.take(")") {
                    break;
                }
                self.expect(",")?;
            }
        }
        let Some(function) = functions::find(name) else {
            if self.prefixes.is_some() {
                return Ok(Expr::Host(name.to_owned(), arguments));
            }
            return Err(invalid(&format!("unknown function '{name}'")));
        };
        let (min, max) = functions::arity(function);
        if arguments.len() < min || arguments.len() > max {
            let wanted = if min == max { min.to_string() } else { format!("{min} to {max}") };
            let wanted = if max == usize::MAX { format!("at least {min}") } else { wanted };
            let found = arguments.len();
            return Err(invalid(&format!("the function '{name}' takes {wanted} arguments (got {found})")));
        }
        Ok(Expr::Call(function, arguments))
    }

    fn predicates(&mut self) -> Parsed<Vec<Expr>> {
        let mut predicates = Vec::new();
        while self.take("[") {
            predicates.push(self.binary(0)?);
            self.expect("]")?;
        }
        Ok(predicates)
    }

    fn step(&mut self) -> Parsed<Step> {
        if self.take(".") {
            return Ok(Step { axis: Axis::Own, test: Test::Any, predicates: Vec::new() });
        }
        if self.take("..") {
            return Ok(Step { axis: Axis::Parent, test: Test::Any, predicates: Vec::new() });
        }
        let axis = if self.take("@") {
            Axis::Attribute
        } else if let (Some(Token::Name(name)), Some(Token::Symbol("::"))) = (self.peek(), self.peek_second())
        {
            let axis = Axis::find(name).ok_or_else(|| invalid(&format!("unknown axis '{name}'")))?;
            self.at += 2;
            axis
        } else {
            Axis::Child
        };
        let test = self.test()?;
        Ok(Step { axis, test, predicates: self.predicates()? })
    }

    fn test(&mut self) -> Parsed<Test> {
        let token = self.peek().cloned();
        self.at += 1;
        let prefixes = self.prefixes;
        let bound = |prefix: &str| {
            prefixes.and_then(|prefixes| prefixes(prefix)).ok_or_else(|| {
                invalid(&format!(
                    "the prefix '{prefix}' is not declared; compare local-name() and namespace-uri() instead"
                ))
            })
        };
        match token {
            Some(Token::Star(None)) => Ok(Test::AnyName),
            Some(Token::Star(Some(prefix))) => bound(prefix).map(Test::Namespace),
            Some(Token::Name(name)) if self.is("(") => {
                self.at += 1;
                let test = match name {
                    "node" => Test::Any,
                    "text" => Test::Text,
                    "comment" => Test::Comment,
                    "processing-instruction" => match self.peek().cloned() {
                        Some(Token::Literal(target)) => {
                            self.at += 1;
                            Test::Instruction(Some(target.to_owned()))
                        }
                        _ => Test::Instruction(None),
                    },
                    _ => {
                        return Err(invalid(&format!("the function '{name}' cannot be used as a node test")));
                    }
                };
                self.expect(")")?;
                Ok(test)
            }
            Some(Token::Name(name)) => match name.split_once(':') {
                Some((prefix, local)) => {
                    Ok(Test::Name { namespace: bound(prefix)?, local: local.to_owned() })
                }
                None => Ok(Test::Name { namespace: String::new(), local: name.to_owned() }),
            },
            _ => {
                self.at -= 1;
                Err(self.expected("a name or a node test"))
            }
        }
    }
}

/// The step that `//` is short for.
fn anywhere() -> Step {
    Step { axis: Axis::DescendantOrSelf, test: Test::Any, predicates: Vec::new() }
}

fn path_expr(start: Start, predicates: Vec<Expr>, steps: Vec<Step>) -> Expr {
    Expr::Path(Box::new(Path { start, predicates, steps }))
}
