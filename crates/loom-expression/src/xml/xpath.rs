//! XPath 1.0 (W3C, 1999) over a parsed document.
//!
//! All of the language but the namespace axis and prefixes in name tests, for which an expression has no place to
//! declare namespaces; `local-name()` and `namespace-uri()` serve instead. Every node that is visited is counted,
//! and an evaluation that visits too many is given up.

mod eval;
mod functions;
mod lexer;
mod nodes;
mod parser;

use roxmltree::Document;

use self::{eval::Evaluator, nodes::XNode, parser::parse};

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
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum XPathError {
    /// It is not XPath; what is wrong, as the end of a sentence.
    Invalid(String),
    /// It visits more nodes than it may.
    TooCostly,
}

/// Evaluates an expression with the document's root as the context node.
pub(crate) fn evaluate(
    document: &Document<'_>,
    expression: &str,
    steps_max: u64,
) -> Result<Evaluated, XPathError> {
    let expression = parse(expression)?;
    let root = XNode::Node(document.root());
    let evaluator = Evaluator::new(steps_max);
    Ok(match evaluator.evaluate(&expression, &eval::Focus { node: root, position: 1, size: 1 })? {
        eval::Result::Number(number) => Evaluated::Number(number),
        eval::Result::Text(text) => Evaluated::Text(text),
        eval::Result::Boolean(flag) => Evaluated::Boolean(flag),
        eval::Result::Nodes(nodes) => {
            let mut budget = 0_usize;
            let found = nodes.iter().map(|node| {
                let found = match node {
                    XNode::Node(node) if node.is_element() || node.is_root() => {
                        Found::Xml(super::outer_xml(*node))
                    }
                    node => Found::Text(node.text()),
                };
                budget += match &found {
                    Found::Text(text) | Found::Xml(text) => text.len(),
                };
                // Nested elements repeat their text; a small document must not grow without bound.
                if budget as u64 > steps_max.saturating_mul(16) {
                    Err(XPathError::TooCostly)
                } else {
                    Ok(found)
                }
            });
            Evaluated::Nodes(found.collect::<std::result::Result<_, _>>()?)
        }
    })
}
