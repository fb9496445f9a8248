//! Renders the function catalogue as a reference page in Markdown.

use std::fmt::Write as _;

use super::{Example, FunctionInfo, functions};

/// The reference page of all functions in Markdown, which the project publishes as `docs/functions.md`.
pub fn reference_page() -> String {
    let infos = functions();
    let mut page = String::from(
        "# Functions\n\nThe functions of the expression language, by category. Function names ignore case. In a signature, `?` \
        marks\nan optional parameter and `…` any number of further arguments. The examples run as tests.\n\n\
        This page is generated from `crates/loom-expression/src/functions/`; after a change there, run\n\
        `cargo run -p loom-expression --example functions_page > docs/functions.md`.\n",
    );
    let mut category = None;
    for info in infos {
        if category != Some(info.category) {
            category = Some(info.category);
            // Writing to a `String` cannot fail, here and below.
            let _ = write!(page, "\n- **{}**:", info.category);
        }
        let _ = write!(page, " [{}](#{})", info.name, info.name.to_ascii_lowercase());
    }
    page.push('\n');
    let mut category = None;
    for info in infos {
        if category != Some(info.category) {
            category = Some(info.category);
            let _ = write!(page, "\n## {}\n", info.category);
        }
        function(info, &mut page);
    }
    page
}

fn function(info: &FunctionInfo, page: &mut String) {
    let _ = write!(page, "\n### {}\n\n`{}`\n\n{}\n", info.name, info.signature, info.docs);
    if !info.aliases.is_empty() {
        let names: Vec<String> = info.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let _ = write!(page, "\nAlias: {}.\n", names.join(", "));
    }
    if info.examples.is_empty() {
        return;
    }
    page.push_str("\n| Expression | Result |\n| --- | --- |\n");
    for example in info.examples {
        let _ = writeln!(page, "| {} | {} |", code(example.expression), code(example.result));
    }
    let contexts =
        info.examples.iter().map(|example: &Example| example.context).filter(|context| !context.is_empty());
    let mut contexts: Vec<&str> = contexts.collect();
    contexts.dedup();
    for context in contexts {
        let _ = write!(page, "\nContext: {}\n", code(context));
    }
}

/// Text as code in a table cell, with the bars escaped that would otherwise end the cell.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
