//! The JSON blocks of README and guides are valid, and their definitions have no diagnostics.

use std::fs;

use loom_expression::Value;

use crate::{file, json, loom, repository};

/// A JSON block of a page.
struct Block {
    /// Its first line.
    line: usize,
    /// The file that readers save it as.
    name: Option<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let name = line.trim().strip_prefix("```json file=").map(str::to_owned);
        if line.trim() == "```json" || name.is_some() {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            found.push(Block { line: number + 2, name, text: text.join("\n") });
        }
    }
    found
}

#[test]
fn every_definition_in_a_page_loads_without_diagnostics() {
    let mut pages: Vec<String> = fs::read_dir(repository("docs/guide"))
        .expect("the guide is there")
        .map(|entry| entry.expect("it can be read").path().display().to_string())
        .collect();
    pages.push(repository("README.md"));
    let mut definitions = 0;
    for (index, page) in pages.into_iter().enumerate() {
        let blocks = blocks(&fs::read_to_string(&page).expect("the page can be read"));
        // All files of the page first, because a definition may refer to them.
        let directory = format!("guide/{index}");
        for block in &blocks {
            if let Some(name) = &block.name {
                file(&directory, name, &block.text);
            }
        }
        for Block { line, name, text: block } in blocks {
            // An action alone, as it stands in a definition.
            let whole =
                if block.trim_start().starts_with('"') { format!("{{{block}}}") } else { block.clone() };
            let value = Value::from_json_str(&whole)
                .unwrap_or_else(|error| panic!("{page}:{line}: invalid JSON: {error}"));
            if value.get("definition").is_none() && value.get("triggers").is_none() {
                continue;
            }
            definitions += 1;
            let name = name.unwrap_or_else(|| format!("{definitions}.json"));
            let path = file(&directory, &name, &block).display().to_string();
            let ended = loom(&["validate", "--json", &path]);
            let reported = json(&ended.stdout).get("diagnostics").cloned().expect("they are listed");
            assert_eq!(reported.as_array().map(|list| list.len()), Some(0), "{page}:{line}: {reported:?}");
            assert_eq!(ended.code, Some(0), "{page}:{line}");
        }
    }
    assert!(definitions > 2, "the pages hold definitions");
}
