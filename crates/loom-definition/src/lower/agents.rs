//! Lowers agents and group chats with their tools and other blocks, and Emit.

use std::sync::Arc;

use loom_expression::{Object, Template, Value};

use super::{
    Lowerer,
    outline::{Outline, Type},
    parts::{parts, without, without_blocks},
    resilience::without_retry,
};
use crate::{
    diagnostic::{code, did_you_mean, nearest},
    findings::head,
    model::{ActionIdx, ActionKind, BlockIdx, BlockRole, Tool, ToolRole},
    text::{Node, Span32},
};

impl Lowerer<'_, '_, '_> {
    /// Lowers an Agent or a GroupChat.
    pub(super) fn agent(&mut self, index: usize) -> ActionKind {
        let (node, kind) = (self.outline.actions[index].node, self.outline.actions[index].kind);
        let action = Arc::clone(&self.outline.actions[index].name);
        if let (Type::Agent, Some(map)) = (kind, self.control_part(index, "tools", &["tools"])) {
            self.found.want_object(map, "tools");
        }
        let mut tools = Vec::new();
        let mut calls = Object::new();
        for (place, part) in parts(kind, &action, node).into_iter().enumerate() {
            let block = self.child(index, BlockRole::Tool(place as u32));
            let mut tool = Tool {
                name: part.name,
                description: Arc::from(""),
                parameters: Value::from(Object::new()),
                block,
                call: None,
                handoff: None,
                raw: Value::from(Object::new()),
                participant: part.participant,
                role: part.role,
            };
            if let ToolRole::Tool { .. } = part.role {
                self.describe(part.node, &mut tool);
                if let (Some(_), Some(shared)) = (tool.call, called_with(part.node)) {
                    add_call(&mut calls, &tool, shared);
                }
            }
            tools.push(tool);
        }
        if let Some(count) = node.get("limit").and_then(|limit| limit.get("count")) {
            self.count_setting(count, "limit.count", 5_000, index);
        }
        let limits = match node.get("limit") {
            None => Template::constant(Value::NULL),
            Some(limit) => self.template_of(limit, &without(&limit.to_value(), "timeout"), Some(index)),
        };
        let inputs = if let Some(inputs) = node.get("inputs") {
            let value = if kind == Type::GroupChat {
                without_blocks(&inputs.to_value())
            } else {
                self.roles(inputs.get("parameters").unwrap_or(inputs));
                without(&inputs.to_value(), "tools")
            };
            let value = match value.as_object().cloned() {
                Some(mut object) if !calls.is_empty() => {
                    object.insert("tools", calls);
                    Value::from(object)
                }
                _ => value,
            };
            self.template_of(inputs, &value, Some(index))
        } else {
            self.lack(index, "inputs");
            Template::constant(Value::NULL)
        };
        if kind == Type::GroupChat {
            self.chat_rules(index);
        }
        ActionKind::Agent { inputs, tools, limits }
    }

    /// Reads what the file says of a tool.
    fn describe(&mut self, node: &Node, tool: &mut Tool) {
        let mut raw = node.to_value().into_object().unwrap_or_default();
        for apart in ["actions", "description", "agentParameterSchema", "approval"] {
            if let Some(name) = raw.name_ignore_case(apart).cloned() {
                raw.remove(&name);
            }
        }
        tool.raw = Value::from(raw);
        tool.description = Arc::from(node.get("description").and_then(Node::text).unwrap_or_default());
        if let Some(schema) = node.get("agentParameterSchema") {
            tool.parameters = schema.to_value();
        }
        tool.handoff = handoff_of(node);
        self.approval_rules(node, &tool.name);
        tool.call = self.tool_call(&tool.name, node, tool.block);
        let is_action = node.get("actions").is_none() && node.get("type").is_some();
        if !is_action && !self.tool_members(node, &tool.name) && node.get("actions").is_none() {
            let message = format!("the tool `{}` must have `actions`", tool.name);
            self.found.error(code::BAD_TOOL, head(node), message);
        }
    }

    /// Reports properties of a tool with actions that are misspelled: the model would not learn of its parameters. Returns whether
    /// there are any.
    fn tool_members(&mut self, node: &Node, tool: &str) -> bool {
        let mut any = false;
        for member in node.members().unwrap_or_default() {
            if is_one_of(&member.name, &TOOL) {
                continue;
            }
            let missing = TOOL.iter().copied().filter(|known| node.member(known).is_none());
            if let Some(meant) = nearest(&member.name, missing) {
                let message = format!("unknown property `{}` in the tool `{tool}`", member.name);
                self.found.error(code::BAD_TOOL, member.name_place, message).hint =
                    Some(format!("did you mean `{meant}`?"));
                any = true;
            }
        }
        any
    }

    /// Warns about an argument that the tool around an expression does not have.
    pub(super) fn argument_reference(&mut self, name: &str, owner: Option<usize>, place: Span32) {
        let Some(owner) = owner else { return };
        let (message, hint) = match self.outline.tool_around(ActionIdx(owner as u32)) {
            Around::Nothing => (
                format!("`agentParameters('{name}')` is not inside a tool of an Agent"),
                Some("only the actions of a tool have arguments".to_owned()),
            ),
            Around::Other => return,
            Around::Tool(tool, node) => {
                let Some(known) = declared(node.get("agentParameterSchema")) else { return };
                if is_one_of(name, &known) {
                    return;
                }
                let hint = if known.is_empty() {
                    Some("declare it under `properties` of the tool's `agentParameterSchema`".to_owned())
                } else {
                    did_you_mean(name, known.iter().copied())
                };
                (format!("the tool `{tool}` has no parameter `{name}`"), hint)
            }
        };
        let diagnostic = self.found.warning(code::UNKNOWN_AGENT_PARAMETER, place, message);
        diagnostic.label = "it fails when it is evaluated".into();
        diagnostic.hint = hint;
    }

    /// Checks the roles of an agent's messages.
    pub(super) fn roles(&mut self, parameters: &Node) {
        for message in parameters.get("messages").and_then(Node::items).unwrap_or_default() {
            let Some(role) = message.get("role") else { continue };
            let Some(text) = role.text() else { continue };
            if text.starts_with('@') || text.contains("@{") || is_one_of(text, &ROLES) {
                continue;
            }
            let message = format!("the role of a message must be System, User or Assistant (got `{text}`)");
            self.found.error(code::BAD_CHOICE, role.place, message).hint = did_you_mean(text, ROLES);
        }
    }

    /// The action that a tool is itself, if it has no `actions`.
    fn tool_call(&mut self, tool: &str, node: &Node, block: BlockIdx) -> Option<ActionIdx> {
        let kind = node.get("type").filter(|_| node.get("actions").is_none())?;
        let name = kind.text().unwrap_or_default();
        if !is_one_of(name, &CALLED) {
            let message = format!(
                "the tool `{tool}` must have `actions`, or be itself an {} (got `{name}`)",
                CALLED.join(", ")
            );
            self.found.error(code::BAD_TOOL, kind.place, message).hint = did_you_mean(name, CALLED);
            return None;
        }
        self.outline.blocks[block.0 as usize].actions.first().copied()
    }

    /// Reports properties that an Emit does not have; they would make it fail.
    fn known_members(&mut self, node: &Node, what: &str, known: &[&'static str]) {
        for member in node.members().unwrap_or_default() {
            // A computed name is known only when it is evaluated.
            if member.name.contains('@') || is_one_of(&member.name, known) {
                continue;
            }
            let message = format!("unknown property `{}` in {what}", member.name);
            let hint = did_you_mean(&member.name, known.iter().copied());
            self.found.error(code::BAD_EMIT, member.name_place, message).hint = hint;
        }
    }

    pub(super) fn emit(&mut self, index: usize) -> ActionKind {
        let node = self.outline.actions[index].node;
        let Some(inputs) = node.get("inputs") else {
            self.lack(index, "inputs");
            return ActionKind::Emit { inputs: Template::constant(Value::NULL) };
        };
        if inputs.members().is_some() && inputs.get("event").is_some() == inputs.get("progress").is_some() {
            let message = "an Emit needs either `event` with `data`, or `progress`";
            let diagnostic = self.found.error(code::BAD_EMIT, head(inputs), message);
            diagnostic.hint = Some("for example {\"event\": \"found\", \"data\": 7}".to_owned());
        }
        self.known_members(inputs, "an Emit", &["event", "data", "progress"]);
        if let Some(progress) = inputs.get("progress") {
            self.known_members(progress, "`progress`", &["current", "total", "message"]);
        }
        ActionKind::Emit { inputs: self.template(inputs, index) }
    }
}

