//! Signals to runs.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use loom_engine::{Signal, SignalError};
use loom_expression::{Object, Value};

use crate::{
    fire::FireError,
    idempotency,
    lookup::run_id,
    path::Path,
    refusal::refusal,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    shared::Shared,
};

/// The maximum size of a signal's body in bytes. Signals are stored until they are received.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The `Retry-After` when too many signals are waiting, in seconds.
const RETRY_AFTER: u64 = 5;

/// `POST /api/v1/runs/{id}/signals/{name}`: sends a signal to a run, with an optional JSON body.
pub(crate) async fn send(
    State(shared): State<Shared>,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let run = run_id(&id)?;
    let (parts, body) = request.into_parts();
    let received = read_body(body, &shared).await?;
    let bytes = received.bytes();
    if bytes.len() > BODY_BYTES_MAX {
        let message = format!("The body of a signal exceeds the limit of {BODY_BYTES_MAX} bytes.");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "SignalTooLarge", message));
    }
    let body = (!bytes.is_empty()).then(|| Value::parse_json(bytes)).transpose();
    let body = body.map_err(|error| Problem::bad(format!("The body is not valid JSON: {error}.")))?;
    let name: Arc<str> = name.into();
    let idempotency_key = idempotency::key(&parts.headers)?.map(|key| {
        // The key cannot be derived from the stored mark, and each signal name has separate keys.
        Arc::from(shared.host.signer.mark(&["signal key", &name.to_lowercase(), key]))
    });
    let signal = Signal { name: Arc::clone(&name), body, idempotency_key };
    if !shared.host.store_runs() {
        return Err(not_sent(SignalError::Store(loom_store::Error::Closed)));
    }
    let number = shared.host.engine.signal(run, signal).await.map_err(not_sent)?;
    let mut object = Object::new();
    object.insert("id", number.0.to_string());
    object.insert("run", id);
    object.insert("name", name);
    Ok(json(StatusCode::ACCEPTED, &object.into()))
}

fn not_sent(error: SignalError) -> Problem {
    let message = sentence(&error);
    match error {
        SignalError::Unknown { .. } => Problem::not_found("RunNotFound", message),
        SignalError::NotAwaited { .. } => Problem::not_found("SignalNotAwaited", message),
        SignalError::Ended { .. } => Problem::new(StatusCode::CONFLICT, "RunEnded", message),
        SignalError::Full { .. } => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManySignals", message).later(RETRY_AFTER)
        }
        SignalError::Store(error) if error.is_retryable() || matches!(error, loom_store::Error::Closed) => {
            refusal(FireError::StorePaused)
        }
        SignalError::Store(error) => error.into(),
        SignalError::Unreadable(error) => error.into(),
        _ => Problem::bad(message),
    }
}
