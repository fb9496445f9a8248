//! `loom deploy`: deploys definitions to a running server.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use clap::{Args, ValueHint};
use hyper::{HeaderMap, Method};
use loom_definition::{Definition, LoadOptions};
use loom_expression::percent;

use super::{From, text, with_connection};
use crate::{console, exit::Exit, files};

const EXIT_CODES: &str = "\
Exit codes:
  0  all definitions are deployed
  1  the server rejected a definition; those before it are deployed
  2  invalid arguments, or a file cannot be read
  3  a definition is invalid; nothing was deployed
  4  the token is missing or wrong
  7  the server cannot be reached";

/// Options of `loom deploy`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DeployArgs {
    /// Definitions, and directories of definitions (`*.json` and `NAME/workflow.json`).
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from: From,
}

/// Runs `loom deploy`.
pub(crate) fn deploy(args: &DeployArgs) -> Result<Exit> {
    if args.from.data.is_some() {
        bail!("`loom deploy` deploys to a running server; name it with --server");
    }
    let mut definitions: Vec<(Arc<str>, Vec<u8>)> = Vec::new();
    let mut refused = false;
    for (path, is_named) in listed(&args.paths)? {
        let bytes = files::read(&path)?;
        if !is_named {
            match files::role(&path, &bytes) {
                files::Role::Definition => {}
                files::Role::Companion => continue,
                files::Role::Unknown => {
                    files::report_skipped(&path);
                    continue;
                }
            }
        }
        let options = LoadOptions {
            file_name: Some(Arc::from(files::naming_path(&path).to_string_lossy().as_ref())),
            ..LoadOptions::default()
        };
        match Definition::parse(&bytes, &options) {
            Ok(loaded) => definitions.push((Arc::clone(&loaded.workflow.name), bytes)),
            Err(diagnostics) => {
                console::error(format_args!("{}: {diagnostics}", path.display()));
                refused = true;
            }
        }
    }
    if refused {
        return Ok(Exit::Refused);
    }
    if definitions.is_empty() {
        bail!("no definitions found");
    }
    with_connection(&args.from, true, async |connection| {
        for (name, bytes) in definitions {
            let path = format!("/api/v1/workflows/{}", percent::encode(&name));
            let deployed = connection.send(Method::PUT, &path, HeaderMap::new(), bytes).await?;
            if args.from.json {
                console::json(&deployed.to_json_text());
            } else {
                println!("{}  {}", text(&deployed, "name"), text(&deployed, "version"));
            }
        }
        Ok(Exit::Success)
    })
}

/// The files at these paths, and whether each was named itself.
fn listed(paths: &[PathBuf]) -> Result<Vec<(PathBuf, bool)>> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(files::workflows_in(path)?.into_iter().map(|path| (path, false)));
        } else {
            all.push((path.clone(), true));
        }
    }
    Ok(all)
}
