//! Lowers the tree of a definition to the validated [`Workflow`], or reports everything that is wrong with it.
//!
//! There are two passes. The first, the outline, numbers actions, blocks, variables and parameters in file order, so that
//! every name is known. The second reads each action and compiles its expressions against those names. Neither stops at
//! the first error.

mod agents;
mod chat;
mod control;
mod data;
mod declarations;
mod effects;
mod graph;
mod members;
mod memory;
mod outline;
mod parts;
mod paths;
mod resilience;
mod templates;
mod triggers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use loom_expression::Value;

pub(crate) use declarations::parameter_template;
use outline::{Outline, Type};
use paths::{Read, Timing};

use crate::{
    diagnostic::{Severity, code},
    findings::Findings,
    memory::MemoryGrants,
    model::{Action, ActionKind, EffectKind, Options, Secure, Workflow, WorkflowKind},
    options::ScriptCheck,
    policy::Policies,
    text::Node,
};

/// The definition to lower, and what is known about it from outside.
pub(crate) struct Subject<'a> {
    /// The workflow's name.
    pub(crate) name: Arc<str>,
    /// How it keeps its state.
    pub(crate) kind: WorkflowKind,
    /// The `tags` outside the definition.
    pub(crate) tags: Option<&'a Node>,
    /// The definition.
    pub(crate) definition: &'a Node,
    /// See [`LoadOptions::strict_expressions`](crate::LoadOptions::strict_expressions).
    pub(crate) strict_expressions: bool,
    /// See [`LoadOptions::accepted_before`](crate::LoadOptions::accepted_before).
    pub(crate) accepted_before: bool,
    /// Checks scripts.
    pub(crate) script_check: Option<ScriptCheck>,
    /// Parameters declared outside the definition, in the format of a Standard project's `parameters.json`.
    pub(crate) parameters_file: Option<&'a Value>,
    /// The named policies of the project, if they are known.
    pub(crate) policies: Option<&'a Policies>,
}

/// Lowers a definition. The result is only valid if no error was reported.
pub(crate) fn lower(subject: &Subject<'_>, found: &mut Findings<'_>) -> Workflow {
    let definition = subject.definition;
    let outline = Outline::of(definition, subject.parameters_file, found);
    let mut lowerer = Lowerer {
        kind: subject.kind,
        name: Arc::clone(&subject.name),
        grants: MemoryGrants::default(),
        loom: outline.loom,
        outline,
        found,
        any_result: false,
        strict_expressions: subject.strict_expressions,
        script_check: subject.script_check,
        policies: subject.policies,
        refusal: if subject.accepted_before { Severity::Warning } else { Severity::Error },
        broken: BTreeMap::new(),
        secrets: BTreeMap::new(),
        memory: BTreeMap::new(),
        has_reads: false,
        services: BTreeMap::new(),
        reads: Vec::new(),
        timing: Timing::Before,
    };
    lowerer.whole(subject)
}

/// The state of the second pass.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about the definition and where it stands"
)]
struct Lowerer<'a, 'f, 's> {
    kind: WorkflowKind,
    name: Arc<str>,
    /// The namespaces of shared memory that the definition grants.
    grants: MemoryGrants,
    /// Whether the definition uses constructs of Loom's own, so that its expressions may use the Loom spelling.
    loom: bool,
    outline: Outline<'a>,
    found: &'f mut Findings<'s>,
    /// Whether some `result()` computes its name, so that it may refer to any block.
    any_result: bool,
    strict_expressions: bool,
    script_check: Option<ScriptCheck>,
    /// The named policies of the project, if they are known.
    policies: Option<&'a Policies>,
    /// The severity of expressions that read what they cannot read at their position.
    refusal: Severity,
    /// Actions that fail when they run because of an invalid expression, and the message of the first.
    broken: BTreeMap<usize, String>,
    /// The secrets that each action names.
    secrets: BTreeMap<usize, BTreeSet<Arc<str>>>,
    /// The addresses of shared memory that the expressions of each action name.
    memory: BTreeMap<usize, BTreeSet<Arc<str>>>,
    /// Whether an expression may read secrets or shared memory.
    has_reads: bool,
    /// The services that actions name, with the settings of the first action that names each.
    services: BTreeMap<Arc<str>, resilience::SharedService>,
    /// Every reference to the result of an action so far.
    reads: Vec<Read>,
    /// When the expressions that are being compiled are evaluated.
    timing: Timing,
}

