//! Embeds XPath in a host language, such as XSLT, with the host's prefixes, variables, functions and patterns.

use super::{
    XPathError,
    eval::{Evaluated, Evaluator, Focus, Result as XValue, passes},
    nodes::{Axis, XNode},
    parser::{Expr, Operator, Path, Start, Step, Test, parse},
};

/// The variables and functions that a host language adds to XPath.
pub trait Host<'d> {
    /// The value of the variable with the name as written; `None` if there is no such variable.
    fn variable(&self, name: &str) -> Option<XValue<'d>>;

    /// Calls a function that XPath does not define, by the name as written; `None` if there is no such function.
    fn call(
        &self,
        evaluator: &Evaluator<'_, 'd>,
        name: &str,
        arguments: Vec<XValue<'d>>,
        focus: &Focus<'d>,
    ) -> Option<Result<XValue<'d>, XPathError>>;
}

/// An expression or a pattern of a host language.
#[derive(Debug)]
pub struct Expression {
    expr: Expr,
}

impl Expression {
    /// Parses an expression. `prefixes` returns the namespace of a prefix in scope of the expression.
    ///
    /// # Errors
    /// [`XPathError::Invalid`] if the expression is not valid XPath or uses an undeclared prefix.
    pub fn parse(text: &str, prefixes: &dyn Fn(&str) -> Option<String>) -> Result<Expression, XPathError> {
        parse(text, Some(prefixes)).map(|expr| Expression { expr })
    }

    /// Parses a pattern (XSLT 1.0, section 5.2) into its alternatives.
    ///
    /// # Errors
    /// [`XPathError::Invalid`] if it is not a valid pattern.
    pub fn parse_pattern(
        text: &str,
        prefixes: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Expression>, XPathError> {
        let alternatives = match parse(text, Some(prefixes))? {
            Expr::Chain(first, chain) if chain.iter().all(|(operator, _)| *operator == Operator::Union) => {
                std::iter::once(*first).chain(chain.into_iter().map(|(_, expr)| expr)).collect()
            }
            single => vec![single],
        };
        let patterns = alternatives.into_iter().map(|expr| match &expr {
            Expr::Path(path) if is_pattern(path) => Ok(Expression { expr }),
            Expr::Host(name, _) if name == "key" => Ok(Expression { expr }),
            _ => Err(XPathError::Invalid(format!("'{text}' is not a valid pattern"))),
        });
        patterns.collect()
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// [`XPathError`] if a variable or function is unknown, a value has the wrong type, or the steps are used up.
    pub fn evaluate<'d>(
        &self,
        evaluator: &Evaluator<'_, 'd>,
        focus: &Focus<'d>,
    ) -> Result<XValue<'d>, XPathError> {
        evaluator.evaluate(&self.expr, focus)
    }

    /// Whether a node matches this alternative of a pattern.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], for predicates.
    pub fn matches<'d>(&self, evaluator: &Evaluator<'_, 'd>, node: XNode<'d>) -> Result<bool, XPathError> {
        match &self.expr {
            Expr::Path(path) => matches_steps(evaluator, path, path.steps.len(), node),
            expr => {
                let focus = Focus { node, position: 1, size: 1 };
                Ok(matches!(evaluator.evaluate(expr, &focus)?, XValue::Nodes(nodes) if nodes.contains(&node)))
            }
        }
    }

    /// The default priority of this alternative (XSLT 1.0, section 5.5).
    pub fn default_priority(&self) -> f64 {
        let Expr::Path(path) = &self.expr else { return 0.5 };
        let simple = matches!(path.start, Start::Context) && path.predicates.is_empty();
        match &path.steps[..] {
            [step] if simple && step.predicates.is_empty() => match &step.test {
                Test::Name { .. } | Test::Instruction(Some(_)) => 0.0,
                Test::Namespace(_) => -0.25,
                _ => -0.5,
            },
            _ => 0.5,
        }
    }

    /// The name of the variable, if the expression is only a variable.
    pub fn as_variable(&self) -> Option<&str> {
        match &self.expr {
            Expr::Variable(name) => Some(name),
            _ => None,
        }
    }
}

/// Whether a path has only the steps that patterns allow: children, attributes and `//`.
fn is_pattern(path: &Path) -> bool {
    let start = match &path.start {
        Start::Root | Start::Context => true,
        Start::Expr(Expr::Host(name, _)) => name == "key",
        Start::Expr(_) => false,
    };
    let steps =
        path.steps.iter().all(|step| matches!(step.axis, Axis::Child | Axis::Attribute) || is_anywhere(step));
    start && steps
}

fn is_anywhere(step: &Step) -> bool {
    step.axis == Axis::DescendantOrSelf && matches!(step.test, Test::Any) && step.predicates.is_empty()
}

/// Whether the first `count` steps of a path select the node, from any context.
fn matches_steps<'d>(
    evaluator: &Evaluator<'_, 'd>,
    path: &Path,
    count: usize,
    node: XNode<'d>,
) -> Evaluated<bool> {
    evaluator.pay(1)?;
    let Some(step) = count.checked_sub(1).map(|last| &path.steps[last]) else {
        return match &path.start {
            Start::Context => Ok(true),
            Start::Root => Ok(node.parent().is_none()),
            Start::Expr(expr) => {
                let focus = Focus { node, position: 1, size: 1 };
                Ok(matches!(evaluator.evaluate(expr, &focus)?, XValue::Nodes(nodes) if nodes.contains(&node)))
            }
        };
    };
    if is_anywhere(step) {
        let mut above = Some(node);
        while let Some(candidate) = above {
            if matches_steps(evaluator, path, count - 1, candidate)? {
                return Ok(true);
            }
            above = candidate.parent();
        }
        return Ok(false);
    }
    let Some(parent) = node.parent() else { return Ok(false) };
    let is_attribute = matches!(node, XNode::Attribute(..));
    if is_attribute != (step.axis == Axis::Attribute) || !passes(&step.test, step.axis, node) {
        return Ok(false);
    }
    if !step.predicates.is_empty() && !evaluator.step(parent, step)?.contains(&node) {
        return Ok(false);
    }
    matches_steps(evaluator, path, count - 1, parent)
}
