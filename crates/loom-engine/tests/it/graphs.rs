//! Laws on random graphs: every action ends with exactly one status, none starts before its `runAfter` is met, and the order in
//! which calls end changes no status.

use std::{collections::HashMap, sync::Arc};

use loom_definition::{ActionIdx, RunStatus, Status, Workflow};
use loom_engine::{
    Environment,
    event::{Command, EffectResult, Event},
    history::History,
    ports::Call,
    simulate::Simulation,
};
use proptest::prelude::*;

use crate::support::{now, ok, start, unavailable, workflow};

/// One action of a random graph: its predecessors with the statuses they must have, and whether its call fails.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    after: Vec<(usize, Vec<&'static str>)>,
    fails: bool,
    scoped: bool,
}

pub(crate) fn graph() -> impl Strategy<Value = Vec<Node>> {
    let statuses = prop::sample::subsequence(vec!["Succeeded", "Failed", "Skipped", "TimedOut"], 1..=3);
    let node =
        (prop::collection::vec((any::<prop::sample::Index>(), statuses), 0..4), any::<bool>(), any::<bool>());
    prop::collection::vec(node, 1..14).prop_map(|nodes| {
        let mut graph = Vec::new();
        for (place, (after, fails, scoped)) in nodes.into_iter().enumerate() {
            let mut earlier: Vec<(usize, Vec<&'static str>)> = Vec::new();
            for (index, statuses) in after {
                if place > 0 {
                    let target = index.index(place);
                    if !earlier.iter().any(|(known, _)| *known == target) {
                        earlier.push((target, statuses));
                    }
                }
            }
            graph.push(Node { after: earlier, fails, scoped });
        }
        graph
    })
}

pub(crate) fn definition(graph: &[Node]) -> Arc<Workflow> {
    let actions: Vec<String> = graph
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let after: Vec<String> = node
                .after
                .iter()
                .map(|(target, statuses)| format!(r#""A{target}": ["{}"]"#, statuses.join("\", \"")))
                .collect();
            let call = |name: &str, after: &str| {
                format!(
                    r#""{name}": {{"type": "Http", "inputs": {{"method": "GET", "uri": "http://s", "retryPolicy": {{"type": "none"}}}}, "runAfter": {{{after}}}}}"#
                )
            };
            if node.scoped {
                format!(r#""A{index}": {{"type": "Scope", "runAfter": {{{}}}, "actions": {{{}}}}}"#, after.join(","), call(&format!("C{index}"), ""))
            } else {
                call(&format!("A{index}"), &after.join(","))
            }
        })
        .collect();
    workflow(&format!("{{{}}}", actions.join(",")))
}

/// Runs a graph; `pick` selects which outstanding call ends next.
fn play(
    workflow: &Arc<Workflow>,
    graph: &[Node],
    mut pick: impl FnMut(usize) -> usize,
) -> (Option<RunStatus>, Vec<Event>) {
    let mut simulation = Simulation::new(Arc::clone(workflow), Arc::new(Environment::default()), now());
    simulation.command(Command::Start(start(1)));
    loop {
        let choices = simulation.choices();
        if choices.is_empty() {
            break;
        }
        let choice = choices[pick(choices.len())];
        simulation.choose(choice, |call| answer_of(graph, call));
    }
    let status = simulation.run().state().status();
    (status.is_final().then_some(status), simulation.events().to_vec())
}

/// The result of an action's call.
pub(crate) fn answer_of(graph: &[Node], call: &Call) -> EffectResult {
    let name = &call.definition().name;
    let index: usize = name[1..].parse().expect("names are a letter and a number");
    if graph[index].fails { unavailable() } else { ok("{}") }
}

fn statuses(workflow: &Arc<Workflow>, events: &[Event]) -> Vec<Option<Status>> {
    let mut history = History::new(Arc::clone(workflow));
    history.extend(events);
    (0..workflow.actions.len()).map(|index| history.status_of(ActionIdx(index as u32))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_action_ends_once_and_none_starts_early(graph in graph(), order in any::<u64>()) {
        let workflow = definition(&graph);
        let mut state = order;
        let (status, events) = play(&workflow, &graph, |count| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        });
        prop_assert!(status.is_some(), "the run ends");
        let mut ended: HashMap<ActionIdx, Status> = HashMap::new();
        for event in &events {
            match event {
                Event::ActionStarted { place, .. } => {
                    for dependency in &workflow.action(place.action).run_after {
                        let before = ended.get(&dependency.action);
                        prop_assert!(before.is_some_and(|status| dependency.statuses.contains(*status)));
                    }
                }
                Event::ActionEnded { place, outcome, .. } => {
                    prop_assert!(ended.insert(place.action, outcome.status).is_none(), "an action ended twice");
                }
                _ => {}
            }
        }
        prop_assert!(statuses(&workflow, &events).iter().all(Option::is_some));
    }

    #[test]
    fn the_order_in_which_calls_end_changes_no_status(graph in graph(), order in any::<u64>()) {
        let workflow = definition(&graph);
        let (first_status, first) = play(&workflow, &graph, |_| 0);
        let mut state = order;
        let (status, events) = play(&workflow, &graph, |count| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        });
        prop_assert_eq!(first_status, status);
        prop_assert_eq!(statuses(&workflow, &first), statuses(&workflow, &events));
    }
}
