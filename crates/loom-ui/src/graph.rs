//! The graph of a workflow: its triggers and actions, the lanes of its containers, and what runs after what.

mod icons;
mod layers;
mod mermaid;
mod placing;
mod svg;
pub(crate) mod text;

use loom_definition::{
    ActionIdx, BlockIdx, Status, StatusSet, Workflow,
    model::{Action, ActionKind, BlockRole},
    trigger::Trigger,
};

use icons::Icon;
use text::clean;

pub use mermaid::mermaid;
pub use placing::Drawing;
pub(crate) use svg::STYLE;
pub use svg::{Links, embedded_svg, percent_encoded, standalone_svg};

/// The most triggers that are drawn one by one.
const TRIGGERS_MAX: usize = 4;

/// A workflow as it is drawn.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The name of the workflow.
    title: String,
    /// Triggers, then actions; a container comes before the actions in it.
    nodes: Vec<Node>,
    /// The top level.
    root: Lane,
}

/// A trigger or an action.
#[derive(Clone, Debug)]
struct Node {
    /// Unique in the graph, and safe in an attribute: `a12` is action 12, `t0` a trigger.
    id: String,
    /// The name, unchanged.
    name: String,
    /// The type, with the variant if there is one.
    caption: String,
    icon: Icon,
    is_trigger: bool,
    /// The lanes of a container; none of another action.
    lanes: Vec<Lane>,
}

/// Actions that start and end as a unit: the top level, a branch, the body of a loop.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// `True`, the name of a case or a tool; nothing if there is only one lane.
    label: Option<String>,
    /// Indices of nodes.
    nodes: Vec<usize>,
    links: Vec<Link>,
}

/// One `runAfter`.
#[derive(Clone, Debug)]
struct Link {
    /// Positions in [`Lane::nodes`].
    from: usize,
    to: usize,
    /// The statuses, if the action does not simply run after success.
    when: Option<String>,
}

impl Graph {
    /// The graph of a workflow.
    pub fn of(workflow: &Workflow) -> Graph {
        let mut nodes: Vec<Node> = match &workflow.triggers[..] {
            triggers if triggers.len() > TRIGGERS_MAX => vec![Node::of_many_triggers(triggers)],
            triggers => {
                triggers.iter().enumerate().map(|(at, trigger)| Node::of_trigger(at, trigger)).collect()
            }
        };
        let triggers = nodes.len();
        nodes.extend(workflow.actions.iter().map(|action| {
            let lanes = lanes_of(action, workflow).into_iter();
            let lanes = lanes.map(|(label, block)| Lane::of(workflow, block, label, triggers));
            Node { lanes: lanes.collect(), ..Node::of_action(action) }
        }));
        let mut root = Lane::of(workflow, Workflow::ROOT, None, triggers);
        root.start_with(triggers);
        Graph { title: clean(&workflow.name).into_owned(), nodes, root }
    }

    /// The number of triggers and actions.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Node {
    fn of_trigger(at: usize, trigger: &Trigger) -> Node {
        Node {
            id: format!("t{at}"),
            name: trigger.name.to_string(),
            caption: clean(&trigger.type_name).into_owned(),
            icon: Icon::Trigger,
            is_trigger: true,
            lanes: Vec::new(),
        }
    }

    fn of_many_triggers(triggers: &[Trigger]) -> Node {
        Node {
            id: "t0".to_owned(),
            name: format!("{} triggers", triggers.len()),
            caption: "any of them starts a run".to_owned(),
            icon: Icon::Trigger,
            is_trigger: true,
            lanes: Vec::new(),
        }
    }

    fn of_action(action: &Action) -> Node {
        let caption = match &action.variant {
            Some(variant) => format!("{} · {variant}", action.type_name),
            None => action.type_name.to_string(),
        };
        Node {
            id: format!("a{}", action.index.0),
            name: action.name.to_string(),
            caption: clean(&caption).into_owned(),
            icon: Icon::of(&action.kind),
            is_trigger: false,
            lanes: Vec::new(),
        }
    }

