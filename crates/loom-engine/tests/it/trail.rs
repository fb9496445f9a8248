//! The trail of a state is the trail of the events that led to it, as far as later events show.

use std::sync::Arc;

use loom_definition::Workflow;
use loom_engine::{Event, RunState, Step, Trail, event::EffectResult, ports::Call};
use proptest::prelude::*;

use crate::{
    crash::{BUSY, answer},
    graphs::{answer_of, definition, graph},
    illegal::history,
    snapshots::HOLDING,
    support::workflow,
};

fn follow<'a>(mut trail: Trail, events: impl IntoIterator<Item = &'a Event>) -> Vec<Step> {
    events.into_iter().map(|event| trail.follow(event).expect("the event fits the definition")).collect()
}

/// Follows the events once from the first, and once from the trail of the state after each of them.
fn check(workflow: &Arc<Workflow>, order: u64, answer: impl Fn(&Call) -> EffectResult) {
    let events = history(workflow, order, answer);
    let whole = follow(Trail::new(Arc::clone(workflow)), &events);
    let mut state = RunState::new(Arc::clone(workflow));
    for (done, step) in whole.iter().enumerate() {
        state.replay([&events[done]]).expect("the history is legal");
        let rest = follow(Trail::of_state(&state, step.at), &events[done + 1..]);
        assert_eq!(rest, whole[done + 1..], "after {done} events");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_trail_of_a_state_continues_like_that_of_its_events(which in 0..2usize, order in any::<u64>()) {
        check(&workflow([BUSY, HOLDING][which]), order, answer);
    }

    #[test]
    fn so_does_that_of_random_graphs(graph in graph(), order in any::<u64>()) {
        check(&definition(&graph), order, |call| answer_of(&graph, call));
    }
}