/// The properties of a tool with actions.
const TOOL: [&str; 4] = ["description", "agentParameterSchema", "approval", "actions"];

/// The roles of messages.
const ROLES: [&str; 4] = ["System", "User", "Assistant", "Developer"];

fn is_one_of(text: &str, known: &[&str]) -> bool {
    known.iter().any(|name| name.eq_ignore_ascii_case(text))
}

/// The types of actions that a tool can be itself.
const CALLED: [&str; 4] = ["McpClientTool", "OpenApiConnection", "ApiConnection", "ServiceProvider"];

/// The inputs of a tool that is an action itself which say where it calls, without those for one call, and the names of the
/// parameters that the definition fixes. The agent evaluates them to know what it can offer the model.
fn called_with(tool: &Node) -> Option<Value> {
    let mut inputs = tool.get("inputs")?.to_value().into_object()?;
    let fixed = inputs.get_ignore_case("parameters").and_then(Value::as_object);
    let fixed: Option<Vec<Value>> =
        fixed.map(|given| given.keys().map(|name| Value::from(&**name)).collect());
    for one in ["tool", "arguments", "parameters", "authentication"] {
        if let Some(name) = inputs.name_ignore_case(one).cloned() {
            inputs.remove(&name);
        }
    }
    if let Some(fixed) = fixed {
        inputs.insert("fixed", fixed);
    }
    Some(without_retry(Value::from(inputs)))
}

