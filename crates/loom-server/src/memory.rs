//! Shared memory over HTTP: keys as resources with their revision as `ETag`, lists of keys, and transactions.

mod watch;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header},
};
use loom_definition::duration::Span;
use loom_expression::{Object, Value};
use loom_memory::{
    Condition, Error, Expiry, Key, ListQuery, Listed, Namespace, NamespacesQuery, Operation, Outcome,
    Request as Asked, Revision, SharedMemory,
};

use crate::{
    listing::{limit, list, not_a_cursor},
    lookup,
    path::Path,
    redact::hide,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    shared::Shared,
    view,
};

/// Keys on a page, unless the caller says how many.
const PAGE: usize = 100;

/// Operations in one transaction.
const OPERATIONS_MAX: usize = 1_000;

/// `GET /api/v1/memory?prefix=&cursor=&limit=`: the namespaces that have keys.
pub(crate) async fn namespaces(State(shared): State<Shared>, uri: Uri) -> Answer {
    request::only(&uri, &["prefix", "cursor", "limit"])?;
    let limit = request::query(&uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let prefix = request::query(&uri, "prefix").unwrap_or_default();
    let after = request::query(&uri, "cursor").map(|text| Namespace::parse(&text, None));
    let after = after.transpose().map_err(|_| not_a_cursor())?;
    let page = shared.host.memory.namespaces(NamespacesQuery { prefix, after, limit }).await;
    let page = page.map_err(problem)?;
    let shown = page.namespaces.iter().map(|namespace| {
        let mut object = Object::new();
        object.insert("namespace", namespace.to_string());
        Value::from(object)
    });
    Ok(list("namespaces", shown.collect(), page.next.map(|next| next.to_string())))
}

/// `GET /api/v1/memory/{namespace}`: a page of keys; or, with `Accept: text/event-stream`, a stream of changes.
pub(crate) async fn keys(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    request::only(&uri, &["prefix", "cursor", "limit", "keys", "after"])?;
    let with_keys = match request::query(&uri, "keys").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(Problem::bad(format!("'keys' must be 'true' or 'false' (got '{other}').")));
        }
    };
    if watch::is_wanted(&headers) {
        return watch::stream(shared, parsed(&namespace)?, with_keys, &uri, &headers).await;
    }
    let namespace = parsed(&namespace)?;
    let limit = request::query(&uri, "limit").map_or(Ok(PAGE), |text| limit(&text))?;
    let prefix = request::query(&uri, "prefix").unwrap_or_default();
    let after = request::query(&uri, "cursor").map(Arc::from);
    let page = shared.host.memory.list(ListQuery { namespace, prefix, after, limit }).await;
    let page = page.map_err(problem)?;
    Ok(list("keys", page.keys.iter().map(listed).collect(), page.next.map(|next| next.to_string())))
}

/// `POST /api/v1/memory/{namespace}`: a transaction.
pub(crate) async fn transact(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    request: Request,
) -> Answer {
    let namespace = parsed(&namespace)?;
    let body = body(request, &shared).await?;
    let operations =
        body.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("operations"));
    let Some(operations) = operations.and_then(Value::as_array) else {
        return Err(Problem::bad("The body must be an object with the array `operations` alone."));
    };
    if operations.is_empty() || operations.len() > OPERATIONS_MAX {
        let message =
            format!("`operations` must have 1 to {OPERATIONS_MAX} items (got {}).", operations.len());
        return Err(Problem::bad(message));
    }
    let mut requests = Vec::with_capacity(operations.len());
    for (place, operation) in operations.iter().enumerate() {
        let key = operation.get("key").and_then(Value::as_str).unwrap_or_default();
        let read = Asked::from_json(operation, key, duration);
        requests.push(read.map_err(|why| {
            let mut problem = problem(why);
            problem.message = format!("`operations[{place}]`: {}", problem.message);
            problem
        })?);
    }
    let asked: Vec<Key> = requests.iter().map(|request| request.key.clone()).collect();
    let outcomes = run(&shared, &namespace, requests).await?;
    let outcomes =
        asked.iter().zip(&outcomes).map(|(key, outcome)| Value::from(shown(&namespace, key, outcome)));
    Ok(list("outcomes", outcomes.collect(), None))
}

