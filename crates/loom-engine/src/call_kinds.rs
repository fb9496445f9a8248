//! What follows from an action's definition or inputs alone: whether it makes calls, and what it waits for.

use loom_definition::model::{Action, ActionKind, EffectKind};
use loom_expression::Value;

/// Whether an action that the engine executes itself has retries, a circuit breaker or a limit.
pub(crate) fn needs_admission(action: &Action) -> bool {
    action.resilience.is_some() && !is_call(&action.kind) && !matches!(action.kind, ActionKind::Retry { .. })
}

/// Whether the shell executes the action, by calling a handler.
pub(crate) fn is_call(kind: &ActionKind) -> bool {
    match kind {
        ActionKind::Effect { effect, .. } => !matches!(effect, EffectKind::Compute(_)),
        ActionKind::Agent { .. } => true,
        _ => false,
    }
}

/// Whether the action subscribes to a service, and waits for its callback.
pub(crate) fn is_webhook(kind: &ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::Effect { effect: EffectKind::HttpWebhook | EffectKind::ApiConnectionWebhook, .. }
    )
}

/// Whether a `Wait` ends at a wall-clock time, not after a duration.
pub(crate) fn waits_for_instant(inputs: &Value) -> bool {
    inputs.get("interval").is_none()
}
