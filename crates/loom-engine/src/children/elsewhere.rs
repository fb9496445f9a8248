//! A child workflow whose trigger belongs to another node, because it has a concurrency limit: the parent's node posts a message to
//! the shard of the trigger, and the owner starts the child, in the commit that consumes the message. What it refuses, it says in a
//! named value.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use loom_expression::{Labels, Object, Value};
use loom_store::{Error as StoreError, KeyWrite, Post, RunRow, Shard, UnixMillis};
use tokio::time::sleep;

use super::{Caller, failed};
use crate::{
    event::{EffectResult, ErrorInfo, Outcome, RetryHint, RunId},
    messages::{self, START},
    ports::Call,
    shared::Shared,
    start::RunRequest,
    time,
};

/// The namespace of refusals; keys are those of the children.
const REFUSED: &str = "engine/refused-child";

/// How long a refusal is kept: longer than its caller takes to read it.
const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// The delays between two looks for the child.
const LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// What the owner of a trigger is asked to start.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) workflow: Arc<str>,
    pub(crate) trigger: Option<Arc<str>>,
    pub(crate) outputs: Value,
    pub(crate) tracking_id: Option<Arc<str>>,
    pub(crate) depth: u8,
}

impl Asked {
    pub(super) fn of(request: &RunRequest, call: &Call) -> Asked {
        Asked {
            caller: Caller::of(call),
            workflow: Arc::clone(&request.workflow.name),
            trigger: request.trigger.clone(),
            outputs: request.outputs.clone(),
            tracking_id: request.tracking_id.clone(),
            depth: request.depth,
        }
    }

    fn write(&self) -> Bytes {
        let mut kept = Object::new();
        kept.insert("run", self.caller.run.to_string());
        kept.insert("key", Arc::clone(&self.caller.key));
        kept.insert("attempt", i64::from(self.caller.attempt));
        kept.insert("workflow", Arc::clone(&self.workflow));
        kept.insert("trigger", self.trigger.as_deref());
        kept.insert("trackingId", self.tracking_id.as_deref());
        kept.insert("depth", i64::from(self.depth));
        // JSON text has no labels.
        kept.insert("secret", self.outputs.labels_within().contains(Labels::SECRET));
        kept.insert("outputs", self.outputs.clone());
        Bytes::from(Value::from(kept).to_json_text())
    }

    /// Reads what was asked for; none if it is not that.
    pub(crate) fn read(payload: &[u8]) -> Option<Asked> {
        let kept = Value::parse_json(payload).ok()?;
        let text = |name: &str| kept.get(name).and_then(Value::as_str);
        let number = |name: &str| kept.get(name).and_then(Value::as_i64);
        let outputs = kept.get("outputs")?.clone();
        let secret = kept.get("secret").and_then(Value::as_bool).unwrap_or(true);
        Some(Asked {
            caller: Caller {
                run: text("run")?.parse::<RunId>().ok()?,
                key: text("key")?.into(),
                attempt: u32::try_from(number("attempt")?).ok()?,
            },
            workflow: text("workflow")?.into(),
            trigger: text("trigger").map(Arc::from),
            outputs: if secret { outputs.into_secret() } else { outputs },
            tracking_id: text("trackingId").map(Arc::from),
            depth: u8::try_from(number("depth")?).ok()?,
        })
    }
}

/// Asks the owner of a shard for a child, and waits for its row, or for the refusal.
pub(super) async fn ask<F>(
    shared: &Shared,
    call: &Call,
    shard: Shard,
    asked: Option<Asked>,
    known: impl Fn() -> F,
) -> Result<Result<RunRow, EffectResult>, StoreError>
where
    F: Future<Output = Result<Option<RunRow>, StoreError>>,
{
    let (Some(durable), Some(asked)) = (&shared.durable, asked) else { return Err(StoreError::Closed) };
    let key = asked.caller.child_key(0);
    messages::post(
        &*durable.store,
        Post {
            run: None,
            kind: START,
            at: time::millis(shared.clock.now()),
            idempotency_key: Some(format!("start:{key}").into()),
            payload: asked.write(),
            shard,
        },
    )
    .await?;
    let [mut wait, longest] = LOOKS;
    loop {
        if let Some(child) = known().await? {
            return Ok(Ok(child));
        }
        if let Some(refused) = durable.store.key(REFUSED, &key).await? {
            return Ok(Err(refusal(&refused.value)));
        }
        tracing::trace!(run_id = %call.run, "waiting for a child workflow that another node starts");
        sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// The named value that says why a child was not started. `transient` says whether the action may try again.
pub(crate) fn refused(
    caller: &Caller,
    (status, code, message): (&str, &str, &str),
    transient: bool,
    now: UnixMillis,
) -> KeyWrite {
    let mut kept = Object::new();
    kept.insert("status", status);
    kept.insert("code", code);
    kept.insert("message", message);
    kept.insert("transient", transient);
    KeyWrite {
        namespace: REFUSED.into(),
        key: caller.child_key(0),
        value: Some(Bytes::from(Value::from(kept).to_json_text())),
        expires: Some(now.plus(KEPT_MS)),
        ..KeyWrite::default()
    }
}

fn refusal(stored: &[u8]) -> EffectResult {
    let kept = Value::parse_json(stored).unwrap_or_default();
    let text = |name: &str| kept.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if kept.get("transient").and_then(Value::as_bool) == Some(true) {
        let error = ErrorInfo::new("WorkflowTriggerIsThrottled", text("message"));
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        return EffectResult::Done { outcome: Outcome::failed("TooManyRequests", error), hint };
    }
    let code = if text("code") == "TriggerConditionNotMet" {
        "TriggerConditionNotMet"
    } else {
        "ChildWorkflowNotStarted"
    };
    failed("BadRequest", code, text("message"))
}
