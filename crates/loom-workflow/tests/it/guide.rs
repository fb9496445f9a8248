//! The JSON blocks of README and guides are valid, and their definitions have no diagnostics.

use std::fs;

use loom_expression::Value;

use crate::{file, json, loom, repository};

/// The JSON blocks of a page, each with its first line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "```json" || line.trim().starts_with("```json file=") {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            found.push((number + 2, text.join("\n")));
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
    for page in pages {
        let text = fs::read_to_string(&page).expect("the page can be read");
        for (line, block) in blocks(&text) {
            let value = Value::from_json_str(&block)
                .unwrap_or_else(|error| panic!("{page}:{line}: invalid JSON: {error}"));
            if value.get("definition").is_none() && value.get("triggers").is_none() {
                continue;
            }
            definitions += 1;
            let path = file("guide", &format!("{definitions}.json"), &block).display().to_string();
            let ended = loom(&["validate", "--json", &path]);
            let reported = json(&ended.stdout).get("diagnostics").cloned().expect("they are listed");
            assert_eq!(reported.as_array().map(|list| list.len()), Some(0), "{page}:{line}: {reported:?}");
            assert_eq!(ended.code, Some(0), "{page}:{line}");
        }
    }
    assert!(definitions > 2, "the pages hold definitions");
}
