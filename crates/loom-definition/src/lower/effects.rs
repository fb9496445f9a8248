//! Lowers actions that a handler executes: which handler, and with which inputs.

use std::sync::Arc;

use loom_expression::{Object, Template, Value};

use super::{Lowerer, agents::is_tool_itself, outline::Type, resilience::without_retry};
use crate::{
    diagnostic::{code, nearest},
    findings::head,
    model::{ActionKind, BlockRole, EffectKind},
    text::Node,
};

/// Types from the documentation of the language that only a handler of the host program can execute.
const RECOGNISED: [&str; 45] = [
    "Xslt",
    "XmlValidation",
    "XmlCompose",
    "XmlParse",
    "FlatFileEncoding",
    "FlatFileDecoding",
    "Liquid",
    "IntegrationAccountArtifactLookup",
    "SendToBatch",
    "Batch",
    "AS2Encode",
    "AS2Decode",
    "X12Encode",
    "X12Decode",
    "X12BatchEncode",
    "EdifactEncode",
    "EdifactDecode",
    "EdifactBatchEncode",
    "RosettaNetEncode",
    "RosettaNetDecode",
    "RosettaNetWaitForResponse",
    "SwiftEncode",
    "SwiftDecode",
    "SwiftMTEncode",
    "SwiftMTDecode",
    "Hl7Encode",
    "Hl7Decode",
    "RuleExecute",
    "ParseDocument",
    "ParseDocumentWithMetadata",
    "ChunkText",
    "ChunkTextWithMetadata",
    "AppService",
    "McpClientTool",
    "NestedAgent",
    "AgentHandoff",
    "InvokeFunction",
    "OpenApiConnectionNotification",
    "ApiConnectionNotification",
    "Recommendation",
    "DataMapper",
    "XmlTransform",
    "CodeFile",
    "Picker",
    "Changeset",
];

/// The types of [`RECOGNISED`] for which Loom has handlers.
const EXECUTED: [&str; 13] = [
    "McpClientTool",
    "Xslt",
    "XmlValidation",
    "XmlCompose",
    "XmlParse",
    "FlatFileEncoding",
    "FlatFileDecoding",
    "Liquid",
    "SendToBatch",
    "ChunkText",
    "InvokeFunction",
    "Batch",
    "AgentHandoff",
];

/// Which handler executes actions of this type, and whether the type is known at all.
fn effect_kind(type_name: &str, kind: Option<&str>) -> (EffectKind, bool) {
    let found = match type_name.to_ascii_lowercase().as_str() {
        "http" => EffectKind::Http,
        "apiconnection" | "openapiconnection" | "apimanagement" | "serviceprovider" => {
            EffectKind::ApiConnection
        }
        "function" => EffectKind::Function,
        "httpwebhook" => EffectKind::HttpWebhook,
        "apiconnectionwebhook" | "openapiconnectionwebhook" => EffectKind::ApiConnectionWebhook,
        // An agent of another workflow is called like the workflow.
        "workflow" | "nestedagent" => EffectKind::Workflow,
        "expression" => EffectKind::Compute(Arc::from(kind.unwrap_or_default())),
        "javascriptcode" => EffectKind::Script(Arc::from("JavaScriptCode")),
        "powershellcode" => EffectKind::Script(Arc::from("PowerShellCode")),
        "csharpscriptcode" => EffectKind::Script(Arc::from("CSharpScriptCode")),
        "actor" => EffectKind::Actor,
        "activity" => EffectKind::Activity,
        "ai" => EffectKind::Ai,
        "memory" => EffectKind::Memory,
        "waitforsignal" | "askperson" => EffectKind::Signal,
        _ => {
            let known = RECOGNISED.iter().find(|name| name.eq_ignore_ascii_case(type_name));
            let name = known.map_or_else(|| Arc::from(type_name), |name| Arc::from(*name));
            return (EffectKind::Custom(name), known.is_some());
        }
    };
    (found, true)
}

/// Whether Loom has a handler for such actions.
fn is_executed(effect: &EffectKind) -> bool {
    match effect {
        EffectKind::Custom(name) => EXECUTED.iter().any(|executed| name.eq_ignore_ascii_case(executed)),
        EffectKind::Script(language) => &**language == "JavaScriptCode",
        _ => true,
    }
}

fn known_types() -> impl Iterator<Item = &'static str> {
    const EFFECTS: [&str; 20] = [
        "Http",
        "ApiConnection",
        "OpenApiConnection",
        "ApiManagement",
        "ServiceProvider",
        "Function",
        "HttpWebhook",
        "ApiConnectionWebhook",
        "OpenApiConnectionWebhook",
        "Workflow",
        "Expression",
        "JavaScriptCode",
        "PowerShellCode",
        "CSharpScriptCode",
        "Actor",
        "Activity",
        "AI",
        "Memory",
        "WaitForSignal",
        "AskPerson",
    ];
    Type::names().chain(EFFECTS).chain(RECOGNISED)
}

