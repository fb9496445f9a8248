//! The result tree and its serialization.

use std::fmt::Write as _;

use super::{
    OUTPUT_BYTES_MAX,
    compile::{Name, OutputOptions},
    failed,
};
use crate::Error;

/// A node of the result tree.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Element(Box<OutElement>),
    Text { text: String, raw: bool },
    Comment(String),
    Instruction { name: String, text: String },
}

#[derive(Clone, Debug)]
pub(super) struct OutElement {
    pub(super) name: Name,
    /// The namespace declarations of the element: prefix and URI.
    pub(super) namespaces: Vec<(String, String)>,
    pub(super) attributes: Vec<(Name, String)>,
    pub(super) children: Vec<Out>,
}

/// The text of result nodes, which is the string value of a result tree fragment.
pub(super) fn text_of(nodes: &[Out]) -> String {
    let mut text = String::new();
    collect(nodes, &mut text);
    text
}

fn collect(nodes: &[Out], into: &mut String) {
    for node in nodes {
        match node {
            Out::Text { text, .. } => into.push_str(text),
            Out::Element(element) => collect(&element.children, into),
            Out::Comment(_) | Out::Instruction { .. } => {}
        }
    }
}

/// Serializes a result with the output options of its stylesheet.
pub(super) fn write(nodes: &[Out], options: &OutputOptions) -> Result<(String, bool), Error> {
    let first = nodes.iter().find_map(|node| match node {
        Out::Element(element) => Some(element),
        _ => None,
    });
    let html = first.is_some_and(|element| {
        element.name.namespace.is_none() && element.name.qualified.eq_ignore_ascii_case("html")
    });
    let method = options.method.as_deref().unwrap_or(if html { "html" } else { "xml" });
    let mut writer = Writer { text: String::new(), html: method == "html", indent: options.indent };
    if method == "text" {
        return Ok((text_of(nodes), true));
    }
    if method != "xml" && method != "html" {
        return Err(failed(format!("the output method '{method}' is not supported")));
    }
    if method == "xml" && !options.omit_declaration {
        let encoding = options.encoding.as_deref().unwrap_or("utf-8");
        // The result is always UTF-8, whatever encoding the stylesheet declares.
        let encoding = if encoding.eq_ignore_ascii_case("utf-16") { "utf-8" } else { encoding };
        let _ = write!(writer.text, "<?xml version=\"1.0\" encoding=\"{encoding}\"");
        if let Some(standalone) = options.standalone {
            let _ = write!(writer.text, " standalone=\"{}\"", if standalone { "yes" } else { "no" });
        }
        writer.text.push_str("?>");
    }
    if let (Some((public, system)), Some(root)) = (&options.doctype, first) {
        let _ = match public {
            Some(public) => {
                write!(writer.text, "<!DOCTYPE {} PUBLIC \"{public}\" \"{system}\">", root.name.qualified)
            }
            None => write!(writer.text, "<!DOCTYPE {} SYSTEM \"{system}\">", root.name.qualified),
        };
    }
    writer.nodes(nodes, &mut Vec::new(), 0, writer.indent)?;
    Ok((writer.text, false))
}

struct Writer {
    text: String,
    html: bool,
    indent: bool,
}

/// HTML elements without an end tag.
const VOID: [&str; 13] = [
    "area", "base", "br", "col", "frame", "hr", "img", "input", "isindex", "link", "meta", "param",
    "basefont",
];

impl Writer {
    fn nodes(
        &mut self,
        nodes: &[Out],
        scope: &mut Vec<(String, String)>,
        depth: usize,
        indent: bool,
    ) -> Result<(), Error> {
        // Indentation is added only to elements without text, where it does not change the content.
        let indent = indent && !nodes.iter().any(|node| matches!(node, Out::Text { .. }));
        for node in nodes {
            if indent && !self.text.is_empty() {
                let _ = write!(self.text, "\n{}", "  ".repeat(depth));
            }
            match node {
                Out::Text { text, raw: true } => self.text.push_str(text),
                Out::Text { text, raw: false } => escape(text, false, &mut self.text),
                Out::Comment(text) => {
                    let _ = write!(self.text, "<!--{}-->", text.replace("--", "- -"));
                }
                Out::Instruction { name, text } => {
                    let end = if self.html { ">" } else { "?>" };
                    let gap = if text.is_empty() { "" } else { " " };
                    let _ = write!(self.text, "<?{name}{gap}{text}{end}");
                }
                Out::Element(element) => self.element(element, scope, depth, indent)?,
            }
            if self.text.len() > OUTPUT_BYTES_MAX {
                return Err(failed(format!("the result exceeds {OUTPUT_BYTES_MAX} bytes")));
            }
        }
        if indent && depth > 0 && !nodes.is_empty() {
            let _ = write!(self.text, "\n{}", "  ".repeat(depth - 1));
        }
        Ok(())
    }

    fn element(
        &mut self,
        element: &OutElement,
        scope: &mut Vec<(String, String)>,
        depth: usize,
        indent: bool,
    ) -> Result<(), Error> {
        let before = scope.len();
        let name = &element.name.qualified;
        let _ = write!(self.text, "<{name}");
        let mut declare = |prefix: &str, uri: &str, text: &mut String| {
            let known = scope.iter().rev().find(|(known, _)| known == prefix).map(|(_, uri)| uri.as_str());
            if known.unwrap_or_default() == uri {
                return;
            }
            let _ = if prefix.is_empty() {
                write!(text, " xmlns=\"")
            } else {
                write!(text, " xmlns:{prefix}=\"")
            };
            escape(uri, true, text);
            text.push('"');
            scope.push((prefix.to_owned(), uri.to_owned()));
        };
        let prefix = |qualified: &str| qualified.split_once(':').map_or("", |(prefix, _)| prefix).to_owned();
        declare(&prefix(name), element.name.namespace.as_deref().unwrap_or_default(), &mut self.text);
        for (prefix, uri) in &element.namespaces {
            let own = prefix.is_empty() && element.name.namespace.as_deref() != Some(uri);
            if !own {
                declare(prefix, uri, &mut self.text);
            }
        }
        for (name, _) in &element.attributes {
            if let Some(uri) = name.namespace.as_deref().filter(|_| !name.qualified.starts_with("xml:")) {
                declare(&prefix(&name.qualified), uri, &mut self.text);
            }
        }
        for (name, value) in &element.attributes {
            let _ = write!(self.text, " {}=\"", name.qualified);
            escape(value, true, &mut self.text);
            self.text.push('"');
        }
        let plain = self.html && element.name.namespace.is_none();
        let void = plain && VOID.iter().any(|void| void.eq_ignore_ascii_case(name));
        if element.children.is_empty() && !plain {
            self.text.push_str("/>");
        } else {
            self.text.push('>');
            if plain && (name.eq_ignore_ascii_case("script") || name.eq_ignore_ascii_case("style")) {
                self.text.push_str(&text_of(&element.children));
            } else {
                self.nodes(&element.children, scope, depth + 1, indent || self.indent)?;
            }
            if !void {
                let _ = write!(self.text, "</{name}>");
            }
        }
        scope.truncate(before);
        Ok(())
    }
}

fn escape(text: &str, attribute: bool, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' if attribute => into.push_str("&quot;"),
            '\n' if attribute => into.push_str("&#10;"),
            '\t' if attribute => into.push_str("&#9;"),
            '\r' => into.push_str("&#13;"),
            other => into.push(other),
        }
    }
}
