//! The attributes of calls of language models, by OpenTelemetry's conventions for generative AI: never what was said.

use loom_definition::{
    ActionIdx, Workflow,
    model::{ActionKind, EffectKind},
};
use loom_engine::{Outcome, RunId};
use loom_expression::Value;

use super::span::Attributes;

/// The attributes of one call of a model; none for other calls.
pub(super) fn of_call(
    workflow: &Workflow,
    action: ActionIdx,
    run: RunId,
    outcome: Option<&Outcome>,
) -> Attributes {
    let action = workflow.action(action);
    let agent = match &action.kind {
        ActionKind::Agent { .. } => Some(&*action.name),
        ActionKind::Effect { effect: EffectKind::Ai, .. } => None,
        _ => return Attributes::new(),
    };
    let mut attributes: Attributes =
        vec![("gen_ai.operation.name", "chat".into()), ("gen_ai.conversation.id", run.to_string().into())];
    attributes.extend(agent.map(|name| ("gen_ai.agent.name", name.into())));
    let Some(outputs) = outcome.and_then(|outcome| outcome.outputs.as_ref()) else { return attributes };
    let model = outputs.get("model").and_then(Value::as_str);
    attributes.extend(model.map(|model| ("gen_ai.response.model", model.into())));
    // The last turn of an agent has the usage of all of them.
    if outputs.get("iterations").is_none() {
        attributes.extend(usage(outputs));
    }
    attributes
}

/// The attributes of an agent as a whole; none for other actions.
pub(super) fn of_action(workflow: &Workflow, action: ActionIdx, outcome: &Outcome) -> Attributes {
    let action = workflow.action(action);
    let ActionKind::Agent { .. } = &action.kind else { return Attributes::new() };
    let mut attributes: Attributes =
        vec![("gen_ai.operation.name", "invoke_agent".into()), ("gen_ai.agent.name", (&*action.name).into())];
    if let Some(outputs) = &outcome.outputs {
        attributes.extend(usage(outputs));
    }
    attributes
}

fn usage(outputs: &Value) -> Attributes {
    let count = |name: &str| outputs.get("usage")?.get(name)?.as_i64();
    let counts = [
        ("gen_ai.usage.input_tokens", count("inputTokens")),
        ("gen_ai.usage.output_tokens", count("outputTokens")),
    ];
    counts.into_iter().filter_map(|(name, count)| Some((name, count?.into()))).collect()
}
