//! Links actions by `runAfter`: names to adjacency lists. Reports dependencies that can never be satisfied.

use super::{
    agents::handoff_of,
    outline::{Outline, Outlined, Type},
};
use crate::{
    diagnostic::{code, did_you_mean},
    findings::{Findings, head},
    model::{Action, ActionIdx, Block, Dependency},
    status::{Status, StatusSet},
    text::Node,
};

/// Reads every `runAfter`, links successors, roots and leaves, and reports cycles.
pub(super) fn link(
    outline: &Outline<'_>,
    implied: &[(ActionIdx, ActionIdx)],
    actions: &mut [Action],
    blocks: &mut [Block],
    found: &mut Findings<'_>,
) {
    for index in 0..actions.len() {
        let this = ActionIdx(index as u32);
        let mut dependencies = dependencies(outline, this, found);
        let earlier = depends_on(outline, this, found);
        let unsaid = implied.iter().filter(|(action, _)| *action == this).map(|(_, before)| *before);
        for action in earlier.into_iter().chain(unsaid) {
            if !dependencies.iter().any(|known| known.action == action) {
                let mut statuses = StatusSet::default();
                statuses.insert(Status::Succeeded);
                dependencies.push(Dependency { action, statuses });
            }
        }
        for dependency in &dependencies {
            actions[dependency.action.0 as usize].successors.push(this);
        }
        actions[index].run_after = dependencies;
    }
    for block in blocks.iter_mut() {
        handoffs(outline, actions, block, found);
        for action in &block.actions {
            let action = &actions[action.0 as usize];
            if action.run_after.is_empty() && !action.is_handed_to {
                block.roots.push(action.index);
            }
            if action.successors.is_empty() {
                block.leaves.push(action.index);
            }
        }
        cycles(outline, actions, block, found);
    }
}

/// Finds the agents that start only when another one hands over to them: those without `runAfter` that a handoff names. The
/// agent with which the block begins is not one of them, even if others can hand back to it.
fn handoffs(outline: &Outline<'_>, actions: &mut [Action], block: &mut Block, found: &mut Findings<'_>) {
    let mut targets = Vec::new();
    for from in &block.actions {
        let outlined = outline.outlined(*from);
        if outlined.kind != Type::Agent {
            continue;
        }
        for tool in outlined.node.get("tools").and_then(Node::members).unwrap_or_default() {
            let Some(name) = handoff_of(&tool.value) else { continue };
            let to = outline.action(&name).filter(|to| {
                let to = outline.outlined(*to);
                to.block == outlined.block && to.kind == Type::Agent
            });
            match to {
                Some(to) if to != *from => targets.push(to),
                _ => {
                    let agents = block.actions.iter().map(|action| outline.outlined(*action));
                    let agents = agents.filter(|other| {
                        other.kind == Type::Agent && !std::ptr::eq::<Outlined<'_>>(*other, outlined)
                    });
                    let hint = did_you_mean(&name, agents.map(|agent| &*agent.name));
                    let message = format!(
                        "`{}` hands over to `{name}`, which is not another Agent beside it",
                        outlined.name
                    );
                    found.error(code::BAD_HANDOFF, tool.name_place, message).hint = hint;
                }
            }
        }
    }
    let follows = |action: ActionIdx| {
        let written = outline.outlined(action).node.get("runAfter").and_then(Node::members);
        written.is_some_and(|written| !written.is_empty()) || !actions[action.0 as usize].run_after.is_empty()
    };
    let waits = |action: &ActionIdx| targets.contains(action) && !follows(*action);
    let agents: Vec<ActionIdx> = block
        .actions
        .iter()
        .copied()
        .filter(|action| outline.outlined(*action).kind == Type::Agent)
        .collect();
    // If every agent can be handed to, the conversation begins with the first.
    let first = if agents.iter().all(waits) { agents.first().copied() } else { None };
    let handed_to: Vec<ActionIdx> =
        agents.iter().copied().filter(|action| waits(action) && Some(*action) != first).collect();
    for action in &handed_to {
        actions[action.0 as usize].is_handed_to = true;
    }
    block.handed_to = handed_to;
}

fn dependencies(outline: &Outline<'_>, this: ActionIdx, found: &mut Findings<'_>) -> Vec<Dependency> {
    let outlined = outline.outlined(this);
    let Some(run_after) = outlined.node.get("runAfter") else { return Vec::new() };
    let Some(map) = found.want_object(run_after, "runAfter") else { return Vec::new() };
    let mut list: Vec<Dependency> = Vec::new();
    for member in map.members().unwrap_or_default() {
        let statuses = statuses(&member.name, &member.value, found);
        let siblings = || {
            let block = outlined.block;
            outline
                .actions
                .iter()
                .filter(move |action| action.block == block && !std::ptr::eq(*action, outlined))
                .map(|action| &*action.name)
        };
        let Some(action) = outline.action(&member.name) else {
            // The designer places an Agent after the trigger of its conversation, which has always fired before.
            if outlined.kind == Type::Agent
                && statuses.contains(Status::Succeeded)
                && outline.has_trigger(&member.name)
            {
                continue;
            }
            let hint = if found.may_suggest() { did_you_mean(&member.name, siblings()) } else { None };
            let diagnostic = found.error(
                code::UNKNOWN_DEPENDENCY,
                member.name_place,
                format!("Unknown dependency: {} (in `runAfter` of `{}`)", member.name, outlined.name),
            );
            diagnostic.label = "no action has this name".into();
            diagnostic.hint = hint;
            continue;
        };
        let target = outline.outlined(action);
        if target.block != outlined.block {
            let diagnostic = found.error(
                code::NOT_A_SIBLING,
                member.name_place,
                format!("`{}` cannot wait for `{}`, which is in another block", outlined.name, target.name),
            );
            diagnostic.related.push((target.name_place.range(), format!("`{}` is here", target.name)));
            let enclosing = outline
                .enclosing(action)
                .find(|enclosing| outline.outlined(*enclosing).block == outlined.block);
            diagnostic.hint = Some(match enclosing {
                Some(enclosing) if enclosing != this => {
                    format!("wait for `{}`, which contains it", outline.outlined(enclosing).name)
                }
                _ => "`runAfter` may only name actions in the same block".to_owned(),
            });
            continue;
        }
        match list.iter_mut().find(|dependency| dependency.action == action) {
            Some(same) => statuses.iter().for_each(|status| same.statuses.insert(status)),
            None => list.push(Dependency { action, statuses }),
        }
    }
    list
}

