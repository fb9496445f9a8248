//! `loom nodes`: the nodes of a cluster.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use loom_expression::{Value, percent};

use super::{From, members, text, with_connection};
use crate::{console, exit::Exit};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the operation was rejected
  2  invalid arguments
  3  no such node
  4  the token is missing or wrong
  7  the server cannot be reached";

/// Options of `loom nodes`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// List the live nodes and the number of shards that each of them owns.
    List,
    /// Let a node give its runs and triggers to the other nodes, before it is stopped. It still serves requests, and passes them on.
    Drain {
        /// The name of the node, or its id.
        node: String,
    },
}

/// Runs `loom nodes`.
pub(crate) fn nodes(args: &NodesArgs) -> Result<Exit> {
    if args.from.data.is_some() {
        bail!("a data directory has no nodes; name a server with --server");
    }
    let changes = matches!(args.command, NodesCommand::Drain { .. });
    with_connection(&args.from, changes, async |connection| {
        let found = match &args.command {
            NodesCommand::List => connection.ask(Method::GET, "/api/v1/nodes", "nodes").await?,
            NodesCommand::Drain { node } => {
                let path = format!("/api/v1/nodes/{}/drain", percent::encode(node));
                connection.ask(Method::POST, &path, "id").await?
            }
        };
        if args.from.json {
            console::json(&found.to_json_text());
            return Ok(Exit::Success);
        }
        if changes {
            println!("{}  gives its shards to the other nodes", text(&found, "name"));
            return Ok(Exit::Success);
        }
        if members(&found, "nodes").next().is_none() {
            eprintln!("loom: the server is not a node of a cluster; it was started without --store");
            return Ok(Exit::Success);
        }
        println!(
            "{:<6}  {:<24}  {:<24}  {:>6}  {:<10}  DIFFERS IN",
            "NODE", "NAME", "ADDRESS", "SHARDS", "VERSION"
        );
        for node in members(&found, "nodes") {
            let shards = node.get("shards").and_then(Value::as_i64).unwrap_or_default();
            let is_here = node.get("isThisNode").and_then(Value::as_bool) == Some(true);
            let differences: Vec<&str> = node
                .get("differsIn")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let differences = if is_here { "(this node)".to_owned() } else { differences.join(", ") };
            println!(
                "{:<6}  {:<24}  {:<24}  {shards:>6}  {:<10}  {differences}",
                text(node, "id"),
                text(node, "name"),
                text(node, "address"),
                text(node, "version"),
            );
        }
        Ok(Exit::Success)
    })
}
