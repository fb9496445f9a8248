//! Evaluates XPath syntax trees.

use std::{cell::Cell, collections::HashSet};

use roxmltree::NodeType;

use super::{
    XPathError,
    embed::Host,
    functions,
    nodes::{Axis, XNode},
    parser::{Expr, Operator, Path, Start, Step, Test},
};

/// A value of one of XPath's four types.
#[derive(Clone)]
pub enum Result<'d> {
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// A node-set, in document order and without duplicates.
    Nodes(Vec<XNode<'d>>),
}

/// The context of an expression.
#[derive(Clone, Copy)]
pub struct Focus<'d> {
    /// The context node.
    pub node: XNode<'d>,
    /// Its position in the context, starting at 1.
    pub position: usize,
    /// The number of nodes in the context.
    pub size: usize,
}

/// Evaluates expressions and counts the steps.
pub struct Evaluator<'h, 'd> {
    left: Cell<u64>,
    host: Option<&'h dyn Host<'d>>,
}

pub(super) type Evaluated<T> = std::result::Result<T, XPathError>;

impl<'h, 'd> Evaluator<'h, 'd> {
    pub(super) fn new(steps_max: u64) -> Self {
        Self { left: Cell::new(steps_max), host: None }
    }

    /// An evaluator for the expressions of a host language, which may take `steps_max` steps in total.
    pub fn for_host(host: &'h dyn Host<'d>, steps_max: u64) -> Self {
        Self { left: Cell::new(steps_max), host: Some(host) }
    }

    /// Spends steps.
    ///
    /// # Errors
    /// [`XPathError::TooCostly`] if too few steps remain.
    pub fn pay(&self, steps: usize) -> Evaluated<()> {
        match self.left.get().checked_sub(steps as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(XPathError::TooCostly),
        }
    }

