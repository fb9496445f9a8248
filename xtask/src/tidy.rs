//! Checks of what the compiler and clippy cannot see: file heads, the map of the crates, words that have no place here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::links;

/// Files above this many lines are looked at: there is usually a second noun in them.
const LINES_MAX: usize = 700;

/// Checks everything and reports all findings at once.
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
    bail!("{} findings\n{}", findings.len(), findings.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
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

/// Every source file says what room it is, and stays small enough to read. `tests.rs` says it by its name.
fn check_rust(shown: &str, text: &str, findings: &mut Vec<String>) {
    let head = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !shown.ends_with("/tests.rs") && !head.is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{shown}:1: a file begins with a `//!` head that says what it is for"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{shown}: {lines} lines; look for the second noun and split"));
    }
}

/// The project speaks of itself alone: no paths of somebody's machine, no numbers of somebody's tracker.
fn check_words(shown: &str, text: &str, findings: &mut Vec<String>) {
    // Put together from halves, so that this file passes its own check.
    let paths = [concat!("/wo", "rk/"), concat!("/tm", "p/"), concat!("/ro", "ot/")];
    for (index, line) in text.lines().enumerate() {
        for path in paths {
            let found = line.match_indices(path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|character| character.is_alphanumeric() || "}.-_*".contains(character))
            });
            if found {
                findings.push(format!("{shown}:{}: a path of one machine: {path}", index + 1));
            }
        }
        let lower = line.to_lowercase();
        for (at, word) in lower.match_indices(concat!("issu", "e ")) {
            let rest = lower[at + word.len()..].trim_start_matches('#');
            if rest.starts_with(|character: char| character.is_ascii_digit()) {
                findings.push(format!("{shown}:{}: a number of a tracker", index + 1));
            }
        }
    }
}

/// A page that names a test as `path/of/file.rs::name` names one that exists.
fn check_tests(root: &Path, shown: &str, page: &str, findings: &mut Vec<String>) {
    for (index, line) in page.lines().enumerate() {
        let code = line.split('`').skip(1).step_by(2);
        for (file, name) in code.filter_map(|code| code.split_once(".rs::")) {
            let text = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
            if !is_test(&text, name) {
                let line = index + 1;
                findings.push(format!("{shown}:{line}: there is no test `{name}` in `{file}.rs`"));
            }
        }
    }
}

/// Whether a file has a function of this name with an attribute that makes it a test.
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

/// `ARCHITECTURE.md` names exactly the crates that exist.
fn check_map(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).context("could not read ARCHITECTURE.md")?;
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
        findings.push(format!("ARCHITECTURE.md: its map of the crates does not name `{missing}`"));
    }
    for gone in named.iter().filter(|known| !crates.contains(&format!("loom-{known}"))) {
        findings.push(format!("ARCHITECTURE.md: its map names `loom-{gone}`, which does not exist"));
    }
    Ok(())
}
