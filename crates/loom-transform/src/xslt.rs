//! XSLT 1.0 (W3C, 1999), on top of the XPath of `loom-expression`.
//!
//! Not supported are `document()`, `xsl:decimal-format`, `xsl:namespace-alias`, `xsl:fallback`, `id()` patterns,
//! numbering with `level="any"` and `level="multiple"`, and scripts in C# (`msxsl:script`). A stylesheet that uses one of
//! them fails with an error that names it, either when it is compiled or when the instruction is reached.

mod compile;
mod execute;
mod format;
mod names;
mod output;
mod sink;

use std::fmt;

use loom_expression::xpath::{XPathError, parse_document};

use self::compile::Stylesheet;
use crate::Error;

/// The limit on the steps of one transformation; a step visits a node or applies a template.
const STEPS_MAX: u64 = 200_000_000;

/// The limit on the output of a transformation, in bytes: 100 MiB.
const OUTPUT_BYTES_MAX: usize = 100 * 1024 * 1024;

/// The result of a transformation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transformed {
    /// The serialized result.
    pub text: String,
    /// Whether the output method is `text`.
    pub is_text: bool,
}

/// Transforms a document with a stylesheet. `parameters` are names and values of stylesheet parameters; `load` returns
/// the text of an included or imported stylesheet by its `href`.
///
/// # Errors
/// `InvalidXslt` if the stylesheet is invalid or uses an unsupported feature; `InvalidXml` if the content is not XML;
/// `XsltFailed` if the transformation fails, takes too many steps or writes more than 100 MiB.
///
/// ```
/// let stylesheet = r#"<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
///   <xsl:output omit-xml-declaration="yes"/>
///   <xsl:template match="/"><hello to="{greeting/@to}"/></xsl:template>
/// </xsl:stylesheet>"#;
/// let made = loom_transform::xslt::transform(stylesheet, "<greeting to='Ann'/>", &[], &|_| None).unwrap();
/// assert_eq!(made.text, r#"<hello to="Ann"/>"#);
/// ```
pub fn transform(
    stylesheet: &str,
    content: &str,
    parameters: &[(String, String)],
    load: &dyn Fn(&str) -> Option<String>,
) -> Result<Transformed, Error> {
    let compiled = Stylesheet::compile(stylesheet, load)?;
    let content = content.trim_start_matches('\u{feff}');
    let document = parse_document(content)
        .map_err(|error| Error::new("InvalidXml", format!("The content is not valid XML: {error}.")))?;
    execute::run(&compiled, &document, parameters)
}

/// An error in a stylesheet.
fn invalid(what: impl fmt::Display) -> Error {
    Error::new("InvalidXslt", format!("The stylesheet is not valid: {what}."))
}

/// An error while a stylesheet runs.
fn failed(what: impl fmt::Display) -> Error {
    Error::new("XsltFailed", format!("The transformation failed: {what}."))
}

fn of_xpath(error: &XPathError) -> Error {
    failed(error)
}

#[cfg(test)]
mod tests;
