//! Development tasks of the repository. `cargo xtask ci` runs everything that continuous integration runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, anyhow, bail};

mod cultures;
mod docs;
mod fuzz;
mod instructions;
mod links;
mod live_model;
mod package;
mod phrases;
mod picture;
mod tidy;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let outcome = match task.as_str() {
        "ci" => ci(),
        "lint" => lint(),
        "tidy" => tidy::check(&root()),
        "cultures" => match std::env::args().nth(2) {
            Some(packages) => cultures::write(&root(), Path::new(&packages)),
            None => Err(anyhow!("usage: cargo xtask cultures DIR (the directory of the CLDR packages)")),
        },
        "docs" => docs::write(&root()),
        "picture" => picture::write(&root()),
        "package" => package::command(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        "fuzz" => fuzz::command(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        "instructions" => instructions::command(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        "live-model" => live_model::command(&root()),
        other => {
            eprintln!(
                "xtask: unknown task `{other}`; available: ci, lint, tidy, docs, picture, package, cultures, fuzz, \
                 instructions, live-model"
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every check that a change must pass.
fn ci() -> Result<()> {
    tidy::check(&root())?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    package::command(&root(), &[])?;
    cargo(&["test", "--locked", "--workspace"], &[])?;
    clippy_and_docs()
}

/// Runs every check except the tests.
fn lint() -> Result<()> {
    tidy::check(&root())?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    clippy_and_docs()
}

fn clippy_and_docs() -> Result<()> {
    cargo(
        &["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        &[],
    )?;
    cargo(
        &["doc", "--locked", "--workspace", "--all-features", "--no-deps"],
        &[("RUSTDOCFLAGS", "-Dwarnings")],
    )
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let line = format!("cargo {}", arguments.join(" "));
    println!("== {line}");
    let status = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed with {status}");
    }
    Ok(())
}

/// The root of the repository, which is the parent directory of this package.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
