//! What the code of an inline script sees of its run: `workflowContext`.
//!
//! The values are those of the run, shared, not copied, and none of them is journaled for the script: a script that was
//! in flight when its process ended is run again, and what it had seen is still there.

mod references;
mod words;

use std::sync::Arc;

use loom_definition::model::{Action, ActionKind, EffectKind, same_name};
use loom_expression::{Context, Name, Object, Value};

use crate::{
    event::Place,
    machine::Environment,
    scope::Scope,
    state::{RunState, SlotPhase},
};

pub use references::{References, references};

/// The language whose scripts see their run.
const JAVASCRIPT: &str = "JavaScriptCode";

/// `{workflow, trigger, actions}` for the script at `place`; none when the action is no script.
///
/// It holds what the code names and what `explicitDependencies` adds: the trigger, if it is wanted, and under `actions`
/// the records of the wanted actions, by the names that the definition gives them. An action that had not ended when
/// the script began is there with null. Names that no action has are left out.
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
    let scope = Scope::new(state, environment, place.frame, state.slot(place).started);
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

/// What the code names, and what is named beside it.
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

/// The trigger's record. It is a secret as a whole when the definition hides some of it from history.
fn trigger(scope: &Scope<'_>) -> Value {
    let record = scope.trigger().unwrap_or_default();
    let name = record.get("name").and_then(Value::as_str).unwrap_or_default();
    let fired = scope.state.workflow.triggers.iter().find(|trigger| same_name(&trigger.name, name));
    let secure = fired.is_some_and(|trigger| trigger.secure.inputs || trigger.secure.outputs);
    record.secret_if(secure)
}

/// An action's record, and null for one that had not ended when the script at `script` began. It is a secret as a whole
/// when the definition hides some of it from history.
fn record(scope: &Scope<'_>, script: Place, action: &Action) -> Value {
    let state = scope.state;
    if let Ok(Some(place)) = state.locate(script.frame, action.index) {
        let slot = state.slot(place);
        if slot.phase == SlotPhase::Ended && slot.ended > state.slot(script).started {
            return Value::NULL;
        }
    }
    let record = scope.action(Name { text: &action.name, slot: Some(action.index.0) });
    record.unwrap_or_default().secret_if(action.secure.inputs || action.secure.outputs)
}
