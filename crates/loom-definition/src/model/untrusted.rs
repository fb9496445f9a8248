//! Untrusted data: which actions return it, and which of them the inputs of an action refer to.

use std::collections::BTreeSet;

use loom_expression::{Labels, Reference, ReferenceKind, Template};

use super::{Action, ActionIdx, ActionKind, Block, BlockIdx, BlockRole, EffectKind, Workflow};

/// Sets [`Action::is_untrusted`]: what a language model wrote is untrusted, and so is what a service returned that was called
/// because a model wanted it.
pub(crate) fn mark(actions: &mut [Action], blocks: &[Block]) {
    for index in 0..actions.len() {
        let action = &actions[index];
        let is_untrusted = match &action.kind {
            ActionKind::Agent { .. } => true,
            ActionKind::Effect { effect, .. } => match effect {
                EffectKind::Ai => true,
                EffectKind::Custom(name) if name.eq_ignore_ascii_case(MCP_TOOL) => true,
                // Their results come from their inputs, or have labels of their own.
                EffectKind::Compute(_) | EffectKind::Script(_) | EffectKind::Memory | EffectKind::Signal => {
                    false
                }
                _ => tool_around(actions, blocks, action.block).is_some(),
            },
            _ => false,
        };
        actions[index].is_untrusted = is_untrusted;
    }
}

/// The type of actions that call a tool of an MCP server.
const MCP_TOOL: &str = "McpClientTool";

/// The agent in whose tool a block is, at any depth.
fn tool_around(actions: &[Action], blocks: &[Block], mut block: BlockIdx) -> Option<ActionIdx> {
    loop {
        let found = &blocks[block.0 as usize];
        let owner = found.owner?;
        if matches!(found.role, BlockRole::Tool(_)) {
            return Some(owner);
        }
        block = actions[owner.0 as usize].block;
    }
}

impl Action {
    /// The labels to attach to what a call of the action returns.
    #[inline]
    pub fn labels_of_outputs(&self) -> Labels {
        let label = |has, label| if has { label } else { Labels::NONE };
        label(self.secure.outputs, Labels::SECRET) | label(self.is_untrusted, Labels::UNTRUSTED)
    }
}

impl Workflow {
    /// Where the part of an action's inputs at `pointer` (a JSON pointer) may get untrusted data from, for messages; empty when
    /// the definition does not say. An expression that computes the name of what it reads is not followed.
    pub fn untrusted_sources(&self, action: ActionIdx, pointer: &str) -> Vec<String> {
        let mut search =
            Search { workflow: self, seen: BTreeSet::new(), certain: Vec::new(), possible: Vec::new() };
        let references = references_of(&self.action(action).kind);
        let here = references.into_iter().filter(|reference| {
            let at = reference.pointer.as_str();
            starts_with(at, pointer) || starts_with(pointer, at)
        });
        for reference in here {
            search.follow(action, &reference);
        }
        if search.certain.is_empty() { search.possible } else { search.certain }
    }
}

/// Whether one JSON pointer leads into what another points at.
fn starts_with(pointer: &str, outer: &str) -> bool {
    pointer.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

struct Search<'a> {
    workflow: &'a Workflow,
    seen: BTreeSet<ActionIdx>,
    /// Sources that are always untrusted.
    certain: Vec<String>,
    /// What may bring untrusted data from outside the run.
    possible: Vec<String>,
}