    /// The number of remaining steps.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    pub(super) fn evaluate(&self, expr: &Expr, focus: &Focus<'d>) -> Evaluated<Result<'d>> {
        self.pay(1)?;
        match expr {
            Expr::Number(number) => Ok(Result::Number(*number)),
            Expr::Literal(text) => Ok(Result::Text(text.clone())),
            Expr::Call(function, arguments) => functions::call(self, *function, arguments, focus),
            Expr::Negate(inner) => Ok(Result::Number(-self.number(&self.evaluate(inner, focus)?)?)),
            Expr::Chain(first, chain) => {
                let first = self.evaluate(first, focus);
                chain
                    .iter()
                    .fold(first, |left, (operator, right)| self.binary(*operator, left?, right, focus))
            }
            Expr::Path(path) => self.path(path, focus).map(Result::Nodes),
            Expr::Variable(name) => self
                .host
                .and_then(|host| host.variable(name))
                .ok_or_else(|| XPathError::Invalid(format!("unknown variable '${name}'"))),
            Expr::Host(name, arguments) => self.call_host(name, arguments, focus),
        }
    }

    fn call_host(&self, name: &str, arguments: &[Expr], focus: &Focus<'d>) -> Evaluated<Result<'d>> {
        let arguments = arguments.iter().map(|argument| self.evaluate(argument, focus));
        let arguments = arguments.collect::<Evaluated<Vec<_>>>()?;
        let unknown = || XPathError::Invalid(format!("unknown function '{name}'"));
        self.host.ok_or_else(unknown)?.call(self, name, arguments, focus).unwrap_or_else(|| Err(unknown()))
    }

    fn binary(
        &self,
        operator: Operator,
        left: Result<'d>,
        right: &Expr,
        focus: &Focus<'d>,
    ) -> Evaluated<Result<'d>> {
        // `and` and `or` do not evaluate the right operand if the left one decides.
        match (operator, boolean(&left)) {
            (Operator::Or, true) => return Ok(Result::Boolean(true)),
            (Operator::And, false) => return Ok(Result::Boolean(false)),
            _ => {}
        }
        let right = self.evaluate(right, focus)?;
        let numbers = || Ok((self.number(&left)?, self.number(&right)?));
        Ok(match operator {
            Operator::Or | Operator::And => Result::Boolean(boolean(&right)),
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => Result::Boolean(self.compare(operator, &left, &right)?),
            Operator::Add => numbers().map(|(left, right)| Result::Number(left + right))?,
            Operator::Subtract => numbers().map(|(left, right)| Result::Number(left - right))?,
            Operator::Multiply => numbers().map(|(left, right)| Result::Number(left * right))?,
            Operator::Divide => numbers().map(|(left, right)| Result::Number(left / right))?,
            Operator::Modulo => numbers().map(|(left, right)| Result::Number(left % right))?,
            Operator::Union => match (left, right) {
                (Result::Nodes(mut left), Result::Nodes(right)) => {
                    self.pay(left.len() + right.len())?;
                    left.extend(right);
                    Result::Nodes(in_order(left))
                }
                _ => return Err(XPathError::Invalid("both operands of '|' must be node-sets".to_owned())),
            },
        })
    }

    /// Compares two values. A comparison with a node-set is true if it is true for any of its nodes (section 3.4).
    fn compare(&self, operator: Operator, left: &Result<'_>, right: &Result<'_>) -> Evaluated<bool> {
        let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
        match (left, right) {
            (Result::Boolean(_), _) | (_, Result::Boolean(_)) if equality => {
                Ok((boolean(left) == boolean(right)) == (operator == Operator::Equal))
            }
            (Result::Boolean(flag), Result::Nodes(_)) => {
                Ok(ordered(operator, f64::from(*flag), f64::from(boolean(right))))
            }
            (Result::Nodes(_), Result::Boolean(flag)) => {
                Ok(ordered(operator, f64::from(boolean(left)), f64::from(*flag)))
            }
            (Result::Nodes(nodes), Result::Nodes(others)) => {
                let others = self.texts(others)?;
                for text in self.texts(nodes)? {
                    self.pay(others.len())?;
                    for other in &others {
                        let holds = match operator {
                            Operator::Equal => text == *other,
                            Operator::NotEqual => text != *other,
                            _ => ordered(operator, functions::to_number(&text), functions::to_number(other)),
                        };
                        if holds {
                            return Ok(true);
                        }
                    }
                }
                Ok(false)
            }
            (Result::Nodes(nodes), other) => self.any(operator, nodes, other, false),
            (other, Result::Nodes(nodes)) => self.any(operator, nodes, other, true),
            (Result::Text(left), Result::Text(right)) if equality => {
                Ok((left == right) == (operator == Operator::Equal))
            }
            _ => Ok(ordered(operator, self.number(left)?, self.number(right)?)),
        }
    }

    fn any(
        &self,
        operator: Operator,
        nodes: &[XNode<'_>],
        other: &Result<'_>,
        swapped: bool,
    ) -> Evaluated<bool> {
        for text in self.texts(nodes)? {
            let holds = match (operator, other) {
                (Operator::Equal, Result::Text(other)) => text == *other,
                (Operator::NotEqual, Result::Text(other)) => text != *other,
                _ => {
                    let (own, other) = (functions::to_number(&text), self.number(other)?);
                    if swapped { ordered(operator, other, own) } else { ordered(operator, own, other) }
                }
            };
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn texts(&self, nodes: &[XNode<'_>]) -> Evaluated<Vec<String>> {
        nodes.iter().map(|node| self.node_text(node)).collect()
    }

    /// The string-value of a node. Spends steps in proportion to its length.
    ///
    /// # Errors
    /// [`XPathError::TooCostly`] if too few steps remain.
    pub fn node_text(&self, node: &XNode<'_>) -> Evaluated<String> {
        let text = node.text();
        self.pay(1 + text.len() / 16)?;
        Ok(text)
    }

    /// Converts a value to a number.
    ///
    /// # Errors
    /// [`XPathError::TooCostly`] if too few steps remain.
    pub fn number(&self, value: &Result<'_>) -> Evaluated<f64> {
        Ok(match value {
            Result::Number(number) => *number,
            Result::Boolean(flag) => f64::from(*flag),
            Result::Text(text) => functions::to_number(text),
            Result::Nodes(_) => functions::to_number(&self.text(value)?),
        })
    }

    /// Converts a value to a string.
    ///
    /// # Errors
    /// [`XPathError::TooCostly`] if too few steps remain.
    pub fn text(&self, value: &Result<'_>) -> Evaluated<String> {
        Ok(match value {
            Result::Text(text) => text.clone(),
            Result::Boolean(flag) => flag.to_string(),
            Result::Number(number) => functions::number_text(*number),
            Result::Nodes(nodes) => match nodes.first() {
                Some(node) => self.node_text(node)?,
                None => String::new(),
            },
        })
    }

    fn path(&self, path: &Path, focus: &Focus<'d>) -> Evaluated<Vec<XNode<'d>>> {
        let mut nodes = match &path.start {
            Start::Context => vec![focus.node],
            Start::Root => {
                let top = std::iter::successors(Some(focus.node), XNode::parent).last();
                top.into_iter().collect()
            }
            Start::Expr(expr) => match self.evaluate(expr, focus)? {
                Result::Nodes(nodes) => nodes,
                _ if path.steps.is_empty() && path.predicates.is_empty() => {
                    return Err(XPathError::Invalid("expected a node-set".to_owned()));
                }
                _ => {
                    return Err(XPathError::Invalid(
                        "only a node-set can have predicates or further steps".to_owned(),
                    ));
                }
            },
        };
        for predicate in &path.predicates {
            nodes = self.filter(nodes, predicate)?;
        }
        for step in &path.steps {
            let several = nodes.len() > 1;
            let mut found = Vec::new();
            for node in nodes {
                found.extend(self.step(node, step)?);
            }
            // From one context node, every node is found once, but a reverse axis returns them in reverse order.
            nodes = if several || step.axis.is_reverse() { in_order(found) } else { found };
        }
        Ok(nodes)
    }

    pub(super) fn step(&self, node: XNode<'d>, step: &Step) -> Evaluated<Vec<XNode<'d>>> {
        let mut found = Vec::new();
        for candidate in node.axis(step.axis) {
            self.pay(1)?;
            if passes(&step.test, step.axis, candidate) {
                found.push(candidate);
            }
        }
        for predicate in &step.predicates {
            found = self.filter(found, predicate)?;
        }
        Ok(found)
    }

    /// Keeps the nodes for which the predicate is true. A number as predicate selects by position.
    fn filter(&self, nodes: Vec<XNode<'d>>, predicate: &Expr) -> Evaluated<Vec<XNode<'d>>> {
        let size = nodes.len();
        let mut kept = Vec::new();
        for (at, node) in nodes.into_iter().enumerate() {
            let focus = Focus { node, position: at + 1, size };
            let holds = match self.evaluate(predicate, &focus)? {
                Result::Number(number) => same(number, focus.position as f64),
                other => boolean(&other),
            };
            if holds {
                kept.push(node);
            }
        }
        Ok(kept)
    }
}

#[expect(clippy::float_cmp, reason = "XPath compares numbers exactly")]
fn same(left: f64, right: f64) -> bool {
    left == right
}

fn ordered(operator: Operator, left: f64, right: f64) -> bool {
    match operator {
        Operator::Equal => same(left, right),
        Operator::NotEqual => !same(left, right),
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        _ => left >= right,
    }
}

/// Converts a value to a boolean.
pub fn boolean(value: &Result<'_>) -> bool {
    match value {
        Result::Boolean(flag) => *flag,
        Result::Number(number) => *number != 0.0 && !number.is_nan(),
        Result::Text(text) => !text.is_empty(),
        Result::Nodes(nodes) => !nodes.is_empty(),
    }
}

pub(super) fn passes(test: &Test, axis: Axis, node: XNode<'_>) -> bool {
    let kind = match node {
        XNode::Node(node) => Some(node.node_type()),
        XNode::Attribute(..) => None,
    };
    // The principal node type: attributes on the attribute axis, elements on all others.
    let principal = if axis == Axis::Attribute { kind.is_none() } else { kind == Some(NodeType::Element) };
    match test {
        Test::Any => true,
        Test::AnyName => principal,
        Test::Name { namespace, local } => {
            principal && node.local_name() == local && node.namespace() == namespace
        }
        Test::Namespace(namespace) => principal && node.namespace() == namespace,
        Test::Text => kind == Some(NodeType::Text),
        Test::Comment => kind == Some(NodeType::Comment),
        Test::Instruction(target) => {
            kind == Some(NodeType::PI) && target.as_ref().is_none_or(|target| node.local_name() == target)
        }
    }
}

/// Sorts nodes in document order and removes duplicates.
fn in_order(mut nodes: Vec<XNode<'_>>) -> Vec<XNode<'_>> {
    let mut seen = HashSet::with_capacity(nodes.len());
    nodes.retain(|node| seen.insert(node.order()));
    nodes.sort_by_key(XNode::order);
    nodes
}
