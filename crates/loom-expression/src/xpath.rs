//! XPath 1.0 for languages that embed it, such as XSLT: over a document of `roxmltree`, with prefixes, variables and
//! functions of the host.

pub use roxmltree::{Document, Node, NodeType};

pub use crate::xml::{
    parse as parse_document,
    xpath::{Evaluator, Expression, Focus, Host, XNode, XPathError, XValue, boolean},
};
