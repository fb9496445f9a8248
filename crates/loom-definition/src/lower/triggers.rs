//! Lowers triggers: what starts a run, and under which conditions.

use std::sync::Arc;

use loom_expression::{Condition, Template, Value};

use super::{
    Lowerer,
    control::has_option,
    resilience::{holds_expression, without_retry},
};
use crate::{
    RunStatus,
    diagnostic::{code, nearest},
    findings::head,
    model::{Setting, WorkflowKind},
    policy::{RetrySetting, Spelling},
    schema_names::unescaped,
    text::{Node, Span32},
    trigger::{
        BatchConfiguration, BatchError, Cron, Recurrence, RecurrenceError, Trigger, TriggerConcurrency,
        TriggerKind, TriggerOptions,
    },
};

const KNOWN: [&str; 20] = [
    "Request",
    "Recurrence",
    "SlidingWindow",
    "Http",
    "HttpWebhook",
    "ApiConnection",
    "ApiConnectionWebhook",
    "ApiConnectionNotification",
    "OpenApiConnection",
    "OpenApiConnectionWebhook",
    "OpenApiConnectionNotification",
    "Manual",
    "Schedule",
    "Event",
    "Batch",
    "ServiceProvider",
    "EventGrid",
    "Workflow",
    "RunEnded",
    "MemoryChanged",
];

