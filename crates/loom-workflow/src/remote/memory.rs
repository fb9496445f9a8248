//! `loom memory`: reads and changes shared memory.

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::{HeaderMap, Method, header::HeaderValue};
use loom_expression::{Object, Value, Visible, percent};

use super::{From, Refusal, connection::Connection, follow::tail, members, text, with_connection};
use crate::{args::whole_number, console, exit::Exit, files};

const EXIT_CODES: &str = "\
An ADDRESS is NAMESPACE/KEY. Namespaces are global, workflow:NAME, chat:ID, agent:ID, actor:TYPE and run:ID.

Examples:
  loom memory set global/limit 100
  loom memory get global/limit
  loom memory append chat:42/messages '\"Hello\"' --max 100 --ttl P7D
  loom memory increment global/visits
  loom memory list chat:42 --prefix mess
  loom memory watch chat:42
  loom memory delete global/limit --if-revision 7

Exit codes:
  0  success
  1  the operation was rejected: the key has another type, or a condition does not hold
  2  invalid arguments
  3  no such key
  4  the token is missing or wrong
  7  the server cannot be reached";

/// Options of `loom memory`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct MemoryArgs {
    #[command(subcommand)]
    command: MemoryCommand,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum MemoryCommand {
    /// Print what a key holds, as JSON.
    Get {
        /// The key, as NAMESPACE/KEY, such as `global/limit`.
        address: String,
    },
    /// Set a value.
    Set {
        /// The key, as NAMESPACE/KEY, such as `global/limit`.
        address: String,
        /// The value: JSON, `@file`, or `-` for standard input.
        #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
        value: String,
        #[command(flatten)]
        write: Write,
    },
    /// Append an item to a list.
    Append {
        /// The key, as NAMESPACE/KEY, such as `global/limit`.
        address: String,
        /// The item: JSON, `@file`, or `-` for standard input.
        #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
        value: String,
        /// Keep only this many of the newest items.
        #[arg(long, value_name = "COUNT", value_parser = whole_number(1_u64, u64::MAX >> 1))]
        max: Option<u64>,
        #[command(flatten)]
        write: Write,
    },
    /// Add a number to a counter; a negative number subtracts.
    Increment {
        /// The key, as NAMESPACE/KEY, such as `global/limit`.
        address: String,
        /// The number to add; may be negative.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
        #[command(flatten)]
        write: Write,
    },
    /// List the keys of a namespace, with their types and revisions; without a namespace, list the namespaces.
    List {
        /// The namespace, such as `global` or `chat:42`.
        namespace: Option<String>,
        /// Only keys, or namespaces, that begin with this.
        #[arg(long)]
        prefix: Option<String>,
    },
    /// Print the changes of a namespace as they happen, until interrupted.
    ///
    /// Needs a server. Changes of a key that follow each other quickly may be printed as one.
    Watch {
        /// The namespace, such as `global` or `chat:42`.
        namespace: String,
        /// Only keys that begin with this.
        #[arg(long)]
        prefix: Option<String>,
        /// Begin with the keys that exist.
        #[arg(long, conflicts_with = "after")]
        keys: bool,
        /// Begin after this `position`, which `--json` prints with each change.
        #[arg(long, value_name = "POSITION")]
        after: Option<String>,
    },
    /// Delete a key, whatever its type.
    Delete {
        /// The key, as NAMESPACE/KEY, such as `global/limit`.
        address: String,
        /// Delete the key only if it has this revision.
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
    },
}

/// Options of every write.
#[derive(Args, Debug)]
struct Write {
    /// The time after which the key expires: seconds, or a duration such as PT1H; 0 means never.
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Write only if the key has this revision.
    #[arg(long, value_name = "REVISION", conflicts_with = "if_absent")]
    if_revision: Option<u64>,
    /// Write only if the key is absent.
    #[arg(long)]
    if_absent: bool,
}

