//! `loom runs` and `loom resilience`: requests to a server, or to the data directory of a server that is not running.

mod chat;
mod connection;
mod deploy;
mod documents;
mod filters;
mod follow;
mod mcp;
mod memory;
mod nodes;
mod people;
mod resilience;
mod secrets;
mod tokens;
mod workflows;

use std::{
    collections::BTreeSet,
    fmt::{Display, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand, ValueHint};
use hyper::{HeaderMap, Method, header::HeaderValue};
use loom_definition::RunStatus;
use loom_expression::{Timestamp, Value, percent};

use crate::{
    args::whole_number,
    config::{Config, Flags, Origin},
    console::{self, Console},
    exit::Exit,
    files,
    live::{between, duration, part_name},
};
use connection::{Connection, Refusal};
use filters::{Filters, first_runs};

pub(crate) use chat::{chat_here, chat_with};
pub(crate) use deploy::{DeployArgs, deploy};
pub(crate) use documents::{RunDocuments, with_run};
pub(crate) use mcp::relay_mcp;
pub(crate) use memory::{MemoryArgs, memory};
pub(crate) use nodes::{NodesArgs, nodes};
pub(crate) use resilience::{ResilienceArgs, resilience};
pub(crate) use secrets::{SecretRequest, audit_of_directory, audit_query, secrets};
pub(crate) use tokens::{TokensArgs, tokens};
pub(crate) use workflows::{WorkflowsArgs, workflows};

/// The length of a run id in characters.
const RUN_ID_LENGTH: usize = 13;

/// The number of newest runs among which an abbreviated id is looked up.
const NEWEST: usize = 1_000;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the operation was rejected, such as cancelling a run that has ended
  2  invalid arguments
  3  no such run or action
  4  the token is missing or wrong
  7  the server cannot be reached
`loom runs watch` exits with the code of the run, as `loom run` does; with --data, it exits with 6 if the run is unfinished.";

/// Options of `loom runs`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
    #[command(flatten)]
    from: From,
}