impl Search<'_> {
    /// Follows a reference in an expression of the action `from`.
    fn follow(&mut self, from: ActionIdx, reference: &Reference) {
        let workflow = self.workflow;
        let name = reference.name.as_deref();
        match reference.kind {
            kind if kind.is_action() => {
                if let Some(action) = name.and_then(|name| workflow.find_action(name)) {
                    self.visit(action);
                }
            }
            ReferenceKind::Variable => {
                let Some(variable) = name.and_then(|name| workflow.find_variable(name)) else { return };
                for action in &workflow.actions {
                    let sets = match &action.kind {
                        ActionKind::InitializeVariable { variables } => {
                            variables.iter().any(|init| init.variable == variable)
                        }
                        ActionKind::ChangeVariable { variable: changed, .. } => *changed == variable,
                        _ => false,
                    };
                    if sets {
                        self.visit(action.index);
                    }
                }
            }
            ReferenceKind::LoopItem | ReferenceKind::Item => {
                let named = name.and_then(|name| workflow.find_action(name));
                if let Some(looped) = named.or_else(|| self.loop_around(from)) {
                    self.visit(looped);
                }
            }
            ReferenceKind::AgentParameter => {
                let block = workflow.action(from).block;
                if let Some(agent) = tool_around(&workflow.actions, &workflow.blocks, block) {
                    let name = &workflow.action(agent).name;
                    add(
                        &mut self.certain,
                        format!("the arguments that the language model of action '{name}' wrote"),
                    );
                }
            }
            ReferenceKind::Trigger => add(&mut self.possible, "the outputs of the trigger".to_owned()),
            ReferenceKind::Memory => {
                let address = name.map(|address| format!(" '{address}'")).unwrap_or_default();
                add(&mut self.possible, format!("shared memory{address}"));
            }
            _ => {}
        }
    }

    fn visit(&mut self, index: ActionIdx) {
        if !self.seen.insert(index) {
            return;
        }
        let workflow = self.workflow;
        let action = workflow.action(index);
        if action.is_untrusted {
            let name = &action.name;
            let is_model = match &action.kind {
                ActionKind::Effect { effect, .. } => *effect == EffectKind::Ai,
                _ => true,
            };
            let source = if is_model {
                format!("the language model in action '{name}'")
            } else {
                format!("the response to action '{name}', which a tool called")
            };
            return add(&mut self.certain, source);
        }
        for reference in references_of(&action.kind) {
            self.follow(index, &reference);
        }
        // The result of a Scope or a loop is that of the actions in it.
        let inside = workflow.blocks.iter().filter(|block| block.owner == Some(index));
        for action in inside.flat_map(|block| &block.actions) {
            self.visit(*action);
        }
    }

    /// The Foreach around an action.
    fn loop_around(&self, from: ActionIdx) -> Option<ActionIdx> {
        let mut at = from;
        loop {
            at = self.workflow.block(self.workflow.action(at).block).owner?;
            if matches!(self.workflow.action(at).kind, ActionKind::Foreach { .. }) {
                return Some(at);
            }
        }
    }
}

fn add(list: &mut Vec<String>, source: String) {
    if !list.contains(&source) {
        list.push(source);
    }
}

/// The references in the expressions that an action computes its result from.
fn references_of(kind: &ActionKind) -> Vec<Reference> {
    let all = |templates: &[&Template]| templates.iter().flat_map(|template| template.references()).collect();
    match kind {
        ActionKind::Compose { inputs }
        | ActionKind::Response { inputs }
        | ActionKind::Wait { inputs }
        | ActionKind::Effect { inputs, .. }
        | ActionKind::Emit { inputs }
        | ActionKind::Agent { inputs, .. } => all(&[inputs]),
        ActionKind::ParseJson { content, .. } => all(&[content]),
        ActionKind::Query { from, filter } => {
            let mut references: Vec<Reference> = all(&[from]);
            references.extend(filter.references());
            references
        }
        ActionKind::Select { from, select } => all(&[from, select]),
        ActionKind::Join { from, with } => all(&[from, with]),
        ActionKind::Table { from, columns, .. } => {
            let mut references: Vec<Reference> = all(&[from]);
            for column in columns.iter().flatten() {
                references.extend(all(&[&column.header, &column.value]) as Vec<Reference>);
            }
            references
        }
        ActionKind::InitializeVariable { variables } => {
            variables.iter().filter_map(|init| init.value.as_ref()).flat_map(Template::references).collect()
        }
        ActionKind::ChangeVariable { value, .. } => value.iter().flat_map(Template::references).collect(),
        ActionKind::Foreach { items, .. } => all(&[items]),
        ActionKind::Terminate { error, .. } => error.iter().flat_map(Template::references).collect(),
        ActionKind::If { .. }
        | ActionKind::Switch { .. }
        | ActionKind::Scope { .. }
        | ActionKind::Parallel { .. }
        | ActionKind::Loop(_)
        | ActionKind::Retry { .. }
        | ActionKind::Invalid { .. } => Vec::new(),
    }
}
