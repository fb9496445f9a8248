//! Regenerates the generated pages below `docs/`. Tests fail when a page is out of date.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Pages that consist of the output of a command.
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

/// Pages that tests write when `LOOM_WRITE_DOCS` is set, and otherwise compare: the package and the tests.
const WRITTEN_BY_TESTS: &[(&str, &str, &str)] = &[
    ("docs/errors.md", "loom-definition", "errors_page::"),
    ("docs/reference", "loom-workflow", "reference::"),
];

/// Regenerates all pages. Of `docs/errors.md`, only the part with the diagnostics is generated.
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
    for (pages, package, tests) in WRITTEN_BY_TESTS {
        println!("== {pages}");
        let status = Command::new("cargo")
            .args(["test", "--quiet", "--locked", "--package", package, "--test", "it", tests])
            .env("LOOM_WRITE_DOCS", "1")
            .current_dir(root)
            .status()
            .context("cannot run cargo test")?;
        if !status.success() {
            bail!("cannot write {pages}");
        }
    }
    Ok(())
}
