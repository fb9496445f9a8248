//! The audit of secrets over HTTP, and the last use of a secret.

use std::sync::Arc;

use axum::{extract::State, http::Uri};
use loom_engine::audit::{ENTRIES, LAST_USE, Operation};
use loom_expression::{Object, Value};
use loom_store::{KeyPage, KeyQuery, Store};

use crate::{
    listing::{PAGE, limit, list},
    request,
    response::{Answer, Problem},
    shared::Shared,
};

/// Entries that one request reads to find those that it asks for. A page may be short, and still not be the last.
const SCANNED_MAX: usize = 5_000;

/// `GET /api/v1/secret-audit`: entries, newest first.
pub(crate) async fn entries(State(shared): State<Shared>, uri: Uri) -> Answer {
    request::only(&uri, &["secret", "run", "operation", "cursor", "limit"])?;
    let wanted = Wanted::of(&uri)?;
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
            if wanted.has(&entry) && stored.expires.is_none_or(|end| end.0 > now) {
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

/// The entries that a request asks for.
struct Wanted {
    secret: Option<String>,
    run: Option<String>,
    operation: Option<Operation>,
}

impl Wanted {
    fn of(uri: &Uri) -> Result<Wanted, Problem> {
        let operation = request::query(uri, "operation").map(|name| {
            Operation::parse(&name).ok_or_else(|| {
                let known = Operation::ALL.map(Operation::name).join("', '");
                Problem::bad(format!("'operation' must be one of '{known}' (got '{name}')."))
            })
        });
        Ok(Wanted {
            secret: request::query(uri, "secret"),
            run: request::query(uri, "run"),
            operation: operation.transpose()?,
        })
    }

    fn has(&self, entry: &Value) -> bool {
        let text = |member: &str| entry.get(member).and_then(Value::as_str).unwrap_or_default();
        self.operation.is_none_or(|operation| text("operation") == operation.name())
            && self.run.as_ref().is_none_or(|run| text("run") == run)
            && self.secret.as_ref().is_none_or(|secret| {
                // `api-key` is that of any provider.
                let stored = text("secret");
                stored == secret || stored.split_once(':').is_some_and(|(_, name)| name == secret)
            })
    }
}

/// The last use of a secret: when, and by which run; null when none is recorded.
pub(crate) async fn last_use(store: &dyn Store, secret: &str) -> Result<Value, loom_store::Error> {
    let stored = store.key(LAST_USE, secret).await?;
    let entry = stored.and_then(|stored| Value::parse_json(&stored.value).ok());
    let Some(entry) = entry.and_then(Value::into_object) else { return Ok(Value::NULL) };
    let shown = ["at", "by", "workflow", "run", "action", "version"];
    let members = shown.into_iter().filter_map(|name| Some((name, entry.get(name)?.clone())));
    Ok(Value::from(members.collect::<Object>()))
}
