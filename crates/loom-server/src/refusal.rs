//! Why a trigger started no run, as an error of the API.

use axum::http::StatusCode;
use loom_engine::StartError;

use crate::{
    fire::FireError,
    idempotency,
    response::{Problem, sentence},
    switches::DisabledBy,
};

/// The `Retry-After` of rejected requests, in seconds.
const RETRY_AFTER: u64 = 2;

/// The error for a trigger that started no run.
pub(crate) fn refusal(error: FireError) -> Problem {
    match error {
        FireError::Busy => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "WorkflowTriggerIsThrottled",
            "The limit of concurrent runs is reached; no run was started.",
        )
        .later(RETRY_AFTER),
        FireError::StorePaused => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "StoreUnavailable",
            "The store is temporarily unavailable; no run was started.",
        )
        .later(RETRY_AFTER),
        FireError::RunsHeld => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "RunsHeld",
            "The server was started with --hold-runs and starts no runs until it is restarted without that option.",
        )
        .later(RETRY_AFTER),
        FireError::Disabled { by, workflow, trigger } => {
            let message = match by {
                DisabledBy::Setting => format!(
                    "The workflow '{workflow}' is disabled by its FlowState setting; no run was started."
                ),
                DisabledBy::Workflow => format!(
                    "The workflow '{workflow}' is disabled; no run was started. Enable it with `loom workflows enable {workflow}`."
                ),
                DisabledBy::Trigger => format!(
                    "The trigger '{trigger}' of workflow '{workflow}' is disabled; no run was started. \
                     Enable it with `loom workflows enable {workflow} {trigger}`."
                ),
            };
            Problem::new(StatusCode::BAD_REQUEST, "WorkflowTriggerIsNotEnabled", message)
        }
        FireError::NotMet { condition } => {
            let message = format!("Condition {condition} of the trigger is not met; no run was started.");
            Problem::new(StatusCode::CONFLICT, "TriggerConditionNotMet", message)
        }
        FireError::Start(StartError::Stopping) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServerStopping",
            "The server is shutting down; no run was started.",
        )
        .later(RETRY_AFTER),
        FireError::Start(StartError::OtherFiring { run }) => idempotency::reused(run),
        FireError::Start(StartError::Store(error)) => error.into(),
        FireError::Start(StartError::Elsewhere { .. }) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "NoOwner",
            "Another node starts the runs of this trigger; no run was started.",
        )
        .later(RETRY_AFTER),
        FireError::Start(StartError::Trigger(error)) => {
            Problem::new(StatusCode::BAD_REQUEST, "TriggerFailed", error.message)
        }
        FireError::Start(error) => Problem::new(StatusCode::BAD_REQUEST, "TriggerFailed", sentence(&error)),
    }
}