impl<'a> Lowerer<'a, '_, '_> {
    fn whole(&mut self, subject: &Subject<'a>) -> Workflow {
        let definition = subject.definition;
        self.grants = self.memory_grants(definition);
        let parameters = self.parameters(definition, subject.parameters_file);
        let static_results = self.static_results(definition);
        let triggers = self.triggers(definition);
        self.definition_members(definition);
        self.response_rule(&triggers);
        let mut actions = Vec::with_capacity(self.outline.actions.len());
        for index in 0..self.outline.actions.len() {
            actions.push(self.action(index, &static_results));
        }
        let outputs = self.outputs(definition);
        // The outline keeps its own blocks, because the enclosing actions are still looked up in it.
        let mut blocks = self.outline.blocks.clone();
        let implied =
            if self.outline.preview { paths::implied(&self.outline, &self.reads) } else { Vec::new() };
        graph::link(&self.outline, &implied, &mut actions, &mut blocks, self.found);
        paths::check(&self.outline, &actions, &self.reads, self.refusal, self.found);
        paths::gather(&self.outline, &mut actions, &self.reads);
        crate::model::untrusted::mark(&mut actions, &blocks);
        for action in &mut actions {
            action.result_wanted |= self.any_result || self.outline.results_wanted.contains(&action.index.0);
            if let Some(secrets) = self.secrets.remove(&(action.index.0 as usize)) {
                action.secrets = secrets.into_iter().collect();
            }
            if let Some(addresses) = self.memory.remove(&(action.index.0 as usize)) {
                action.memory = addresses.into_iter().collect();
            }
        }
        self.limits(&actions, &blocks, triggers.len(), outputs.len(), definition);
        let text = |name: &str| definition.get(name).and_then(Node::text);
        let content_version = text("contentVersion").unwrap_or("1.0.0.0");
        if (content_version.split('.').count() != 4
            || !content_version
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())))
            && let Some(node) = definition.get("contentVersion")
        {
            let message =
                format!("`contentVersion` must be four numbers separated by dots (got `{content_version}`)");
            self.found.report(Severity::Warning, code::BAD_CONTENT_VERSION, node.place, message);
        }
        let source = source(subject);
        Workflow {
            name: Arc::clone(&subject.name),
            kind: subject.kind,
            description: text("description").map(Arc::from),
            tags: tags(subject),
            content_version: Arc::from(content_version),
            parameters,
            triggers,
            actions,
            blocks,
            variables: std::mem::take(&mut self.outline.variables),
            outputs,
            static_results,
            has_reads: self.has_reads,
            memory: std::mem::take(&mut self.grants),
            hash: *blake3::hash(source.as_bytes()).as_bytes(),
            source: Arc::from(source),
        }
    }

    /// Lowers one action, except for its edges in the graph.
    fn action(&mut self, index: usize, static_results: &[crate::model::StaticResult]) -> Action {
        let outlined = &self.outline.actions[index];
        let (node, name) = (outlined.node, Arc::clone(&outlined.name));
        let (block, position, type_name) =
            (outlined.block, outlined.position, Arc::clone(&outlined.type_name));
        let this = crate::model::ActionIdx(index as u32);
        let kind = self.action_kind(index);
        let runtime_node = node.get("runtimeConfiguration");
        let options = self.options(node);
        let secure = self.secure(node, index);
        let accepts_untrusted = self.accepts_untrusted(node, &kind);
        let approval = self.approval(node, &kind, index, accepts_untrusted);
        let static_result = self.static_result(runtime_node, static_results);
        let timeout = self.action_timeout(node, &kind, index);
        let resilience = self.resilience(node, &kind, index);
        self.timing = Timing::After;
        let tracked_properties = node.get("trackedProperties").map(|tracked| self.template(tracked, index));
        self.timing = Timing::Before;
        if self.outline.actions[index].made.is_none() {
            self.action_members(node, index);
        }
        let kind = match self.broken.remove(&index) {
            Some(mistake) => ActionKind::Invalid {
                code: Arc::from("InvalidTemplate"),
                message: Arc::from(format!(
                    "Unable to process template language expressions in action '{name}' inputs at line '0' and \
                     column '0': '{mistake}'."
                )),
            },
            None => kind,
        };
        Action {
            name,
            type_name,
            variant: node.get("kind").and_then(Node::text).map(Arc::from),
            index: this,
            block,
            position,
            kind,
            run_after: Vec::new(),
            successors: Vec::new(),
            is_handed_to: false,
            timeout,
            resilience,
            secure,
            is_untrusted: false,
            accepts_untrusted,
            approval,
            static_result,
            tracked_properties,
            options,
            result_wanted: false,
            secrets: Vec::new(),
            memory: Vec::new(),
            gathered: Vec::new(),
            written_retry: resilience::written_retry(node),
            pointer: Arc::from(self.found.pointer(node.place)),
            runtime: runtime_node.map_or(Value::NULL, rest_of_runtime),
        }
    }

    fn options(&mut self, node: &Node) -> Options {
        let mut options = Options::default();
        let Some(list) = node.get("operationOptions") else { return options };
        let Some(text) = self.found.want_text(list, "operationOptions") else { return options };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "disableasyncpattern" => options.disable_async_pattern = true,
                "suppressworkflowheaders" => options.suppress_workflow_headers = true,
                "disableautomaticdecompression" => options.disable_decompression = true,
                "failwhenlimitsreached" => options.fail_when_limits_reached = true,
                "asynchronous" => options.asynchronous = true,
                // Read elsewhere, or without effect here.
                "sequential" | "singleinstance" | "enableschemavalidation" | "none" | "synchronous" => {}
                "includeauthorizationheadersinoutputs" | "suppressworkflowheadersonresponse" => {}
                "suppressnotificationheaders" | "requestschemavalidation" => {}
                _ => {
                    let known = [
                        "DisableAsyncPattern",
                        "SuppressWorkflowHeaders",
                        "DisableAutomaticDecompression",
                        "FailWhenLimitsReached",
                        "Asynchronous",
                        "Sequential",
                    ];
                    let hint = crate::diagnostic::did_you_mean(word, known);
                    let message = format!("operation option `{word}` has no effect here");
                    self.found.report(Severity::Warning, code::UNKNOWN_OPTION, list.place, message).hint =
                        hint;
                }
            }
        }
        options
    }

    fn secure(&mut self, node: &Node, index: usize) -> Secure {
        let mut secure = self.found.secure_data(node);
        let kind = self.outline.actions[index].kind;
        // These actions only support securing `inputs`, which then secures their outputs as well.
        if matches!(kind, Type::Compose | Type::ParseJson | Type::Response) && secure.inputs {
            secure.outputs = true;
        }
        if (secure.inputs || secure.outputs)
            && let Some(tracked) = node.get("trackedProperties")
        {
            let message = "`trackedProperties` cannot be combined with `secureData`, because they would reveal secured data";
            self.found.report(Severity::Warning, code::BAD_SECURE_DATA, tracked.place, message);
        }
        secure
    }

    /// Reads `acceptsUntrusted`, which only actions with an effect outside the run have.
    fn accepts_untrusted(&mut self, node: &Node, kind: &ActionKind) -> bool {
        let Some(found) = node.get("acceptsUntrusted") else { return true };
        let Some(accepts) = found.boolean() else {
            let message = format!("`acceptsUntrusted` must be a boolean, found {}", found.kind());
            self.found.error(code::WRONG_KIND, found.place, message);
            return true;
        };
        let acts = match kind {
            ActionKind::Effect { effect, .. } => {
                !matches!(effect, EffectKind::Compute(_) | EffectKind::Script(_))
            }
            _ => matches!(
                kind,
                ActionKind::Agent { .. } | ActionKind::Response { .. } | ActionKind::Emit { .. }
            ),
        };
        if !acts && !accepts {
            let message =
                "`acceptsUntrusted` has no effect on this action, which sends nothing out of the run";
            self.found.error(code::BAD_CHOICE, found.place, message).hint =
                Some("set it on the action that sends the data: an Http, a Response, an Emit".to_owned());
        }
        accepts
    }

    /// Reads `approval`: how a person approves the inputs that the action does not accept.
    fn approval(
        &mut self,
        node: &Node,
        kind: &ActionKind,
        index: usize,
        accepts: bool,
    ) -> Option<Box<crate::model::Approval>> {
        let waits = match kind {
            ActionKind::Effect { effect, .. } => {
                !matches!(effect, EffectKind::Compute(_) | EffectKind::Script(_))
            }
            ActionKind::Agent { .. } => true,
            _ => false,
        };
        let Some(found) = node.get("approval") else {
            return (waits && !accepts).then(Box::default);
        };
        if accepts || !waits {
            let message = "`approval` has no effect here; it is for actions that call something and have `\"acceptsUntrusted\": false`";
            self.found.error(code::BAD_APPROVAL, found.place, message);
            return None;
        }
        if let Some(asks) = found.boolean() {
            return asks.then(Box::default);
        }
        let name = Arc::clone(&self.outline.actions[index].name);
        self.approval_members(found, &name);
        let text = |name: &str| found.get(name).and_then(Node::text).map(Arc::from);
        Some(Box::new(crate::model::Approval {
            timeout: self.action_timeout(found, kind, index),
            approves: text("default")
                .is_some_and(|default: Arc<str>| default.eq_ignore_ascii_case("approve")),
            message: text("message"),
            to: found.get("to").map(Node::to_value),
        }))
    }

    fn static_result(
        &mut self,
        runtime: Option<&Node>,
        results: &[crate::model::StaticResult],
    ) -> Option<u32> {
        let chosen = runtime?.get("staticResult")?;
        let enabled = chosen
            .get("staticResultOptions")
            .and_then(Node::text)
            .is_some_and(|option| option.eq_ignore_ascii_case("Enabled"));
        let name = chosen.get("name")?;
        let text = self.found.want_text(name, "staticResult.name")?;
        let position = results.iter().position(|result| crate::model::same_name(&result.name, text));
        if position.is_none() {
            let severity = if enabled { Severity::Error } else { Severity::Warning };
            let hint = crate::diagnostic::did_you_mean(text, results.iter().map(|result| &*result.name));
            let message = format!("unknown static result `{text}`");
            self.found.report(severity, code::UNKNOWN_STATIC_RESULT, name.place, message).hint = hint;
        }
        position.filter(|_| enabled).map(|found| found as u32)
    }

    fn response_rule(&mut self, triggers: &[crate::trigger::Trigger]) {
        use crate::trigger::TriggerKind;
        let answers = triggers.iter().any(|trigger| {
            matches!(
                trigger.kind,
                TriggerKind::Request { .. } | TriggerKind::Manual | TriggerKind::Other { .. }
            )
        });
        if answers {
            return;
        }
        // Under another trigger, a leftover Response loads, as in the hosted service, and sends no response.
        let repeats = triggers.iter().any(|trigger| trigger.recurrence.is_some());
        let severity = if repeats { Severity::Error } else { Severity::Warning };
        for outlined in &self.outline.actions {
            if outlined.kind == Type::Response {
                let message = format!(
                    "`{}` is a Response, but the workflow has no Request trigger to respond to",
                    outlined.name
                );
                let place = outlined.name_place;
                let diagnostic = self.found.report(severity, code::RESPONSE_WITHOUT_REQUEST, place, message);
                diagnostic.hint =
                    Some("start the workflow with a Request trigger, or remove the action".to_owned());
                if !repeats {
                    diagnostic.label = "no response is sent".into();
                }
            }
        }
    }

    /// Warns about limits of the hosted service that Loom does not have, since a definition may be deployed to both.
    fn limits(
        &mut self,
        actions: &[Action],
        blocks: &[crate::model::Block],
        triggers: usize,
        outputs: usize,
        definition: &Node,
    ) {
        let depth = blocks.iter().map(|block| block.depth).max().unwrap_or(0) as usize;
        for (what, count, most) in [
            ("actions", actions.len(), 500),
            ("levels of nesting", depth, 8),
            ("triggers", triggers, 10),
            ("outputs", outputs, 10),
            ("variables", self.outline.variables.len(), 250),
            ("parameters", self.outline.parameters.len(), 500),
        ] {
            if count > most {
                let message =
                    format!("the definition has {count} {what}; the hosted service accepts at most {most}");
                let place = crate::text::Span32::new(
                    definition.place.start as usize,
                    definition.place.start as usize + usize::from(!definition.computed),
                );
                self.found.report(Severity::Warning, code::TOO_MANY, place, message);
            }
        }
    }
}

