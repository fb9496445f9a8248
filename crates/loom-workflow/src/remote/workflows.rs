//! `loom workflows`: manages the workflows of a server.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::{HeaderMap, Method};
use loom_expression::{Object, Value, percent};

use super::{From, Refusal, members, text, with_connection};
use crate::{console, exit::Exit};

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
    /// List workflows with their state.
    List,
    /// Show a workflow and its triggers.
    Show {
        /// The workflow.
        name: String,
    },
    /// Disable a workflow or one of its triggers until it is enabled again. Runs in progress continue.
    Disable {
        /// The workflow.
        name: String,
        /// The trigger [default: all triggers of the workflow].
        trigger: Option<String>,
    },
    /// Enable a workflow or one of its triggers. Missed recurrences do not fire.
    Enable {
        /// The workflow.
        name: String,
        /// The trigger [default: the workflow; triggers that were disabled by name stay disabled].
        trigger: Option<String>,
    },
    /// Fire the occurrences of a Recurrence that were missed between two times. Repeating the command fires nothing twice.
    Backfill {
        /// The workflow.
        name: String,
        /// The trigger [default: the only Recurrence of the workflow].
        trigger: Option<String>,
        /// The start, such as 2026-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: String,
        /// The end (exclusive), not in the future.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// List the occurrences without firing any.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs `loom workflows`.
pub(crate) fn workflows(args: &WorkflowsArgs) -> Result<Exit> {
    let command = &args.command;
    if args.from.data.is_some() && matches!(command, WorkflowsCommand::Backfill { .. }) {
        bail!("a backfill needs a running server to execute its runs; use --server instead of --data");
    }
    if args.from.data.is_some() && matches!(command, WorkflowsCommand::RotateSignature { .. }) {
        bail!("only a running server can rotate signatures; use --server instead of --data");
    }
    let changes = !matches!(command, WorkflowsCommand::List | WorkflowsCommand::Show { .. });
    with_connection(&args.from, changes, async |connection| match command {
        WorkflowsCommand::List => {
            let page = connection.ask(Method::GET, "/api/v1/workflows", "workflows").await?;
            if args.from.json {
                console::json(&page.to_json_text());
                return Ok(Exit::Success);
            }
            for workflow in members(&page, "workflows") {
                println!("{}", line(workflow));
            }
            Ok(Exit::Success)
        }
        WorkflowsCommand::Show { name } => {
            let workflow = connection.ask(Method::GET, &path(name, None, ""), "name").await?;
            show(&workflow, &args.from);
            Ok(Exit::Success)
        }
        WorkflowsCommand::Disable { name, trigger } => {
            let workflow =
                connection.ask(Method::POST, &path(name, trigger.as_deref(), "/disable"), "name").await?;
            show(&workflow, &args.from);
            Ok(Exit::Success)
        }
        WorkflowsCommand::Enable { name, trigger } => {
            let workflow =
                connection.ask(Method::POST, &path(name, trigger.as_deref(), "/enable"), "name").await?;
            show(&workflow, &args.from);
            if text(&workflow, "disabledBy") == "setting" {
                eprintln!("loom: {} is still disabled by its FlowState setting", text(&workflow, "name"));
            }
            Ok(Exit::Success)
        }
        WorkflowsCommand::Backfill { name, trigger, from, to, dry_run } => {
            let trigger = match trigger {
                Some(trigger) => trigger.clone(),
                None => only_recurrence(&connection.ask(Method::GET, &path(name, None, ""), "name").await?)?,
            };
            let mut body = Object::new();
            body.insert("from", from.as_str());
            body.insert("to", to.as_str());
            body.insert("dryRun", *dry_run);
            let body = Value::from(body).to_json_text().into_bytes();
            let path = path(name, Some(&trigger), "/backfill");
            let found = connection.send(Method::POST, &path, HeaderMap::new(), body).await?;
            if args.from.json {
                console::json(&found.to_json_text());
                return Ok(Exit::Success);
            }
            for occurrence in members(&found, "occurrences") {
                let runs: Vec<&str> = members(occurrence, "runs").filter_map(Value::as_str).collect();
                let (time, status) = (text(occurrence, "scheduledTime"), text(occurrence, "status"));
                println!("{}", format!("{time}  {status:<12}  {}", runs.join(" ")).trim_end());
            }
            Ok(Exit::Success)
        }
        WorkflowsCommand::RotateSignature { name, trigger } => {
            let path = path(name, trigger.as_deref(), "/rotate-signature");
            let workflow = connection.ask(Method::POST, &path, "name").await?;
            if args.from.json {
                console::json(&workflow.to_json_text());
                return Ok(Exit::Success);
            }
            let is_rotated = |shown: &&Value| {
                trigger.as_ref().is_none_or(|trigger| text(shown, "name").eq_ignore_ascii_case(trigger))
            };
            for shown in members(&workflow, "triggers").filter(is_rotated) {
                println!("{}  {}", text(shown, "name"), text(shown, "url"));
            }
            Ok(Exit::Success)
        }
    })
}

/// The path of an operation on a workflow or on one of its triggers.
fn path(name: &str, trigger: Option<&str>, then: &str) -> String {
    let mut path = format!("/api/v1/workflows/{}", percent::encode(name));
    if let Some(trigger) = trigger {
        path.extend(["/triggers/", &percent::encode(trigger)]);
    }
    path.push_str(then);
    path
}

/// The name of the only Recurrence of a workflow.
fn only_recurrence(workflow: &Value) -> Result<String, Refusal> {
    let is_recurrence =
        |trigger: &&Value| ["recurrence", "schedule"].contains(&&*text(trigger, "type").to_lowercase());
    let names: Vec<&str> =
        members(workflow, "triggers").filter(is_recurrence).map(|trigger| text(trigger, "name")).collect();
    match names[..] {
        [only] => Ok(only.to_owned()),
        [] => {
            let message = format!("the workflow {} has no Recurrence trigger", text(workflow, "name"));
            Err(Refusal::Answered { status: 400, message })
        }
        _ => {
            let message = format!("name one of the Recurrence triggers: {}", names.join(", "));
            Err(Refusal::Answered { status: 400, message })
        }
    }
}

/// A workflow in a list.
fn line(workflow: &Value) -> String {
    format!("{:<8}  {}  {}", state(workflow), text(workflow, "name"), text(workflow, "version"))
}

/// The state of a workflow or trigger, as text.
fn state(shown: &Value) -> String {
    match text(shown, "disabledBy") {
        "setting" => "Disabled by its FlowState setting".to_owned(),
        _ => text(shown, "state").to_owned(),
    }
}

/// A workflow and its triggers.
fn show(workflow: &Value, from: &From) {
    if from.json {
        console::json(&workflow.to_json_text());
        return;
    }
    println!("{}", line(workflow));
    for trigger in members(workflow, "triggers") {
        println!("  {:<8}  {}  {}", state(trigger), text(trigger, "name"), text(trigger, "type"));
        // Without a server, the address is not known.
        let url = text(trigger, "url");
        if from.data.is_none() && !url.is_empty() {
            println!("            {url}");
        }
    }
}
