//! `Idempotency-Key` of requests that start runs: a repeated request starts nothing and gets the response of the first.
//!
//! The key is part of the row of the run that it started, and is written when the run is accepted; so there is never one
//! without the other, and of two concurrent requests the store accepts one. It is valid as long as the row exists.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, request::Parts};
use bytes::Bytes;
use loom_engine::{FiringCommit, RunId};
use loom_store::RunRow;

use crate::{
    path::rest_of_path,
    request::{ADDRESS_QUERIES, queries},
    response::Problem,
    shared::Shared,
    sign::Signer,
};

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A request with a key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// The name of its firing, from which the key cannot be derived.
    name: Arc<str>,
    /// A fingerprint of the request, which distinguishes it from another one with the same key.
    mark: Bytes,
}

impl Keyed {
    /// Reads the key of a request; None if it has none.
    pub(crate) fn of(
        signer: &Signer,
        trigger: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Option<Keyed>, Problem> {
        let Some(key) = key(&parts.headers)? else { return Ok(None) };
        let body = blake3::hash(body).to_hex();
        let mut said: Vec<String> =
            ["request", parts.method.as_str(), rest_of_path(parts.uri.path()), &body].map(Into::into).into();
        let own = queries(&parts.uri).filter(|(name, _)| !ADDRESS_QUERIES.contains(&&**name));
        said.extend(own.flat_map(|(name, value)| [name, value]));
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        Ok(Some(Keyed::new(signer, trigger, key, &said)))
    }

    /// The key of a request that says this.
    pub(crate) fn new(signer: &Signer, trigger: &str, key: &str, said: &[&str]) -> Keyed {
        let name = format!("invoke:{}", signer.mark(&["idempotency key", &trigger.to_lowercase(), key]));
        Keyed { name: name.into(), mark: signer.mark(said).into() }
    }

    /// What is stored with the runs it starts.
    pub(crate) fn along(&self) -> FiringCommit {
        FiringCommit {
            name: Some(Arc::clone(&self.name)),
            mark: self.mark.clone(),
            ..FiringCommit::default()
        }
    }

    /// The first run that was started with the key, if any.
    pub(crate) async fn known(&self, shared: &Shared, workflow: &str) -> Result<Option<RunRow>, Problem> {
        let known = shared.host.store.run_by_key(workflow, &format!("{}/0", self.name)).await?;
        match known {
            Some(row) if row.details != self.mark => Err(reused(row.id)),
            known => Ok(known),
        }
    }
}

/// The value of the header, if there is one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let (first, more) = (keys.next(), keys.next());
    let Some(first) = first else { return Ok(None) };
    let usable = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len());
    match first.to_str().ok().map(str::trim).filter(usable) {
        Some(key) if more.is_none() => Ok(Some(key)),
        _ => {
            let message = format!(
                "'Idempotency-Key' must occur once, with 1 to {KEY_BYTES_MAX} visible ASCII characters."
            );
            Err(Problem::new(StatusCode::BAD_REQUEST, "IdempotencyKeyInvalid", message))
        }
    }
}

/// The error for a key that was used by a different request.
pub(crate) fn reused(run: RunId) -> Problem {
    let message = format!(
        "This 'Idempotency-Key' was used by a request with another method, path, query or body, which started the run \
         '{run}'. Use a new key for a new request."
    );
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "IdempotencyKeyReused", message)
}
