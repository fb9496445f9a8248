//! The first pass: numbers actions, blocks, variables and parameters in file order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use loom_expression::{NameKind, Names, Value};

use super::parts::{Made, parts};
use crate::{
    diagnostic::code,
    findings::{Findings, head},
    model::{ActionIdx, Block, BlockIdx, BlockRole, ValueType, Variable, VariableIdx},
    text::{Member, Node, Span32},
};

/// The action types that the engine executes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Compose,
    ParseJson,
    Query,
    Select,
    Join,
    Table,
    InitializeVariable,
    SetVariable,
    IncrementVariable,
    DecrementVariable,
    AppendToStringVariable,
    AppendToArrayVariable,
    If,
    Switch,
    Scope,
    Parallel,
    Foreach,
    Until,
    While,
    DoUntil,
    Retry,
    Terminate,
    Response,
    Wait,
    Agent,
    GroupChat,
    Emit,
    /// Executed by a handler; `effects` tells them apart.
    Effect,
}

impl Type {
    const NAMES: [(&'static str, Type); 28] = [
        ("Compose", Type::Compose),
        ("ParseJson", Type::ParseJson),
        ("Query", Type::Query),
        ("Select", Type::Select),
        ("Join", Type::Join),
        ("Table", Type::Table),
        ("InitializeVariable", Type::InitializeVariable),
        ("SetVariable", Type::SetVariable),
        ("IncrementVariable", Type::IncrementVariable),
        ("DecrementVariable", Type::DecrementVariable),
        ("AppendToStringVariable", Type::AppendToStringVariable),
        ("AppendToArrayVariable", Type::AppendToArrayVariable),
        ("If", Type::If),
        ("Switch", Type::Switch),
        ("Scope", Type::Scope),
        ("Parallel", Type::Parallel),
        ("Foreach", Type::Foreach),
        ("Until", Type::Until),
        ("While", Type::While),
        ("DoUntil", Type::DoUntil),
        ("Retry", Type::Retry),
        ("Terminate", Type::Terminate),
        ("Response", Type::Response),
        ("Wait", Type::Wait),
        ("Delay", Type::Wait),
        ("Agent", Type::Agent),
        ("GroupChat", Type::GroupChat),
        ("Emit", Type::Emit),
    ];

    fn parse(text: &str) -> Type {
        Type::NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or(Type::Effect, |(_, found)| *found)
    }

    /// The names of all types that the engine executes itself.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        Type::NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether the type exists only in Loom.
    fn is_loom(self) -> bool {
        matches!(self, Type::While | Type::DoUntil | Type::Parallel | Type::Retry)
    }

    pub(super) fn is_loop(self) -> bool {
        matches!(self, Type::Foreach | Type::Until | Type::While | Type::DoUntil)
    }
}

/// An action as the first pass sees it.
pub(super) struct Outlined<'a> {
    pub(super) name: Arc<str>,
    pub(super) name_place: Span32,
    pub(super) node: &'a Node,
    pub(super) kind: Type,
    pub(super) type_name: Arc<str>,
    pub(super) block: BlockIdx,
    pub(super) position: u32,
    /// The blocks of the action, in order.
    pub(super) children: Vec<(BlockRole, BlockIdx)>,
    /// What it is made from, if it is not in the file as an action.
    pub(super) made: Option<Made>,
    /// Whether its children or its condition are in `inputs`.
    pub(super) loom_spelling: bool,
}

/// The result of the first pass.
pub(super) struct Outline<'a> {
    pub(super) actions: Vec<Outlined<'a>>,
    pub(super) blocks: Vec<Block>,
    pub(super) variables: Vec<Variable>,
    /// The names of declared parameters, in order.
    pub(super) parameters: Vec<Arc<str>>,
    /// Actions whose `result()` an expression reads by name.
    pub(super) results_wanted: HashSet<u32>,
    /// Whether the definition uses constructs of Loom's own.
    pub(super) loom: bool,
    /// Whether the definition has a schema in which an action waits for the actions that its expressions read.
    pub(super) preview: bool,
    triggers: &'a [Member],
    action_slots: HashMap<String, u32>,
    variable_slots: HashMap<String, u32>,
    parameter_slots: HashMap<String, u32>,
    variable_places: Vec<Span32>,
}

