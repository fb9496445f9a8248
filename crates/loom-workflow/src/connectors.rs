//! `loom connectors`: what the connections with a description offer, and whether they can be used.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use loom_connectors::{Connector, Field, Operation, TriggerKind, Unsubscribe, Value};
use loom_expression::{Object, Visible, nearest};

use crate::{
    config::{Config, Flags},
    console,
    exit::Exit,
    run::Settings,
};

/// The arguments of `loom connectors`.
#[derive(Debug, Args)]
pub(crate) struct ConnectorsArgs {
    #[command(subcommand)]
    command: ConnectorsCommand,
}

#[derive(Debug, Subcommand)]
enum ConnectorsCommand {
    /// List the connectors and how many operations each has.
    List {
        #[command(flatten)]
        flags: Box<Flags<false>>,
    },
    /// Show a connector's parameters and operations, or what one operation takes and returns.
    Show {
        /// The connection to show.
        name: String,
        /// The operation to show [default: a list of all].
        operation: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: Box<Flags<false>>,
    },
    /// Check that each description can be read, that each connection has the parameters that its description requires, and
    /// which operations cannot be called.
    Check {
        /// The connection to check [default: all].
        name: Option<String>,
        #[command(flatten)]
        flags: Box<Flags<false>>,
    },
}

/// Runs the command.
pub(crate) fn command(args: &ConnectorsArgs) -> Result<Exit> {
    let (ConnectorsCommand::List { flags }
    | ConnectorsCommand::Show { flags, .. }
    | ConnectorsCommand::Check { flags, .. }) = &args.command;
    // The connections file is that of a workflow of the project in the working directory, or the one of `--connections`.
    let config = Config::resolve(flags, &[PathBuf::from("workflow/workflow.json")])?;
    let data = config.values.data.clone();
    let config = config.with_secrets_beside(&data);
    let settings = Settings::read(&config)?;
    let exit = match &args.command {
        ConnectorsCommand::List { .. } => list(&settings),
        ConnectorsCommand::Show { name, operation, json, .. } => {
            show(&settings, name, operation.as_deref(), *json)
        }
        ConnectorsCommand::Check { name, .. } => check(&settings, name.as_deref()),
    };
    Ok(exit)
}

fn list(settings: &Settings) -> Exit {
    let connections = settings.connections();
    let mut exit = Exit::Success;
    let mut count = 0;
    for name in connections.described_names() {
        count += 1;
        match connections.connector(name) {
            Some(Ok(connector)) => {
                let operations = connector.operations().len();
                let triggers = connector.operations().filter(|entry| entry.is_trigger()).count();
                let triggers =
                    if triggers == 0 { String::new() } else { format!(", {triggers} of them triggers") };
                println!("{name}: {}; {}{triggers}", title(&connector), counted(operations, "operation"));
            }
            Some(Err(reason)) => {
                console::error(format_args!("connection `{name}`: {reason}"));
                exit = exit.worse(Exit::Refused);
            }
            None => {}
        }
    }
    if count == 0 {
        eprintln!("loom: no connection has a description; `loom explain connections` shows how to add one");
    }
    exit
}

fn title(connector: &Connector) -> String {
    let title = connector.title();
    if title.is_empty() { "no title".to_owned() } else { title }
}

/// The connector with a name, or the exit after the error was reported.
fn named(settings: &Settings, name: &str) -> Result<Connector, Exit> {
    let connections = settings.connections();
    match connections.connector(name) {
        Some(Ok(connector)) => Ok(connector),
        Some(Err(reason)) => {
            console::error(format_args!("connection `{name}`: {reason}"));
            Err(Exit::Refused)
        }
        None => {
            let near = nearest(name, connections.described_names());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            console::error(format_args!("no connection `{name}` with a description{near}"));
            Err(Exit::Refused)
        }
    }
}

fn show(settings: &Settings, name: &str, operation: Option<&str>, json: bool) -> Exit {
    let connector = match named(settings, name) {
        Ok(connector) => connector,
        Err(exit) => return exit,
    };
    let shown = match (operation, json) {
        (None, false) => {
            show_connector(&connector);
            Ok(())
        }
        (None, true) => {
            print_json(&connector_as_json(&connector));
            Ok(())
        }
        (Some(id), false) => show_operation(&connector, id),
        (Some(id), true) => operation_as_json(&connector, id).map(|shown| print_json(&shown)),
    };
    match shown {
        Ok(()) => Exit::Success,
        Err(error) => {
            console::error(format_args!("{error}"));
            Exit::Refused
        }
    }
}

