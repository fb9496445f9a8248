//! `Idempotency-Key` of requests that start runs: a request that is repeated under its key starts nothing, and is answered
//! what the first was.
//!
//! The key stands in the row of the run that it started, written with the run's acceptance, so that there is never one
//! without the other, and of two requests at the same moment the store takes one. It is known for as long as the row is.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, request::Parts};
use bytes::Bytes;
use loom_engine::{FiringCommit, RunId};
use loom_store::RunRow;

use crate::{
    invoke::rest_of_path,
    request::{ADDRESS_QUERIES, queries},
    response::Problem,
    server::Shared,
    sign::Signer,
};

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A request with a key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// The name of its firing: no one can learn the key from it.
    name: Arc<str>,
    /// What tells it from another request with the same key.
    mark: Bytes,
}

impl Keyed {
    /// None when the request has no key.
    pub(crate) fn of(
        signer: &Signer,
        trigger: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Option<Keyed>, Problem> {
        let Some(key) = key(&parts.headers)? else { return Ok(None) };
        let trigger = trigger.to_lowercase();
        let name = format!("invoke:{}", signer.mark(&["idempotency key", &trigger, key]));
        let body = blake3::hash(body).to_hex();
        let mut said: Vec<String> =
            ["request", parts.method.as_str(), rest_of_path(parts.uri.path()), &body].map(Into::into).into();
        let own = queries(&parts.uri).filter(|(name, _)| !ADDRESS_QUERIES.contains(&&**name));
        said.extend(own.flat_map(|(name, value)| [name, value]));
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        Ok(Some(Keyed { name: name.into(), mark: signer.mark(&said).into() }))
    }

    /// What becomes durable with the runs it starts.
    pub(crate) fn along(&self) -> FiringCommit {
        FiringCommit {
            name: Some(Arc::clone(&self.name)),
            mark: self.mark.clone(),
            ..FiringCommit::default()
        }
    }

    /// The first run that the key started, if it did.
    pub(crate) async fn known(&self, shared: &Shared, workflow: &str) -> Result<Option<RunRow>, Problem> {
        let known = shared.host.store.run_by_key(workflow, &format!("{}/0", self.name)).await?;
        match known {
            Some(row) if row.details != self.mark => Err(reused(row.id)),
            known => Ok(known),
        }
    }
}

/// The key that a request has, if it has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let (first, more) = (keys.next(), keys.next());
    let Some(first) = first else { return Ok(None) };
    let usable = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len());
    match first.to_str().ok().map(str::trim).filter(usable) {
        Some(key) if more.is_none() => Ok(Some(key)),
        _ => {
            let message = format!(
                "'Idempotency-Key' is given once, with 1 to {KEY_BYTES_MAX} visible characters of ASCII."
            );
            Err(Problem::new(StatusCode::BAD_REQUEST, "IdempotencyKeyInvalid", message))
        }
    }
}

/// The key belongs to a request that said something else.
pub(crate) fn reused(run: RunId) -> Problem {
    let message = format!(
        "Another request has used this 'Idempotency-Key': it started the run '{run}', and its method, path, query or \
         body was not the same. A request that is new needs a key of its own."
    );
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "IdempotencyKeyReused", message)
}
