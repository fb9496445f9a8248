//! The list of tools, and how the arguments of a call become the outputs of a trigger.

use std::{collections::BTreeSet, sync::Arc};

use loom_definition::trigger::{Trigger, TriggerKind};
use loom_engine::schema::{self, Problem as SchemaProblem};
use loom_expression::{Labels, Object, Value};
use rmcp::model::{JsonObject, Tool};

use crate::{completions, deploy::Deployment, host::Host};

/// The longest name of a tool.
const NAME_CHARS_MAX: usize = 128;

/// A workflow that is a tool.
pub(super) struct Offered {
    pub(super) deployment: Arc<Deployment>,
    pub(super) trigger: Arc<str>,
    pub(super) tool: Tool,
    form: Form,
}

/// How arguments become outputs of the trigger.
struct Form {
    /// The schema of the arguments.
    schema: Value,
    /// The parameters in the trigger's path.
    path: Vec<String>,
    rest: Rest,
}

/// What the arguments are that are not in the path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The body.
    Body,
    /// One argument, `body`, is the body.
    Wrapped,
    /// The query.
    Query,
}

/// All tools, sorted by the names of their workflows.
pub(super) fn all(host: &Host) -> Vec<Tool> {
    offered(host).into_iter().map(|offered| offered.tool).collect()
}

/// The tool of this name.
pub(super) fn find(host: &Host, name: &str) -> Option<Offered> {
    offered(host).into_iter().find(|offered| offered.tool.name == name)
}

fn offered(host: &Host) -> Vec<Offered> {
    let mut taken = BTreeSet::new();
    let all = host.deployments.all().into_iter().filter_map(|deployment| {
        let trigger = deployment
            .workflow
            .triggers
            .iter()
            .find(|trigger| matches!(trigger.kind, TriggerKind::Request { .. }))?;
        if host.disabled_by(&deployment, Some(&trigger.name)).is_some() {
            return None;
        }
        let name = free_name(&deployment.workflow.name, &mut taken);
        let form = Form::of(trigger, &deployment);
        let description = deployment.workflow.description.as_deref().map(str::trim);
        let description = description
            .filter(|text| !text.is_empty())
            .map_or_else(|| format!("Runs the workflow '{}'.", deployment.workflow.name), str::to_owned);
        let tool = Tool::new(name, description, form.json());
        Some(Offered { trigger: Arc::clone(&trigger.name), tool, form, deployment: Arc::clone(&deployment) })
    });
    all.collect()
}

/// The name of a tool: letters, digits, `_`, `-` and `.`.
fn free_name(workflow: &str, taken: &mut BTreeSet<String>) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = workflow.chars().map(allowed).take(NAME_CHARS_MAX).collect();
    let mut free = name.clone();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        let suffix = format!("_{number}");
        free = name.chars().take(NAME_CHARS_MAX - suffix.len()).collect::<String>() + &suffix;
        number += 1;
    }
    free
}

impl Form {
    fn of(trigger: &Trigger, deployment: &Deployment) -> Form {
        let TriggerKind::Request { method, relative_path, schema, .. } = &trigger.kind else {
            return Form { schema: object_schema(), path: Vec::new(), rest: Rest::Body };
        };
        let path = parameters_of(relative_path.as_deref().unwrap_or_default());
        let has_schema = schema.as_object().is_some_and(|schema| !schema.is_empty());
        let is_chat = completions::door(deployment).is_some_and(|door| door.name == trigger.name);
        let takes_query = method.as_deref().is_some_and(|method| method == "GET");
        let (schema, rest) = match schema.as_object() {
            _ if takes_query => (object_schema(), Rest::Query),
            _ if !has_schema && is_chat => (chat_schema(), Rest::Body),
            Some(members) if is_of_object(members) => {
                let mut members = members.clone();
                members.insert("type", "object");
                (members.into(), Rest::Body)
            }
            Some(_) => (wrapped(schema), Rest::Wrapped),
            None => (object_schema(), Rest::Body),
        };
        Form { schema: with_path(schema, &path), path, rest }
    }

    fn json(&self) -> JsonObject {
        serde_json::from_str(&self.schema.to_json_text()).unwrap_or_default()
    }
}

/// Whether a schema describes objects.
fn is_of_object(schema: &Object) -> bool {
    match schema.get("type") {
        Some(kind) => {
            let is_object = |kind: &Value| kind.as_str() == Some("object");
            is_object(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is_object))
        }
        None => schema.is_empty() || schema.contains_key("properties") || schema.contains_key("required"),
    }
}