impl Write {
    /// The request for an operation with these options.
    fn operation(&self, name: &str, more: [(&str, Option<Value>); 2]) -> Object {
        let mut operation = Object::new();
        operation.insert("operation", name);
        for (property, value) in more {
            if let Some(value) = value {
                operation.insert(property, value);
            }
        }
        if let Some(ttl) = &self.ttl {
            // A number is seconds, as in a definition.
            let seconds = Value::from_json_str(ttl).ok().filter(Value::is_number);
            operation.insert("ttl", seconds.unwrap_or_else(|| Value::from(ttl.as_str())));
        }
        if let Some(revision) = self.if_revision {
            operation.insert("ifRevision", revision as i64);
        }
        if self.if_absent {
            operation.insert("ifAbsent", true);
        }
        operation
    }
}

/// Runs `loom memory`.
pub(crate) fn memory(args: &MemoryArgs) -> Result<Exit> {
    let operation = match &args.command {
        MemoryCommand::Set { value, write, .. } => {
            let value = files::read_argument("VALUE", value)?;
            write.operation("set", [("value", Some(value)), ("max", None)])
        }
        MemoryCommand::Append { value, max, write, .. } => {
            let value = files::read_argument("VALUE", value)?;
            let max = max.map(|max| Value::from(max as i64));
            write.operation("append", [("value", Some(value)), ("max", max)])
        }
        MemoryCommand::Increment { by, write, .. } => {
            write.operation("increment", [("by", Some(Value::from(*by))), ("max", None)])
        }
        MemoryCommand::Get { .. }
        | MemoryCommand::List { .. }
        | MemoryCommand::Watch { .. }
        | MemoryCommand::Delete { .. } => Object::new(),
    };
    let changes = !matches!(
        args.command,
        MemoryCommand::Get { .. } | MemoryCommand::List { .. } | MemoryCommand::Watch { .. }
    );
    let json = args.from.json;
    with_connection(&args.from, changes, async |connection| match &args.command {
        MemoryCommand::Get { address } => get(connection, address, json).await,
        MemoryCommand::List { namespace, prefix } => {
            let prefix = prefix.as_deref().unwrap_or_default();
            match namespace {
                Some(namespace) => list(connection, namespace, prefix, json).await,
                None => namespaces(connection, prefix, json).await,
            }
        }
        MemoryCommand::Watch { namespace, prefix, keys, after } => {
            let prefix = prefix.as_deref().unwrap_or_default();
            watch(connection, namespace, prefix, *keys, after.clone(), json).await
        }
        MemoryCommand::Delete { address, if_revision } => delete(connection, address, *if_revision).await,
        MemoryCommand::Set { address, .. }
        | MemoryCommand::Append { address, .. }
        | MemoryCommand::Increment { address, .. } => change(connection, address, operation, json).await,
    })
}

async fn watch(
    connection: &Connection,
    namespace: &str,
    prefix: &str,
    keys: bool,
    after: Option<String>,
    json: bool,
) -> Result<Exit, Refusal> {
    let path = format!(
        "/api/v1/memory/{}?prefix={}&keys={keys}",
        percent::encode(namespace),
        percent::encode(prefix)
    );
    let streams = tail(connection, &path, after, "the stream of changes", |position, event| {
        if json {
            let mut event = event.as_object().cloned().unwrap_or_default();
            event.insert("position", position);
            console::json(&Value::from(event).to_json_text());
        } else if let Some(line) = line_of(event) {
            println!("{line}");
        }
        false
    });
    if streams.await? {
        return Ok(Exit::Success);
    }
    let message = "`loom memory watch` needs a server; start one with `loom serve`".to_owned();
    Err(Refusal::Answered { status: 400, message })
}

/// A change as a line; none for events that only programs need.
fn line_of(event: &Value) -> Option<String> {
    let key = Visible(text(event, "key"));
    match text(event, "event") {
        "memory.written" => {
            let revision = event.get("revision").cloned().unwrap_or_default();
            let value = event.get("value").cloned().unwrap_or_default().to_json_text();
            Some(format!(
                "{:<7}  revision {}  {key}  {}",
                text(event, "type"),
                revision.text(),
                Visible(&value)
            ))
        }
        "memory.deleted" => Some(format!("deleted  {key}")),
        _ => None,
    }
}

