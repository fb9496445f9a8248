//! Named tokens: what callers other than the operator send in place of the server's own token.
//!
//! The store has a token's name, its scopes and the hash of its secret, never the secret. A token is looked up with each request
//! that sends it, so a token that was revoked at any node is rejected at once by all.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, Uri},
};
use loom_expression::{Object, Value};
use loom_store::{Commit, Conflict, Error as StoreError, KeyExpectation, KeyQuery, KeyValue, UnixMillis};

use crate::{
    access::{Grant, Scope, Scopes},
    keys::key_write,
    listing::{list, moment},
    path::Path,
    request::{self, read_body},
    response::{Answer, Problem, json},
    shared::Shared,
    sign,
};

/// The namespace of the tokens, by their names.
const TOKENS: &str = "access/tokens";

/// What every token begins with, so that it can be found where it should not be.
const PREFIX: &str = "loom_";

/// The maximum length of a name, and the most tokens.
const NAME_MAX: usize = 40;
const TOKENS_MAX: usize = 1_000;

/// A token that the store knows.
pub(crate) struct Known {
    pub(crate) name: Arc<str>,
    pub(crate) scopes: Scopes,
    hash: String,
}

/// The token that a caller has sent, if it is one.
///
/// # Errors
/// The store's error.
pub(crate) async fn find(shared: &Shared, given: &str) -> Result<Option<Known>, StoreError> {
    let Some((name, secret)) = given.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('_')) else {
        return Ok(None);
    };
    let hash = hash(secret);
    Ok(by_name(shared, name).await?.filter(|known| sign::same(known.hash.as_bytes(), hash.as_bytes())))
}

/// The token of this name, unless it has expired.
///
/// # Errors
/// The store's error.
pub(crate) async fn by_name(shared: &Shared, name: &str) -> Result<Option<Known>, StoreError> {
    if !is_name(name) {
        return Ok(None);
    }
    let stored = shared.host.store.key(TOKENS, name).await?;
    Ok(stored.filter(|stored| !has_expired(shared, stored)).and_then(|stored| known(&stored)))
}

fn known(stored: &KeyValue) -> Option<Known> {
    let value = Value::parse_json(&stored.value).ok()?;
    let scopes = value.get("scopes")?.as_array()?;
    Some(Known {
        name: Arc::clone(&stored.key),
        scopes: scopes.iter().filter_map(|scope| Scope::parse(scope.as_str()?)).collect(),
        hash: value.get("hash")?.as_str()?.to_owned(),
    })
}

impl Known {
    /// What identifies the token among all that had its name.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

fn has_expired(shared: &Shared, stored: &KeyValue) -> bool {
    stored.expires.is_some_and(|end| end.0 <= shared.host.now().unix_millis())
}

/// The hash of a secret. The secret is random and has 256 bits, so that a fast hash is as good as a slow one.
fn hash(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits) && name != "api"
}

/// A token as it is shown: without its hash.
fn shown(stored: &KeyValue) -> Object {
    let value = Value::parse_json(&stored.value).unwrap_or_default();
    let mut object = Object::new();
    object.insert("name", Arc::clone(&stored.key));
    for name in ["scopes", "created", "createdBy"] {
        object.insert(name, value.get(name).cloned().unwrap_or_default());
    }
    if let Some(end) = stored.expires {
        object.insert("expires", loom_expression::Timestamp::from_unix_millis(end.0).to_string());
    }
    object
}

async fn all(shared: &Shared) -> Result<Vec<KeyValue>, StoreError> {
    let query = KeyQuery { namespace: TOKENS.into(), prefix: String::new(), after: None, limit: TOKENS_MAX };
    let mut page = shared.host.store.keys(query).await?;
    page.values.retain(|stored| !has_expired(shared, stored));
    Ok(page.values)
}

/// `GET /api/v1/tokens`.
pub(crate) async fn tokens(State(shared): State<Shared>, uri: Uri) -> Answer {
    request::only(&uri, &[])?;
    let all = all(&shared).await?;
    Ok(list("tokens", all.iter().map(|stored| shown(stored).into()).collect(), None))
}

