//! `loom resilience`: policies and states of services, and changes by an operator.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueHint};
use hyper::{HeaderMap, Method};
use loom_expression::{Value, Visible, percent};

use super::{From, Refusal, connection::Connection, members, text, with_connection};
use crate::{console, exit::Exit, files, live::part_name, run::policies_in};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the operation was rejected, such as setting an invalid policy
  2  invalid arguments
  3  no such service
  4  the token is missing or wrong
  7  the server cannot be reached";

/// Options of `loom resilience`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ResilienceArgs {
    #[command(subcommand)]
    command: ResilienceCommand,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum ResilienceCommand {
    /// List circuit breakers and rate limiters by service.
    List,
    /// Show the effective policy of a service, with the origin of each value.
    Show {
        /// The name of the service.
        service: String,
        /// Read this `resilience.json` instead of asking a server.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["server", "data"])]
        file: Option<PathBuf>,
    },
    /// Store the policy of a service in a running server, in place of that of `resilience.json`.
    Set {
        /// The name of the service.
        service: String,
        /// The policy, as `resilience.json` holds it under `services`: JSON, or `@file`.
        #[arg(value_name = "JSON|@FILE")]
        policy: String,
    },
    /// Remove the stored policy of a service, so that that of `resilience.json` applies again.
    Unset {
        /// The name of the service.
        service: String,
    },
    /// Reset the circuit breaker and limiters of a service to their initial state.
    Reset {
        /// The name of the service.
        service: String,
    },
    /// Isolate a service: reject all calls with `ServiceIsolated` until its circuit is closed or reset.
    Open {
        /// The name of the service.
        service: String,
    },
    /// Close a service's circuit.
    Close {
        /// The name of the service.
        service: String,
    },
}

/// Runs `loom resilience`.
pub(crate) fn resilience(args: &ResilienceArgs) -> Result<Exit> {
    let path = |service: &str| format!("/api/v1/resilience/{}", percent::encode(service));
    let change = |service: &str, change: &str| format!("{}/{change}", path(service));
    let (method, path, body) = match &args.command {
        ResilienceCommand::List => (Method::GET, "/api/v1/resilience".to_owned(), None),
        ResilienceCommand::Show { service, file: Some(file) } => return show_file(service, file),
        ResilienceCommand::Show { service, file: None } => (Method::GET, path(service), None),
        ResilienceCommand::Set { service, policy } => {
            if args.from.data.is_some() {
                bail!(
                    "`loom resilience set` changes a running server; edit resilience.json for one that is stopped"
                );
            }
            let policy = files::read_argument("POLICY", policy)?;
            (Method::PUT, path(service), Some(policy.to_json_text().into_bytes()))
        }
        ResilienceCommand::Unset { service } => (Method::DELETE, path(service), None),
        ResilienceCommand::Reset { service } => (Method::POST, change(service, "reset"), None),
        ResilienceCommand::Open { service } => (Method::POST, change(service, "isolate"), None),
        ResilienceCommand::Close { service } => (Method::POST, change(service, "close"), None),
    };
    let changes = method != Method::GET;
    with_connection(&args.from, changes, async |connection| {
        let found = ask(connection, method, &path, body).await?;
        if args.from.json {
            console::json(&found.to_json_text());
            return Ok(Exit::Success);
        }
        match &args.command {
            ResilienceCommand::Show { .. } | ResilienceCommand::Unset { .. } => print_policy(&found),
            ResilienceCommand::Set { service, .. } => {
                print_policy(&found);
                let service = Visible(service);
                eprintln!(
                    "loom: stored; it replaces the whole policy of {service} in resilience.json until `loom resilience unset {service}`"
                );
            }
            _ => members(&found, "services").for_each(print_service),
        }
        Ok(Exit::Success)
    })
}

async fn ask(
    connection: &Connection,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Value, Refusal> {
    let answer = connection.send(method, path, HeaderMap::new(), body.unwrap_or_default()).await?;
    // A list of services, or the policy of one.
    let property = if answer.get("services").is_some() { "services" } else { "name" };
    connection.expect(answer, property)
}

/// Prints the policy of a service as a file defines it.
fn show_file(service: &str, file: &std::path::Path) -> Result<Exit> {
    let policies = policies_in(None, Some(file))?;
    match policies.service(service) {
        Ok(effective) => {
            println!("{service}");
            for setting in &effective.settings {
                println!("  {setting}");
            }
            Ok(Exit::Success)
        }
        Err(unknown) => {
            let hint = unknown.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            console::error(format_args!("{unknown} in {}{hint}", file.display()));
            Ok(Exit::NOT_FOUND)
        }
    }
}

/// A policy, value by value, and what the guards make of it.
fn print_policy(found: &Value) {
    println!("{}", Visible(text(found, "name")));
    for setting in members(found, "settings") {
        let name = text(setting, "pointer").trim_start_matches('/').replace('/', ".");
        let removed = setting.get("removed").and_then(Value::as_bool).unwrap_or_default();
        let value = if removed {
            "(removed)".to_owned()
        } else {
            setting.get("value").map(Value::to_json_text).unwrap_or_default()
        };
        let line = setting.get("line").and_then(Value::as_i64).map(|line| format!(", line {line}"));
        let instead: Vec<String> =
            members(setting, "insteadOf").map(|origin| origin.text().into_owned()).collect();
        let instead =
            if instead.is_empty() { String::new() } else { format!("; instead of {}", instead.join(", ")) };
        println!(
            "  {} = {}  ({}{}{})",
            Visible(&name),
            Visible(&value),
            Visible(text(setting, "origin")),
            line.unwrap_or_default(),
            Visible(&instead)
        );
    }
    // Only the parts that the policy has. Retries and timeouts are in the settings.
    for line in text(found, "policy").lines().skip(1).filter(|line| !line.ends_with(" none")) {
        println!("  {}", Visible(line));
    }
    if let Some(status) = found.get("status").filter(|status| !status.is_null()) {
        print_service(status);
    }
}

/// One line for a service: its circuit, its limit, and what observed parts would have done.
fn print_service(service: &Value) {
    let circuit = service.get("circuit").cloned().unwrap_or_default();
    let limiter = service.get("limiter").cloned().unwrap_or_default();
    let failures = circuit.get("consecutiveFailures").and_then(Value::as_i64).unwrap_or_default();
    // A circuit that only observes refuses nothing, whatever its state.
    let state = match (text(&circuit, "state"), text(&circuit, "mode")) {
        (state @ ("Open" | "HalfOpen"), "Observe") => format!("{state} (observed)"),
        (state, _) => state.to_owned(),
    };
    let mut line = format!("{}  {state}  {failures} failures in a row", text(service, "name"));
    if let Some(available) = limiter.get("available").and_then(Value::as_i64) {
        let _ = write!(line, "  {available} permits");
    }
    if let Some(learned) = limiter.get("learned").and_then(Value::as_i64) {
        let _ = write!(line, "  limit lowered to {learned} by the service");
    }
    let frozen = limiter.get("frozenForMs").and_then(Value::as_i64).unwrap_or_default();
    if frozen > 0 {
        let _ = write!(line, "  paused by the service for {:.1} s", frozen as f64 / 1_000.0);
    }
    let observed = service.get("observed").and_then(Value::as_object);
    for (part, count) in observed.into_iter().flatten() {
        let times = count.as_i64().unwrap_or_default();
        let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        let _ = write!(line, "  {} would have interfered {times}", part_name(part));
    }
    println!("{}", Visible(&line));
}
