//! The audit of changes: what callers of the API have changed, when and by which token. Starts of runs are not in it.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{Method, StatusCode, Uri},
};
use loom_expression::{Object, Value};
use loom_store::{Commit, KeyPage, KeyQuery, UnixMillis};

use crate::{
    keys::key_write,
    listing::{PAGE, limit, list},
    request,
    response::Answer,
    shared::Shared,
    store_audit::unique,
};

/// The namespace of the entries. Their names sort the newest first.
const ENTRIES: &str = "access/audit";

/// Entries that one request reads to find those that it asks for. A page may be short, and still not be the last.
const SCANNED_MAX: usize = 5_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Records a change, and waits until the entry is durable.
///
/// # Errors
/// The store's error.
pub(crate) async fn record(
    shared: &Shared,
    by: &str,
    method: &Method,
    uri: &Uri,
    status: StatusCode,
) -> Result<(), loom_store::Error> {
    let now = shared.host.now();
    let mut entry = Object::new();
    entry.insert("at", now.to_string());
    entry.insert("by", by);
    entry.insert("method", method.as_str());
    entry.insert("path", uri.path());
    if let Some(query) = uri.query() {
        entry.insert("query", query);
    }
    entry.insert("status", i64::from(status.as_u16()));
    // Nanoseconds, so that changes of the same caller are in their order.
    let name = format!("{:016x}-{}", u64::MAX - now.unix_nanos().max(0) as u64, unique());
    let mut write = key_write(ENTRIES, &name, Some(entry));
    let days = i64::from(shared.host.engine.environment().audit_days);
    write.expires = Some(UnixMillis(now.unix_millis().saturating_add(days * DAY_MS)));
    let mut commit = Commit::new();
    commit.keys = vec![write];
    shared.host.store.commit(commit).await.map(drop)
}

/// `GET /api/v1/audit?by=&cursor=&limit=`: entries, newest first.
pub(crate) async fn entries(State(shared): State<Shared>, uri: Uri) -> Answer {
    request::only(&uri, &["by", "cursor", "limit"])?;
    let by = request::query(&uri, "by");
    let most = request::query(&uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let mut after: Option<Arc<str>> = request::query(&uri, "cursor").map(Arc::from);
    let now = shared.host.now().unix_millis();
    let (mut found, mut scanned) = (Vec::new(), 0);
    loop {
        let query = KeyQuery { namespace: ENTRIES.into(), prefix: String::new(), after, limit: PAGE };
        let KeyPage { values, next } = shared.host.store.keys(query).await?;
        scanned += values.len();
        for stored in values {
            let entry = Value::parse_json(&stored.value).unwrap_or_default();
            let who = entry.get("by").and_then(Value::as_str).unwrap_or_default();
            // `ci` is the token of this name, and its sessions.
            let is_wanted = by.as_deref().is_none_or(|by| {
                who == by || who.strip_prefix(by).is_some_and(|rest| rest.starts_with(" ("))
            });
            if is_wanted && stored.expires.is_none_or(|end| end.0 > now) {
                found.push(entry);
                if found.len() == most {
                    return Ok(list("entries", found, Some(stored.key.to_string())));
                }
            }
        }
        match next {
            None => return Ok(list("entries", found, None)),
            Some(last) if scanned >= SCANNED_MAX => {
                return Ok(list("entries", found, Some(last.to_string())));
            }
            Some(last) => after = Some(last),
        }
    }
}
