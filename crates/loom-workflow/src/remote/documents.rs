//! The documents of one run, for commands that are not about a server themselves.

use std::path::PathBuf;

use anyhow::Result;
use hyper::Method;
use loom_expression::{Value, percent};

use super::{From, full_id, with_connection};
use crate::exit::Exit;

impl From {
    /// A server or a data directory by their arguments, without output as JSON.
    pub(crate) fn given(
        server: Option<String>,
        data: Option<PathBuf>,
        key_file: Option<PathBuf>,
        token_file: Option<PathBuf>,
    ) -> From {
        From { server, data, key_file, token_file, json: false }
    }
}

/// A run as a server or a data directory describes it.
pub(crate) struct RunDocuments {
    pub(crate) definition: Value,
    pub(crate) actions: Value,
}

/// Reads a run and gives it to `work`.
pub(crate) fn with_run(
    from: &From,
    run: &str,
    work: impl FnOnce(&RunDocuments) -> Result<Exit>,
) -> Result<Exit> {
    let mut read = None;
    let exit = with_connection(from, false, async |connection| {
        let path = format!("/api/v1/runs/{}", percent::encode(&full_id(connection, run).await?));
        let definition = connection.ask(Method::GET, &format!("{path}/definition"), "definition").await?;
        let actions = connection.ask(Method::GET, &format!("{path}/actions"), "actions").await?;
        read = Some(RunDocuments { definition, actions });
        Ok(Exit::Success)
    })?;
    read.map_or(Ok(exit), |documents| work(&documents))
}
