//! Agents and group chats: the blocks that they have, in one order for both passes, and what the blocks execute.
//!
//! Some blocks have no actions in the file. Their one action is made here from a setting: a person is asked, an approval is
//! waited for, an expression is evaluated, a workflow is called, and the history of a chat is read and written.

use std::sync::Arc;

use loom_expression::{Object, Value};

use super::{Lowerer, agents::handoff_of, outline::Type, resilience::without_retry};
use crate::{
    diagnostic::code,
    model::{ActionKind, ChatExpression, EffectKind, ToolRole},
    text::{Node, Span32},
};

/// A block of an agent or of a group chat.
pub(super) struct Part<'a> {
    pub(super) role: ToolRole,
    pub(super) participant: Option<Arc<str>>,
    pub(super) name: Arc<str>,
    pub(super) name_place: Span32,
    /// The tool, the participant, or the setting from which the action is made.
    pub(super) node: &'a Node,
    /// The action that is made, with its name; none if the actions are in the file.
    pub(super) made: Option<(Made, Arc<str>)>,
}

/// An action that is made from a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Person,
    Approval,
    Workflow,
    Expression,
    /// A condition that is met when a key of shared memory is `true`.
    External,
    Recall,
    Remember,
}

impl Made {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Made::Person | Made::Approval => "AskPerson",
            Made::Workflow => "Workflow",
            Made::Expression | Made::External => "Compose",
            Made::Recall | Made::Remember => "Memory",
        }
    }
}

/// The blocks of an action, in order.
pub(super) fn parts<'a>(kind: Type, action: &str, node: &'a Node) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let inputs = node.get("inputs");
    match kind {
        Type::Agent => {
            let tools = node.get("tools").or_else(|| inputs?.get("tools"));
            tools_of(tools, None, action, &mut parts);
        }
        Type::GroupChat => {
            if let Some(inputs) = inputs {
                chat_parts(action, inputs, &mut parts);
            }
        }
        _ => {}
    }
    parts
}

fn tools_of<'a>(
    tools: Option<&'a Node>,
    participant: Option<&Arc<str>>,
    owner: &str,
    parts: &mut Vec<Part<'a>>,
) {
    for member in tools.and_then(Node::members).unwrap_or_default() {
        let approval = member.value.get("approval").filter(|node| node.boolean() != Some(false));
        let index = parts.len() as u32;
        parts.push(Part {
            role: ToolRole::Tool { approval: approval.is_some() },
            participant: participant.cloned(),
            name: Arc::clone(&member.name),
            name_place: member.name_place,
            node: &member.value,
            made: None,
        });
        if let Some(approval) = approval {
            parts.push(Part {
                role: ToolRole::Approval(index),
                participant: participant.cloned(),
                name: Arc::clone(&member.name),
                name_place: member.name_place,
                node: approval,
                made: Some((Made::Approval, format!("{owner}.{}.approval", member.name).into())),
            });
        }
    }
}

fn chat_parts<'a>(chat: &str, inputs: &'a Node, parts: &mut Vec<Part<'a>>) {
    for member in inputs.get("participants").and_then(Node::members).unwrap_or_default() {
        let (name, node) = (&member.name, &member.value);
        let own = format!("{chat}.{name}");
        tools_of(node.get("agent").and_then(|agent| agent.get("tools")), Some(name), &own, parts);
        let speaker = |node, made: Option<Made>| Part {
            role: ToolRole::Speaker,
            participant: Some(Arc::clone(name)),
            name: Arc::clone(name),
            name_place: member.name_place,
            node,
            made: made.map(|made| (made, Arc::from(&*own))),
        };
        // One that has several kinds is reported; its first counts.
        if let Some(human) = node.get("human") {
            parts.push(speaker(human, Some(Made::Person)));
        } else if let Some(workflow) = node.get("workflow") {
            parts.push(speaker(workflow, Some(Made::Workflow)));
        } else if node.get("actions").is_some() {
            parts.push(speaker(node, None));
        }
    }
    let mut add = |role, made, name: String, node: &'a Node| {
        let name: Arc<str> = name.into();
        let own = format!("{chat}.{name}").into();
        let name_place = node.place;
        parts.push(Part { role, participant: None, name, name_place, node, made: Some((made, own)) });
    };
    for (name, expression) in [("next", ChatExpression::Next), ("candidates", ChatExpression::Candidates)] {
        if let Some(node) = inputs.get(name) {
            add(ToolRole::Expression(expression), Made::Expression, name.to_owned(), node);
        }
    }
    for (number, (made, node)) in (0..).zip(conditions(inputs)) {
        let role = ToolRole::Expression(ChatExpression::Termination(number));
        add(role, made, format!("termination-{number}"), node);
    }
    if let Some(memory) = inputs.get("memory") {
        add(ToolRole::Recall, Made::Recall, "recall".to_owned(), memory);
        add(ToolRole::Remember, Made::Remember, "remember".to_owned(), memory);
    }
}

