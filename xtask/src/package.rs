//! Packages every crate as for a registry, so that a missing licence, version or file is found before a release.
//!
//! The workspace sets `publish = false` until its owner decides otherwise, and cargo does not resolve unpublishable packages of
//! a workspace against each other. So the packages are made in a copy of the workspace without that line.
//!
//! To verify them, they are unpacked into a workspace of their own and checked one by one: only then does a package that relies
//! on a feature which another member of the workspace enables fail. `cargo package` could verify them too, but it keeps what it
//! unpacked under the same version and then checks old code.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// The files that each package must contain besides its sources.
const REQUIRED: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "Cargo.toml"];

/// Packages all crates; with `--verify`, also checks each one as its package alone.
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

    let packages = target.join("packed/package");
    if packages.exists() {
        fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
    }
    let status = Command::new("cargo")
        .args(["package", "--quiet", "--locked", "--workspace", "--allow-dirty", "--no-verify"])
        .args(["--exclude", "xtask", "--exclude", "instructions"])
        .env("CARGO_TARGET_DIR", target.join("packed"))
        .current_dir(&copy)
        .status()
        .context("cannot start cargo package")?;
    if !status.success() {
        bail!("cargo package failed with {status}");
    }
    check_contents(&copy)?;
    if verify { verify_each(&packages, &copy.join("Cargo.lock"), &target) } else { Ok(()) }
}

/// Unpacks all packages into a workspace in which they depend on each other, and checks each one alone.
fn verify_each(packages: &Path, lock: &Path, target: &Path) -> Result<()> {
    let unpacked = target.join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))?;
    }
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(packages).with_context(|| format!("cannot list {}", packages.display()))? {
        let archive = entry?.path();
        if archive.extension().is_none_or(|extension| extension != "crate") {
            continue;
        }
        let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&unpacked).status();
        if !status.context("cannot start tar")?.success() {
            bail!("cannot unpack {}", archive.display());
        }
        let stem =
            archive.file_stem().and_then(|stem| stem.to_str()).context("packages have names in UTF-8")?;
        let (name, _) = stem.rsplit_once('-').with_context(|| format!("{stem} has no version"))?;
        names.push((name.to_owned(), stem.to_owned()));
    }
    names.sort();
    let members: Vec<_> = names.iter().map(|(_, directory)| format!("{directory:?}")).collect();
    let patches: Vec<_> =
        names.iter().map(|(name, directory)| format!("{name} = {{ path = {directory:?} }}\n")).collect();
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.crates-io]\n{}",
        members.join(", "),
        patches.concat()
    );
    fs::write(unpacked.join("Cargo.toml"), manifest).context("cannot write the manifest of the packages")?;
    fs::copy(lock, unpacked.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    for (name, _) in &names {
        println!("== package {name}");
        let status = Command::new("cargo")
            .args(["check", "--quiet", "--package", name])
            .env("CARGO_TARGET_DIR", target.join("packed"))
            .current_dir(&unpacked)
            .status()
            .context("cannot start cargo check")?;
        if !status.success() {
            bail!("the package {name} does not compile alone");
        }
    }
    Ok(())
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
