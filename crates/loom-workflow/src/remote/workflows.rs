//! `loom workflows`: manages the workflows of a server.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use loom_expression::Value;

use super::{From, escape, members, text, with_connection};
use crate::exit::Exit;

/// Options of `loom workflows`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct WorkflowsArgs {
    #[command(subcommand)]
    command: WorkflowsCommand,
    #[command(flatten)]
    from: From,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  2  invalid arguments
  3  no such workflow or trigger
  4  the token is missing or wrong
  7  the server cannot be reached";

#[derive(Debug, Subcommand)]
enum WorkflowsCommand {
    /// Issue new signed URLs for triggers and print them. The old URLs stop working immediately.
    RotateSignature {
        /// The workflow.
        name: String,
        /// The trigger [default: all triggers of the workflow].
        trigger: Option<String>,
    },
}

/// Runs `loom workflows`.
pub(crate) fn workflows(args: &WorkflowsArgs) -> Result<Exit> {
    if args.from.data.is_some() {
        bail!("only a running server can rotate signatures; use --server instead of --data");
    }
    with_connection(&args.from, true, async |connection| {
        let WorkflowsCommand::RotateSignature { name, trigger } = &args.command;
        let mut path = format!("/api/v1/workflows/{}", escape(name));
        if let Some(trigger) = trigger {
            path.extend(["/triggers/", &escape(trigger)]);
        }
        path.push_str("/rotate-signature");
        let workflow = connection.ask(Method::POST, &path).await?;
        if args.from.json {
            println!("{}", workflow.to_json_text());
            return Ok(Exit::Success);
        }
        let is_rotated = |shown: &&Value| {
            trigger.as_ref().is_none_or(|trigger| text(shown, "name").eq_ignore_ascii_case(trigger))
        };
        for shown in members(&workflow, "triggers").filter(is_rotated) {
            println!("{}  {}", text(shown, "name"), text(shown, "url"));
        }
        Ok(Exit::Success)
    })
}