impl Lowerer<'_, '_, '_> {
    /// Lowers all triggers; warns if there are none.
    pub(super) fn triggers(&mut self, definition: &Node) -> Vec<Trigger> {
        let map = definition.get("triggers");
        let mut list = Vec::new();
        if let Some(map) = map {
            self.found.want_object(map, "triggers");
            for member in map.members().unwrap_or_default() {
                if self.found.want_object(&member.value, &format!("trigger {}", member.name)).is_some() {
                    list.push(self.trigger(&member.name, &member.value));
                }
            }
        }
        if map.is_none_or(|map| map.members().is_some_and(<[_]>::is_empty)) {
            let place = map.map_or_else(|| head(definition), |map| map.place);
            self.found
                .warning(
                    code::NO_TRIGGERS,
                    place,
                    "a workflow needs at least one trigger to be started from outside",
                )
                .hint = Some("add one to `triggers`, such as a Request".to_owned());
        }
        list
    }

    fn trigger(&mut self, name: &Arc<str>, node: &Node) -> Trigger {
        let type_name = match node.get("type") {
            None => {
                self.found.error(code::NO_TYPE, head(node), format!("trigger `{name}` needs a `type`"));
                ""
            }
            Some(node) => self.found.want_text(node, "type").unwrap_or_default(),
        };
        self.trigger_members(node, name, type_name);
        let kind = self.trigger_kind(name, type_name, node);
        let recurrence = self.recurrence(name, &kind, node);
        let conditions = self.trigger_conditions(node);
        let split_on = node.get("splitOn").and_then(|split| {
            if !holds_expression(split) && split.items().is_none() {
                let message =
                    "`splitOn` must be an expression that returns an array, such as `@triggerBody()`";
                self.found.error(code::BAD_SPLIT_ON, split.place, message);
                return None;
            }
            if matches!(kind, TriggerKind::Batch { .. }) {
                let message = "a Batch trigger does not take `splitOn`, because a batch starts one run";
                let diagnostic = self.found.error(code::BAD_SPLIT_ON, split.place, message);
                diagnostic.hint = Some("iterate over `triggerBody()?['items']` with a Foreach".to_owned());
                return None;
            }
            if matches!(kind, TriggerKind::MemoryChanged { .. }) {
                let message = "a MemoryChanged trigger does not take `splitOn`";
                let diagnostic = self.found.error(code::BAD_SPLIT_ON, split.place, message);
                diagnostic.hint = Some("without `batchSize`, each change starts a run".to_owned());
                return None;
            }
            Some(self.template_of(split, &split.to_value(), None))
        });
        let mut tracking = |holder: &str| {
            let correlation = match holder {
                "correlation" => node.get("correlation"),
                other => node.get(other).and_then(|part| part.get("correlation")),
            };
            let id = correlation?.get("clientTrackingId")?;
            Some(self.template_of(id, &id.to_value(), None))
        };
        let (tracking_id, split_on_tracking_id) = (tracking("correlation"), tracking("splitOnConfiguration"));
        let inputs = node.get("inputs");
        let wdl = if self.kind == WorkflowKind::Stateless { Spelling::WdlStateless } else { Spelling::Wdl };
        let retry = inputs.and_then(|inputs| {
            inputs.get("retryPolicy").or_else(|| inputs.get("subscribe")?.get("retryPolicy"))
        });
        let retry = match (node.get("retryPolicy"), retry) {
            (Some(own), _) => self.retry_setting(own, Spelling::Loom, None),
            (None, Some(inner)) => self.retry_setting(inner, wdl, None),
            (None, None) => RetrySetting::Default,
        };
        Trigger {
            name: Arc::clone(name),
            type_name: Arc::from(type_name),
            kind,
            conditions,
            split_on,
            split_on_tracking_id,
            tracking_id,
            recurrence,
            concurrency: self.trigger_concurrency(node),
            retry,
            secure: self.found.secure_data(node),
            options: TriggerOptions {
                validate_schema: has_option(node, "EnableSchemaValidation"),
                include_authorization: has_option(node, "IncludeAuthorizationHeadersInOutputs"),
                suppress_workflow_headers: has_option(node, "SuppressWorkflowHeaders"),
                suppress_headers_on_response: has_option(node, "SuppressWorkflowHeadersOnResponse"),
            },
            pointer: Arc::from(self.found.pointer(node.place)),
        }
    }

    fn trigger_kind(&mut self, name: &str, type_name: &str, node: &Node) -> TriggerKind {
        let inputs = node.get("inputs");
        let template = |lowerer: &mut Self| match inputs {
            Some(inputs) => {
                let value = without_retry(inputs.to_value());
                lowerer.template_of(inputs, &value, None)
            }
            None => Template::constant(Value::from(loom_expression::Object::new())),
        };
        let text = |part: &str| inputs.and_then(|inputs| inputs.get(part)).and_then(Node::text);
        match type_name.to_ascii_lowercase().as_str() {
            "request" => TriggerKind::Request {
                kind: node.get("kind").and_then(Node::text).map(Arc::from),
                method: text("method").map(|method| Arc::from(method.trim().to_ascii_uppercase())),
                relative_path: text("relativePath").map(Arc::from),
                schema: inputs.and_then(|inputs| inputs.get("schema")).map_or_else(
                    || Value::from(loom_expression::Object::new()),
                    |schema| unescaped(&schema.to_value()),
                ),
            },
            "recurrence" | "schedule" => TriggerKind::Recurrence,
            "slidingwindow" => TriggerKind::SlidingWindow {
                delay: inputs.and_then(|inputs| inputs.get("delay")).and_then(|delay| {
                    match self.span_setting(delay, "inputs.delay", false, None) {
                        Some(Setting::Fixed(span)) => Some(span),
                        _ => None,
                    }
                }),
            },
            "http" => TriggerKind::HttpPoll { inputs: template(self) },
            "httpwebhook" => TriggerKind::HttpWebhook { inputs: template(self) },
            "apiconnection" | "openapiconnection" => TriggerKind::ApiConnection { inputs: template(self) },
            "apiconnectionwebhook" | "openapiconnectionwebhook" => {
                TriggerKind::ApiConnectionWebhook { inputs: template(self) }
            }
            "batch" => {
                self.batches(node);
                TriggerKind::Batch { inputs: template(self) }
            }
            "manual" => TriggerKind::Manual,
            "runended" => self.run_ended(name, node),
            "memorychanged" => self.memory_changed(name, node),
            "event" => TriggerKind::Event { inputs: template(self) },
            other => {
                let known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(other));
                if !known && !type_name.is_empty() {
                    let place = node.get("type").map_or(node.place, |node| node.place);
                    let message = format!("trigger `{name}` has the unknown type `{type_name}`");
                    let diagnostic = self.found.warning(code::UNKNOWN_TRIGGER_TYPE, place, message);
                    diagnostic.label = "the workflow can only be started manually".into();
                    diagnostic.hint =
                        nearest(type_name, KNOWN).map(|meant| format!("did you mean `{meant}`?"));
                }
                TriggerKind::Other { inputs: inputs.map_or(Value::NULL, Node::to_value) }
            }
        }
    }

    /// Reads the workflows and statuses of a RunEnded trigger.
    fn run_ended(&mut self, name: &str, node: &Node) -> TriggerKind {
        let inputs = node.get("inputs");
        let workflows = inputs.and_then(|inputs| inputs.get("workflows"));
        let names = match workflows {
            None => {
                let message = format!(
                    "trigger `{name}` requires `inputs.workflows`, the names of the workflows to watch"
                );
                let place = inputs.map_or_else(|| head(node), head);
                self.found.error(code::BAD_RUN_ENDED, place, message).hint = Some(
                    "such as {\"workflows\": [\"orders\"], \"statuses\": [\"Failed\", \"TimedOut\"]}"
                        .to_owned(),
                );
                Vec::new()
            }
            Some(workflows) => self.listed(workflows, "workflows"),
        };
        let statuses = inputs.and_then(|inputs| inputs.get("statuses"));
        let statuses = statuses.map(|statuses| self.listed(statuses, "statuses"));
        let is_final = |status: &RunStatus| status.is_final();
        let statuses = match statuses {
            None => vec![RunStatus::Failed, RunStatus::TimedOut, RunStatus::Aborted],
            Some(listed) => {
                let mut statuses = Vec::new();
                for (text, place) in listed {
                    let known = RunStatus::ALL.into_iter().filter(is_final);
                    if let Some(status) =
                        known.clone().find(|known| known.as_str().eq_ignore_ascii_case(&text))
                    {
                        statuses.push(status);
                        continue;
                    }
                    let message = format!("`{text}` is not a final status of a run");
                    let names: Vec<&str> = known.map(RunStatus::as_str).collect();
                    let hint = match nearest(&text, names.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("use {}", names.join(", ")),
                    };
                    self.found.error(code::BAD_RUN_ENDED, place, message).hint = Some(hint);
                }
                statuses
            }
        };
        TriggerKind::RunEnded { workflows: names.into_iter().map(|(name, _)| name).collect(), statuses }
    }

    /// The strings of an array that must not be empty, with their places.
    fn listed(&mut self, list: &Node, what: &str) -> Vec<(Arc<str>, Span32)> {
        let items = list.items().unwrap_or_default();
        if items.is_empty() {
            let message = format!("`{what}` must be a non-empty array of strings (got {})", list.kind());
            self.found.error(code::BAD_RUN_ENDED, list.place, message);
        }
        let mut listed = Vec::new();
        for item in items {
            if let Some(text) = item.text().filter(|text| !text.is_empty() && !text.starts_with('@')) {
                listed.push((Arc::from(text), item.place));
            } else {
                let message =
                    format!("an item of `{what}` must be a string without expressions (got {})", item.kind());
                self.found.error(code::BAD_RUN_ENDED, item.place, message);
            }
        }
        listed
    }

    /// Checks the inputs of a Batch trigger, unless they are computed.
    fn batches(&mut self, trigger: &Node) {
        let inputs = trigger.get("inputs");
        if inputs.is_some_and(holds_expression) {
            return;
        }
        let value = inputs.map_or(Value::NULL, Node::to_value);
        let Err(BatchError { path, message, unsupported }) = BatchConfiguration::from_inputs(&value) else {
            return;
        };
        let mut place = inputs.unwrap_or(trigger);
        for member in &path {
            place = place.get(member).unwrap_or(place);
        }
        if unsupported {
            self.found.warning(code::BAD_BATCH, head(place), message).label =
                "the trigger collects nothing".into();
        } else {
            self.found.error(code::BAD_BATCH, head(place), message);
        }
    }

    fn recurrence(&mut self, name: &str, kind: &TriggerKind, node: &Node) -> Option<Setting<Recurrence>> {
        let inputs = node.get("inputs");
        let loom_inputs = inputs.filter(|inputs| {
            inputs.get("frequency").is_some()
                || Recurrence::CRON_MEMBERS.iter().any(|member| inputs.get(member).is_some())
        });
        let found = node
            .get("recurrence")
            .or_else(|| inputs.and_then(|inputs| inputs.get("recurrence")))
            .or(loom_inputs)
            // The hosted service saves the evaluated recurrence here; it is used if there is no other.
            .or_else(|| node.get("evaluatedRecurrence"));
        let needed = matches!(
            kind,
            TriggerKind::Recurrence | TriggerKind::SlidingWindow { .. } | TriggerKind::HttpPoll { .. }
        );
        let Some(found) = found else {
            if needed {
                let message = format!("trigger `{name}` needs a `recurrence`");
                self.found.error(code::BAD_RECURRENCE, head(node), message).hint = Some(
                    "for example {\"frequency\": \"Hour\", \"interval\": 1} or {\"cron\": \"0 9 * * MON-FRI\"}"
                        .to_owned(),
                );
            }
            return None;
        };
        // `@daily` is a cron expression, not one of the expression language.
        let is_short = |node: &Node| node.text().is_some_and(Cron::is_short_form);
        let computed = found.members().map_or(holds_expression(found), |members| {
            members.iter().any(|member| holds_expression(&member.value) && !is_short(&member.value))
        });
        if computed {
            return Some(Setting::Computed(self.template_of(found, &found.to_value(), None)));
        }
        match Recurrence::from_value(&found.to_value()) {
            Ok(recurrence) => Some(Setting::Fixed(recurrence)),
            Err(RecurrenceError { member, span, message }) => {
                let named = member;
                let member = found.get(member).unwrap_or(found);
                if holds_template_text(found) {
                    // The deployment fills these in; until then, the recurrence is unknown rather than invalid.
                    let message = format!("{message}; this looks like an unresolved template expression");
                    self.found.warning(code::ARM_UNRESOLVED, member.place, message);
                } else {
                    let part = span.map_or(member.place, |span| self.found.part(member, &span));
                    self.found.error(code::BAD_RECURRENCE, part, message);
                    self.other_problem(found, named);
                }
                None
            }
        }
    }

    /// Reports an interval that no frequency allows, besides a problem with the property `first`, which hides it.
    fn other_problem(&mut self, recurrence: &Node, first: &str) {
        let Some(interval) = recurrence.get("interval").filter(|_| first != "interval") else { return };
        if let Some(given) = interval.to_value().as_i64().filter(|given| *given < 1) {
            let message = format!("`interval` must be at least 1 (got {given})");
            self.found.error(code::BAD_RECURRENCE, interval.place, message);
        }
    }

    fn trigger_conditions(&mut self, node: &Node) -> Vec<Condition> {
        let Some(list) = node.get("conditions") else { return Vec::new() };
        let Some(items) = list.items() else {
            let message = format!("`conditions` must be an array, found {}", list.kind());
            self.found.error(code::WRONG_KIND, list.place, message);
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for item in items {
            if let Some(expression) = item.get("expression") {
                conditions.push(self.condition(expression, None));
            } else {
                let message = "an entry of a trigger's `conditions` needs an `expression`";
                self.found.error(code::BAD_CONDITION, head(item), message);
            }
        }
        conditions
    }

    fn trigger_concurrency(&mut self, node: &Node) -> Option<TriggerConcurrency> {
        let single = has_option(node, "SingleInstance");
        let concurrency = node.get("runtimeConfiguration").and_then(|runtime| runtime.get("concurrency"));
        let runs = concurrency.and_then(|concurrency| concurrency.get("runs"));
        if single {
            if let Some(concurrency) = concurrency {
                let message = "`SingleInstance` and `concurrency` both limit the runs; keep one of them";
                self.found.error(code::BAD_TRIGGER_CONCURRENCY, concurrency.place, message);
            }
            return Some(TriggerConcurrency { runs: 1, maximum_waiting_runs: 11 });
        }
        let concurrency = concurrency?;
        let mut whole = |node: Option<&Node>, what: &str, most: i64| {
            let node = node?;
            match node.integer() {
                Some(found) if (1..=most).contains(&found) => Some(found as u32),
                _ => {
                    let message = format!("`{what}` must be an integer between 1 and {most}{}", got(node));
                    self.found.error(code::BAD_TRIGGER_CONCURRENCY, node.place, message);
                    None
                }
            }
        };
        let runs = whole(runs, "concurrency.runs", 100).unwrap_or(25);
        let waiting = concurrency.get("maximumWaitingRuns");
        let maximum_waiting_runs = whole(waiting, "concurrency.maximumWaitingRuns", 200).unwrap_or(10 + runs);
        Some(TriggerConcurrency { runs, maximum_waiting_runs })
    }
}

/// The number that was found, for a message; empty for other values.
fn got(node: &Node) -> String {
    node.integer().map(|found| format!(" (got {found})")).unwrap_or_default()
}

/// Whether a string in `node` has the form `[…]` of a template expression.
fn holds_template_text(node: &Node) -> bool {
    match &node.shape {
        crate::text::Shape::String(text) => text.starts_with('[') && text.ends_with(']'),
        crate::text::Shape::Array(items) => items.iter().any(holds_template_text),
        crate::text::Shape::Object(members) => {
            members.iter().any(|member| holds_template_text(&member.value))
        }
        _ => false,
    }
}
