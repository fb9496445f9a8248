//! XPath 1.0 (W3C, 1999) over a parsed document.
//!
//! All of the language but the namespace axis and prefixes in name tests, for which an expression has no place to
//! declare namespaces; `local-name()` and `namespace-uri()` serve instead. Every node that is visited is counted,
//! and an evaluation that visits too many is given up.

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

/// What an expression gives.
pub(crate) enum Evaluated {
    Number(f64),
    Text(String),
    Boolean(bool),
    Nodes(Vec<Found>),
}

/// A node that was found.
pub(crate) enum Found {
    /// The value of an attribute, a text, a comment or a processing instruction.
    Text(String),
    /// The XML text of an element or of the document.
    Xml(String),
}

/// Why an expression cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XPathError {
    /// It is not XPath, or cannot be evaluated; what is wrong, as the end of a sentence.
    #[error("{0}")]
    Invalid(String),
    /// It visits more nodes than it may.
    #[error("it visits too many nodes")]
    TooCostly,
}

/// Evaluates an expression with the document's root as the context node. Also gives the steps it took.
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
                    // Nested elements repeat their text, and each looks through its descendants for the prefixes it uses.
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
