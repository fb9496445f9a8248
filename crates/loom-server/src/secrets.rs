//! Secrets over HTTP: names, versions and changes. No response has a value.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use loom_actions::secrets::{
    NewSecret, SECRET_BYTES_MAX, SecretError, SecretProperties, Trail, Vault, entry_of,
};
use loom_engine::audit::Operation;
use loom_expression::{Object, Timestamp, Value};
use tokio::runtime::Handle;

use crate::{
    access::Grant,
    host::Host,
    listing,
    path::Path,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    secret_audit::last_use,
    shared::Shared,
    store_audit::{StoreAudit, unique},
};

/// Records what a caller of the API does, in the store, before it takes effect.
struct ApiTrail {
    audit: Arc<StoreAudit>,
    host: Arc<Host>,
    by: Arc<str>,
    runtime: Handle,
}

impl Trail for ApiTrail {
    fn record(
        &self,
        operation: Operation,
        secret: Option<&str>,
        version: Option<u32>,
    ) -> Result<(), SecretError> {
        let entry = entry_of(&*self.host.clock, &self.by, operation, secret, version);
        // Called on a thread that may block.
        let kept = self.runtime.block_on(self.audit.keep(vec![(unique(), entry)]));
        kept.map_err(|error| SecretError::Unrecorded { why: error.to_string() })
    }
}

/// Works on the embedded store, on a thread that may block. What it does is recorded as done by the caller.
async fn with_vault<T: Send + 'static>(
    shared: &Shared,
    grant: &Grant,
    work: impl FnOnce(&Vault) -> Result<T, SecretError> + Send + 'static,
) -> Result<T, Problem> {
    let vault = shared.settings.secrets.vault.clone().ok_or_else(|| {
        let message = "This server has no secrets file; start it with --secrets FILE or --data DIR.";
        Problem::new(StatusCode::CONFLICT, "NoSecretsFile", message)
    })?;
    let trail = ApiTrail {
        audit: Arc::clone(&shared.host.audit),
        host: Arc::clone(&shared.host),
        by: Arc::clone(&grant.by),
        runtime: Handle::current(),
    };
    let done = tokio::task::spawn_blocking(move || work(&vault.recorded_by(Arc::new(trail)))).await;
    done.map_err(|error| unreadable(&error))?.map_err(|error| problem(&error))
}

fn unreadable(error: &dyn fmt::Display) -> Problem {
    tracing::error!(%error, "cannot use the secrets file");
    let message = "The secrets file cannot be used; the server's log has the reason.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "SecretsUnreadable", message)
}

fn problem(error: &SecretError) -> Problem {
    let (status, code) = match error {
        SecretError::NotFound { .. } => (StatusCode::NOT_FOUND, "SecretNotFound"),
        SecretError::VersionNotFound { .. } => (StatusCode::NOT_FOUND, "SecretVersionNotFound"),
        SecretError::Name { .. } => (StatusCode::BAD_REQUEST, "BadRequest"),
        SecretError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SecretTooLarge"),
        SecretError::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "SecretChanged"),
        SecretError::Unrecorded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "SecretNotAudited"),
        _ => return unreadable(&error.whole_text()),
    };
    let problem = Problem::new(status, code, sentence(error));
    if status == StatusCode::SERVICE_UNAVAILABLE { problem.later(1) } else { problem }
}

/// `GET /api/v1/secrets`.
pub(crate) async fn list(State(shared): State<Shared>) -> Answer {
    let now = shared.host.now();
    let read = match &shared.settings.secrets.vault {
        None => Vec::new(),
        Some(vault) => {
            let vault = Arc::clone(vault);
            let all = move || {
                let names = vault.list()?.into_iter().map(|newest| newest.name);
                names.map(|name| vault.versions(&name)).collect::<Result<Vec<_>, SecretError>>()
            };
            let read = tokio::task::spawn_blocking(all).await.map_err(|error| unreadable(&error))?;
            read.map_err(|error| unreadable(&error.whole_text()))?
        }
    };
    let mut secrets = Vec::with_capacity(read.len());
    for versions in read {
        secrets.extend(document(&shared, &versions, now).await?.map(Value::from));
    }
    let providers = shared.settings.secrets.providers.providers().into_iter().map(|provider| {
        let mut object = Object::new();
        object.insert("name", provider.name);
        object.insert("type", provider.kind);
        object.insert("isDefault", provider.is_default);
        object.insert("circuit", provider.state.map_or(Value::NULL, Value::from));
        Value::from(object)
    });
    let mut object = Object::new();
    object.insert("providers", providers.collect::<Vec<_>>());
    object.insert("secrets", secrets);
    Ok(json(StatusCode::OK, &object.into()))
}

/// The properties of the newest version, all versions, and the last use.
async fn document(
    shared: &Shared,
    versions: &[SecretProperties],
    now: Timestamp,
) -> Result<Option<Object>, Problem> {
    let Some(newest) = versions.last() else { return Ok(None) };
    let mut object = newest.to_object(now);
    let used = last_use(&*shared.host.store, &format!("embedded:{}", newest.name)).await?;
    object.insert("lastUsed", used);
    object.insert("versions", shown(versions, now));
    Ok(Some(object))
}

fn shown(versions: &[SecretProperties], now: Timestamp) -> Vec<Value> {
    versions.iter().map(|version| Value::from(version.to_object(now))).collect()
}

/// `GET /api/v1/secrets/{name}`.
pub(crate) async fn get(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    let versions = with_vault(&shared, &grant, move |vault| vault.versions(&name)).await?;
    let object = document(&shared, &versions, shared.host.now()).await?.unwrap_or_default();
    Ok(tagged(&object.into(), versions.last().map_or(0, |newest| newest.version)))
}

