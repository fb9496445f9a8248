//! Runs the fuzz targets, two at a time, each for a fixed time.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};

/// The default run time of each target.
const SECONDS: u32 = 600;

/// The number of targets that run concurrently.
const AT_ONCE: usize = 2;

/// Parses `[--seconds N] [TARGET …]`, builds the targets and runs them. Without names, runs all targets.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let (mut seconds, mut names) = (SECONDS, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let given = rest.next().context("--seconds needs a number")?;
            seconds = given.parse().with_context(|| format!("`{given}` is not a number of seconds"))?;
        } else if argument.starts_with('-') {
            bail!("unknown option `{argument}`; available: --seconds N");
        } else {
            names.push(argument.clone());
        }
    }
    let known = targets(root)?;
    if let Some(wrong) = names.iter().find(|name| !known.contains(name)) {
        bail!("unknown target `{wrong}`; available: {}", known.join(", "));
    }
    let names = if names.is_empty() { known } else { names };
    install()?;
    let build = cargo_fuzz(root, &["build"]).status().context("cannot start cargo fuzz")?;
    if !build.success() {
        bail!("cannot build the fuzz targets");
    }
    run(root, names, seconds)
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        names.extend(stem.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Installs cargo-fuzz if necessary.
fn install() -> Result<()> {
    let there = Command::new("cargo").args(["fuzz", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("== cargo install cargo-fuzz --locked");
    let status = Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]).status()?;
    if !status.success() {
        bail!("cannot install cargo-fuzz; install it manually: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

/// The sanitizer needs options that a stable compiler only accepts with `RUSTC_BOOTSTRAP`.
fn cargo_fuzz(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("fuzz").args(arguments).env("RUSTC_BOOTSTRAP", "1").current_dir(root);
    command
}

/// Runs the targets on [`AT_ONCE`] threads.
fn run(root: &Path, names: Vec<String>, seconds: u32) -> Result<()> {
    let waiting = Mutex::new(names.into_iter().rev().collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(name) = next else { return };
                    if let Err(error) = run_one(root, &name, seconds) {
                        println!("{name}: {error:#}");
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() { Ok(()) } else { bail!("these targets failed: {}", failed.join(", ")) }
}

fn run_one(root: &Path, name: &str, seconds: u32) -> Result<()> {
    let corpus = format!("fuzz/corpus/{name}");
    std::fs::create_dir_all(root.join(&corpus))?;
    let seeds = format!("fuzz/seeds/{name}");
    let time = format!("-max_total_time={seconds}");
    let arguments =
        ["run", name, &corpus, &seeds, "--", &time, "-max_len=4000", "-timeout=60", "-print_final_stats=1"];
    let output = cargo_fuzz(root, &arguments).output().context("cannot start cargo fuzz")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = said.lines().collect();
        bail!("the target failed:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
    }
    let figure = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
        line.map_or("?", str::trim).to_owned()
    };
    println!(
        "{name}: {} inputs in {seconds} s, peak memory {} MiB",
        figure("number_of_executed_units"),
        figure("peak_rss_mb")
    );
    Ok(())
}
