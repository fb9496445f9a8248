//! `loom secrets --server`: secrets over the API of a server, and the audit of a data directory.

use std::path::Path;

use anyhow::Result;
use hyper::{
    HeaderMap, Method,
    header::{HeaderValue, IF_MATCH, IF_NONE_MATCH},
};
use loom_expression::{Object, Value, Visible, percent};

use super::{From, Refusal, connection::Connection, members, text, with_connection};
use crate::{
    console,
    exit::Exit,
    secrets::{second, show_documents},
};

/// What is asked of the API.
pub(crate) enum SecretRequest {
    List,
    Show { name: String, version: Option<u32> },
    Versions { name: String },
    Set { name: String, body: Object, if_version: Option<u32> },
    Delete { name: String },
    Change { name: String, change: &'static str, version: Option<u32> },
    Rotate,
    Audit { query: String, limit: u32, recorded: Vec<Value> },
}

/// Asks a server.
pub(crate) fn secrets(
    server: &str,
    token_file: Option<&Path>,
    json: bool,
    request: &SecretRequest,
) -> Result<Exit> {
    let from = From {
        server: Some(server.to_owned()),
        data: None,
        key_file: None,
        token_file: token_file.map(Path::to_owned),
        json,
    };
    with_connection(&from, true, async |connection| answer(connection, json, request).await)
}

/// Asks the store of a data directory for its audit.
pub(crate) fn audit_of_directory(data: &Path, json: bool, request: &SecretRequest) -> Result<Exit> {
    if let SecretRequest::Audit { recorded, limit, query } = request
        && !data.join("loom.db").is_file()
    {
        // Nothing has run here yet.
        let mut left = *limit;
        show_entries(recorded.iter().filter(|entry| is_wanted(entry, query)), &mut left, json);
        return Ok(Exit::Success);
    }
    let from = From { server: None, data: Some(data.to_owned()), key_file: None, token_file: None, json };
    with_connection(&from, false, async |connection| answer(connection, json, request).await)
}

/// The query that selects entries.
pub(crate) fn audit_query(name: Option<&str>, run: Option<&str>, operation: Option<&str>) -> String {
    [("secret", name), ("run", run), ("operation", operation)]
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}&", percent::encode(value?))))
        .collect()
}

fn path(name: &str, more: &str) -> String {
    format!("/api/v1/secrets/{}{more}", percent::encode(name))
}

async fn answer(connection: &Connection, json: bool, request: &SecretRequest) -> Result<Exit, Refusal> {
    match request {
        SecretRequest::List => {
            let found = connection.ask(Method::GET, "/api/v1/secrets", "secrets").await?;
            let all: Vec<Value> = members(&found, "secrets").cloned().collect();
            if all.is_empty() && !json {
                eprintln!(
                    "loom: the server has no secrets; set one with `loom secrets set NAME --server URL`"
                );
            }
            show_documents(json, &all);
        }
        SecretRequest::Show { name, version } => {
            let found = connection.ask(Method::GET, &path(name, ""), "versions").await?;
            let shown = match version {
                None => Some(found.clone()),
                Some(version) => members(&found, "versions")
                    .find(|known| known.get("version").and_then(Value::as_i64) == Some(i64::from(*version)))
                    .cloned(),
            };
            let message = || format!("Secret version not found: {name}@{}", version.unwrap_or_default());
            let shown = shown.ok_or_else(|| Refusal::Answered { status: 404, message: message() })?;
            show_documents(json, &[shown]);
        }
        SecretRequest::Versions { name } => {
            let found = connection.ask(Method::GET, &path(name, "/versions"), "versions").await?;
            show_documents(json, &members(&found, "versions").cloned().collect::<Vec<_>>());
        }
        SecretRequest::Set { name, body, if_version } => {
            let mut headers = HeaderMap::new();
            match if_version {
                Some(0) => {
                    headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
                }
                Some(version) => {
                    headers
                        .extend(HeaderValue::from_str(&format!("\"{version}\"")).map(|tag| (IF_MATCH, tag)));
                }
                None => {}
            }
            let body = Value::from(body.clone()).to_json_text().into_bytes();
            let set = connection.send(Method::PUT, &path(name, ""), headers, body).await?;
            show_documents(json, &[connection.expect(set, "version")?]);
        }
        SecretRequest::Delete { name } => {
            connection.send(Method::DELETE, &path(name, ""), HeaderMap::new(), Vec::new()).await?;
            println!("{}  deleted", Visible(name));
        }
        SecretRequest::Change { name, change, version } => {
            let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
            let path = path(name, &format!("/{change}{query}"));
            let found = connection.ask(Method::POST, &path, "versions").await?;
            show_documents(json, &members(&found, "versions").cloned().collect::<Vec<_>>());
        }
        SecretRequest::Rotate => {
            let done = connection.ask(Method::POST, "/api/v1/secret-keys/rotate", "reencrypted").await?;
            let count = done.get("reencrypted").and_then(Value::as_i64).unwrap_or_default();
            eprintln!("loom: re-encrypted {count} values");
        }
        SecretRequest::Audit { query, limit, recorded } => {
            return audit(connection, json, query, *limit, recorded).await;
        }
    }
    Ok(Exit::Success)
}

/// Entries, newest first: those that are not in the store yet, then those of the store.
async fn audit(
    connection: &Connection,
    json: bool,
    query: &str,
    limit: u32,
    recorded: &[Value],
) -> Result<Exit, Refusal> {
    let mut left = limit;
    show_entries(recorded.iter().rev().filter(|entry| is_wanted(entry, query)), &mut left, json);
    let mut cursor = String::new();
    while left > 0 {
        let path = format!("/api/v1/secret-audit?{query}limit={}{cursor}", left.min(1_000));
        let page = connection.ask(Method::GET, &path, "entries").await?;
        show_entries(members(&page, "entries"), &mut left, json);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", percent::encode(next)),
            None => break,
        }
    }
    Ok(Exit::Success)
}

/// Whether an entry is one that a query selects, as the server decides.
fn is_wanted(entry: &Value, query: &str) -> bool {
    query.split('&').filter_map(|part| part.split_once('=')).all(|(key, value)| {
        let (found, value) = (text(entry, key), percent::decode(value));
        found == value || (key == "secret" && found.split_once(':').is_some_and(|(_, name)| name == value))
    })
}

fn show_entries<'a>(entries: impl Iterator<Item = &'a Value>, left: &mut u32, json: bool) {
    for entry in entries.take(*left as usize) {
        *left -= 1;
        if json {
            console::json(&entry.to_json_text());
            continue;
        }
        let mut line = format!("{}  {:<10}  ", second(text(entry, "at")), text(entry, "operation"));
        line.push_str(&Visible(text(entry, "secret")).to_string());
        for (before, member) in [
            ("@", "version"),
            ("  by ", "by"),
            ("  ", "workflow"),
            ("  run ", "run"),
            ("  ", "action"),
            ("  ", "reason"),
        ] {
            let value = text(entry, member);
            if !value.is_empty() {
                line.extend([before, &Visible(value).to_string()]);
            }
        }
        println!("{line}");
    }
}
