//! Checks what the compiler and clippy cannot: file heads, the list of crates in ARCHITECTURE.md, tests that pages name, and
//! words and phrases to avoid.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{links, phrases};

/// The most lines in a Rust file. A longer one usually contains a second subject.
const LINES_MAX: usize = 700;

/// The files that list phrases to avoid.
const SPEAKS_OF_PHRASES: [&str; 2] = ["docs/style.md", "xtask/src/phrases.rs"];

/// Runs all checks and reports all findings at once.
pub(crate) fn check(root: &Path) -> Result<()> {
    println!("== tidy");
    let mut findings = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    collect(root, &mut files)?;
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_rust(&shown, &text, &mut findings);
        }
        check_words(&shown, &text, &mut findings);
        let prose = path.extension().is_some_and(|extension| extension == "rs" || extension == "md");
        if prose && !SPEAKS_OF_PHRASES.contains(&shown.as_str()) {
            phrases::check(&shown, &text, &mut findings);
        }
    }
    check_map(root, &mut findings)?;
    let pages: Vec<&PathBuf> =
        files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    links::check(root, &pages, &mut findings)?;
    for path in pages {
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        check_tests(root, &shown, &fs::read_to_string(path)?, &mut findings);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} problems\n{}", findings.len(), findings.join("\n"));
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != ".git" && name != "target" {
                collect(&path, files)?;
            }
        } else if name != "Cargo.lock" && name != ".git" {
            files.push(path);
        }
    }
    Ok(())
}

/// Every source file has a head and is short enough to read. The name of a `tests.rs` says what it is for.
fn check_rust(shown: &str, text: &str, findings: &mut Vec<String>) {
    let head = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !shown.ends_with("/tests.rs") && !head.is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{shown}:1: missing `//!` head that says what the file is for"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings
            .push(format!("{shown}: the file must have at most {LINES_MAX} lines (got {lines}); split it"));
    }
}

/// Files must not mention paths of one machine or numbers of an issue tracker.
fn check_words(shown: &str, text: &str, findings: &mut Vec<String>) {
    // Joined from parts, so that this file passes its own check.
    let paths = [concat!("/wo", "rk/"), concat!("/tm", "p/"), concat!("/ro", "ot/")];
    for (index, line) in text.lines().enumerate() {
        for path in paths {
            let found = line.match_indices(path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|character| character.is_alphanumeric() || "}.-_*".contains(character))
            });
            if found {
                findings.push(format!("{shown}:{}: path of one machine: {path}", index + 1));
            }
        }
        let lower = line.to_lowercase();
        for (at, word) in lower.match_indices(concat!("issu", "e ")) {
            let rest = lower[at + word.len()..].trim_start_matches('#');
            if rest.starts_with(|character: char| character.is_ascii_digit()) {
                findings.push(format!("{shown}:{}: number of an issue tracker", index + 1));
            }
        }
    }
}

/// A test that a page names as `path/of/file.rs::name` must exist.
fn check_tests(root: &Path, shown: &str, page: &str, findings: &mut Vec<String>) {
    for (index, line) in page.lines().enumerate() {
        let code = line.split('`').skip(1).step_by(2);
        for (file, name) in code.filter_map(|code| code.split_once(".rs::")) {
            let text = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
            if !is_test(&text, name) {
                let line = index + 1;
                findings.push(format!("{shown}:{line}: no test `{name}` in `{file}.rs`"));
            }
        }
    }
}

/// Whether a file contains a test function with this name.
fn is_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let found = lines.iter().position(|line| {
        line.strip_suffix('{').is_some()
            && (line.starts_with(&head) || line.starts_with(&format!("async {head}")))
    });
    let attributes = found.map(|at| lines[..at].iter().rev().take_while(|line| line.starts_with("#[")));
    attributes.is_some_and(|mut lines| {
        lines.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// The table in `ARCHITECTURE.md` must list exactly the crates that exist.
fn check_map(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let mut crates = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            crates.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    crates.sort();
    let mut named: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `loom-"))
        .filter_map(|rest| rest.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    named.sort_unstable();
    for missing in crates.iter().filter(|name| !named.iter().any(|known| format!("loom-{known}") == **name)) {
        findings.push(format!("ARCHITECTURE.md: the table of crates does not list `{missing}`"));
    }
    for gone in named.iter().filter(|known| !crates.contains(&format!("loom-{known}"))) {
        findings
            .push(format!("ARCHITECTURE.md: the table of crates lists `loom-{gone}`, which does not exist"));
    }
    Ok(())
}
