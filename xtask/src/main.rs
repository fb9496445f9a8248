//! Chores of the repository. `cargo xtask ci` is the one door that continuous integration uses too.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, anyhow, bail};

mod cultures;
mod docs;
mod fuzz;
mod links;
mod package;
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
            None => Err(anyhow!("cultures needs the folder of CLDR's packages")),
        },
        "docs" => docs::write(&root()),
        "picture" => picture::write(&root()),
        "package" => package::command(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        "fuzz" => fuzz::command(&root(), &std::env::args().skip(2).collect::<Vec<_>>()),
        other => {
            eprintln!(
                "unknown chore `{other}`; there are: ci, lint, tidy, docs, picture, package, cultures, fuzz"
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

/// Everything a change must pass.
fn ci() -> Result<()> {
    tidy::check(&root())?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    package::command(&root(), &[])?;
    cargo(&["test", "--locked", "--workspace"], &[])?;
    clippy_and_docs()
}

/// Everything that needs no test run.
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
        .with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed with {status}");
    }
    Ok(())
}

/// The repository's root: this package lies directly below it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