impl Lowerer<'_, '_, '_> {
    pub(super) fn effect(&mut self, index: usize) -> ActionKind {
        let outlined = &self.outline.actions[index];
        let (node, name, type_name) =
            (outlined.node, Arc::clone(&outlined.name), Arc::clone(&outlined.type_name));
        let (effect, known) = effect_kind(&type_name, node.get("kind").and_then(Node::text));
        if !known && !type_name.is_empty() {
            let place = node.get("type").map_or(node.place, |node| node.place);
            let message = format!("action `{name}` has the unknown type `{type_name}`");
            let meant = nearest(&type_name, known_types());
            let diagnostic = self.found.warning(code::UNKNOWN_TYPE, place, message);
            diagnostic.label =
                "the action fails when it runs, unless a handler is registered for this type".into();
            diagnostic.hint = meant.map(|meant| format!("did you mean `{meant}`?"));
        }
        if known && !is_executed(&effect) {
            let place = node.get("type").map_or(node.place, |node| node.place);
            let message = format!("Loom does not execute actions of type `{type_name}` (action `{name}`)");
            let diagnostic = self.found.warning(code::UNKNOWN_TYPE, place, message);
            diagnostic.label = "the action fails when it runs".into();
            diagnostic.hint =
                Some("map the type to a URL under `actionTypes` in the connections file".into());
        }
        if type_name.eq_ignore_ascii_case("AgentHandoff") {
            self.handoff(index);
        }
        let inputs = match node.get("inputs") {
            None => Template::constant(Value::from(Object::new())),
            Some(inputs) => {
                self.required_inputs(index, &effect, inputs);
                let value = self.loom_address(&effect, inputs, without_retry(inputs.to_value()));
                let value =
                    if type_name.eq_ignore_ascii_case("NestedAgent") { task_as_body(value) } else { value };
                let value =
                    if is_tool_itself(&self.outline, index) { with_arguments(&effect, value) } else { value };
                self.template_of(inputs, &value, Some(index))
            }
        };
        if node.get("inputs").is_none() && matches!(effect, EffectKind::Http | EffectKind::HttpWebhook) {
            self.lack(index, "inputs");
        }
        match effect {
            EffectKind::Signal if type_name.eq_ignore_ascii_case("AskPerson") => self.ask_person(index),
            EffectKind::Signal => self.signal(index),
            EffectKind::Memory => self.memory_action(index),
            _ => {}
        }
        ActionKind::Effect { effect, inputs }
    }

    /// Checks an AgentHandoff: it is not executed, but read as a property of its tool.
    fn handoff(&mut self, index: usize) {
        let outlined = &self.outline.actions[index];
        let block = &self.outline.blocks[outlined.block.0 as usize];
        let (node, name) = (outlined.node, Arc::clone(&outlined.name));
        let named = node.get("inputs").and_then(|inputs| inputs.get("name")).and_then(Node::text);
        let message = if !matches!(block.role, BlockRole::Tool(_)) || block.actions.len() != 1 {
            format!("`{name}` must be the only action of a tool")
        } else if named.is_none_or(|to| to.starts_with('@')) {
            format!("`inputs.name` of `{name}` must be the name of an Agent, or of a participant")
        } else {
            return;
        };
        self.found.error(code::BAD_HANDOFF, head(node), message);
    }

    /// Checks a WaitForSignal: it needs a name, and takes no policies, because it makes no calls.
    fn signal(&mut self, index: usize) {
        const POLICIES: [&str; 8] = [
            "policy",
            "retryPolicy",
            "circuitBreaker",
            "rateLimit",
            "bulkhead",
            "hedge",
            "fallback",
            "onUncertain",
        ];
        let node = self.outline.actions[index].node;
        let inputs = node.get("inputs");
        if let Some(inputs) = inputs.filter(|inputs| inputs.members().is_none()) {
            let message = format!(
                "`inputs` of a WaitForSignal must be an object with a `name`, found {}",
                inputs.kind()
            );
            self.found.error(code::BAD_SIGNAL, inputs.place, message);
        } else {
            match inputs.and_then(|inputs| inputs.get("name")) {
                None => self.lack(index, "inputs.name"),
                Some(name) => match name.text() {
                    Some(text) if text.contains('@') => {}
                    Some(text) if is_signal_name(text) => {}
                    Some(_) => {
                        let message =
                            "the name of a signal must have 1 to 128 characters, and no control characters";
                        self.found.error(code::BAD_SIGNAL, name.place, message);
                    }
                    None => {
                        let message = format!("the name of a signal must be a string, found {}", name.kind());
                        self.found.error(code::BAD_SIGNAL, name.place, message);
                    }
                },
            }
            for member in inputs.and_then(Node::members).unwrap_or_default() {
                if !member.name.eq_ignore_ascii_case("name") {
                    let message = format!("`inputs.{}` of a WaitForSignal has no effect", member.name);
                    let found = self.found.warning(code::BAD_SIGNAL, member.name_place, message);
                    found.hint = Some("use `limit.timeout` of the action to limit the wait".to_owned());
                }
            }
        }
        for policy in POLICIES {
            if let Some(policy_node) = node.member(policy) {
                let message = format!("a WaitForSignal makes no calls and does not take `{policy}`");
                self.found.error(code::BAD_SIGNAL, policy_node.name_place, message);
            }
        }
    }

    /// Checks the code of a script, unless expressions compute it.
    fn script(&mut self, inputs: &Node) {
        let (Some(check), Some(node)) = (self.script_check, inputs.get("code")) else { return };
        let Some(code) = node.text().filter(|code| !code.starts_with('@') && !code.contains("@{")) else {
            return;
        };
        let Some(mistake) = check(code) else { return };
        let start = code.floor_char_boundary(mistake.offset);
        let end = code[start..].chars().next().map_or(start, |marked| start + marked.len_utf8());
        let place = self.found.part(node, &(start..end));
        // In the hosted service, the definition loads and the action fails with `InlineCodeParsingFailure`.
        let diagnostic = self.found.warning(code::BAD_SCRIPT, place, mistake.message);
        diagnostic.label = "the action fails when it runs".into();
    }

    /// Reports required inputs that are missing. Handlers of other kinds check their inputs themselves.
    fn required_inputs(&mut self, index: usize, effect: &EffectKind, inputs: &Node) {
        if inputs.members().is_none() {
            return;
        }
        match effect {
            EffectKind::Http => {
                if inputs.get("uri").is_none() && inputs.get("url").is_none() {
                    self.lack(index, "inputs.uri");
                }
                if let Some(method) = inputs.get("method")
                    && let Some(text) = method.text()
                    && !text.contains('@')
                    && !text.starts_with('[')
                    && !is_method(text)
                {
                    let message = format!("`{text}` is not an HTTP method");
                    let hint = nearest(text, METHODS).map(|meant| format!("did you mean `{meant}`?"));
                    self.found.warning(code::BAD_CHOICE, method.place, message).hint = hint;
                }
            }
            EffectKind::Script(language) if &**language == "JavaScriptCode" => self.script(inputs),
            EffectKind::HttpWebhook if inputs.get("subscribe").is_none() => {
                self.found.error(
                    code::MISSING_MEMBER,
                    head(inputs),
                    "an HttpWebhook needs `inputs.subscribe`",
                );
            }
            EffectKind::Custom(name) if &**name == "SendToBatch" => {
                for part in ["batchName", "content"] {
                    if inputs.get(part).is_none() {
                        self.lack(index, &format!("inputs.{part}"));
                    }
                }
                let host = inputs.get("host");
                if host.and_then(|host| host.get("triggerName")).is_none() {
                    self.lack(index, "inputs.host.triggerName");
                }
                if host.and_then(|host| host.get("workflow")?.get("id")).is_none() {
                    self.lack(index, "inputs.host.workflow.id");
                }
            }
            EffectKind::Activity if inputs.get("activityName").is_none() => {
                self.lack(index, "inputs.activityName");
            }
            EffectKind::Actor => {
                for part in ["actorType", "method"] {
                    if inputs.get(part).is_none() {
                        self.lack(index, &format!("inputs.{part}"));
                    }
                }
            }
            _ => {}
        }
    }

    /// Renames `url`, which the Loom spelling accepts for the URL of a request, to `uri`.
    fn loom_address(&mut self, effect: &EffectKind, inputs: &Node, value: Value) -> Value {
        if !matches!(effect, EffectKind::Http) {
            return value;
        }
        let Some(url) = inputs.member("url") else { return value };
        if inputs.get("uri").is_some() {
            let message = "`url` and `uri` both specify the URL; keep one of them";
            self.found.error(code::CONTRADICTION, url.name_place, message);
            return value;
        }
        let Some(object) = value.as_object() else { return value };
        let renamed: Object = object
            .iter()
            .map(|(name, value)| {
                let name =
                    if name.eq_ignore_ascii_case("url") { Arc::from("uri") } else { Arc::from(&**name) };
                (name, value.clone())
            })
            .collect::<Object>();
        Value::from(renamed)
    }
}

/// The inputs of an action that is itself a tool, with the arguments that the model wrote.
fn with_arguments(effect: &EffectKind, inputs: Value) -> Value {
    let Some(members) = inputs.as_object() else { return inputs };
    let mut members = members.clone();
    if matches!(effect, EffectKind::Custom(_)) {
        members.insert("tool", "@agentParameters('tool')");
    }
    members.insert("arguments", "@agentParameters('arguments')");
    members.into()
}

/// The inputs of a NestedAgent as those of a call of its workflow: the task is the body.
fn task_as_body(inputs: Value) -> Value {
    let Some(members) = inputs.as_object() else { return inputs };
    let renamed = members.iter().map(|(name, value)| {
        let is_task = name.eq_ignore_ascii_case("taskMessage");
        (if is_task { Arc::from("body") } else { Arc::clone(name) }, value.clone())
    });
    renamed.collect::<Object>().into()
}

fn is_signal_name(text: &str) -> bool {
    (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

const METHODS: [&str; 8] = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"];

fn is_method(text: &str) -> bool {
    METHODS.iter().any(|method| method.eq_ignore_ascii_case(text.trim()))
}