fn object_schema() -> Value {
    Object::single(Arc::from("type"), Value::from("object")).into()
}

/// The arguments of a chat without a schema.
fn chat_schema() -> Value {
    let message: Object =
        [("type", Value::from("string")), ("description", Value::from("What the user says."))]
            .into_iter()
            .collect();
    let mut schema = Object::new();
    schema.insert("type", "object");
    schema.insert("properties", Object::single(Arc::from("message"), message.into()));
    schema.insert("required", vec![Value::from("message")]);
    schema.into()
}

fn wrapped(schema: &Value) -> Value {
    let mut wrapped = Object::new();
    wrapped.insert("type", "object");
    // References in a schema are to its own root.
    let mut inner = schema.clone();
    for name in ["definitions", "$defs"] {
        if let Some(parts) = schema.get(name) {
            wrapped.insert(name, parts.clone());
            if let Some(mut members) = inner.as_object().cloned() {
                members.remove(name);
                inner = members.into();
            }
        }
    }
    wrapped.insert("properties", Object::single(Arc::from("body"), inner));
    wrapped.insert("required", vec![Value::from("body")]);
    wrapped.into()
}

/// Adds the parameters of a path to a schema.
fn with_path(schema: Value, path: &[String]) -> Value {
    let Some(mut members) = schema.as_object().cloned().filter(|_| !path.is_empty()) else { return schema };
    let mut properties = members.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut required: Vec<Value> =
        members.get("required").and_then(Value::as_array).into_iter().flatten().cloned().collect();
    for name in path {
        properties.insert(name.as_str(), Object::single(Arc::from("type"), Value::from("string")));
        let name = Value::from(name.as_str());
        if !required.contains(&name) {
            required.push(name);
        }
    }
    members.insert("properties", properties);
    members.insert("required", required);
    members.into()
}

/// The names in the braces of a relative path.
fn parameters_of(path: &str) -> Vec<String> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(str::to_owned).collect()
}

impl Offered {
    /// The trigger.
    pub(super) fn trigger(&self) -> Option<&Trigger> {
        self.deployment.trigger(&self.trigger)
    }

    /// Validates arguments. The error is for the model that wrote them.
    pub(super) fn check(&self, arguments: &Value, nodes_max: u64) -> Result<(), String> {
        let name = &self.tool.name;
        match schema::validate(&self.form.schema, arguments, nodes_max) {
            Ok(mismatches) if mismatches.is_empty() => Ok(()),
            Ok(mismatches) => {
                let wrong: Vec<String> = mismatches
                    .iter()
                    .map(|found| {
                        let at =
                            if found.path.is_empty() { String::new() } else { format!("`{}`: ", found.path) };
                        format!("- {at}{}", found.message)
                    })
                    .collect();
                Err(format!(
                    "The arguments of '{name}' do not match its schema; no run was started.\n{}\nExpected: {}",
                    wrong.join("\n"),
                    self.form.schema.to_json_text()
                ))
            }
            // The trigger checks what it can check.
            Err(SchemaProblem::Unsupported(_)) => Ok(()),
            Err(SchemaProblem::Invalid(why) | SchemaProblem::TooCostly(why)) => {
                Err(format!("The arguments of '{name}' cannot be checked against its schema: {why}"))
            }
        }
    }

    /// The outputs of the trigger for arguments that were checked. A model wrote them.
    pub(super) fn outputs(&self, arguments: &Value) -> Object {
        let mut rest = arguments.as_object().cloned().unwrap_or_default();
        let mut outputs = Object::new();
        let mut headers = Object::new();
        let mut path = Object::new();
        for name in &self.form.path {
            if let Some(value) = rest.remove(name.as_str()) {
                path.insert(name.as_str(), value.labelled(Labels::UNTRUSTED));
            }
        }
        let body = match self.form.rest {
            Rest::Body => Some(Value::from(rest)),
            Rest::Wrapped => rest.get("body").cloned(),
            Rest::Query => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_json_text(), str::to_owned);
                let queries: Object = rest
                    .iter()
                    .map(|(name, value)| {
                        (Arc::clone(name), Value::from(text(value)).labelled(Labels::UNTRUSTED))
                    })
                    .collect();
                if !queries.is_empty() {
                    outputs.insert("queries", queries);
                }
                None
            }
        };
        if !path.is_empty() {
            outputs.insert("relativePathParameters", path);
        }
        if let Some(body) = body {
            headers.insert("Content-Type", "application/json; charset=utf-8");
            outputs.insert("body", body.labelled(Labels::UNTRUSTED));
        }
        outputs.insert("headers", headers);
        outputs
    }
}