    fn is_container(&self) -> bool {
        !self.lanes.is_empty()
    }
}

impl Lane {
    fn of(workflow: &Workflow, block: BlockIdx, label: Option<String>, triggers: usize) -> Lane {
        let block = workflow.block(block);
        let position = |index: ActionIdx| workflow.action(index).position as usize;
        let links = block.actions.iter().flat_map(|index| {
            workflow.action(*index).run_after.iter().map(|dependency| Link {
                from: position(dependency.action),
                to: position(*index),
                when: condition(dependency.statuses),
            })
        });
        Lane {
            links: links.collect(),
            nodes: block.actions.iter().map(|index| triggers + index.0 as usize).collect(),
            label,
        }
    }

    /// Puts the triggers, which are the first nodes, before the actions without `runAfter`.
    fn start_with(&mut self, triggers: usize) {
        let actions = self.nodes.len();
        let mut waits = vec![false; actions];
        for link in &mut self.links {
            waits[link.to] = true;
            link.from += triggers;
            link.to += triggers;
        }
        self.nodes.splice(0..0, 0..triggers);
        let roots = (0..actions).filter(|action| !waits[*action]).map(|action| action + triggers);
        for root in roots {
            self.links.extend((0..triggers).map(|trigger| Link { from: trigger, to: root, when: None }));
        }
    }
}

/// The statuses of a `runAfter`, unless it is `Succeeded` alone.
fn condition(statuses: StatusSet) -> Option<String> {
    const USUAL: [Status; 4] = [Status::Succeeded, Status::Failed, Status::Skipped, Status::TimedOut];
    if statuses == StatusSet::of(Status::Succeeded) {
        None
    } else if USUAL.into_iter().all(|status| statuses.contains(status)) {
        Some("in any case".to_owned())
    } else {
        Some(statuses.to_string())
    }
}

/// The blocks in an action, with their labels.
fn lanes_of(action: &Action, workflow: &Workflow) -> Vec<(Option<String>, BlockIdx)> {
    let named = |name: &str, block: BlockIdx| (Some(clean(name).into_owned()), block);
    match &action.kind {
        ActionKind::If { then, otherwise, .. } => {
            let mut lanes = vec![named("True", *then)];
            // A definition without `else` has an empty block there.
            if !workflow.block(*otherwise).actions.is_empty() {
                lanes.push(named("False", *otherwise));
            }
            lanes
        }
        ActionKind::Switch { cases, default, .. } => {
            let cases =
                cases.iter().map(|case| named(&format!("{} = {}", case.name, case.value.text()), case.block));
            cases.chain(default.map(|block| named("Default", block))).collect()
        }
        ActionKind::Parallel { branches } => branches
            .iter()
            .map(|block| match workflow.block(*block).role {
                BlockRole::Branch(at) => named(&format!("Branch {}", at + 1), *block),
                _ => (None, *block),
            })
            .collect(),
        ActionKind::Agent { tools, .. } => {
            tools.iter().map(|tool| named(&format!("Tool {}", tool.name), tool.block)).collect()
        }
        ActionKind::Scope { body } | ActionKind::Foreach { body, .. } | ActionKind::Retry { body, .. } => {
            vec![(None, *body)]
        }
        ActionKind::Loop(of) => vec![(None, of.body)],
        ActionKind::Compose { .. }
        | ActionKind::ParseJson { .. }
        | ActionKind::Query { .. }
        | ActionKind::Select { .. }
        | ActionKind::Join { .. }
        | ActionKind::Table { .. }
        | ActionKind::InitializeVariable { .. }
        | ActionKind::ChangeVariable { .. }
        | ActionKind::Terminate { .. }
        | ActionKind::Response { .. }
        | ActionKind::Emit { .. }
        | ActionKind::Wait { .. }
        | ActionKind::Effect { .. }
        | ActionKind::Invalid { .. } => Vec::new(),
    }
}