/// The dependencies of an action in the schemas before `runAfter`: `conditions` with `dependsOn`.
fn depends_on(outline: &Outline<'_>, this: ActionIdx, found: &mut Findings<'_>) -> Vec<ActionIdx> {
    let outlined = outline.outlined(this);
    let mut list = Vec::new();
    for condition in outlined.node.get("conditions").and_then(Node::items).unwrap_or_default() {
        if let Some(expression) = condition.get("expression") {
            let message = format!(
                "the condition of `{}` is written for a schema before 2016-06-01 and is ignored",
                outlined.name
            );
            let diagnostic = found.warning(code::PREVIEW_SCHEMA, expression.place, message);
            diagnostic.label = "the action runs in any case".into();
            diagnostic.hint = Some("use an If instead".to_owned());
        }
        let Some(node) = condition.get("dependsOn") else { continue };
        let named = node.text().and_then(|name| outline.action(name));
        if let Some(action) =
            named.filter(|action| *action != this && outline.outlined(*action).block == outlined.block)
        {
            list.push(action);
        } else {
            let name = node.text().unwrap_or(node.kind());
            let message =
                format!("`dependsOn` of `{}` names `{name}`, which is not in the same block", outlined.name);
            found.error(code::UNKNOWN_DEPENDENCY, node.place, message);
        }
    }
    list
}

fn statuses(name: &str, node: &Node, found: &mut Findings<'_>) -> StatusSet {
    let mut set = StatusSet::default();
    let Some(items) = node.items() else {
        let message = format!("`runAfter.{name}` must be an array of statuses, found {}", node.kind());
        found.error(code::BAD_RUN_AFTER_STATUS, node.place, message).hint =
            Some("for example [\"Succeeded\"]".to_owned());
        return set;
    };
    if items.is_empty() {
        let message = format!("`runAfter.{name}` is empty, so the action can never run");
        found.error(code::BAD_RUN_AFTER_STATUS, node.place, message).hint =
            Some("for example [\"Succeeded\"]".to_owned());
    }
    for item in items {
        let text = item.text().unwrap_or_default();
        if let Some(status) = Status::parse(text.trim()) {
            set.insert(status);
        } else {
            let shown = item.text().map_or_else(|| item.kind().to_owned(), |text| format!("`{text}`"));
            let message = format!("unknown status {shown}");
            let hint = did_you_mean(text, Status::ALL.iter().map(|status| status.as_str()));
            found.error(code::BAD_RUN_AFTER_STATUS, item.place, message).hint = hint;
        }
    }
    set
}

/// Reports one cycle for each group of actions that wait for each other.
fn cycles(outline: &Outline<'_>, actions: &[Action], block: &Block, found: &mut Findings<'_>) {
    // Repeatedly remove the actions without open dependencies (Kahn's algorithm). What remains is part of a cycle or
    // waits for one.
    let mut waiting: std::collections::BTreeMap<ActionIdx, usize> =
        block.actions.iter().map(|action| (*action, actions[action.0 as usize].run_after.len())).collect();
    let mut ready: Vec<ActionIdx> = block.roots.iter().chain(&block.handed_to).copied().collect();
    while let Some(action) = ready.pop() {
        waiting.remove(&action);
        for successor in &actions[action.0 as usize].successors {
            if let Some(open) = waiting.get_mut(successor) {
                *open -= 1;
                if *open == 0 {
                    ready.push(*successor);
                }
            }
        }
    }
    let mut reported: std::collections::BTreeSet<ActionIdx> = std::collections::BTreeSet::new();
    for start in waiting.keys() {
        let mut path: Vec<ActionIdx> = Vec::new();
        let mut at = *start;
        // Every remaining action waits for another one, so following the dependencies ends in a cycle.
        while !reported.contains(&at) {
            if let Some(first) = path.iter().position(|seen| *seen == at) {
                report_cycle(outline, &path[first..], found);
                break;
            }
            path.push(at);
            let next = actions[at.0 as usize]
                .run_after
                .iter()
                .map(|dependency| dependency.action)
                .find(|action| waiting.contains_key(action));
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        reported.extend(path);
    }
}

fn report_cycle(outline: &Outline<'_>, cycle: &[ActionIdx], found: &mut Findings<'_>) {
    let names: Vec<&str> =
        cycle.iter().chain(&cycle[..1]).map(|action| &*outline.outlined(*action).name).collect();
    let first = outline.outlined(cycle[0]);
    let place = first.node.get("runAfter").map_or_else(|| head(first.node), head);
    let message = format!("Circular dependency: {} (each waits for the next)", names.join(" → "));
    let related: Vec<_> = cycle[1..]
        .iter()
        .map(|action| {
            let outlined = outline.outlined(*action);
            (outlined.name_place.range(), format!("`{}` is part of the cycle", outlined.name))
        })
        .collect();
    let diagnostic = found.error(code::CIRCULAR_DEPENDENCY, place, message);
    diagnostic.related = related;
    diagnostic.hint = Some("remove one of these `runAfter` entries".to_owned());
}