impl Names for Outline<'_> {
    fn slot(&self, kind: NameKind, name: &str) -> Option<u32> {
        let slots = match kind {
            NameKind::Parameter => &self.parameter_slots,
            NameKind::Variable => &self.variable_slots,
            NameKind::Action | NameKind::Loop => &self.action_slots,
        };
        slots.get(&fold(name)).copied()
    }
}

/// The form in which names are compared: they are case-insensitive.
fn fold(name: &str) -> String {
    name.to_lowercase()
}

impl<'a> Outline<'a> {
    pub(super) fn of(definition: &'a Node, values: Option<&Value>, found: &mut Findings<'_>) -> Outline<'a> {
        let mut outline = Outline {
            actions: Vec::new(),
            blocks: Vec::new(),
            variables: Vec::new(),
            parameters: Vec::new(),
            results_wanted: HashSet::new(),
            loom: false,
            preview: false,
            triggers: definition.get("triggers").and_then(Node::members).unwrap_or_default(),
            action_slots: HashMap::new(),
            variable_slots: HashMap::new(),
            parameter_slots: HashMap::new(),
            variable_places: Vec::new(),
        };
        outline.parameters(definition, values);
        if let Some(schema) = definition.get("$schema")
            && schema.text().is_some_and(|text| text.contains("-preview/"))
        {
            outline.preview = true;
            let message = "this schema is older than `runAfter`: an action waits for its `dependsOn` and for the \
                           actions that its expressions read";
            found.warning(code::PREVIEW_SCHEMA, schema.place, message).hint =
                Some("use `runAfter` and the schema of 2016-06-01".to_owned());
        }
        outline.loom |= uses_loom_triggers(definition);
        let mut empty = true;
        let root = outline.block(None, BlockRole::Root, 0);
        if let Some(actions) = definition.get("actions")
            && found.want_object(actions, "actions").is_some()
        {
            empty = actions.members().is_none_or(<[_]>::is_empty);
            outline.children(actions, root, found);
        }
        if empty {
            let place = definition.get("actions").map_or_else(|| head(definition), |node| node.place);
            found
                .warning(code::NO_ACTIONS, place, "a workflow needs at least one action to do something")
                .hint = Some("add one to `actions`".to_owned());
        }
        outline.clash_with_triggers(found);
        outline
    }

    fn parameters(&mut self, definition: &Node, values: Option<&Value>) {
        let own = definition.get("parameters").and_then(Node::members).unwrap_or_default();
        let names = own.iter().map(|member| Arc::clone(&member.name));
        let values = values.and_then(Value::as_object).into_iter().flat_map(|object| object.keys().cloned());
        for name in names.chain(values) {
            let slot = self.parameters.len() as u32;
            if let std::collections::hash_map::Entry::Vacant(entry) = self.parameter_slots.entry(fold(&name))
            {
                entry.insert(slot);
                self.parameters.push(name);
            }
        }
    }

    fn block(&mut self, owner: Option<ActionIdx>, role: BlockRole, depth: u32) -> BlockIdx {
        let index = BlockIdx(self.blocks.len() as u32);
        self.blocks.push(Block {
            owner,
            role,
            depth,
            actions: Vec::new(),
            roots: Vec::new(),
            leaves: Vec::new(),
            handed_to: Vec::new(),
        });
        index
    }

    /// Visits the actions of a map, each followed by the actions inside it.
    fn children(&mut self, map: &'a Node, block: BlockIdx, found: &mut Findings<'_>) {
        for member in map.members().unwrap_or_default() {
            // The reader has warned about exact duplicates; as action names, they are an error.
            let name = (&member.name, member.name_place);
            self.visit(name, &member.value, None, block, found);
        }
    }

    fn visit(
        &mut self,
        (name, name_place): (&Arc<str>, Span32),
        node: &'a Node,
        made: Option<Made>,
        block: BlockIdx,
        found: &mut Findings<'_>,
    ) {
        if made.is_none() && found.want_object(node, &format!("action {name}")).is_none() {
            return;
        }
        let index = ActionIdx(self.actions.len() as u32);
        if let Some(first) = self.action_slots.insert(fold(name), index.0) {
            self.action_slots.insert(fold(name), first);
            let earlier = &self.actions[first as usize];
            let message = if *earlier.name == **name {
                format!("duplicate action name `{name}`")
            } else {
                format!("duplicate action name `{name}`; it differs from `{}` only in case", earlier.name)
            };
            let related = (earlier.name_place.range(), "first defined here".to_owned());
            let diagnostic = found.error(code::DUPLICATE_NAME, name_place, message);
            diagnostic.related.push(related);
            diagnostic.hint = Some(
                "action names must be unique in the whole definition, nested actions included".to_owned(),
            );
        }
        if name.chars().count() > 80 {
            let message = format!("the hosted service limits names to 80 characters (action `{name}`)");
            found.warning(code::LONG_NAME, name_place, message);
        }
        let type_name = match node.get("type") {
            _ if made.is_some() => made.map(Made::type_name).unwrap_or_default().into(),
            None => {
                found.error(code::NO_TYPE, name_place, format!("action `{name}` needs a `type`")).hint =
                    Some("for example \"type\": \"Compose\"".to_owned());
                Arc::from("")
            }
            Some(type_node) => found.want_text(type_node, "type").map_or_else(|| Arc::from(""), Arc::from),
        };
        let kind = Type::parse(&type_name);
        let inputs = node.get("inputs").filter(|inputs| inputs.members().is_some());
        let loom_spelling =
            kind.is_loom() || inputs.is_some_and(|inputs| stands_in_inputs(kind, node, inputs));
        self.loom |= loom_spelling || is_loom_effect(&type_name);
        let position = self.blocks[block.0 as usize].actions.len() as u32;
        self.blocks[block.0 as usize].actions.push(index);
        self.actions.push(Outlined {
            name: Arc::clone(name),
            name_place,
            node,
            kind,
            type_name,
            block,
            position,
            children: Vec::new(),
            made,
            loom_spelling,
        });
        if kind == Type::InitializeVariable {
            self.declare(index, node, found);
        }
        if made.is_some() {
            return;
        }
        let blocks = blocks_of(kind, name, node, found);
        let depth = self.blocks[block.0 as usize].depth + 1;
        for (role, map) in blocks {
            let child = self.block(Some(index), role, depth);
            self.actions[index.0 as usize].children.push((role, child));
            match map {
                Children::None => {}
                Children::Map(map) => self.children(map, child, found),
                Children::One(node) => {
                    let inner: Arc<str> = node
                        .get("name")
                        .and_then(Node::text)
                        .map_or_else(|| format!("{name}.action").into(), Arc::from);
                    self.visit((&inner, name_place), node, None, child, found);
                }
                Children::Made(made, name, node) => {
                    self.visit((&name, name_place), node, Some(made), child, found);
                }
                Children::Tool(name, name_place, node) => {
                    self.visit((&name, name_place), node, None, child, found);
                }
            }
        }
    }

    fn declare(&mut self, action: ActionIdx, node: &Node, found: &mut Findings<'_>) {
        let list = node.get("inputs").and_then(|inputs| inputs.get("variables")).and_then(Node::items);
        for entry in list.unwrap_or_default() {
            let Some(name_node) = entry.get("name") else { continue };
            let Some(name) = name_node.text() else { continue };
            let index = self.variables.len() as u32;
            if let Some(first) = self.variable_slots.get(&fold(name)) {
                let related =
                    (self.variable_places[*first as usize].range(), "first declared here".to_owned());
                let message = format!("variable `{name}` is declared twice");
                let diagnostic = found.error(code::DUPLICATE_VARIABLE, name_node.place, message);
                diagnostic.related.push(related);
                diagnostic.hint = Some("use SetVariable to change its value".to_owned());
                continue;
            }
            self.variable_slots.insert(fold(name), index);
            self.variable_places.push(name_node.place);
            let kind = entry.get("type").and_then(Node::text).and_then(ValueType::from_name);
            self.variables.push(Variable {
                name: Arc::from(name),
                kind: kind.unwrap_or(crate::model::ValueType::Any),
                declared_by: action,
            });
        }
    }

    fn clash_with_triggers(&self, found: &mut Findings<'_>) {
        let mut seen: HashMap<String, Span32> = HashMap::new();
        for member in self.triggers {
            let other = match self.action(&member.name) {
                Some(action) => Some((self.outlined(action).name_place, "the action with this name")),
                None => seen.get(&fold(&member.name)).map(|place| (*place, "the other trigger")),
            };
            seen.insert(fold(&member.name), member.name_place);
            if let Some((place, label)) = other {
                let message = format!("duplicate trigger name `{}`", member.name);
                let diagnostic = found.error(code::DUPLICATE_NAME, member.name_place, message);
                diagnostic.related.push((place.range(), label.to_owned()));
            }
        }
    }

    pub(super) fn has_trigger(&self, name: &str) -> bool {
        self.triggers.iter().any(|trigger| fold(&trigger.name) == fold(name))
    }

    pub(super) fn action(&self, name: &str) -> Option<ActionIdx> {
        self.action_slots.get(&fold(name)).map(|slot| ActionIdx(*slot))
    }

    pub(super) fn variable(&self, name: &str) -> Option<VariableIdx> {
        self.variable_slots.get(&fold(name)).map(|slot| VariableIdx(*slot))
    }

    pub(super) fn outlined(&self, action: ActionIdx) -> &Outlined<'a> {
        &self.actions[action.0 as usize]
    }

    /// The actions around `action`, innermost first.
    pub(super) fn enclosing(&self, action: ActionIdx) -> impl Iterator<Item = ActionIdx> + '_ {
        let owner = |action: ActionIdx| {
            let block = self.actions[action.0 as usize].block;
            self.blocks.get(block.0 as usize).and_then(|block| block.owner)
        };
        std::iter::successors(owner(action), move |action| owner(*action))
    }
}

