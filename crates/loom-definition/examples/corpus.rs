//! Loads every `.json` file of a directory and counts the diagnostics by code.
//!
//! `cargo run -p loom-definition --example corpus -- DIR [--list] [--strict] [--refused-at-most N]`: `--list` prints
//! every diagnostic; with `--strict`, invalid expressions are errors. The exit code is 1 if more than N files (by
//! default 0) are rejected.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use loom_definition::{Definition, LoadOptions, Severity, diagnostic::explain, render, text};

fn main() -> ExitCode {
    let mut directory = None;
    let mut list = false;
    let mut allowed = 0;
    let mut strict_expressions = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--strict" => strict_expressions = true,
            "--refused-at-most" => allowed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0),
            _ => directory = Some(PathBuf::from(argument)),
        }
    }
    let Some(directory) = directory else {
        eprintln!("usage: corpus DIR [--list] [--strict] [--refused-at-most N]");
        return ExitCode::from(2);
    };
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            return ExitCode::from(2);
        }
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();

    let mut refused = 0;
    let mut codes: BTreeMap<(Severity, &'static str), (usize, usize)> = BTreeMap::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::from(2);
            }
        };
        let options = LoadOptions {
            file_name: Some(name.as_str().into()),
            strict_expressions,
            ..LoadOptions::default()
        };
        let (diagnostics, loaded) = match Definition::parse(&bytes, &options) {
            Ok(loaded) => (loaded.warnings, true),
            Err(diagnostics) => (diagnostics.0, false),
        };
        let mut seen = Vec::new();
        for diagnostic in &diagnostics {
            let entry = codes.entry((diagnostic.severity, diagnostic.code)).or_default();
            entry.0 += 1;
            if !seen.contains(&diagnostic.code) {
                seen.push(diagnostic.code);
                entry.1 += 1;
            }
        }
        if !loaded {
            refused += 1;
            println!("rejected: {name}");
        }
        if list || !loaded {
            let source = text::decode(&bytes).unwrap_or_default();
            for diagnostic in &diagnostics {
                if list || diagnostic.severity == Severity::Error {
                    println!("{}", render(diagnostic, &source, &name, false));
                }
            }
        }
    }
    println!("{} of {} load", files.len() - refused, files.len());
    for ((severity, code), (findings, files)) in &codes {
        let title = explain(code).map_or("", |info| info.title);
        println!("{code} {severity:7} {findings:4} in {files:3} files: {title}");
    }
    if refused > allowed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