/// The server or data directory to use.
#[derive(Args, Debug)]
pub(crate) struct From {
    /// The URL of the server [default: the address in the settings, such as http://127.0.0.1:7070].
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Use this data directory instead of a server; no server may be using it. Commands to runs take effect when a server
    /// next uses the directory.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "server")]
    data: Option<PathBuf>,
    /// The key of the data directory, if it is encrypted [default: the one in the settings].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "data")]
    key_file: Option<PathBuf>,
    /// A file whose first line is the server's token [default: the token in the settings; with --server, only
    /// LOOM_TOKEN_FILE or LOOM_TOKEN].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List runs, newest first.
    List {
        #[command(flatten)]
        filters: Filters,
        /// The maximum number of runs, 1 to 1000.
        #[arg(long, default_value_t = 20, value_parser = whole_number(1_u16, 1000))]
        limit: u16,
        /// Print only the ids, one per line.
        #[arg(long, short, conflicts_with = "json")]
        quiet: bool,
    },
    /// Show a run and its actions, or the inputs, outputs and attempts of one action.
    Show {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// Show this action, as JSON: one object per execution (an action in a loop has several), those that failed first.
        action: Option<String>,
    },
    /// Follow a run until it ends. The exit code is that of the run. With --data, print the events so far.
    Watch {
        /// The run id, or an unambiguous prefix.
        run: String,
    },
    /// Print the events of a run so far, one JSON object per line.
    Events {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// Only events with a greater sequence number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Cancel a run.
    Cancel {
        /// The run id, or an unambiguous prefix.
        run: String,
    },
    /// Suspend a run.
    Suspend {
        /// The run id, or an unambiguous prefix.
        run: String,
    },
    /// Resume a suspended run, or release one that is held.
    Resume {
        /// The run id, or an unambiguous prefix.
        run: String,
    },
    /// Send a signal to a run, for a WaitForSignal action that waits for it now or later.
    Signal {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// The name that the action waits for.
        name: String,
        /// The body of the signal: JSON, `@file`, or `-` for standard input.
        #[arg(long, value_name = "JSON|@FILE|-")]
        body: Option<String>,
        /// Deliver a signal with this name and key only once, even if it is sent again.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    #[command(flatten)]
    People(people::PeopleCommand),
    /// Resubmit a run: start a new run with the same trigger outputs.
    Resubmit {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// Use the definition deployed now instead of the run's own.
        #[arg(long)]
        current: bool,
        /// Start from this action; earlier actions keep their results.
        #[arg(long, value_name = "ACTION")]
        from: Option<String>,
    },
    /// Delete ended runs with all their data. This cannot be undone.
    Delete {
        /// The run ids, or unambiguous prefixes.
        #[arg(required = true)]
        runs: Vec<String>,
    },
}

impl RunsCommand {
    /// Whether the command writes.
    fn changes(&self) -> bool {
        match self {
            RunsCommand::List { .. }
            | RunsCommand::Show { .. }
            | RunsCommand::Watch { .. }
            | RunsCommand::Events { .. } => false,
            RunsCommand::Cancel { .. }
            | RunsCommand::Suspend { .. }
            | RunsCommand::Resume { .. }
            | RunsCommand::Signal { .. }
            | RunsCommand::People(_)
            | RunsCommand::Resubmit { .. }
            | RunsCommand::Delete { .. } => true,
        }
    }
}

/// The settings that `loom serve` has in this directory.
fn settings() -> Result<Config> {
    Config::resolve(&Flags::<false>::default(), &[])
}

impl From {
    /// The URL of the server and its token: as given, otherwise those of the server that `loom serve` starts in this directory.
    fn server(&self) -> Result<(String, Option<String>)> {
        let given = self.token_file.as_deref().map(|path| token(path, &"--token-file")).transpose()?;
        if let (Some(address), Some(token)) = (&self.server, &given) {
            return Ok((address.clone(), Some(token.clone())));
        }
        let config = settings()?;
        let address = match &self.server {
            Some(address) => address.clone(),
            None => config.values.server()?,
        };
        // The token of a file in this directory is for the server of this directory; it is not sent to any other.
        let is_ours = self.server.is_none();
        let origin =
            |key: &str| config.origin(key).filter(|origin| is_ours || matches!(origin, Origin::Variable(_)));
        let token = match (given, &config.values.token_file, origin("token-file")) {
            (Some(token), _, _) => Some(token),
            (None, Some(path), Some(origin)) => Some(token(path, origin)?),
            _ => config.values.token.clone().filter(|_| origin("token").is_some()),
        };
        Ok((address, token))
    }
}

/// Runs `loom runs`.
pub(crate) fn runs(args: &RunsArgs, _console: Console) -> Result<Exit> {
    if let (RunsCommand::Resubmit { .. }, Some(directory)) = (&args.command, &args.from.data) {
        eprintln!(
            "loom: a resubmitted run needs a running server to execute it; start `loom serve --data {}` and repeat the command without \
             --data",
            directory.display()
        );
        return Ok(Exit::Failure);
    }
    let body = match &args.command {
        RunsCommand::Signal { body: Some(body), .. } => Some(files::read_argument("--body", body)?),
        _ => None,
    };
    with_connection(&args.from, args.command.changes(), async |connection| match &args.command {
        RunsCommand::List { filters, limit, quiet } => {
            let path = format!("/api/v1/runs?limit={limit}{}", filters.query());
            let page = first_runs(connection, &path, usize::from(*limit)).await?;
            if args.from.json {
                console::json(&page.to_json_text());
                return Ok(Exit::Success);
            }
            if members(&page, "runs").next().is_none() {
                eprintln!("loom: no runs found");
                return Ok(Exit::Success);
            }
            if !quiet {
                println!(
                    "{:<RUN_ID_LENGTH$}  {:<10}  {:<20}  {:>13}  {}",
                    "RUN", "STATUS", "ACCEPTED (UTC)", "DURATION", "WORKFLOW"
                );
            }
            for run in members(&page, "runs") {
                if *quiet {
                    println!("{}", text(run, "id"));
                    continue;
                }
                // The reason for a hold or a suspension says more than the status.
                let unreadable = run.get("unreadable").and_then(Value::as_str);
                let held = run.get("held").and_then(Value::as_str);
                let because = run.get("suspendedBecause").and_then(Value::as_str);
                let error = unreadable.or(held).or(because).unwrap_or_else(|| text(run, "error"));
                let line = format!(
                    "{}  {:<10}  {:<20}  {:>13}  {}  {error}",
                    text(run, "id"),
                    match (unreadable, held) {
                        (Some(_), _) => "Unreadable",
                        (None, Some(_)) => "Held",
                        (None, None) => text(run, "status"),
                    },
                    second(text(run, "acceptedTime")),
                    took(run),
                    text(run, "workflow")
                );
                println!("{}", line.trim_end());
            }
            Ok(Exit::Success)
        }
        RunsCommand::Show { run, action: None } => {
            show(connection, &full_id(connection, run).await?, args.from.json).await
        }
        RunsCommand::Show { run, action: Some(action) } => {
            show_action(connection, &full_id(connection, run).await?, action, args.from.json).await
        }
        RunsCommand::Watch { run } => {
            watch(connection, &full_id(connection, run).await?, args.from.json).await
        }
        RunsCommand::Events { run, after } => {
            events(connection, &full_id(connection, run).await?, *after, |event| {
                console::json(&event.to_json_text());
            })
            .await?;
            Ok(Exit::Success)
        }
        RunsCommand::Cancel { run } => {
            change(connection, &full_id(connection, run).await?, "cancel", args.from.json).await
        }
        RunsCommand::Suspend { run } => {
            change(connection, &full_id(connection, run).await?, "suspend", args.from.json).await
        }
        RunsCommand::Resume { run } => {
            change(connection, &full_id(connection, run).await?, "resume", args.from.json).await
        }
        RunsCommand::Signal { run, name, idempotency_key, .. } => {
            let run = full_id(connection, run).await?;
            signal(connection, (&run, name), body.as_ref(), idempotency_key.as_deref(), args.from.json).await
        }
        RunsCommand::People(command) => people::people(connection, command, args.from.json).await,
        RunsCommand::Resubmit { run, current, from } => {
            let mut which = format!("resubmit?definition={}", if *current { "current" } else { "same" });
            if let Some(action) = from {
                which.extend(["&from=", &percent::encode(action)]);
            }
            change(connection, &full_id(connection, run).await?, &which, args.from.json).await
        }
        RunsCommand::Delete { runs } => {
            for run in runs {
                let run = full_id(connection, run).await?;
                connection
                    .ask(Method::DELETE, &format!("/api/v1/runs/{}", percent::encode(&run)), "")
                    .await?;
                println!("{run}  deleted");
            }
            Ok(Exit::Success)
        }
    })
}

/// Opens the connection, runs `work` and reports a refusal as a message and an exit code.
fn with_connection(
    from: &From,
    changes: bool,
    work: impl AsyncFnOnce(&Connection) -> Result<Exit, Refusal>,
) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let connection = if let Some(directory) = &from.data {
            let key = match &from.key_file {
                Some(key) => Some(key.clone()),
                None => settings()?.values.key_file,
            };
            Connection::directory(directory, key.as_deref(), changes).await?
        } else {
            let (address, token) = from.server()?;
            Connection::server(&address, token.as_deref())?
        };
        let outcome = work(&connection).await;
        let problem = connection.problem();
        connection.close().await;
        match outcome {
            Ok(exit) => Ok(exit),
            Err(Refusal::Answered { status, .. }) if status >= 500 && problem.is_some() => {
                Err(anyhow!(problem.unwrap_or_default()))
            }
            Err(Refusal::Stranger { address }) => {
                eprintln!(
                    "loom: {address} responds, but not as a Loom server does; name the server's URL with `--server`"
                );
                Ok(Exit::Unreachable)
            }
            Err(Refusal::Unreachable(why)) => {
                eprintln!("loom: {why}");
                eprintln!("loom: start a server with `loom serve`, name another with `--server URL`, or read the data directory of a stopped server with `--data DIR`");
                Ok(Exit::Unreachable)
            }
            Err(Refusal::Answered { status, message }) if status < 500 => {
                eprintln!("loom: {message}");
                Ok(match status {
                    404 | 410 => Exit::NOT_FOUND,
                    401 | 403 => {
                        eprintln!("loom: pass the server's token with `--token-file FILE`");
                        Exit::NOT_ALLOWED
                    }
                    _ => Exit::Failure,
                })
            }
            Err(Refusal::Answered { status, message }) => {
                Err(anyhow!("the server responded with status {status}: {message}"))
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Completes an abbreviated run id, among the newest runs. An id without a match is passed on, for the server to reject.
async fn full_id(connection: &Connection, typed: &str) -> Result<String, Refusal> {
    let typed = typed.to_ascii_lowercase();
    if typed.is_empty() || typed.len() >= RUN_ID_LENGTH {
        return Ok(typed);
    }
    let page = connection.ask(Method::GET, &format!("/api/v1/runs?limit={NEWEST}"), "runs").await?;
    let ids = members(&page, "runs").map(|run| text(run, "id"));
    let fitting: Vec<&str> = ids.filter(|id| id.starts_with(&typed)).collect();
    match fitting[..] {
        [] => Ok(typed),
        [only] => Ok(only.to_owned()),
        [first, second, ..] => {
            let count = fitting.len();
            let message = format!(
                "`{typed}` is ambiguous: {count} runs begin with it, such as {first} and {second}; type more characters"
            );
            Err(Refusal::Answered { status: 400, message })
        }
    }
}

async fn show(connection: &Connection, run: &str, json: bool) -> Result<Exit, Refusal> {
    let path = format!("/api/v1/runs/{}", percent::encode(run));
    let found = connection.ask(Method::GET, &path, "id").await?;
    // Without its events, nothing is known of the actions of a run.
    let actions = match found.get("unreadable") {
        Some(_) => Value::NULL,
        None => connection.ask(Method::GET, &format!("{path}/actions"), "actions").await?,
    };
    if json {
        let mut all = found.into_object().unwrap_or_default();
        all.insert("actions", actions.get("actions").cloned().unwrap_or_default());
        console::json(&Value::from(all).to_json_text());
        return Ok(Exit::Success);
    }
    println!("{}  {}  {}", text(&found, "id"), text(&found, "workflow"), text(&found, "status"));
    match text(&found, "endTime") {
        "" if text(&found, "status") == "Waiting" => {
            println!("  waits for the concurrency limit of its trigger");
        }
        "" => println!("  since {}", text(&found, "startTime")),
        ended => println!("  from {} to {ended}", text(&found, "startTime")),
    }
    if let Some(why) = found.get("unreadable").and_then(Value::as_str) {
        println!("  unreadable: {why}");
    }
    if let Some(why) = found.get("held").and_then(Value::as_str) {
        println!("  held: {why}");
    }
    if let Some(why) = found.get("suspendedBecause").and_then(Value::as_str) {
        println!("  suspended: {why}");
        println!("  continue it with `loom runs resume`, or end it with `loom runs cancel`");
    }
    if let Some(error) = found.get("error") {
        println!("  {}: {}", text(error, "code"), text(error, "message"));
    }
    for action in members(&actions, "actions") {
        let count = action.get("occurrenceCount").and_then(Value::as_i64).unwrap_or_default();
        let times = if count > 1 { format!("  {count} times{}", by_status(action)) } else { String::new() };
        // A failure among several executions must not be hidden behind the success of the last one.
        let status = Some(text(action, "worstStatus")).filter(|worst| !worst.is_empty());
        println!(
            "  {:<10} {}  {}{times}",
            status.unwrap_or_else(|| text(action, "status")),
            text(action, "name"),
            text(action, "code")
        );
        let error = action.get("error").filter(|_| text(action, "status") != "Skipped");
        if let Some(error) = error {
            println!("             {}", text(error, "message"));
        }
    }
    Ok(Exit::Success)
}

/// The statuses of a repeated action's executions, the worst first: `: 1 Failed, 2 Succeeded; execution 3 failed first`.
fn by_status(action: &Value) -> String {
    let counts = action.get("occurrenceStatuses").and_then(Value::as_object);
    let counts: Vec<String> =
        counts.into_iter().flatten().map(|(status, count)| format!("{} {status}", count.text())).collect();
    if counts.is_empty() {
        return String::new();
    }
    let first = action.get("firstFailed").and_then(Value::as_i64);
    let first = first.map(|first| format!("; execution {first} failed first")).unwrap_or_default();
    format!(": {}{first}", counts.join(", "))
}

/// Prints every execution of an action, page by page: first those that failed.
async fn show_action(connection: &Connection, run: &str, action: &str, json: bool) -> Result<Exit, Refusal> {
    let path = format!("/api/v1/runs/{}/actions/{}", percent::encode(run), percent::encode(action));
    let mut failed = BTreeSet::new();
    for only_failed in [true, false] {
        let mut cursor = String::new();
        loop {
            let query = format!("?failed={only_failed}{cursor}");
            let page = connection.ask(Method::GET, &format!("{path}{query}"), "occurrences").await?;
            for occurrence in members(&page, "occurrences") {
                let number = occurrence.get("number").and_then(Value::as_i64);
                let is_new = if only_failed { failed.insert(number) } else { !failed.contains(&number) };
                match (is_new, json) {
                    (true, true) => console::json(&occurrence.to_json_text()),
                    (true, false) => console::json(&occurrence.to_json_text_pretty()),
                    (false, _) => {}
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={}", percent::encode(next)),
                None => break,
            }
        }
    }
    Ok(Exit::Success)
}

/// An action with the iterations of its enclosing loops, counted from 1: `Each[3] › Post`.
fn place(event: &Value) -> String {
    let mut place = String::new();
    for iteration in members(event, "path") {
        let name = iteration.index(0).and_then(Value::as_str).unwrap_or_default();
        let number = iteration.index(1).and_then(Value::as_i64).unwrap_or_default() + 1;
        write!(place, "{name}[{number}] › ").expect("writing to a String cannot fail");
    }
    place.push_str(text(event, "action"));
    place
}

async fn watch(connection: &Connection, run: &str, json: bool) -> Result<Exit, Refusal> {
    let mut exit = None;
    follow::follow(connection, run, |event| {
        if json {
            console::json(&event.to_json_text());
        } else {
            print_event(event);
        }
        if text(event, "type") == "run.completed" {
            let status = event.get("data").map(|data| text(data, "status")).unwrap_or_default();
            let status = RunStatus::ALL.into_iter().find(|known| known.as_str() == status);
            exit = Some(status.map_or(Exit::Aborted, Exit::of_run));
        }
        exit.is_some()
    })
    .await?;
    if exit.is_none() {
        // No server can start while this program has the data directory open.
        eprintln!("loom: the run is unfinished; it continues when a server uses the directory");
    }
    Ok(exit.unwrap_or(Exit::Aborted))
}

/// Prints an event as one line; events without interest for a reader print nothing.
fn print_event(event: &Value) {
    let data = event.get("data").cloned().unwrap_or_default();
    let (kind, action) = (text(event, "type"), place(event));
    let at = second(text(event, "ts"));
    let status = text(&data, "status");
    let code = text(&data, "code");
    match kind {
        "run.started" => {
            println!("{at}  run {} of {} started", text(event, "runId"), text(&data, "workflow"));
        }
        "run.completed" => println!("{at}  run {status}"),
        "run.waiting" => println!("{at}  run waits for the concurrency limit of its trigger"),
        "run.admitted" | "run.suspended" | "run.resumed" | "run.responded" => {
            println!("{at}  {}", kind.replace('.', " "));
        }
        "action.completed" => {
            let why = data.get("error").map(|error| format!(": {}", text(error, "message")));
            println!("{at}  {action}: {status} ({code}){}", why.unwrap_or_default());
        }
        "action.retrying" => println!("{at}  {action}: {code}, next attempt at {}", text(&data, "due")),
        "breaker.opened" | "breaker.halfOpened" | "breaker.closed" => {
            println!(
                "{at}  circuit of {}: {} → {}",
                text(&data, "service"),
                text(&data, "from"),
                text(&data, "to")
            );
        }
        "policy.observed" => {
            let (part, service) = (text(&data, "part"), text(&data, "service"));
            println!("{at}  {action}: observed: the {} of {service} would have interfered", part_name(part));
        }
        "attempt.hedged" => {
            let copies = data.get("copies").and_then(Value::as_i64).unwrap_or_default();
            println!("{at}  {action}: hedged, {copies} more sent to {}", text(&data, "service"));
        }
        "chaos.injected" => println!("{at}  {action}: CHAOS: {}", text(&data, "what")),
        _ => {}
    }
}

/// Calls `each` with every present event after `after`; returns the sequence number of the last one.
async fn events(
    connection: &Connection,
    run: &str,
    mut after: u64,
    mut each: impl FnMut(&Value),
) -> Result<u64, Refusal> {
    loop {
        let path = format!("/api/v1/runs/{}/events?after={after}", percent::encode(run));
        let page = connection.ask(Method::GET, &path, "events").await?;
        for event in members(&page, "events") {
            each(event);
            after = event
                .get("seq")
                .and_then(Value::as_i64)
                .and_then(|seq| u64::try_from(seq).ok())
                .unwrap_or(after);
        }
        if page.get("next").is_none() {
            return Ok(after);
        }
    }
}

/// Sends a signal and prints its id.
async fn signal(
    connection: &Connection,
    (run, name): (&str, &str),
    body: Option<&Value>,
    key: Option<&str>,
    json: bool,
) -> Result<Exit, Refusal> {
    let refused = |message: String| Refusal::Answered { status: 400, message };
    let body = body.map(Value::to_json_text).unwrap_or_default();
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let key = HeaderValue::from_str(key);
        let key = key.map_err(|_| {
            refused("--idempotency-key has a character that is not allowed in an HTTP header".to_owned())
        })?;
        headers.insert("idempotency-key", key);
    }
    let path = format!("/api/v1/runs/{}/signals/{}", percent::encode(run), percent::encode(name));
    let answer = connection.send(Method::POST, &path, headers, body.into_bytes()).await?;
    if json {
        console::json(&answer.to_json_text());
    } else {
        println!(
            "{}  signal {} sent as {}",
            text(&answer, "run"),
            text(&answer, "name"),
            text(&answer, "id")
        );
    }
    Ok(Exit::Success)
}

async fn change(connection: &Connection, run: &str, what: &str, json: bool) -> Result<Exit, Refusal> {
    let path = format!("/api/v1/runs/{}/{what}", percent::encode(run));
    let answer = connection.ask(Method::POST, &path, "id").await?;
    if json {
        console::json(&answer.to_json_text());
    } else if let Some(order) = answer.get("ordered").and_then(Value::as_str) {
        println!(
            "{}  {}; {order} takes effect when a server next uses this directory",
            text(&answer, "id"),
            text(&answer, "status")
        );
    } else if what.starts_with("resubmit") {
        println!("{}  resubmits {run}", text(&answer, "id"));
    } else {
        println!("{}  {}", text(&answer, "id"), text(&answer, "status"));
    }
    Ok(Exit::Success)
}

fn members<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flat_map(|items| items.iter())
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A UTC time without its fraction: `2026-11-24T17:00:00Z`.
fn second(time: &str) -> String {
    let seconds = time.split(['.', 'Z']).next().unwrap_or(time);
    if seconds.is_empty() { String::new() } else { format!("{seconds}Z") }
}

/// How long a run took from its start to its end; `-` while it is in progress.
fn took(run: &Value) -> String {
    let time = |name: &str| text(run, name).parse::<Timestamp>().ok();
    match (time("startTime"), time("endTime")) {
        (Some(start), Some(end)) => duration(between(start, end)),
        _ => "-".to_owned(),
    }
}

/// Reads the token from the first line of a file that `given_by` names.
pub(crate) fn token(path: &Path, given_by: &dyn Display) -> Result<String> {
    files::warn_if_others_can_read(path);
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow!("{given_by}: cannot read {}: {error}", path.display()))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => bail!("{given_by}: {} does not contain a token in its first line", path.display()),
    }
}
