//! Automatic triggers: recurrences, polling, webhooks, batches and changes of shared memory.
//!
//! Each has a task that lives as long as its deployment. Its progress is stored in the same transaction as the run that it
//! starts, so that after a crash nothing is fired twice and nothing is lost.

use std::sync::{Arc, PoisonError};

use loom_definition::trigger::TriggerKind;
use loom_engine::trigger_shard;
use loom_store::Shards;

use crate::{
    batch,
    deploy::{Acting, Deployment},
    host::Host,
    memory_changed, poll, subscription, timetable,
    trigger_task::{AGAIN, TriggerTask},
};

/// Starts the automatic triggers of a deployment, which run until it is retired or the host stops. Those that are disabled, or act already, are left
/// as they are.
pub(crate) fn start(host: &Arc<Host>, deployment: &Arc<Deployment>) {
    let mut acting = deployment.acting.lock().unwrap_or_else(PoisonError::into_inner);
    for (place, trigger) in deployment.workflow.triggers.iter().enumerate() {
        match &trigger.kind {
            TriggerKind::Recurrence
            | TriggerKind::SlidingWindow { .. }
            | TriggerKind::HttpPoll { .. }
            | TriggerKind::ApiConnection { .. }
            | TriggerKind::HttpWebhook { .. }
            | TriggerKind::ApiConnectionWebhook { .. }
            | TriggerKind::MemoryChanged { .. }
            | TriggerKind::Batch { .. } => {}
            TriggerKind::Request { .. }
            | TriggerKind::Manual
            | TriggerKind::Event { .. }
            | TriggerKind::RunEnded { .. }
            | TriggerKind::Other { .. } => continue,
        }
        if acting.contains_key(&place)
            || host.disabled_by(deployment, Some(&trigger.name)).is_some()
            || !host.acts_for(&deployment.workflow.name, &trigger.name)
        {
            continue;
        }
        let retired = deployment.retired.child_token();
        let stopped = host.draining.child_token();
        acting.insert(place, Acting { retired: retired.clone(), stopped: stopped.clone() });
        let (host, deployment) = (Arc::clone(host), Arc::clone(deployment));
        let tasks = host.tasks.clone();
        let task = TriggerTask::new(host, deployment, place, retired, stopped);
        tasks.spawn(async move { keep(&task).await });
    }
}

/// Ends what the disabled triggers of a deployment do by themselves.
pub(crate) fn stop_disabled(host: &Host, deployment: &Deployment) {
    let mut acting = deployment.acting.lock().unwrap_or_else(PoisonError::into_inner);
    acting.retain(|place, task| {
        let name = &deployment.workflow.triggers[*place].name;
        let disabled = host.disabled_by(deployment, Some(name)).is_some();
        if disabled {
            task.retired.cancel();
        }
        !disabled
    });
}

/// Stops acting for the triggers of these shards, because another node does.
pub(crate) fn stop_in(deployment: &Deployment, shards: Shards) {
    let mut acting = deployment.acting.lock().unwrap_or_else(PoisonError::into_inner);
    acting.retain(|place, task| {
        let trigger = &deployment.workflow.triggers[*place].name;
        let stops = shards.contains(trigger_shard(&deployment.workflow.name, trigger));
        if stops {
            task.stopped.cancel();
        }
        !stops
    });
}

/// Acts for a trigger until its deployment ends or the host stops.
async fn keep(task: &TriggerTask) {
    match task.trigger().kind {
        // These handle retirement themselves, because they have work to do then.
        TriggerKind::HttpWebhook { .. } | TriggerKind::ApiConnectionWebhook { .. } => {
            return subscription::keep(task).await;
        }
        TriggerKind::Batch { .. } => return batch::keep(task).await,
        _ => {}
    }
    tokio::select! {
        () = run_with_restarts(task) => {}
        () = task.retired.cancelled() => {}
        () = task.stopped.cancelled() => {}
    }
}

/// Runs the trigger, and restarts it from its stored progress whenever the store has failed.
async fn run_with_restarts(task: &TriggerTask) {
    loop {
        let kept = match task.count_notes().await {
            Ok(()) => match task.trigger().kind {
                TriggerKind::Recurrence | TriggerKind::SlidingWindow { .. } => timetable::keep(task).await,
                TriggerKind::MemoryChanged { .. } => memory_changed::keep(task).await,
                _ => poll::keep(task).await,
            },
            Err(error) => Err(error),
        };
        match kept {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, trigger = %task.trigger().name, "the trigger is waiting for the store");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