enum Children<'a> {
    None,
    Map(&'a Node),
    One(&'a Node),
    /// A tool that is an action itself, with its name.
    Tool(Arc<str>, Span32, &'a Node),
    /// An action that is made from a setting, with its name.
    Made(Made, Arc<str>, &'a Node),
}

/// Whether a control action uses the Loom spelling, with its parts in `inputs`.
fn stands_in_inputs(kind: Type, node: &Node, inputs: &Node) -> bool {
    let moved = |outer: &str, inner: &[&str]| {
        node.get(outer).is_none() && inner.iter().any(|name| inputs.get(name).is_some())
    };
    match kind {
        Type::Scope => moved("actions", &["actions"]),
        Type::If => {
            moved("actions", &["actions", "then"]) || moved("expression", &["condition", "expression"])
        }
        Type::Foreach => moved("foreach", &["items", "foreach"]) || moved("actions", &["actions"]),
        Type::Until => moved("expression", &["condition", "expression"]) || moved("actions", &["actions"]),
        Type::Switch => moved("cases", &["cases"]) || moved("expression", &["expression", "on"]),
        _ => false,
    }
}

fn is_loom_effect(type_name: &str) -> bool {
    ["AI", "GroupChat", "Memory", "Actor", "Activity"].iter().any(|name| name.eq_ignore_ascii_case(type_name))
}

fn uses_loom_triggers(definition: &Node) -> bool {
    let triggers = definition.get("triggers").and_then(Node::members).unwrap_or_default();
    triggers.iter().any(|member| {
        let type_name = member.value.get("type").and_then(Node::text).unwrap_or_default();
        ["schedule", "event", "RunEnded", "MemoryChanged"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(type_name))
            || type_name == "manual"
    })
}

/// The blocks of an action of this type, each with the map of its actions.
fn blocks_of<'a>(
    kind: Type,
    name: &str,
    node: &'a Node,
    found: &mut Findings<'_>,
) -> Vec<(BlockRole, Children<'a>)> {
    let inputs = node.get("inputs");
    let part = |name: &str| node.get(name).or_else(|| inputs.and_then(|inputs| inputs.get(name)));
    // A branch is written `{"actions": {…}}`, or in the Loom spelling as the map itself.
    let map = |found: &mut Findings<'_>, part: Option<&'a Node>, what: &str| match part {
        None => Children::None,
        Some(branch) => {
            let inner = match branch.member("actions") {
                Some(member) if !looks_like_action(&member.value) => &member.value,
                _ if branch.members().is_some_and(|members| {
                    members.iter().all(|member| looks_like_action(&member.value)) && !members.is_empty()
                }) =>
                {
                    branch
                }
                _ if branch.members().is_some() => return Children::None,
                _ => branch,
            };
            if inner.is_null() || found.want_object(inner, what).is_none() {
                Children::None
            } else {
                Children::Map(inner)
            }
        }
    };
    let direct = |found: &mut Findings<'_>| match part("actions") {
        None => Children::None,
        Some(actions) if found.want_object(actions, "actions").is_some() => Children::Map(actions),
        Some(_) => Children::None,
    };
    let mut blocks = Vec::new();
    match kind {
        Type::Scope | Type::Foreach | Type::Until | Type::While | Type::DoUntil => {
            blocks.push((BlockRole::Body, direct(found)));
        }
        Type::Retry => {
            let one = inputs.and_then(|inputs| inputs.get("action"));
            let children = match one {
                Some(action) => {
                    if let Some(actions) = part("actions") {
                        let message = "a Retry takes `action` or `actions`, not both";
                        found.error(code::SINGLE_ACTION, actions.place, message);
                    }
                    Children::One(action)
                }
                None => direct(found),
            };
            blocks.push((BlockRole::Body, children));
        }
        Type::If => {
            let then = match part("actions") {
                Some(_) => direct(found),
                None => map(found, inputs.and_then(|inputs| inputs.get("then")), "then"),
            };
            blocks.push((BlockRole::Body, then));
            blocks.push((BlockRole::Else, map(found, part("else"), "else")));
        }
        Type::Switch => {
            let cases = part("cases").and_then(Node::members).unwrap_or_default();
            for (place, case) in cases.iter().enumerate() {
                blocks.push((
                    BlockRole::Case(place as u32),
                    map(found, Some(&case.value), "actions of a case"),
                ));
            }
            if let Some(default) = part("default") {
                blocks.push((BlockRole::Default, map(found, Some(default), "default")));
            }
        }
        Type::Parallel => {
            let branches = part("branches");
            let listed: Vec<&Node> = match branches.map(|branches| &branches.shape) {
                Some(crate::text::Shape::Array(items)) => items.iter().collect(),
                Some(crate::text::Shape::Object(members)) => {
                    members.iter().map(|member| &member.value).collect()
                }
                Some(_) => {
                    if let Some(branches) = branches {
                        let message =
                            format!("`branches` must be an array or an object, found {}", branches.kind());
                        found.error(code::WRONG_KIND, branches.place, message);
                    }
                    Vec::new()
                }
                None => Vec::new(),
            };
            for (place, branch) in listed.iter().enumerate() {
                let children = map(found, Some(*branch), "a branch");
                blocks.push((BlockRole::Branch(place as u32), children));
            }
            if part("actions").is_some() {
                blocks.push((BlockRole::Branch(listed.len() as u32), direct(found)));
            }
        }
        Type::Agent | Type::GroupChat => {
            for (place, part) in parts(kind, name, node).into_iter().enumerate() {
                let children = match (part.made, part.node.get("actions")) {
                    (Some((made, name)), _) => Children::Made(made, name, part.node),
                    (None, Some(actions)) if found.want_object(actions, "actions of a tool").is_some() => {
                        Children::Map(actions)
                    }
                    (None, None) if looks_like_action(part.node) => {
                        Children::Tool(part.name, part.name_place, part.node)
                    }
                    (None, _) => Children::None,
                };
                blocks.push((BlockRole::Tool(place as u32), children));
            }
        }
        _ => {}
    }
    blocks
}

/// Whether an object is an action rather than a map of actions: its `type` is a string.
fn looks_like_action(node: &Node) -> bool {
    node.get("type").is_some_and(|kind| kind.text().is_some())
}
