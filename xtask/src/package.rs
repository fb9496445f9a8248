//! Packages every crate as for a registry, so that a missing licence, version or file is found before a release.
//!
//! The workspace sets `publish = false` until its owner decides otherwise, and cargo does not resolve unpublishable packages of
//! a workspace against each other. So the packages are built in a copy of the workspace without that line.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// The files that each package must contain besides its sources.
const REQUIRED: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "Cargo.toml"];

/// Packages all crates; with `--verify`, also builds each one from its package.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let verify = match arguments {
        [] => false,
        [flag] if flag == "--verify" => true,
        other => bail!("unknown arguments `{}`; available: --verify", other.join(" ")),
    };
    println!("== package");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let copy = target.join("packing");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    for name in ["crates", "xtask", "benches/instructions", "examples", "docs"] {
        copy_all(&root.join(name), &copy.join(name))?;
    }
    for name in ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root.join(name), copy.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    fs::write(copy.join("Cargo.toml"), manifest.replace("publish = false\n", "publish = true\n"))?;

    let mut cargo = Command::new("cargo");
    cargo
        .args(["package", "--quiet", "--locked", "--workspace", "--allow-dirty"])
        .args(["--exclude", "xtask", "--exclude", "instructions"])
        .env("CARGO_TARGET_DIR", target.join("packed"))
        .current_dir(&copy);
    if !verify {
        cargo.arg("--no-verify");
    }
    let status = cargo.status().context("cannot start cargo package")?;
    if !status.success() {
        bail!("cargo package failed with {status}");
    }
    check_contents(&copy)
}

/// Checks that each package contains the required files, which cargo itself does not check.
fn check_contents(copy: &Path) -> Result<()> {
    for entry in fs::read_dir(copy.join("crates"))? {
        let directory = entry?.path();
        let listed = Command::new("cargo")
            .args(["package", "--list", "--allow-dirty", "--offline"])
            .current_dir(&directory)
            .output()
            .context("cannot start cargo package --list")?;
        let listed = String::from_utf8(listed.stdout).context("cargo lists names in UTF-8")?;
        for name in REQUIRED {
            if !listed.lines().any(|line| line == *name) {
                bail!("the package of {} must contain {name}", directory.display());
            }
        }
    }
    Ok(())
}

/// Copies a directory and follows its symbolic links.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_dir() {
            copy_all(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
