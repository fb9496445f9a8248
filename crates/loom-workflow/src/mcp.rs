//! `loom mcp`: workflows as tools on standard input and output, served by this process or by a server.

use anyhow::Result;
use clap::Args;

use crate::{
    config::{self, Config, Origin},
    console::Console,
    exit::Exit,
    remote,
    serve::{self, Front, ServeArgs},
};

/// Options of `loom mcp`.
#[derive(Args, Debug)]
pub(crate) struct McpArgs {
    /// Pass messages on to this server, instead of serving workflows in this process. Its token comes from --token-file, LOOM_TOKEN_FILE
    /// or LOOM_TOKEN.
    #[arg(long, value_name = "URL", conflicts_with_all = ["files", "parameters", "hold_runs", "chaos"])]
    server: Option<String>,
    #[command(flatten)]
    serve: ServeArgs,
}

pub(crate) const HELP: &str = "\
Each enabled workflow with a Request trigger is a tool, with the description of its definition and the schema of its trigger. A call starts
a durable run and returns its Response. Configure an MCP client with the command `loom` and arguments such as

  [\"mcp\", \"--workflows\", \"/path/to/workflows\", \"--data\", \"/path/to/data\"]
  [\"mcp\", \"--server\", \"http://127.0.0.1:7070\"]

A data directory belongs to one process: with several clients, start `loom serve` and pass --server. Without --server, the API and the pages
are served, too: at --addr or, by default, at a free port, which is printed on standard error.

Exit codes:
  0  the client has closed standard input, or the process was interrupted; unfinished runs resume at the next start
  2  invalid arguments, a file that cannot be read, a store that cannot be opened, or a client that does not speak MCP
  3  a definition named on the command line is invalid
  7  the server cannot be reached";

/// Runs the command.
pub(crate) fn command(args: &McpArgs, console: Console) -> Result<Exit> {
    let Some(server) = &args.server else { return serve::command(&args.serve, console, Front::Mcp) };
    config::warn_of_misspelt_variables();
    let config = Config::resolve(args.serve.flags(), &[])?;
    // A token in a file of this directory is for the server of this directory.
    let origin = |key: &str| {
        config.origin(key).filter(|origin| matches!(origin, Origin::Flag(_) | Origin::Variable(_)))
    };
    let token = match (&config.values.token_file, origin("token-file")) {
        (Some(path), Some(origin)) => Some(remote::token(path, origin)?),
        _ => config.values.token.clone().filter(|_| origin("token").is_some()),
    };
    remote::relay_mcp(server, token.as_deref())
}