/// The namespace and the key of an address.
fn parts(address: &str) -> Result<(&str, &str), Refusal> {
    address.split_once('/').ok_or_else(|| {
        let message =
            format!("`{address}` is not an address; expected NAMESPACE/KEY, such as `global/limit`");
        Refusal::Answered { status: 400, message }
    })
}

fn path(address: &str) -> Result<String, Refusal> {
    let (namespace, key) = parts(address)?;
    Ok(format!("/api/v1/memory/{}/{}", percent::encode(namespace), percent::encode(key)))
}

async fn get(connection: &Connection, address: &str, json: bool) -> Result<Exit, Refusal> {
    let found = connection.ask(Method::GET, &path(address)?, "revision").await?;
    if json {
        console::json(&found.to_json_text());
    } else {
        console::json(&found.get("value").cloned().unwrap_or_default().to_json_text());
    }
    Ok(Exit::Success)
}

async fn change(
    connection: &Connection,
    address: &str,
    mut operation: Object,
    json: bool,
) -> Result<Exit, Refusal> {
    let (namespace, key) = parts(address)?;
    operation.insert("key", key);
    let mut body = Object::new();
    body.insert("operations", vec![Value::from(operation)]);
    let path = format!("/api/v1/memory/{}", percent::encode(namespace));
    let body = Value::from(body).to_json_text().into_bytes();
    let answer = connection.send(Method::POST, &path, HeaderMap::new(), body).await?;
    let answer = connection.expect(answer, "outcomes")?;
    let outcome = answer.get("outcomes").and_then(|outcomes| outcomes.index(0)).cloned().unwrap_or_default();
    if json {
        console::json(&outcome.to_json_text());
        return Ok(Exit::Success);
    }
    let result = outcome.get("value").filter(|value| !value.is_null()).map(Value::to_json_text);
    let result = result.map(|result| format!("{result}  ")).unwrap_or_default();
    let revision = outcome.get("revision").cloned().unwrap_or_default();
    println!("{result}revision {}", revision.text());
    Ok(Exit::Success)
}

async fn delete(connection: &Connection, address: &str, if_revision: Option<u64>) -> Result<Exit, Refusal> {
    let mut headers = HeaderMap::new();
    if let Some(tag) = if_revision.and_then(|revision| HeaderValue::from_str(&format!("\"{revision}\"")).ok())
    {
        headers.insert(hyper::header::IF_MATCH, tag);
    }
    connection.send(Method::DELETE, &path(address)?, headers, Vec::new()).await?;
    println!("{}  deleted", Visible(address));
    Ok(Exit::Success)
}

async fn namespaces(connection: &Connection, prefix: &str, json: bool) -> Result<Exit, Refusal> {
    let base = format!("/api/v1/memory?limit=1000&prefix={}", percent::encode(prefix));
    let mut path = base.clone();
    loop {
        let page = connection.ask(Method::GET, &path, "namespaces").await?;
        for namespace in members(&page, "namespaces") {
            if json {
                console::json(&namespace.to_json_text());
            } else {
                println!("{}", Visible(text(namespace, "namespace")));
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("{base}&cursor={}", percent::encode(next)),
            None => return Ok(Exit::Success),
        }
    }
}

async fn list(connection: &Connection, namespace: &str, prefix: &str, json: bool) -> Result<Exit, Refusal> {
    let base = format!(
        "/api/v1/memory/{}?limit=1000&prefix={}",
        percent::encode(namespace),
        percent::encode(prefix)
    );
    let mut path = base.clone();
    loop {
        let page = connection.ask(Method::GET, &path, "keys").await?;
        for key in members(&page, "keys") {
            if json {
                console::json(&key.to_json_text());
                continue;
            }
            let revision = key.get("revision").cloned().unwrap_or_default();
            let expires = match text(key, "expires") {
                "" => String::new(),
                expires => format!("  expires {expires}"),
            };
            println!(
                "{:<7}  revision {}  {}{expires}",
                text(key, "type"),
                revision.text(),
                Visible(text(key, "key"))
            );
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("{base}&cursor={}", percent::encode(next)),
            None => return Ok(Exit::Success),
        }
    }
}