/// `GET /api/v1/memory/{namespace}/{key}`.
pub(crate) async fn get(
    State(shared): State<Shared>,
    Path((namespace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let asked = Asked::new(&key, Operation::Get).map_err(problem)?;
    let (key, outcome) = one(&shared, &namespace, asked).await?;
    let Some(revision) = outcome.revision else {
        let message = format!("The key '{}' of '{namespace}' is absent or has expired.", key.as_arc_str());
        return Err(Problem::not_found("MemoryKeyNotFound", message));
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    if known.is_some_and(|known| known == tag(revision) || known == "*") {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(tagged(response, Some(revision)));
    }
    let body = Value::from(shown(&parsed(&namespace)?, &key, &outcome));
    Ok(tagged(json(StatusCode::OK, &body), Some(revision)))
}

/// `PUT /api/v1/memory/{namespace}/{key}`: sets a value.
pub(crate) async fn put(
    State(shared): State<Shared>,
    Path((namespace, key)): Path<(String, String)>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &["ttl"])?;
    let expiry = match request::query(request.uri(), "ttl") {
        None => Expiry::Unchanged,
        Some(text) => ttl(&text)?,
    };
    let condition = condition(request.headers())?;
    let value = body(request, &shared).await?;
    let asked = Asked::new(&key, Operation::Set { value }).map_err(problem)?;
    let (key, outcome) = one(&shared, &namespace, asked.if_only(condition).expiring(expiry)).await?;
    let mut body = shown(&parsed(&namespace)?, &key, &outcome);
    // A `set` returns nothing, and the caller knows the value.
    body.remove("value");
    Ok(tagged(json(StatusCode::OK, &Value::from(body)), outcome.revision))
}

/// `DELETE /api/v1/memory/{namespace}/{key}`.
pub(crate) async fn delete(
    State(shared): State<Shared>,
    Path((namespace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let asked = Asked::new(&key, Operation::Delete).map_err(problem)?.if_only(condition(&headers)?);
    let (key, outcome) = one(&shared, &namespace, asked).await?;
    if outcome.value.as_bool() != Some(true) {
        let message = format!("The key '{}' of '{namespace}' is absent or has expired.", key.as_arc_str());
        return Err(Problem::not_found("MemoryKeyNotFound", message));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn one(shared: &Shared, namespace: &str, asked: Asked) -> Result<(Key, Outcome), Problem> {
    let key = asked.key.clone();
    let outcomes = run(shared, &parsed(namespace)?, vec![asked]).await?;
    let outcome = outcomes.into_iter().next().expect("one outcome for each request");
    Ok((key, outcome))
}

async fn run(shared: &Shared, namespace: &Namespace, requests: Vec<Asked>) -> Result<Vec<Outcome>, Problem> {
    // The values of a run are removed with its data; those of a run that does not exist would stay forever.
    if let Some(run) = namespace.run()
        && requests.iter().any(|request| request.operation.writes())
    {
        match shared.host.store.run(run).await? {
            Some(row) if row.purged => return Err(lookup::removed_run(&run.to_string())),
            Some(_) => {}
            None => return Err(Problem::not_found("RunNotFound", format!("There is no run '{run}'."))),
        }
    }
    shared.host.memory.transact(namespace, requests).await.map_err(problem)
}

/// The JSON body, which must be there.
async fn body(request: Request, shared: &Shared) -> Result<Value, Problem> {
    let received = read_body(request.into_body(), shared).await?;
    let value = request::json(received.bytes(), shared)?;
    value.ok_or_else(|| Problem::bad("The body must be JSON; it is empty."))
}

/// `If-Match: "REVISION"` or `If-None-Match: *`.
fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::Any),
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let revision = number.and_then(|number| number.parse().ok());
            revision.map(|number| Condition::Revision(Revision(number))).ok_or_else(|| {
                Problem::bad(format!("'If-Match' must be the ETag of a previous response (got '{tag}')."))
            })
        }
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(other)) => Err(Problem::bad(format!("'If-None-Match' must be '*' (got '{other}')."))),
        (Some(_), Some(_)) => {
            Err(Problem::bad("'If-Match' and 'If-None-Match' exclude each other; send one."))
        }
    }
}

fn ttl(text: &str) -> Result<Expiry, Problem> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| duration(text)).ok_or_else(|| {
        let message = format!(
            "'ttl' must be a number of seconds or a duration such as PT1H; 0 means no expiry (got '{text}')."
        );
        Problem::bad(message)
    })?;
    Ok(if time.is_zero() { Expiry::Never } else { Expiry::After(time) })
}

fn duration(text: &str) -> Option<Duration> {
    Some(Span::parse_iso8601(text).ok()?.approximate())
}

fn parsed(namespace: &str) -> Result<Namespace, Problem> {
    Namespace::parse(namespace, None).map_err(problem)
}

fn tag(revision: Revision) -> String {
    format!("\"{revision}\"")
}

fn tagged(mut response: Response<Body>, revision: Option<Revision>) -> Response<Body> {
    if let Some(tag) = revision.and_then(|revision| HeaderValue::from_str(&tag(revision)).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn shown(namespace: &Namespace, key: &Key, outcome: &Outcome) -> Object {
    let mut object = Object::new();
    object.insert("namespace", namespace.to_string());
    object.insert("key", Arc::clone(key.as_arc_str()));
    object.insert("value", hide(&outcome.value));
    object.insert("type", outcome.kind.map(loom_memory::Type::name));
    object.insert("revision", outcome.revision.map(|revision| revision.0 as i64));
    object.insert("expires", outcome.expires.map(view::time));
    object
}

fn listed(listed: &Listed) -> Value {
    let mut object = Object::new();
    object.insert("key", Arc::clone(listed.key.as_arc_str()));
    object.insert("type", listed.kind.name());
    object.insert("revision", listed.revision.0 as i64);
    object.insert("expires", listed.expires.map(view::time));
    Value::from(object)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn problem(error: Error) -> Problem {
    let status = match &error {
        Error::Store(why) => return why.clone().into(),
        Error::WrongType { .. } | Error::Overflow { .. } => StatusCode::CONFLICT,
        Error::RevisionMismatch { .. } => StatusCode::PRECONDITION_FAILED,
        Error::TooLarge { .. } | Error::TooDeep { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::AccessDenied { .. } => StatusCode::FORBIDDEN,
        Error::Contended { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let is_later = error.is_retryable();
    let problem = Problem::new(status, error.code(), sentence(&error));
    if is_later { problem.later(1) } else { problem }
}
