//! RunEnded triggers: the end of a run of one workflow starts a run of another.
//!
//! The engine records each end that a trigger waits for, in the commit of the end. The record stays until all triggers
//! have fired for it, each under a name that contains the id of the run, so a crash neither loses a run nor starts one twice.
//!
//! A trigger never fires for a run that it started itself, directly or in a chain. The chain of a run consists of the run
//! that called it, that it was resubmitted from, or whose end started it, and recursively of their chains. A request over
//! HTTP, or a message to a Batch trigger, is not part of a chain.

use std::{collections::BTreeSet, sync::Arc};

use loom_definition::trigger::{Trigger, TriggerKind};
use loom_engine::{ENDED_RUNS, FiringCommit, RunId, StartError};
use loom_expression::{Object, Value};
use loom_store::{Commit, KeyQuery};

use crate::{
    deploy::Deployment,
    fire::{Fire, FireError},
    host::Host,
    keys::{key_write, trigger_key},
    trigger_history::{self, Note, NoteStatus},
    trigger_task::AGAIN,
};

/// The prefix of the names of firings.
const NAME: &str = "ended:";

/// Records read from the store at a time.
const PAGE: usize = 100;

/// The maximum number of runs of a chain to check. A longer chain is treated as a loop.
const CHAIN_MAX: usize = 100;

/// The workflows for whose ends one of these deployments waits, in lower case.
pub(crate) fn watched(host: &Host) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for deployment in host.deployments.all() {
        for trigger in &deployment.workflow.triggers {
            if let TriggerKind::RunEnded { workflows, .. } = &trigger.kind
                && host.disabled_by(&deployment, Some(&trigger.name)).is_none()
            {
                names.extend(workflows.iter().map(|name| name.to_lowercase()));
            }
        }
    }
    names
}

/// Workflows that a deployment's triggers wait for and that are not deployed, with the trigger.
pub(crate) fn unknown(host: &Host, deployment: &Deployment) -> Vec<(Arc<str>, Arc<str>)> {
    let mut unknown = Vec::new();
    for trigger in &deployment.workflow.triggers {
        if let TriggerKind::RunEnded { workflows, .. } = &trigger.kind {
            let missing = workflows.iter().filter(|name| host.deployments.get(name).is_none());
            unknown.extend(missing.map(|name| (Arc::clone(&trigger.name), Arc::clone(name))));
        }
    }
    unknown
}

/// Fires for all recorded ends, and then for each new one until the host is dropped.
pub(crate) fn start(host: &Arc<Host>) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        loop {
            let dealt_with = tokio::select! {
                dealt_with = drain(&keeper) => dealt_with,
                () = keeper.draining.cancelled() => return,
            };
            let left = match dealt_with {
                Ok(left) => left,
                Err(error) => {
                    tracing::warn!(%error, "RunEnded triggers are waiting for the store");
                    true
                }
            };
            tokio::select! {
                () = keeper.hub.ended.notified() => {}
                () = tokio::time::sleep(AGAIN), if left => {}
                () = keeper.draining.cancelled() => return,
            }
        }
    });
}

