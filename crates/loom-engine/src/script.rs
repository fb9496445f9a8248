//! The context of an inline script: `workflowContext`.
//!
//! The values are shared with the run, not copied, and not journaled for the script: a script that was in flight when its
//! process ended is executed again, and the same values are still in the run.

mod references;
mod words;

use std::sync::Arc;

use loom_definition::model::{Action, ActionKind, EffectKind, same_name};
use loom_expression::{Context, Name, Object, Value};

use crate::{
    environment::Environment,
    event::Place,
    scope::Scope,
    state::{RunState, SlotPhase},
};

pub use references::{References, references};

/// The language whose scripts have a context.
const JAVASCRIPT: &str = "JavaScriptCode";

/// `{workflow, trigger, actions}` for the script at `place`; none when the action is not a script.
///
/// Contains what the code refers to and what `explicitDependencies` adds: the trigger, if it is needed, and under `actions`
/// the records of the needed actions, by their names in the definition. The record of an action that had not ended when the
/// script started is null. Names that no action has are omitted.
pub(crate) fn context(
    state: &RunState,
    environment: &Environment,
    place: Place,
    inputs: &Value,
) -> Option<Value> {
    let ActionKind::Effect { effect: EffectKind::Script(language), .. } =
        &state.workflow.action(place.action).kind
    else {
        return None;
    };
    if &**language != JAVASCRIPT {
        return None;
    }
    let wanted = wanted(inputs);
    let scope = Scope::new(state, environment, place.opening, state.slot(place).started);
    let mut members = vec![("workflow", scope.workflow().unwrap_or_default())];
    if wanted.trigger {
        members.push(("trigger", trigger(&scope)));
    }
    let mut actions = Object::new();
    for name in &wanted.actions {
        if let Some(action) = state.workflow.find_action(name) {
            let action = state.workflow.action(action);
            actions.insert(Arc::clone(&action.name), record(&scope, place, action));
        }
    }
    members.push(("actions", actions.into()));
    Some(members.into_iter().collect::<Object>().into())
}

/// What the code refers to, and what `explicitDependencies` adds.
fn wanted(inputs: &Value) -> References {
    let code = inputs.get("code").and_then(Value::as_str).unwrap_or_default();
    let mut wanted = references(code);
    let Some(explicit) = inputs.get("explicitDependencies") else { return wanted };
    let named = explicit.get("actions").and_then(Value::as_array);
    let named = named.into_iter().flat_map(|names| names.iter()).filter_map(Value::as_str);
    wanted.actions.extend(named.map(str::to_owned));
    wanted.trigger |= explicit.get("includeTrigger").and_then(Value::as_bool) == Some(true);
    wanted
}

/// The trigger's record. It is secret as a whole if the definition secures its inputs or outputs.
fn trigger(scope: &Scope<'_>) -> Value {
    let record = scope.trigger().unwrap_or_default();
    let name = record.get("name").and_then(Value::as_str).unwrap_or_default();
    let fired = scope.state.workflow.triggers.iter().find(|trigger| same_name(&trigger.name, name));
    let secure = fired.is_some_and(|trigger| trigger.secure.inputs || trigger.secure.outputs);
    record.secret_if(secure)
}

/// An action's record; null for an action that had not ended when the script at `script` started. It is secret as a whole if
/// the definition secures its inputs or outputs.
fn record(scope: &Scope<'_>, script: Place, action: &Action) -> Value {
    let state = scope.state;
    if let Ok(Some(place)) = state.locate(script.opening, action.index) {
        let slot = state.slot(place);
        if slot.phase == SlotPhase::Ended && slot.ended > state.slot(script).started {
            return Value::NULL;
        }
    }
    let record = scope.action(Name { text: &action.name, slot: Some(action.index.0) });
    record.unwrap_or_default().secret_if(action.secure.inputs || action.secure.outputs)
}
