//! `loom tokens`: named tokens with scopes, and the audit of changes.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use hyper::{HeaderMap, Method};
use loom_engine::{clock::SystemClock, ports::Clock as _};
use loom_expression::{Object, Value, Visible, percent};

use super::{From, Refusal, connection::Connection, members, text, with_connection};
use crate::{args::whole_number, console, exit::Exit, secrets::second};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

const EXIT_CODES: &str = "\
Examples:
  loom tokens create ci --scope deploy --expires-days 90
  loom tokens create dashboard --scope read
  loom tokens audit --by ci

Exit codes:
  0  success
  1  the operation was rejected
  2  invalid arguments
  3  no such token
  4  the token is missing or wrong, or is not the server's own
  7  the server cannot be reached";

/// Options of `loom tokens`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    command: TokensCommand,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// List the named tokens. The server's own token is not among them.
    List,
    /// Create a token and print it. It is printed once; the server keeps only a hash of it.
    Create {
        /// Lowercase letters, digits and hyphens. The audit names the token by it.
        name: String,
        /// What the token may do; repeat for several.
        #[arg(long = "scope", required = true, value_enum)]
        scopes: Vec<Scope>,
        /// The days after which the token expires [default: never].
        #[arg(long, value_name = "DAYS", value_parser = whole_number(1_u16, 3_650))]
        expires_days: Option<u16>,
    },
    /// Revoke a token. It is rejected from now on, and sessions that began with it end.
    Revoke {
        /// The name of the token.
        name: String,
    },
    /// List changes that were made over the API, newest first: when, by which token, and what.
    Audit {
        /// Only changes by this token, or by `api`: the server's own token, or any caller of a server without one.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// The maximum number of entries, 1 to 1000.
        #[arg(long, default_value_t = 50, value_parser = whole_number(1_u16, 1_000))]
        limit: u16,
    },
}

/// What a token may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    /// See workflows, runs, memory, names of secrets, settings and metrics.
    Read,
    /// Start runs, send them signals and answers, and call chat completions and tools over MCP.
    Run,
    /// Control runs, triggers, services and nodes, and change shared memory.
    Operate,
    /// Change workflows, signed URLs, secrets and stored policies.
    Deploy,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Run => "run",
            Scope::Operate => "operate",
            Scope::Deploy => "deploy",
        }
    }
}

/// Runs `loom tokens`.
pub(crate) fn tokens(args: &TokensArgs) -> Result<Exit> {
    let changes = matches!(args.command, TokensCommand::Create { .. } | TokensCommand::Revoke { .. });
    let expires = match &args.command {
        TokensCommand::Create { expires_days: Some(days), .. } => Some(in_days(*days)),
        _ => None,
    };
    with_connection(&args.from, changes, async |connection| {
        perform(connection, &args.command, expires, args.from.json).await
    })
}

/// The time after this many days, in milliseconds since 1970.
fn in_days(days: u16) -> String {
    (SystemClock.now().unix_millis() + i64::from(days) * DAY_MS).to_string()
}

async fn perform(
    connection: &Connection,
    command: &TokensCommand,
    expires: Option<String>,
    json: bool,
) -> Result<Exit, Refusal> {
    match command {
        TokensCommand::List => {
            let found = connection.ask(Method::GET, "/api/v1/tokens", "tokens").await?;
            if json {
                console::json(&found.to_json_text());
                return Ok(Exit::Success);
            }
            if members(&found, "tokens").next().is_none() {
                eprintln!(
                    "loom: there are no named tokens; create one with `loom tokens create NAME --scope SCOPE`"
                );
                return Ok(Exit::Success);
            }
            println!("{:<24}  {:<28}  {:<20}  EXPIRES", "NAME", "SCOPES", "CREATED");
            for token in members(&found, "tokens") {
                let scopes: Vec<&str> = members(token, "scopes").filter_map(Value::as_str).collect();
                let expires = match text(token, "expires") {
                    "" => "never".to_owned(),
                    end => second(end),
                };
                let (name, created) = (text(token, "name"), second(text(token, "created")));
                println!("{name:<24}  {:<28}  {created:<20}  {expires}", scopes.join(", "));
            }
        }
        TokensCommand::Create { name, scopes, .. } => {
            let mut body = Object::new();
            body.insert("name", name.as_str());
            body.insert("scopes", scopes.iter().map(|scope| Value::from(scope.name())).collect::<Vec<_>>());
            if let Some(end) = expires {
                body.insert("expires", end);
            }
            let body = Value::from(body).to_json_text().into_bytes();
            let made = connection.send(Method::POST, "/api/v1/tokens", HeaderMap::new(), body).await?;
            let made = connection.expect(made, "token")?;
            if json {
                console::json(&made.to_json_text());
            } else {
                println!("{}", text(&made, "token"));
                eprintln!("loom: this is the only time that the token is shown");
            }
        }
        TokensCommand::Revoke { name } => {
            let path = format!("/api/v1/tokens/{}", percent::encode(name));
            connection.send(Method::DELETE, &path, HeaderMap::new(), Vec::new()).await?;
            println!("{}  revoked", Visible(name));
        }
        TokensCommand::Audit { by, limit } => return audit(connection, by.as_deref(), *limit, json).await,
    }
    Ok(Exit::Success)
}

async fn audit(connection: &Connection, by: Option<&str>, limit: u16, json: bool) -> Result<Exit, Refusal> {
    let by = by.map(|by| format!("by={}&", percent::encode(by))).unwrap_or_default();
    let (mut left, mut cursor) = (usize::from(limit), String::new());
    while left > 0 {
        let path = format!("/api/v1/audit?{by}limit={left}{cursor}");
        let page = connection.ask(Method::GET, &path, "entries").await?;
        for entry in members(&page, "entries").take(left) {
            left -= 1;
            if json {
                console::json(&entry.to_json_text());
                continue;
            }
            let query = text(entry, "query");
            let sign = if query.is_empty() { "" } else { "?" };
            println!(
                "{}  {:<24}  {:<6}  {}{sign}{}",
                second(text(entry, "at")),
                Visible(text(entry, "by")).to_string(),
                text(entry, "method"),
                Visible(text(entry, "path")),
                Visible(query)
            );
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", percent::encode(next)),
            None => break,
        }
    }
    Ok(Exit::Success)
}
