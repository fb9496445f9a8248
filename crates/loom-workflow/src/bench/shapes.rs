//! The measured workflows: the built-in ones, or a file of the user's.

use std::{fmt::Write, path::Path};

use anyhow::{Result, bail};
use clap::ValueEnum;
use loom_definition::{Definition, LoadOptions, render, text, trigger::TriggerKind};
use loom_expression::Value;

use crate::{
    console::{self, Console},
    files,
};

/// The no-op activity, which `loom serve --bench` registers.
pub(crate) const NOTHING: &str = "bench-nothing";

/// A built-in workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// One Compose; the response is a 202 as soon as the run is durable.
    Accept,
    /// Ten sequential HTTP calls to a service in this process, then a Response.
    Effects,
    /// Ten sequential no-op activities in the server, each durable before it starts, then a Response.
    Steps,
    /// Ten sequential Compose actions, then a Response.
    Compose,
    /// A Foreach over 1,000 items with a Compose, then a Response.
    Foreach,
    /// An HTTP call, a loop, variables, a condition and 2 KiB of data, then a Response.
    Mixed,
}

/// A workflow to deploy and call.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its name in the report.
    pub(super) shown: String,
    /// The name it is deployed under.
    pub(super) workflow: String,
    pub(super) trigger: String,
    pub(super) definition: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Shape {
    /// The workflow, with the URL of the service it calls.
    pub(super) fn job(self, service: &str) -> Job {
        let shown = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        Job {
            workflow: format!("bench-{shown}"),
            trigger: "manual".to_owned(),
            definition: self.definition(service).into_bytes(),
            body: match self {
                Shape::Mixed => format!(r#"{{"id": 7, "text": "{}"}}"#, "x".repeat(2_048)).into_bytes(),
                _ => br#"{"id": 7}"#.to_vec(),
            },
            shown,
        }
    }

    fn definition(self, service: &str) -> String {
        let after = |name: &str| match name {
            "" => "{}".to_owned(),
            name => format!(r#"{{"{name}": ["Succeeded"]}}"#),
        };
        let mut actions = String::new();
        let mut last = String::new();
        let mut add = |name: &str, members: &str| {
            // Writing to a string cannot fail.
            let _ = write!(actions, r#""{name}": {{{members}, "runAfter": {}}}, "#, after(&last));
            name.clone_into(&mut last);
        };
        let call = format!(
            r#""type": "Http", "inputs": {{"method": "POST", "uri": "{service}/ok", "body": "@triggerBody()"}}"#
        );
        let step_members = format!(
            r#""type": "Activity", "inputs": {{"activityName": "{NOTHING}", "input": "@triggerBody()?['id']"}}"#
        );
        let compose = r#""type": "Compose", "inputs": "@triggerBody()?['id']""#;
        match self {
            Shape::Accept => add("Keep", compose),
            Shape::Effects => (1..=10).for_each(|step| add(&format!("Call_{step}"), &call)),
            Shape::Steps => (1..=10).for_each(|step| add(&format!("Step_{step}"), &step_members)),
            Shape::Compose => (1..=10).for_each(|step| add(&format!("Compose_{step}"), compose)),
            Shape::Foreach => add(
                "Each",
                r#""type": "Foreach", "foreach": "@range(0, 1000)", "actions": {"Keep": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}"#,
            ),
            Shape::Mixed => {
                add(
                    "Sum",
                    r#""type": "InitializeVariable", "inputs": {"variables": [{"name": "sum", "type": "integer", "value": 0}]}"#,
                );
                add(
                    "Each",
                    r#""type": "Foreach", "foreach": "@range(1, 10)", "actions": {"Add": {"type": "IncrementVariable", "inputs": {"name": "sum", "value": "@item()"}, "runAfter": {}}}"#,
                );
                add("Call", &call);
                add(
                    "Enough",
                    r#""type": "If", "expression": "@equals(variables('sum'), 55)", "actions": {"Note": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}"#,
                );
            }
        }
        if self != Shape::Accept {
            add(
                "Answer",
                r#""type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "done"}"#,
            );
        }
        let actions = actions.trim_end_matches(", ");
        format!(
            r#"{{"definition": {{"triggers": {{"manual": {{"type": "Request", "kind": "Http"}}}}, "actions": {{{actions}}}}}}}"#
        )
    }
}

/// Loads the user's workflow. None if it is invalid, which has been reported.
pub(super) fn of_file(path: &Path, input: Option<&str>, console: Console) -> Result<Option<Job>> {
    let definition = files::read(path)?;
    let shown = path.display().to_string();
    let file_name = files::naming_path(path).to_string_lossy().into_owned();
    let options = LoadOptions { file_name: Some(file_name.into()), ..LoadOptions::default() };
    let loaded = match Definition::parse(&definition, &options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            let source = text::decode(&definition).map(std::borrow::Cow::into_owned).unwrap_or_default();
            for diagnostic in &diagnostics.0 {
                console::note_styled(&(render(diagnostic, &source, &shown, console.color) + "\n"));
            }
            return Ok(None);
        }
    };
    let workflow = &loaded.workflow;
    let Some(trigger) = workflow.triggers.iter().find(|trigger| {
        matches!(trigger.kind, TriggerKind::Request { .. } | TriggerKind::Manual | TriggerKind::Event { .. })
    }) else {
        bail!("{shown} must have a trigger of type Request, with which callers start runs");
    };
    let body = input.map(files::read_input).transpose()?;
    Ok(Some(Job {
        workflow: format!("bench-{}", workflow.name),
        trigger: trigger.name.to_string(),
        body: body.map(|body: Value| body.to_json_text().into_bytes()).unwrap_or_default(),
        definition,
        shown: workflow.name.to_string(),
    }))
}

#[cfg(test)]
mod tests;
