//! XPath 1.0 (W3C, 1999) on a parsed document.
//!
//! Not supported are the namespace axis and, because the function `xpath` cannot declare namespaces, prefixes in name
//! tests; use `local-name()` and `namespace-uri()` instead. Visited nodes are counted, and an evaluation that visits too
//! many fails.

mod embed;
mod eval;
mod functions;
mod lexer;
mod nodes;
mod parser;

use roxmltree::Document;

use self::parser::parse;
pub use self::{
    embed::{Expression, Host},
    eval::{Evaluator, Focus, Result as XValue, boolean},
    nodes::XNode,
};

/// The result of an expression.
pub(crate) enum Evaluated {
    Number(f64),
    Text(String),
    Boolean(bool),
    Nodes(Vec<Found>),
}

/// A node in the result.
pub(crate) enum Found {
    /// The value of an attribute, a text node, a comment or a processing instruction.
    Text(String),
    /// The XML text of an element or of the document.
    Xml(String),
}

/// The error of parsing or evaluating an XPath expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XPathError {
    /// The expression is invalid or cannot be evaluated. Says what is wrong, as a clause without a full stop.
    #[error("{0}")]
    Invalid(String),
    /// The evaluation visits more nodes than allowed.
    #[error("it visits too many nodes")]
    TooCostly,
}

/// Evaluates an expression with the document's root as the context node. Also returns the number of steps it took.
pub(crate) fn evaluate<'d>(
    document: &'d Document<'d>,
    expression: &str,
    steps_max: u64,
) -> (Result<Evaluated, XPathError>, u64) {
    let evaluator = Evaluator::new(steps_max);
    let evaluated =
        parse(expression, None).and_then(|expression| evaluate_with(&evaluator, document, &expression));
    (evaluated, steps_max - evaluator.left())
}

fn evaluate_with<'d>(
    evaluator: &Evaluator<'_, 'd>,
    document: &'d Document<'d>,
    expression: &parser::Expr,
) -> Result<Evaluated, XPathError> {
    let root = XNode::Node(document.root());
    Ok(match evaluator.evaluate(expression, &eval::Focus { node: root, position: 1, size: 1 })? {
        eval::Result::Number(number) => Evaluated::Number(number),
        eval::Result::Text(text) => Evaluated::Text(text),
        eval::Result::Boolean(flag) => Evaluated::Boolean(flag),
        eval::Result::Nodes(nodes) => {
            let found = nodes.iter().map(|node| match node {
                XNode::Node(node) if node.is_element() || node.is_root() => {
                    // Nested elements repeat their text, and each searches its descendants for the prefixes they use.
                    let inside = node.descendants().count().saturating_mul(1 + node.namespaces().count());
                    evaluator.pay(inside.saturating_add(node.range().len() / 16))?;
                    Ok(Found::Xml(super::outer_xml(*node)))
                }
                node => evaluator.node_text(node).map(Found::Text),
            });
            Evaluated::Nodes(found.collect::<Result<_, _>>()?)
        }
    })
}
