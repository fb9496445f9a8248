//! XSLT 1.0 (W3C, 1999) over the XPath of `loom-expression`.
//!
//! All of the language but: `document()`, `xsl:decimal-format`, `xsl:namespace-alias`, `xsl:fallback`, `id()` patterns,
//! numbering at `any` and `multiple` levels, and scripts in C# (`msxsl:script`). What is left out fails by name when the
//! stylesheet is read or when it is reached; nothing is passed over.

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

/// Steps of XPath and templates that one transformation may take.
const STEPS_MAX: u64 = 200_000_000;

/// The most bytes that a transformation may write: 100 MiB.
const OUTPUT_BYTES_MAX: usize = 100 * 1024 * 1024;

/// What a transformation gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transformed {
    /// The result.
    pub text: String,
    /// Whether the stylesheet asks for text in place of markup.
    pub is_text: bool,
}

/// Transforms a document by a stylesheet. `parameters` are the values of its parameters, by name; `load` gives the text of a
/// stylesheet that it includes or imports, by the `href`.
///
/// # Errors
/// `InvalidXslt` when the stylesheet is not one, or uses what is not supported; `InvalidXml` when the content is not XML;
/// `XsltFailed` when the transformation fails, takes too many steps or writes more than 100 MiB.
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

/// A failure while a stylesheet is read.
fn invalid(what: impl fmt::Display) -> Error {
    Error::new("InvalidXslt", format!("The stylesheet is not valid: {what}."))
}

/// A failure while a stylesheet runs.
fn failed(what: impl fmt::Display) -> Error {
    Error::new("XsltFailed", format!("The transformation failed: {what}."))
}

fn of_xpath(error: &XPathError) -> Error {
    failed(error)
}

#[cfg(test)]
mod tests;
