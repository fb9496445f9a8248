//! Redaction: values labelled as secret, and inputs and outputs that a definition secures.
//!
//! The inputs of an action that refers to secured outputs of another one are redacted, too, as the language requires. References
//! are searched in the definition's text, which errs on the safe side.

use std::{collections::HashMap, sync::Arc};

use loom_definition::{
    ActionIdx, Workflow,
    model::{ActionKind, Secure},
};
use loom_engine::credentials;
use loom_expression::{Object, Value};

/// The replacement of secret values.
pub const HIDDEN: &str = loom_expression::MASK;

/// The redaction rules of one workflow.
#[derive(Debug)]
pub(crate) struct Redaction {
    actions: Vec<Secure>,
    trigger: Secure,
    /// Whether anything is secured; then variables are redacted, too, because they may contain it.
    anything: bool,
    /// Whether the response to the caller is redacted.
    answer: bool,
}

impl Redaction {
    /// The rules of a workflow. `trigger` is the one that fired.
    pub(crate) fn of(workflow: &Workflow, trigger: Option<&str>) -> Redaction {
        let fired = trigger.and_then(|name| workflow.find_trigger(name)).or(workflow.triggers.first());
        let trigger = fired.map(|trigger| trigger.secure).unwrap_or_default();
        let mut actions: Vec<Secure> = workflow.actions.iter().map(|action| action.secure).collect();
        let anything =
            trigger.inputs || trigger.outputs || actions.iter().any(|one| one.inputs || one.outputs);
        if anything {
            let texts = texts(workflow);
            let mut marks: Vec<String> = workflow
                .actions
                .iter()
                .filter(|action| {
                    action.secure.outputs || (action.secure.inputs && gives_inputs(&action.kind))
                })
                .map(|action| format!("'{}'", action.name.to_lowercase()))
                .collect();
            if trigger.outputs {
                marks.push("trigger".to_owned());
            }
            for action in &workflow.actions {
                let hidden = &mut actions[action.index.0 as usize];
                let text = texts.get(&*action.name).map_or("", String::as_str);
                hidden.inputs |= marks.iter().any(|mark| text.contains(mark.as_str()));
                // The outputs of these actions are their inputs, or parts of them.
                hidden.outputs |= hidden.inputs && gives_inputs(&action.kind);
            }
        }
        let answer = workflow.actions.iter().any(|action| {
            matches!(action.kind, ActionKind::Response { .. }) && actions[action.index.0 as usize].inputs
        });
        Redaction { actions, trigger, anything, answer }
    }

    pub(crate) fn inputs(&self, action: ActionIdx, value: &Value) -> Value {
        hide_if(self.actions[action.0 as usize].inputs, &without_credentials(value))
    }

    pub(crate) fn outputs(&self, action: ActionIdx, value: &Value) -> Value {
        hide_if(self.actions[action.0 as usize].outputs, value)
    }

    pub(crate) fn variable(&self, value: &Value) -> Value {
        hide_if(self.anything, value)
    }

    pub(crate) fn answer(&self, value: &Value) -> Value {
        hide_if(self.answer, value)
    }

    /// A trigger's record with secured inputs and outputs redacted.
    pub(crate) fn trigger(&self, record: &Value) -> Value {
        let Some(members) = record.as_object() else { return hide(record) };
        let shown = members.iter().map(|(name, value)| {
            let secure = match &**name {
                "inputs" => self.trigger.inputs,
                "outputs" => self.trigger.outputs,
                _ => false,
            };
            (Arc::clone(name), hide_if(secure, &without_credentials(value)))
        });
        shown.collect::<Object>().into()
    }
}

fn gives_inputs(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::Compose { .. } | ActionKind::ParseJson { .. } | ActionKind::Response { .. })
}

/// Headers that carry credentials.
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "ocp-apim-subscription-key"];

/// Replaces credentials: headers that carry them, even if a trigger passes them to its workflow, and the `authentication` of
/// actions. Webhooks have requests under `subscribe` and `unsubscribe`.
pub fn without_credentials(value: &Value) -> Value {
    let mask_credentials = credentials::mask_credentials(value);
    let value = mask_credentials.as_ref().unwrap_or(value);
    let Some(members) = value.as_object() else { return value.clone() };
    let mut shown = members.clone();
    let mut changed = false;
    for (name, member) in members {
        let without = match &**name {
            "headers" => credentials::mask_properties(member, |name| {
                !CREDENTIALS.iter().any(|hidden| name.eq_ignore_ascii_case(hidden))
            }),
            "subscriptionKey" => Some(Value::from(HIDDEN)),
            "subscribe" | "unsubscribe" => Some(without_credentials(member)),
            _ => None,
        };
        if let Some(without) = without {
            shown.insert(Arc::clone(name), without);
            changed = true;
        }
    }
    if changed { shown.into() } else { value.clone() }
}

/// The definition of each action without its children, as lower-case text by name.
fn texts(workflow: &Workflow) -> HashMap<String, String> {
    let mut texts = HashMap::new();
    if let Ok(source) = Value::from_json_str(&workflow.source)
        && let Some(definition) = source.get("definition")
    {
        collect(definition, workflow, &mut texts);
    }
    texts
}

/// Walks a definition and collects every action below a property named `actions`.
fn collect(value: &Value, workflow: &Workflow, texts: &mut HashMap<String, String>) {
    if let Some(items) = value.as_array() {
        return items.iter().for_each(|item| collect(item, workflow, texts));
    }
    let Some(members) = value.as_object() else { return };
    for (name, member) in members {
        if &**name == "actions"
            && let Some(actions) = member.as_object()
        {
            for (name, action) in actions {
                if let Some(found) = workflow.find_action(name) {
                    let mut own = action.as_object().cloned().unwrap_or_default();
                    for nested in ["actions", "else", "cases", "default", "branches", "tools", "runAfter"] {
                        own.remove(nested);
                    }
                    let text = Value::from(own).to_json_text().to_lowercase();
                    texts.insert(workflow.action(found).name.to_string(), text);
                }
            }
        }
        collect(member, workflow, texts);
    }
}

fn hide_if(secure: bool, value: &Value) -> Value {
    if secure { Value::from(HIDDEN) } else { hide(value) }
}

/// Replaces everything that is labelled as secret.
pub fn hide(value: &Value) -> Value {
    if value.is_secret() {
        return Value::from(HIDDEN);
    }
    if !value.contains_secret() {
        return value.clone();
    }
    if let Some(items) = value.as_array() {
        return items.iter().map(hide).collect::<Vec<Value>>().into();
    }
    match value.as_object() {
        Some(members) => {
            members.iter().map(|(name, value)| (Arc::clone(name), hide(value))).collect::<Object>().into()
        }
        None => Value::from(HIDDEN),
    }
}