/// `POST /api/v1/tokens`: creates a token, `{name, scopes, expires?}`. Only this response has the token.
pub(crate) async fn create(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let received = read_body(request.into_body(), &shared).await?;
    let body = request::json(received.bytes(), &shared)?;
    let body = body
        .as_ref()
        .and_then(Value::as_object)
        .ok_or_else(|| Problem::bad("The body must be a JSON object with 'name' and 'scopes'."))?;
    let (name, scopes, expires) = read(&shared, body)?;
    if all(&shared).await?.len() >= TOKENS_MAX {
        let message = format!("There are {TOKENS_MAX} tokens, which is the limit; revoke some.");
        return Err(Problem::new(StatusCode::CONFLICT, "TooManyTokens", message));
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system has no random bytes");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "No token can be created now.")
    })?;
    let secret = blake3::Hash::from_bytes(bytes).to_hex();
    let mut stored = Object::new();
    stored.insert("scopes", scopes.iter().map(|scope| Value::from(scope.name())).collect::<Vec<_>>());
    stored.insert("created", shared.host.now().to_string());
    stored.insert("createdBy", Arc::clone(&grant.by));
    stored.insert("hash", hash(&secret));
    let mut write = key_write(TOKENS, &name, Some(stored));
    write.expires = expires;
    write.expect = match shared.host.store.key(TOKENS, &name).await? {
        Some(old) if has_expired(&shared, &old) => KeyExpectation::Version(old.version),
        _ => KeyExpectation::Absent,
    };
    let mut commit = Commit::new();
    commit.keys = vec![write];
    match shared.host.store.commit(commit).await {
        Ok(_) => {}
        Err(StoreError::Conflict(Conflict::Key { .. })) => {
            let message = format!("There is a token named '{name}' already; revoke it, or use another name.");
            return Err(Problem::new(StatusCode::CONFLICT, "TokenExists", message));
        }
        Err(error) => return Err(error.into()),
    }
    let created = shared.host.store.key(TOKENS, &name).await?;
    let mut object = created.as_ref().map(shown).unwrap_or_default();
    object.insert("token", format!("{PREFIX}{name}_{secret}"));
    Ok(json(StatusCode::CREATED, &object.into()))
}

type New = (String, Vec<Scope>, Option<UnixMillis>);

fn read(shared: &Shared, body: &Object) -> Result<New, Problem> {
    const PROPERTIES: [&str; 3] = ["name", "scopes", "expires"];
    if let Some(name) = body.keys().find(|name| !PROPERTIES.contains(&&***name)) {
        let known = PROPERTIES.join("', '");
        return Err(Problem::bad(format!("Unknown property '{name}'; expected one of '{known}'.")));
    }
    let name = body.get("name").and_then(Value::as_str).filter(|name| is_name(name)).ok_or_else(|| {
        Problem::bad(format!(
            "'name' must have 1 to {NAME_MAX} lowercase letters, digits and hyphens, and must not be 'api'."
        ))
    })?;
    let names = Scope::GIVEN.map(Scope::name).join("', '");
    let bad = || Problem::bad(format!("'scopes' must be a list of one or more of '{names}'."));
    let given = body.get("scopes").and_then(Value::as_array).filter(|all| !all.is_empty()).ok_or_else(bad)?;
    let given: Option<Vec<Scope>> = given.iter().map(|scope| Scope::parse(scope.as_str()?)).collect();
    let mut scopes = given.ok_or_else(bad)?;
    scopes.sort_unstable();
    scopes.dedup();
    let expires = match body.get("expires").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let text = value.as_str().ok_or_else(|| {
                Problem::bad(format!("'expires' must be a timestamp, found {}.", value.kind()))
            })?;
            Some(moment(text)?)
        }
    };
    if expires.is_some_and(|end| end.0 <= shared.host.now().unix_millis()) {
        return Err(Problem::bad("'expires' must be in the future."));
    }
    Ok((name.to_owned(), scopes, expires))
}

/// `DELETE /api/v1/tokens/{name}`: revokes a token. Sessions that began with it end, too.
pub(crate) async fn revoke(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    if by_name(&shared, &name).await?.is_none() {
        let message = format!("There is no token named '{name}'.");
        return Err(Problem::not_found("TokenNotFound", message));
    }
    let mut commit = Commit::new();
    commit.keys = vec![key_write(TOKENS, &name, None)];
    shared.host.store.commit(commit).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
