//! What the tools of an agent offer its model beyond blocks of actions: the tools of MCP servers, and operations of connections.

use loom_definition::{
    Workflow,
    model::{ActionKind, EffectKind, Tool as DefinedTool},
};
use loom_engine::ports::Call;
use loom_expression::{Object, Value};
use loom_models::Json;

use super::setup::name_of;
use crate::{
    Connections, Failure,
    connections::host_of,
    described,
    mcp::{self, Sessions},
    models::json,
};

/// A tool that the model sees.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// The name that the model uses, before it is made unique.
    pub(super) name: String,
    pub(super) description: String,
    pub(super) parameters: Json,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A tool of a server, by its name.
    Mcp(String),
    /// An operation, with the names of its parameters where the model uses others.
    Operation(Vec<(String, String)>),
}

/// What each tool of an agent offers; nothing for a tool with actions.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers(Vec<Option<Vec<Offer>>>);

impl Offers {
    /// Asks the servers and descriptions that an agent's tools name.
    ///
    /// # Errors
    /// [`Failure`] when a server cannot be reached or a description cannot be read.
    pub(super) async fn of(call: &Call, sessions: &Sessions) -> Result<Offers, Failure> {
        let ActionKind::Agent { tools, .. } = &call.definition().kind else { return Ok(Offers::default()) };
        let connections = &sessions.requests().settings().connections;
        let mut all = Vec::with_capacity(tools.len());
        for tool in tools {
            let given = call.inputs.get("tools");
            // The tools of a chat are those of its participants.
            let own = match &tool.participant {
                Some(participant) => given.and_then(|given| given.as_object()?.get(participant)),
                None => given,
            };
            let inputs = own.and_then(|own| own.as_object()?.get(&tool.name)).cloned();
            all.push(match kind_of(&call.workflow, tool) {
                None => None,
                Some(EffectKind::Custom(_)) => {
                    let listed = mcp::tools_of(sessions, call, &inputs.unwrap_or_default()).await?;
                    Some(listed.iter().map(|listed| of_server(tool, listed)).collect::<Result<_, _>>()?)
                }
                Some(_) => Some(vec![of_operation(tool, &inputs.unwrap_or_default(), connections)?]),
            });
        }
        Ok(Offers(all))
    }

    /// What the tool with this index offers; `None` if it has actions.
    pub(super) fn get(&self, tool: usize) -> Option<&[Offer]> {
        self.0.get(tool)?.as_deref()
    }
}

impl Offer {
    /// The arguments of the tool's block for the arguments that the model wrote.
    pub(super) fn arguments(&self, written: Value) -> Value {
        let mut arguments = Object::new();
        match &self.what {
            What::Mcp(tool) => {
                arguments.insert("tool", tool.as_str());
                arguments.insert("arguments", written);
            }
            What::Operation(renamed) => {
                let members = written.as_object().cloned().unwrap_or_default();
                let named: Object = members
                    .iter()
                    .map(|(name, value)| {
                        let own = renamed.iter().find(|(shown, _)| *shown == **name);
                        (own.map_or(&**name, |(_, own)| own).to_owned(), value.clone())
                    })
                    .collect();
                arguments.insert("arguments", named);
            }
        }
        arguments.into()
    }
}

/// The handler of the action that a tool is itself.
fn kind_of<'a>(workflow: &'a Workflow, tool: &DefinedTool) -> Option<&'a EffectKind> {
    match &workflow.action(tool.call?).kind {
        ActionKind::Effect { effect, .. } => Some(effect),
        _ => None,
    }
}

fn of_server(tool: &DefinedTool, listed: &rmcp::model::Tool) -> Result<Offer, Failure> {
    let schema = serde_json::to_string(&*listed.input_schema).unwrap_or_default();
    let parameters = schema.parse().map_err(|_| {
        Failure::lasting("McpError", format!("The schema of the tool '{}' is not JSON.", listed.name))
    })?;
    let description = listed.description.as_deref().or(listed.title.as_deref()).unwrap_or_default();
    Ok(Offer {
        name: format!("{}_{}", tool.name, listed.name),
        description: description.to_owned(),
        parameters,
        what: What::Mcp(listed.name.to_string()),
    })
}

fn of_operation(tool: &DefinedTool, inputs: &Value, connections: &Connections) -> Result<Offer, Failure> {
    let wrong = |why: String| {
        Failure::lasting("ConnectionNotFound", format!("The tool '{}' cannot be offered: {why}", tool.name))
    };
    let host = host_of(inputs);
    let Some(id) = described::operation_of(inputs) else {
        return Err(wrong("it names no operation ('host.operationId').".to_owned()));
    };
    let connector = connections.connector_of(&host).ok_or_else(|| {
        wrong(
            "its 'host' names no connection with a description; give the tool 'actions' instead.".to_owned(),
        )
    })?;
    let connector = connector.map_err(wrong)?;
    let operation = connector.operation(id).map_err(|error| wrong(format!("{error}.")))?;
    let (summary, said) = (operation.summary().trim(), operation.description().trim());
    let own = match (summary.is_empty(), said.is_empty()) {
        (_, true) => summary.to_owned(),
        (true, _) => said.to_owned(),
        (false, false) => format!("{}. {said}", summary.trim_end_matches('.')),
    };
    let description = if tool.description.is_empty() { own } else { tool.description.to_string() };
    let schema = if tool.parameters.as_object().is_none_or(Object::is_empty) {
        connector.argument_schema(id).map_err(|error| wrong(format!("{error}.")))?
    } else {
        tool.parameters.clone()
    };
    let fixed = inputs.get("fixed").and_then(Value::as_array);
    let fixed: Vec<&str> = fixed.into_iter().flatten().filter_map(Value::as_str).collect();
    let (schema, renamed) = presented(&schema, &fixed);
    Ok(Offer {
        name: tool.name.to_string(),
        description,
        parameters: json(&schema)?,
        what: What::Operation(renamed),
    })
}

/// The schema without parameters that the definition gives, and with names that providers accept; and the names that differ.
fn presented(schema: &Value, fixed: &[&str]) -> (Value, Vec<(String, String)>) {
    let Some(members) = schema.as_object() else { return (schema.clone(), Vec::new()) };
    let mut renamed: Vec<(String, String)> = Vec::new();
    let mut shown = Object::new();
    for (name, value) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if fixed.iter().any(|fixed| fixed.eq_ignore_ascii_case(name)) {
            continue;
        }
        let mut plain = name_of(name).trim_matches('_').to_owned();
        while plain.is_empty() || shown.contains_key(&plain) {
            plain.push('_');
        }
        if plain != **name {
            renamed.push((plain.clone(), name.to_string()));
        }
        shown.insert(plain, value.clone());
    }
    let required: Vec<Value> = members
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| !fixed.iter().any(|fixed| fixed.eq_ignore_ascii_case(name)))
        .map(|name| Value::from(renamed.iter().find(|(_, own)| own == name).map_or(name, |(plain, _)| plain)))
        .collect();
    let mut schema = members.clone();
    schema.insert("properties", shown);
    if required.is_empty() {
        schema.remove("required");
    } else {
        schema.insert("required", required);
    }
    (schema.into(), renamed)
}