/// `runtimeConfiguration` without the parts that the model stores elsewhere.
fn rest_of_runtime(node: &Node) -> Value {
    let Some(mut object) = node.to_value().into_object() else { return Value::NULL };
    for read in ["secureData", "staticResult", "concurrency"] {
        let found = object.name_ignore_case(read).cloned();
        if let Some(name) = found {
            object.remove(&name);
        }
    }
    if object.is_empty() { Value::NULL } else { Value::from(object) }
}

/// The tags, which people use to sort workflows: an object of names and values, or an array of strings; else null.
fn tags(subject: &Subject<'_>) -> Value {
    let written = subject.tags.or_else(|| subject.definition.get("tags"));
    let tags = written.map(Node::to_value).unwrap_or_default();
    if tags.as_object().is_some() || tags.as_array().is_some() { tags } else { Value::NULL }
}

/// Everything that determines what the workflow does, as compact JSON that can be loaded again.
///
/// Properties keep their order, because actions are numbered in that order and journals contain the numbers.
fn source(subject: &Subject<'_>) -> String {
    let kind = subject.kind.as_str();
    let mut members = vec![("kind", Value::from(kind)), ("definition", subject.definition.to_value())];
    if let Some(tags) = subject.tags {
        members.push(("tags", tags.to_value()));
    }
    if let Some(parameters) = subject.parameters_file {
        members.push(("parametersFile", parameters.clone()));
    }
    Value::from(members.into_iter().collect::<loom_expression::Object>()).to_json_text()
}