fn print_json(shown: &Value) {
    console::json(&shown.to_json_text_pretty());
}

/// An object with these members.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    members.into_iter().collect::<Object>().into()
}

fn connector_as_json(connector: &Connector) -> Value {
    let parameters = connector.connection_parameters();
    let parameters = parameters.iter().map(|parameter| {
        object([
            ("name", Value::from(parameter.name.as_str())),
            ("type", Value::from(parameter.kind.as_str())),
            ("required", Value::from(parameter.required)),
            ("description", Value::from(parameter.description.as_str())),
        ])
    });
    let operations = connector.operations().map(|entry| {
        object([
            ("id", Value::from(entry.id())),
            ("summary", Value::from(entry.summary())),
            ("trigger", Value::from(entry.is_trigger())),
            ("internal", Value::from(entry.is_internal())),
        ])
    });
    object([
        ("title", Value::from(connector.title())),
        ("description", Value::from(connector.description())),
        ("connectionParameters", parameters.collect()),
        ("operations", operations.collect()),
    ])
}

fn operation_as_json(connector: &Connector, id: &str) -> Result<Value, loom_connectors::Error> {
    let operation = connector.operation(id)?;
    let trigger = operation.trigger().map(|trigger| {
        let kind = if trigger.is_webhook { "webhook" } else { "polling" };
        let runs = if trigger.kind == TriggerKind::Batch { "oneForEachItem" } else { "one" };
        object([("kind", Value::from(kind)), ("runs", Value::from(runs))])
    });
    let fields = |fields: Vec<Field>| -> Value { fields.iter().map(field_as_json).collect() };
    Ok(object([
        ("id", Value::from(operation.id())),
        ("summary", Value::from(operation.summary())),
        ("description", Value::from(operation.description())),
        ("method", Value::from(operation.method())),
        ("path", Value::from(operation.path())),
        ("deprecated", Value::from(operation.is_deprecated())),
        ("unsupported", operation.unsupported().iter().map(|reason| Value::from(reason.as_str())).collect()),
        ("trigger", trigger.unwrap_or_default()),
        ("parameters", fields(connector.fields(id)?)),
        ("returns", fields(connector.results(id)?)),
        ("example", Value::from(connector.example(id, false)?)),
    ]))
}

fn field_as_json(field: &Field) -> Value {
    object([
        ("name", Value::from(field.name.as_str())),
        ("type", Value::from(field.kind.as_str())),
        ("required", Value::from(field.required)),
        ("internal", Value::from(field.internal)),
        ("description", Value::from(field.description.as_str())),
        ("default", field.default.clone().unwrap_or_default()),
        ("allowed", field.allowed.iter().cloned().collect()),
        ("bounds", field.bounds.iter().map(|bound| Value::from(bound.as_str())).collect()),
    ])
}

fn show_connector(connector: &Connector) {
    println!("{}", title(connector));
    let description = connector.description();
    if !description.is_empty() {
        println!("{}", one_line(&description));
    }
    let parameters = connector.connection_parameters();
    if !parameters.is_empty() {
        println!();
        println!("Parameters of a connection:");
        for parameter in parameters {
            let required = if parameter.required { ", required" } else { "" };
            let line = format!(
                "  {} ({}{required}) {}",
                parameter.name,
                parameter.kind,
                one_line(&parameter.description)
            );
            println!("{}", line.trim_end());
        }
    }
    println!();
    println!("Operations:");
    for entry in connector.operations() {
        let kind = match (entry.is_trigger(), entry.is_internal()) {
            (true, _) => " [trigger]",
            (false, true) => " [internal]",
            (false, false) => "",
        };
        println!("  {}{kind}: {}", entry.id(), one_line(entry.summary()));
    }
}