/// The conditions of a termination that have to be evaluated, in the order of the file: those of an entry before those of the
/// entries inside it.
fn conditions(inputs: &Node) -> Vec<(Made, &Node)> {
    let mut found = Vec::new();
    add_conditions(inputs.get("termination"), &mut found);
    found
}

fn add_conditions<'a>(list: Option<&'a Node>, found: &mut Vec<(Made, &'a Node)>) {
    for entry in list.and_then(Node::items).unwrap_or_default() {
        let members = || entry.members().unwrap_or_default().iter();
        found.extend(members().filter_map(|member| {
            let made = match member.name.to_ascii_lowercase().as_str() {
                "expression" => Made::Expression,
                "external" => Made::External,
                _ => return None,
            };
            Some((made, &member.value))
        }));
        for member in members()
            .filter(|member| ["any", "all"].iter().any(|known| known.eq_ignore_ascii_case(&member.name)))
        {
            add_conditions(Some(&member.value), found);
        }
    }
}

/// The inputs of a chat as its handler receives them: without what is in blocks. Each expression of the termination is replaced
/// by its number.
pub(super) fn without_blocks(inputs: &Value) -> Value {
    let mut number = 0_i64;
    let change = |name: &str, value: &Value, number: &mut i64| match name.to_ascii_lowercase().as_str() {
        "participants" => match value.as_object() {
            None => value.clone(),
            Some(all) => {
                all.iter().map(|(name, one)| (Arc::clone(name), participant(one))).collect::<Object>().into()
            }
        },
        "next" | "candidates" => Value::from(true),
        "termination" => numbered(value, number),
        _ => value.clone(),
    };
    let Some(members) = inputs.as_object() else { return inputs.clone() };
    let members = members.iter().map(|(name, value)| (Arc::clone(name), change(name, value, &mut number)));
    members.collect::<Object>().into()
}

fn participant(written: &Value) -> Value {
    let Some(members) = written.as_object() else { return written.clone() };
    let members = members.iter().map(|(name, value)| {
        let value = match name.to_ascii_lowercase().as_str() {
            "actions" | "workflow" => Value::from(true),
            "human" => {
                let default = value.get("default").cloned().unwrap_or_default();
                Object::single(Arc::from("default"), default).into()
            }
            "agent" => without(value, "tools"),
            _ => value.clone(),
        };
        (Arc::clone(name), value)
    });
    members.collect::<Object>().into()
}

fn numbered(termination: &Value, number: &mut i64) -> Value {
    let Some(entries) = termination.as_array() else { return termination.clone() };
    let entry = |entry: &Value, number: &mut i64| {
        let Some(members) = entry.as_object() else { return entry.clone() };
        // In the order of `conditions`: a condition of an entry before those inside it.
        let mut changed = members.clone();
        for (name, _) in members {
            if ["expression", "external"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
                changed.insert(Arc::clone(name), *number);
                *number += 1;
            }
        }
        for (name, value) in members {
            if ["any", "all"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
                changed.insert(Arc::clone(name), numbered(value, number));
            }
        }
        Value::from(changed)
    };
    let mut all = Vec::new();
    for one in entries {
        all.push(entry(one, number));
    }
    all.into()
}

pub(super) fn without(value: &Value, property: &str) -> Value {
    let Some(mut members) = value.as_object().cloned() else { return value.clone() };
    if let Some(name) = members.name_ignore_case(property).cloned() {
        members.remove(&name);
    }
    members.into()
}

