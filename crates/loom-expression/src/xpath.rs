//! XPath 1.0 for host languages such as XSLT: evaluates on documents of `roxmltree`, with the host's prefixes, variables
//! and functions.

pub use roxmltree::{Document, Node, NodeType};

pub use crate::xml::{
    parse as parse_document,
    xpath::{Evaluator, Expression, Focus, Host, XNode, XPathError, XValue, boolean},
};