/// Handles all records. Returns whether some are left because the limit on runs is reached.
async fn drain(host: &Host) -> Result<bool, loom_store::Error> {
    let (mut left, mut after) = (false, None);
    loop {
        let query = KeyQuery { namespace: ENDED_RUNS.into(), prefix: String::new(), after, limit: PAGE };
        let page = host.store.keys(query).await?;
        for found in &page.values {
            let end = Value::parse_json(&found.value).unwrap_or_default();
            if fire_all(host, &end).await? {
                let mut commit = Commit::new();
                commit.keys.push(key_write(ENDED_RUNS, &found.key, None));
                host.store.commit(commit).await?;
            } else {
                left = true;
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(left),
        }
    }
}

/// Fires every trigger that waits for this end. Returns false if the limit on runs stopped one of them.
async fn fire_all(host: &Host, end: &Value) -> Result<bool, loom_store::Error> {
    let text = |name: &str| end.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut done = true;
    for deployment in host.deployments.all() {
        for trigger in &deployment.workflow.triggers {
            let TriggerKind::RunEnded { workflows, statuses } = &trigger.kind else { continue };
            let fits = workflows.iter().any(|name| name.to_lowercase() == text("workflow").to_lowercase())
                && statuses.iter().any(|status| status.as_str() == text("status"));
            // A run that ends while a trigger is disabled never fires it.
            if fits && host.disabled_by(&deployment, Some(&trigger.name)).is_none() {
                done &= fire(host, &deployment, trigger, end).await?;
            }
        }
    }
    Ok(done)
}

/// Fires one trigger for an end. Returns false if the limit on runs is reached.
async fn fire(
    host: &Host,
    deployment: &Deployment,
    trigger: &Trigger,
    end: &Value,
) -> Result<bool, loom_store::Error> {
    let key = trigger_key(&deployment.workflow.name, &trigger.name);
    let text = |name: &str| end.get(name).and_then(Value::as_str);
    let run = text("run").unwrap_or_default();
    if has_started(host, &key, end).await? {
        return Ok(true);
    }
    if !host.acts_for(&deployment.workflow.name, &trigger.name) {
        // The node that acts for the trigger starts it.
        return Ok(false);
    }
    let number = trigger_history::next_number(&*host.store, &key).await?;
    let note = Note::new(host.now().unix_nanos(), NoteStatus::Succeeded);
    let keys = {
        let (key, note) = (key.clone(), note.clone());
        move |runs: &[RunId]| match runs {
            // The trigger has already fired for this end.
            [] => Vec::new(),
            runs => vec![trigger_history::write(&key, number, note.with_runs(runs.iter().copied()))],
        }
    };
    let along = FiringCommit {
        name: Some(format!("{NAME}{run}:{key}").into()),
        keys: Some(Box::new(keys)),
        ..FiringCommit::default()
    };
    let fire = Fire {
        deployment,
        trigger,
        outputs: outputs(end),
        tracking_id: None,
        wants_response: false,
        trace: None,
    };
    match host.fire_along(fire, along).await {
        Ok(_) | Err(FireError::NotMet { .. } | FireError::Disabled { .. }) => Ok(true),
        Err(FireError::Start(StartError::Trigger(error))) => {
            tracing::warn!(trigger = %trigger.name, error = %error.message, "the trigger failed");
            let note = note.because(&error.code, &error.message);
            let mut commit = Commit::new();
            commit.keys.push(trigger_history::write(&key, number, note));
            host.store.commit(commit).await?;
            Ok(true)
        }
        Err(FireError::Start(StartError::Store(error))) => Err(error),
        Err(FireError::Busy | FireError::StorePaused | FireError::RunsHeld | FireError::Start(_)) => {
            Ok(false)
        }
    }
}

/// The outputs of the trigger: the end of the run is in `body`.
fn outputs(end: &Value) -> Value {
    let mut body = Object::new();
    for (shown, kept) in [
        ("runId", "run"),
        ("workflow", "workflow"),
        ("status", "status"),
        ("startTime", "startTime"),
        ("endTime", "endTime"),
        ("error", "error"),
    ] {
        body.insert(shown, end.get(kept).cloned().unwrap_or_default());
    }
    [("body", body)].into_iter().collect::<Object>().into()
}

/// Whether a trigger started a run, or another run of its chain.
async fn has_started(host: &Host, trigger: &str, end: &Value) -> Result<bool, loom_store::Error> {
    let text = |name: &str| end.get(name).and_then(Value::as_str);
    let run = |name: &str| text(name).and_then(|run| run.parse::<RunId>().ok());
    let (mut ahead, mut seen) = (Vec::new(), BTreeSet::new());
    let mut step = |key: Option<&str>, parent: Option<RunId>, origin: Option<RunId>| {
        ahead.extend(parent.into_iter().chain(origin));
        // `ended:{run}:{workflow}/{trigger}/{index}`
        let Some((cause, by)) = key.and_then(|key| key.strip_prefix(NAME)?.split_once(':')) else {
            return (false, ahead.pop());
        };
        ahead.extend(cause.parse::<RunId>());
        (by.rsplit_once('/').is_some_and(|(by, _)| by == trigger), ahead.pop())
    };
    let (mut found, mut next) = step(text("key"), run("parent"), run("origin"));
    while let (false, Some(run)) = (found, next) {
        if seen.len() >= CHAIN_MAX {
            tracing::warn!(%run, trigger, "the chain of runs is too long; RunEnded does not fire");
            return Ok(true);
        }
        let row = if seen.insert(run) { host.store.run(run).await? } else { None };
        (found, next) = match row {
            Some(row) => step(row.idempotency_key.as_deref(), row.parent, row.origin),
            None => step(None, None, None),
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
