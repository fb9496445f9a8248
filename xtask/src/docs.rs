//! Writes the generated pages below `docs/` again. The tests that compare them say when that is due.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Pages that are what a command prints.
const PRINTED: &[(&str, &[&str])] = &[
    (
        "docs/functions.md",
        &["run", "--quiet", "--locked", "--package", "loom-expression", "--example", "functions_page"],
    ),
    (
        "docs/configuration.md",
        &["run", "--quiet", "--locked", "--package", "loom-workflow", "--", "config", "reference"],
    ),
];

/// Writes all of them. `docs/errors.md` is written by hand, but for its diagnostics, which a test puts beside it.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (page, arguments) in PRINTED {
        println!("== {page}");
        let output = Command::new("cargo").args(*arguments).current_dir(root).output();
        let output = output.with_context(|| format!("cannot run cargo {}", arguments.join(" ")))?;
        if !output.status.success() {
            bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        fs::write(root.join(page), output.stdout).with_context(|| format!("cannot write {page}"))?;
    }
    println!("== docs/reference");
    let status = Command::new("cargo")
        .args(["test", "--quiet", "--locked", "--package", "loom-workflow", "--test", "it", "reference::"])
        .env("LOOM_WRITE_DOCS", "1")
        .current_dir(root)
        .status()
        .context("cannot run cargo test")?;
    if !status.success() {
        bail!("the reference pages cannot be written");
    }
    Ok(())
}