fn show_operation(connector: &Connector, id: &str) -> Result<(), loom_connectors::Error> {
    let operation = connector.operation(id)?;
    println!("{}: {}", operation.id(), one_line(operation.summary()));
    if !operation.description().is_empty() {
        println!("{}", one_line(operation.description()));
    }
    println!("{} {}", operation.method(), operation.path());
    if operation.is_deprecated() {
        println!("deprecated");
    }
    for reason in operation.unsupported() {
        println!("cannot be called: {reason}");
    }
    show_trigger(&operation);
    let (shown, hidden): (Vec<Field>, Vec<Field>) =
        connector.fields(id)?.into_iter().partition(|field| !field.internal);
    println!();
    println!("Parameters:");
    show_fields(&shown);
    if !hidden.is_empty() {
        println!();
        println!("Filled in automatically:");
        show_fields(&hidden);
    }
    let results = connector.results(id)?;
    if !results.is_empty() {
        println!();
        println!("Returns:");
        show_fields(&results);
    }
    let example = Value::from(connector.example(id, false)?);
    println!();
    println!("Example of `parameters`:");
    for line in example.to_json_text_pretty().lines() {
        println!("  {line}");
    }
    Ok(())
}

fn show_trigger(operation: &Operation) {
    if let Some(trigger) = operation.trigger() {
        let runs = if trigger.kind == TriggerKind::Batch { "one run for each item" } else { "one run" };
        if trigger.is_webhook {
            let end = match &trigger.unsubscribe {
                Some(Unsubscribe::Operation { id, .. }) => {
                    format!("ended by the Location of the response, or by {id}")
                }
                _ => "ended by the Location of the response".to_owned(),
            };
            println!("trigger: the service calls back; {runs}; a subscription is {end}");
        } else {
            println!("trigger: polled; {runs}");
        }
    }
    if let Some(paging) = operation.paging() {
        println!("pages: items in `{}`, next page in `{}`", paging.items, paging.next_link);
    }
}

fn show_fields(fields: &[Field]) {
    if fields.is_empty() {
        println!("  none");
    }
    for field in fields {
        let mut notes = vec![field.kind.clone()];
        if field.required {
            notes.push("required".to_owned());
        }
        if let Some(default) = &field.default {
            notes.push(format!("default {}", default.to_json_text()));
        }
        if !field.allowed.is_empty() {
            let listed: Vec<String> = field.allowed.iter().take(8).map(Value::to_json_text).collect();
            let more = if field.allowed.len() > 8 { ", …" } else { "" };
            notes.push(format!("one of {}{more}", listed.join(", ")));
        }
        notes.extend(field.bounds.iter().cloned());
        let line = format!("  {} ({}) {}", field.name, notes.join(", "), one_line(&field.description));
        println!("{}", line.trim_end());
    }
}

fn check(settings: &Settings, only: Option<&str>) -> Exit {
    let connections = settings.connections();
    let names: Vec<String> = match only {
        Some(name) => vec![name.to_owned()],
        None => connections.described_names().map(str::to_owned).collect(),
    };
    let mut exit = Exit::Success;
    for name in names {
        let connector = match named(settings, &name) {
            Ok(connector) => connector,
            Err(worse) => {
                exit = exit.worse(worse);
                continue;
            }
        };
        let unusable = connections.check_described(&name);
        let mut problems = Vec::new();
        let mut callable = 0;
        for entry in connector.operations() {
            match connector.operation(entry.id()) {
                Ok(operation) if operation.unsupported().is_empty() => callable += 1,
                Ok(operation) => {
                    problems.push(format!(
                        "operation `{}` cannot be called: {}",
                        entry.id(),
                        operation.unsupported().join("; ")
                    ));
                }
                Err(error) => problems.push(format!("operation `{}`: {error}", entry.id())),
            }
        }
        let all = connector.operations().len();
        if unusable.is_empty() {
            println!("{name}: {callable} of {} can be called", counted(all, "operation"));
        } else {
            println!("{name}: no operation can be called until the connection is complete");
        }
        for problem in unusable.iter().chain(&problems) {
            println!("  {problem}");
        }
        if !unusable.is_empty() || !problems.is_empty() {
            exit = exit.worse(Exit::Refused);
        }
    }
    exit
}

/// `1 operation`, `2 operations`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn one_line(text: &str) -> String {
    Visible(&text.split_whitespace().collect::<Vec<_>>().join(" ")).to_string()
}
