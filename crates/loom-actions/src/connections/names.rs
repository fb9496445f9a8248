//! Finds names of language models and of MCP servers in definitions that the connections file does not define.

use loom_definition::{
    diagnostic::CallFault,
    model::{Action, ActionKind, EffectKind},
};
use loom_expression::{Value, nearest};

use super::{Connections, models::Written};
use crate::{
    described::{CallProblem, is_literal},
    mcp,
};

impl Connections {
    /// Checks the models and the MCP server that an action names, as far as they are known before expressions are evaluated.
    pub(crate) fn check_names(&self, action: &Action, problems: &mut Vec<CallProblem>) {
        let at = format!("{}/inputs", action.pointer);
        match &action.kind {
            ActionKind::Effect { effect: EffectKind::Ai, inputs, .. } => {
                self.check_model(inputs.source_value(), &[("", "model")], &at, problems);
            }
            ActionKind::Effect { effect: EffectKind::Custom(kind), inputs, .. }
                if kind.eq_ignore_ascii_case(mcp::ACTION) =>
            {
                self.check_server(inputs.source_value(), at, problems);
            }
            ActionKind::Agent { inputs, .. } if action.type_name.eq_ignore_ascii_case("GroupChat") => {
                let inputs = inputs.source_value();
                let participants = inputs.get("participants").and_then(Value::as_object);
                for (name, participant) in participants.into_iter().flatten() {
                    if let Some(agent) = participant.get("agent") {
                        let at = format!("{at}/participants/{}/agent", token(name));
                        self.check_model(agent, &SPEAKER, &at, problems);
                    }
                }
                if let Some(coordinator) = inputs.get("coordinator").filter(|given| !given.is_null()) {
                    self.check_model(coordinator, &SPEAKER, &format!("{at}/coordinator"), problems);
                }
            }
            ActionKind::Agent { inputs, .. } => {
                self.check_model(inputs.source_value(), &AGENT, &at, problems);
            }
            _ => {}
        }
    }

    /// Checks the model that one of the properties of `of` must name; without any, the only model of the file is meant.
    fn check_model(
        &self,
        of: &Value,
        properties: &[(&str, &str)],
        at: &str,
        problems: &mut Vec<CallProblem>,
    ) {
        let mut names: Vec<(String, &str)> = Vec::new();
        for (outer, property) in properties {
            let (place, holder) = match *outer {
                "" => (String::new(), Some(of)),
                CONFIGURATIONS => {
                    let all = of.get(CONFIGURATIONS).and_then(Value::as_object);
                    let Some((name, first)) = all.and_then(|all| all.iter().next()) else { continue };
                    (format!("/{CONFIGURATIONS}/{}", token(name)), Some(first))
                }
                outer => (format!("/{outer}"), of.get(outer)),
            };
            match holder.and_then(|holder| holder.get(property)).filter(|name| !name.is_null()) {
                None => {}
                Some(name) if !is_literal(name) => return,
                Some(name) => match name.as_str() {
                    Some(name) => names.push((format!("{place}/{property}"), name)),
                    // Another type of value is refused when the action runs.
                    None => return,
                },
            }
        }
        let found = names
            .iter()
            .find_map(|(place, name)| Some((place.as_str(), self.models.get(&name.trim().to_lowercase())?)));
        let found = match (found, names.is_empty()) {
            (None, true) if self.models.len() == 1 => self.models.values().next().map(|only| ("", only)),
            (found, _) => found,
        };
        if let Some((place, written)) = found {
            if let Some(reason) = broken(written, |written| written.model().err().map(|error| error.message))
            {
                problems.push(problem(format!("{at}{place}"), reason, None));
            }
            return;
        }
        let known: Vec<&str> = self.models.values().map(|written| &*written.name).collect();
        let quoted: Vec<String> = names.iter().map(|(_, name)| format!("`{name}`")).collect();
        let (place, message) = match names.first() {
            Some((place, _)) => {
                (place.as_str(), format!("the connections file has no model {}", quoted.join(" or ")))
            }
            None => ("", "the action names no model".to_owned()),
        };
        let hint = names.iter().find_map(|(_, name)| nearest(name, known.iter().copied()));
        problems.push(problem(format!("{at}{place}"), message, Some(remedy(hint, &known, "models"))));
    }

    fn check_server(&self, inputs: &Value, at: String, problems: &mut Vec<CallProblem>) {
        if inputs.get("connection").is_some_and(|connection| connection.get("McpServerUrl").is_some()) {
            return;
        }
        let named = mcp::named_server(inputs);
        if named.is_some_and(|name| !is_literal(&Value::from(name))) {
            return;
        }
        let found = match named {
            Some(name) => self.mcp_servers.get(&name.trim().to_lowercase()),
            None if self.mcp_servers.len() == 1 => self.mcp_servers.values().next(),
            None => None,
        };
        let at = if inputs.get("server").is_some() { format!("{at}/server") } else { at };
        if let Some(written) = found {
            let reason = broken(written, |written| written.mcp_server().err().map(|error| error.message));
            problems.extend(reason.map(|reason| problem(at, reason, None)));
            return;
        }
        let known: Vec<&str> = self.mcp_servers.values().map(|written| &*written.name).collect();
        let message = match named {
            Some(name) => format!("the connections file has no MCP server `{name}`"),
            None => "the action names no MCP server".to_owned(),
        };
        let hint = named.and_then(|name| nearest(name, known.iter().copied()));
        problems.push(problem(at, message, Some(remedy(hint, &known, "mcpServers"))));
    }
}

/// The model configurations of an agent, of which the first counts.
const CONFIGURATIONS: &str = "modelConfigurations";

/// Where an agent names its model, in the order in which names are tried: the object and the property.
const AGENT: [(&str, &str); 3] =
    [(CONFIGURATIONS, "referenceName"), ("parameters", "modelId"), ("parameters", "deploymentId")];

/// Where an agent of a chat and its coordinator do.
const SPEAKER: [(&str, &str); 3] = [(CONFIGURATIONS, "referenceName"), ("", "modelId"), ("", "deploymentId")];

/// A name as a part of a JSON pointer.
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn problem(pointer: String, message: String, hint: Option<String>) -> CallProblem {
    CallProblem { pointer, message, fault: CallFault::Undefined, hint }
}

fn remedy(near: Option<&str>, known: &[&str], section: &str) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => {
            format!("define it in the connections file (--connections FILE), in the section `{section}`")
        }
        None => format!("it defines: `{}`", known.join("`, `")),
    }
}

/// What is wrong with an entry that depends on nothing that only the deployment knows.
fn broken(written: &Written, error: impl Fn(&Written) -> Option<String>) -> Option<String> {
    if written.raw.to_json_text().contains('@') {
        return None;
    }
    let message = error(written)?;
    Some(message.trim_end_matches('.').replacen("The ", "the ", 1))
}