/// Adds what a tool calls to what its agent knows: under its name, and in a chat under that of its participant.
fn add_call(calls: &mut Object, tool: &Tool, shared: Value) {
    let Some(participant) = &tool.participant else {
        calls.insert(Arc::clone(&tool.name), shared);
        return;
    };
    let mut own = calls.get(participant).and_then(Value::as_object).cloned().unwrap_or_default();
    own.insert(Arc::clone(&tool.name), shared);
    calls.insert(Arc::clone(participant), own);
}

/// The names of the parameters that a schema declares; `None` if it may allow others.
fn declared(schema: Option<&Node>) -> Option<Vec<&str>> {
    let Some(schema) = schema else { return Some(Vec::new()) };
    let members = schema.members()?;
    let is_closed = members.iter().all(|member| match member.name.to_ascii_lowercase().as_str() {
        "additionalproperties" => member.value.boolean() == Some(false),
        "patternproperties" | "allof" | "anyof" | "oneof" | "not" | "$ref" => false,
        _ => true,
    });
    let properties = match schema.get("properties") {
        None => Some(&[][..]),
        Some(properties) => properties.members(),
    };
    is_closed.then_some(properties?.iter().map(|member| &*member.name).collect())
}

/// Whether an action is itself a tool of the agent that owns its block.
pub(super) fn is_tool_itself(outline: &Outline<'_>, index: usize) -> bool {
    let outlined = &outline.actions[index];
    let block = &outline.blocks[outlined.block.0 as usize];
    let (Some(owner), BlockRole::Tool(place)) = (block.owner, block.role) else { return false };
    let owner = outline.outlined(owner);
    let parts = parts(owner.kind, &owner.name, owner.node);
    parts
        .get(place as usize)
        .is_some_and(|part| part.made.is_none() && std::ptr::eq(part.node, outlined.node))
}

/// The tool in which an action is.
pub(super) enum Around<'a> {
    /// The action is in none.
    Nothing,
    /// In a tool with actions, with its name.
    Tool(Arc<str>, &'a Node),
    /// In another block that has arguments.
    Other,
}

impl<'a> Outline<'a> {
    /// The innermost tool, or other block with arguments, around an action.
    fn tool_around(&self, action: ActionIdx) -> Around<'a> {
        let mut at = Some(action);
        while let Some(action) = at {
            let block = &self.blocks[self.outlined(action).block.0 as usize];
            if let (Some(owner), BlockRole::Tool(place)) = (block.owner, block.role) {
                let owner = self.outlined(owner);
                let part = parts(owner.kind, &owner.name, owner.node).into_iter().nth(place as usize);
                return match part {
                    Some(part) if part.node.get("actions").is_some() => match part.role {
                        ToolRole::Tool { .. } => Around::Tool(part.name, part.node),
                        _ => Around::Other,
                    },
                    _ => Around::Other,
                };
            }
            at = block.owner;
        }
        Around::Nothing
    }
}

/// The agent to which a tool hands over: one whose only action is an `AgentHandoff`.
pub(super) fn handoff_of(tool: &Node) -> Option<Arc<str>> {
    let [action] = tool.get("actions")?.members()? else { return None };
    let kind = action.value.get("type")?.text()?;
    let name = action.value.get("inputs")?.get("name")?.text()?;
    kind.eq_ignore_ascii_case("AgentHandoff").then(|| Arc::from(name))
}