impl Lowerer<'_, '_, '_> {
    pub(super) fn approval_rules(&mut self, tool: &Node, name: &str) {
        let Some(approval) = tool.get("approval") else { return };
        let (tool, hands_over) = (name, handoff_of(tool).is_some());
        if hands_over {
            let message = format!("the tool `{tool}` hands over, which cannot wait for an approval");
            self.found.error(code::BAD_APPROVAL, approval.place, message);
        }
        if approval.boolean().is_none() {
            self.approval_members(approval, name);
        }
    }

    /// Checks the properties of an `approval` of a tool or an action.
    pub(super) fn approval_members(&mut self, approval: &Node, of: &str) {
        if approval.members().is_none() {
            let message =
                format!("`approval` of `{of}` must be a boolean or an object, found {}", approval.kind());
            self.found.error(code::BAD_APPROVAL, approval.place, message);
            return;
        }
        let known = ["timeout", "default", "message", "to", "limit"];
        self.only(approval, &known, code::BAD_APPROVAL, &format!("`approval` of `{of}`"));
        if let Some(default) = approval.get("default")
            && !default.text().is_some_and(|text| {
                ["approve", "reject"].iter().any(|known| known.eq_ignore_ascii_case(text))
            })
        {
            let message =
                format!("`default` of an approval must be `approve` or `reject` (got {})", shown(default));
            self.found.error(code::BAD_APPROVAL, default.place, message);
        }
    }

    /// Lowers an action that is made from a setting.
    pub(super) fn made(&mut self, index: usize, made: Made) -> ActionKind {
        let outlined = &self.outline.actions[index];
        let (node, name) = (outlined.node, Arc::clone(&outlined.name));
        let argument = |name: &str| Value::from(format!("@agentParameters('{name}')"));
        let mut inputs = Object::new();
        let effect = match made {
            Made::Expression => return ActionKind::Compose { inputs: self.template(node, index) },
            Made::External => {
                let address = node.text().unwrap_or_default().replace('\'', "''");
                let value = Value::from(format!("@equals(memory('{address}'), true)"));
                return ActionKind::Compose { inputs: self.template_of(node, &value, Some(index)) };
            }
            Made::Person | Made::Approval => {
                let approves = made == Made::Approval;
                inputs.insert("ask", if approves { "approval" } else { "reply" });
                // The name of the action begins with those of its chat or agent.
                let speaker = name.rsplit('.').next().unwrap_or_default();
                let to = node.get("to").map(Node::to_value);
                if let Some(to) = to.or_else(|| (!approves).then(|| Value::from(speaker))) {
                    inputs.insert("to", to);
                }
                let message = node.get("message").map(Node::to_value);
                if approves {
                    inputs.insert("tool", argument("tool"));
                    inputs.insert("arguments", argument("arguments"));
                }
                inputs.insert("message", message.unwrap_or_else(|| argument("message")));
                for property in ["responseSchema", "default"] {
                    if let Some(value) = node.get(property) {
                        inputs.insert(property, value.to_value());
                    }
                }
                EffectKind::Signal
            }
            Made::Workflow => {
                inputs = without_retry(node.to_value()).into_object().unwrap_or_default();
                for setting in ["timeout", "limit", "operationOptions", "runtimeConfiguration"] {
                    if let Some(name) = inputs.name_ignore_case(setting).cloned() {
                        inputs.remove(&name);
                    }
                }
                if let Some(id) = inputs.remove("id") {
                    inputs.insert(
                        "host",
                        Object::single(Arc::from("workflow"), Object::single(Arc::from("id"), id).into()),
                    );
                }
                if inputs.get_ignore_case("body").is_none() {
                    let parts = ["message", "speaker", "round", "history"];
                    inputs.insert(
                        "body",
                        parts.into_iter().map(|part| (Arc::from(part), argument(part))).collect::<Object>(),
                    );
                }
                EffectKind::Workflow
            }
            Made::Recall => {
                inputs.insert("operation", "range");
                inputs.insert("key", argument("key"));
                EffectKind::Memory
            }
            Made::Remember => {
                inputs.insert("operation", "append");
                inputs.insert("key", argument("key"));
                inputs.insert("values", argument("entries"));
                for property in ["ttl", "max"] {
                    if let Some(value) = node.get(property) {
                        inputs.insert(property, value.to_value());
                    }
                }
                EffectKind::Memory
            }
        };
        let inputs = self.template_of(node, &inputs.into(), Some(index));
        ActionKind::Effect { effect, inputs }
    }

    /// Checks an AskPerson.
    pub(super) fn ask_person(&mut self, index: usize) {
        let node = self.outline.actions[index].node;
        let Some(inputs) = node.get("inputs") else { return self.lack(index, "inputs") };
        if inputs.members().is_none() {
            let message = format!("`inputs` of an AskPerson must be an object, found {}", inputs.kind());
            self.found.error(code::BAD_APPROVAL, inputs.place, message);
            return;
        }
        if inputs.get("message").is_none() {
            self.lack(index, "inputs.message");
        }
        let known = ["ask", "to", "message", "responseSchema"];
        self.only(inputs, &known, code::BAD_APPROVAL, "`inputs` of an AskPerson");
        if let Some(ask) = inputs.get("ask")
            && !ask.text().is_some_and(|text| text.contains('@') || ["reply", "approval"].contains(&text))
        {
            let message = format!("`ask` must be `reply` or `approval` (got {})", shown(ask));
            self.found.error(code::BAD_APPROVAL, ask.place, message);
        }
    }
}

/// A value as messages quote it.
pub(super) fn shown(node: &Node) -> String {
    match node.text() {
        Some(text) => format!("`{text}`"),
        None => node.to_value().to_json_text(),
    }
}