/// `GET /api/v1/secrets/{name}/versions`.
pub(crate) async fn versions(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    let versions = with_vault(&shared, &grant, move |vault| vault.versions(&name)).await?;
    Ok(listing::list("versions", shown(&versions, shared.host.now()), None))
}

/// `PUT /api/v1/secrets/{name}`: creates a version.
pub(crate) async fn put(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let headers = request.headers().clone();
    let received = read_body(request.into_body(), &shared).await?;
    let body = request::json(received.bytes(), &shared)?;
    let (value, mut new) = version_of(body.as_ref())?;
    new.if_version = expected(&headers)?;
    if value.len() > SECRET_BYTES_MAX {
        return Err(problem(&SecretError::TooLarge { bytes: value.len() }));
    }
    // Known before anything can show it.
    shared.host.engine.masker().learn(&Value::from(value.as_str()).into_secret());
    let set = with_vault(&shared, &grant, move |vault| vault.set(&name, &value, new)).await?;
    Ok(tagged(&set.to_object(shared.host.now()).into(), set.version))
}

/// The value and the properties in a request to create a version.
fn version_of(body: Option<&Value>) -> Result<(String, NewSecret), Problem> {
    let Some(members) = body.and_then(Value::as_object) else {
        return Err(Problem::bad("The body must be an object with the string `value`."));
    };
    let (mut value, mut new) = (None, NewSecret::default());
    for (name, member) in members {
        let wrong = |expected: &str| {
            // The member may be the value, under a wrong name.
            Problem::bad(format!("`{name}` must be {expected}, found {}.", member.kind()))
        };
        match &**name {
            "value" => value = Some(member.as_str().ok_or_else(|| wrong("a string"))?.to_owned()),
            "enabled" => new.enabled = member.as_bool().ok_or_else(|| wrong("true or false"))?,
            _ if member.is_null() => {}
            "notBefore" => new.not_before = Some(time(member).ok_or_else(|| wrong("a timestamp"))?),
            "expiresOn" => new.expires_on = Some(time(member).ok_or_else(|| wrong("a timestamp"))?),
            "contentType" => {
                new.content_type = Some(member.as_arc_str().cloned().ok_or_else(|| wrong("a string"))?);
            }
            "tags" => {
                let tags = member.as_object().ok_or_else(|| wrong("an object"))?.iter();
                let tags = tags.map(|(tag, value)| Some((Arc::clone(tag), Arc::clone(value.as_arc_str()?))));
                let tags: Option<BTreeMap<_, _>> = tags.collect();
                new.tags = tags.ok_or_else(|| Problem::bad("The values of `tags` must be strings."))?;
            }
            _ => {
                let known = "value, enabled, notBefore, expiresOn, contentType, tags";
                return Err(Problem::bad(format!("The body has an unknown property; use {known}.")));
            }
        }
    }
    match value {
        Some(value) if !value.is_empty() => Ok((value, new)),
        Some(_) => Err(Problem::bad("`value` must not be empty.")),
        None => Err(Problem::bad("The body must have the string `value`.")),
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::from_str(value.as_str()?).ok()
}

/// The version that must be the newest: that of `If-Match: "N"`, or none with `If-None-Match: *`.
fn expected(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (Some(tag), None) => {
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let number = number.and_then(|number| number.parse::<u32>().ok());
            number.map(Some).ok_or_else(|| {
                Problem::bad(format!("'If-Match' must be the ETag of a previous response (got '{tag}')."))
            })
        }
        (None, Some("*")) => Ok(Some(0)),
        (None, Some(other)) => Err(Problem::bad(format!("'If-None-Match' must be '*' (got '{other}')."))),
        (Some(_), Some(_)) => {
            Err(Problem::bad("'If-Match' and 'If-None-Match' exclude each other; send one."))
        }
    }
}

/// `DELETE /api/v1/secrets/{name}`.
pub(crate) async fn delete(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(name): Path<String>,
) -> Answer {
    with_vault(&shared, &grant, move |vault| vault.delete(&name)).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// `POST /api/v1/secrets/{name}/{change}`: `undelete`, `enable` or `disable`.
pub(crate) async fn change(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path((name, change)): Path<(String, String)>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &["version"])?;
    let version = request::query(request.uri(), "version").map(|text| {
        let number = text.parse::<u32>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Problem::bad(format!("'version' must be a number from 1 (got '{text}').")))
    });
    let version = version.transpose()?;
    let work = move |vault: &Vault| {
        match change.as_str() {
            "undelete" => vault.undelete(&name)?,
            "enable" => vault.enable(&name, version, true)?,
            "disable" => vault.enable(&name, version, false)?,
            _ => return Ok(None),
        }
        vault.versions(&name).map(Some)
    };
    let versions = with_vault(&shared, &grant, work).await?.ok_or_else(|| {
        Problem::not_found(
            "NotFound",
            "A secret can be undeleted (`undelete`), enabled (`enable`) and disabled (`disable`).",
        )
    })?;
    Ok(listing::list("versions", shown(&versions, shared.host.now()), None))
}

/// `POST /api/v1/secret-keys/rotate`: encrypts every value with a new data key, while runs read them.
pub(crate) async fn rotate(State(shared): State<Shared>, Extension(grant): Extension<Grant>) -> Answer {
    let count = with_vault(&shared, &grant, |vault| vault.rotate(None)).await?;
    let mut object = Object::new();
    object.insert("reencrypted", count as i64);
    Ok(json(StatusCode::OK, &object.into()))
}

fn tagged(body: &Value, version: u32) -> Response<Body> {
    let mut response = json(StatusCode::OK, body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
