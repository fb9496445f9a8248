//! Journals that are well formed but inconsistent: replay names the event and the reason, or ends in a state from which the run
//! can continue. It never panics, other runs continue, and nothing is written to such a journal.

use std::{sync::Arc, time::Duration};

use loom_definition::Workflow;
use loom_engine::{
    EffectId, Environment, Event, RecoverError, RunId, RunState, TimerId, event::Command, journal,
    simulate::Simulation, status_number,
};
use loom_store::{Commit, Definition, Frame, FrameQuery, MemoryStore, RunRow, Seq, Store, UnixMillis};
use proptest::prelude::*;

use crate::{
    crash::{BUSY, answer},
    graphs::{answer_of, definition, graph},
    snapshots::HOLDING,
    support::{Service, engine, now, ok, start, workflow},
};

/// The history of a whole run; `order` selects what happens next.
pub(crate) fn history(
    workflow: &Arc<Workflow>,
    mut order: u64,
    answer: impl Fn(&loom_engine::ports::Call) -> loom_engine::event::EffectResult,
) -> Vec<Event> {
    let mut live = Simulation::new(Arc::clone(workflow), Arc::new(Environment::default()), now());
    live.command(Command::Start(start(order)));
    loop {
        let choices = live.choices();
        if choices.is_empty() || live.run().state().status().is_final() {
            return live.events().to_vec();
        }
        order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        live.choose(choices[(order >> 33) as usize % choices.len()], &answer);
    }
}

/// What happened to a journal.
#[derive(Clone, Debug)]
enum Damage {
    Dropped(prop::sample::Index),
    Doubled(prop::sample::Index),
    Moved(prop::sample::Index, prop::sample::Index),
    Swapped(prop::sample::Index),
    CutOff(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Damage::Dropped),
        index().prop_map(Damage::Doubled),
        (index(), index()).prop_map(|(from, to)| Damage::Moved(from, to)),
        index().prop_map(Damage::Swapped),
        index().prop_map(Damage::CutOff),
    ]
}

fn damaged(mut events: Vec<Event>, damages: &[Damage]) -> Vec<Event> {
    for damage in damages {
        if events.len() < 2 {
            break;
        }
        match damage {
            Damage::Dropped(at) => drop(events.remove(at.index(events.len()))),
            Damage::Doubled(at) => {
                let at = at.index(events.len());
                events.insert(at, events[at].clone());
            }
            Damage::Moved(from, to) => {
                let event = events.remove(from.index(events.len()));
                events.insert(to.index(events.len() + 1), event);
            }
            Damage::Swapped(at) => {
                let at = at.index(events.len() - 1);
                events.swap(at, at + 1);
            }
            Damage::CutOff(at) => events.truncate(at.index(events.len()) + 1),
        }
    }
    events
}

/// Replays `events`. If they are accepted, the state must be one that a snapshot accepts, too, and the run must be able to continue.
fn is_refused(
    workflow: &Arc<Workflow>,
    events: &[Event],
    answer: impl Fn(&loom_engine::ports::Call) -> loom_engine::event::EffectResult,
) -> bool {
    let mut bytes = Vec::new();
    journal::encode(events, &mut bytes);
    let events = journal::decode(&bytes).expect("the journal is well formed");
    let mut state = RunState::new(Arc::clone(workflow));
    if let Err(illegal) = state.replay(&events) {
        let at = usize::try_from(illegal.number).unwrap() - 1;
        assert!(format!("{:?}", events[at]).starts_with(illegal.kind), "{illegal}");
        assert_eq!(state.seq(), illegal.number - 1, "the state is that of the events before it");
        return true;
    }
    let restored = journal::decode_snapshot(workflow, &journal::encode_snapshot(&state));
    restored.expect("the state is consistent");
    if state.status().is_final() || state.start().is_none() {
        return false;
    }
    Simulation::resume_from(state, Arc::new(Environment::default()), now()).play_on(10_000, answer);
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_journals_are_refused_or_legal(
        which in 0..2usize, order in any::<u64>(), damages in prop::collection::vec(damage(), 1..4),
    ) {
        let workflow = workflow([BUSY, HOLDING][which]);
        let events = damaged(history(&workflow, order, answer), &damages);
        is_refused(&workflow, &events, answer);
    }

    #[test]
    fn damaged_journals_of_random_graphs_are_refused_or_legal(
        graph in graph(), order in any::<u64>(), damages in prop::collection::vec(damage(), 1..4),
    ) {
        let workflow = definition(&graph);
        let call = |call: &loom_engine::ports::Call| answer_of(&graph, call);
        let events = damaged(history(&workflow, order, call), &damages);
        is_refused(&workflow, &events, call);
    }
}

/// Every event that is doubled is refused, except those that may happen twice.
#[test]
fn doubled_events_are_refused() {
    let workflow = workflow(BUSY);
    let events = history(&workflow, 7, answer);
    assert!(!is_refused(&workflow, &events, answer), "the whole history is legal");
    for at in 0..events.len() {
        let mut doubled = events.clone();
        doubled.insert(at, events[at].clone());
        let may_repeat = matches!(
            events[at],
            Event::VariableSet { .. } | Event::VariableAppended { .. } | Event::LoopStarted { .. }
        );
        assert_eq!(is_refused(&workflow, &doubled, answer), !may_repeat, "{:?}", events[at]);
    }
}

/// The reason of the refusal when the event at `at` is replaced.
fn reason(workflow: &Arc<Workflow>, events: &[Event], at: usize, event: &Event) -> &'static str {
    let mut state = RunState::new(Arc::clone(workflow));
    state.replay(&events[..at]).expect("the history is legal");
    state.replay([event]).expect_err("the event is illegal").reason
}

#[test]
fn the_reason_is_named() {
    let workflow = workflow(BUSY);
    let events = history(&workflow, 7, answer);
    let position = |wanted: fn(&Event) -> bool| events.iter().position(wanted).expect("there is one");
    let replaced = |at: usize, change: &dyn Fn(&mut Event)| {
        let mut event = events[at].clone();
        change(&mut event);
        reason(&workflow, &events, at, &event)
    };
    let ended = position(|event| matches!(event, Event::ActionEnded { .. }));
    let place = replaced(ended, &|event| {
        if let Event::ActionEnded { place, .. } = event {
            place.opening.0 = 99;
        }
    });
    assert_eq!(place, "the block is not open");
    let action = replaced(ended, &|event| {
        if let Event::ActionEnded { place, .. } = event {
            place.action.0 = 999;
        }
    });
    assert_eq!(action, "the definition has no such action");
    let last = events.iter().rposition(|event| matches!(event, Event::ActionEnded { .. })).unwrap();
    assert_eq!(reason(&workflow, &events, ended, &events[last]), "the actions before it have not ended");
    let timer = position(|event| matches!(event, Event::TimerEnded { .. }));
    assert_eq!(
        reason(&workflow, &events, timer, &Event::TimerEnded { timer: TimerId(999) }),
        "there is no such timer"
    );
    let call = replaced(position(|event| matches!(event, Event::AttemptEnded { .. })), &|event| {
        if let Event::AttemptEnded { effect, .. } = event {
            *effect = EffectId(999);
        }
    });
    assert_eq!(call, "there is no such call");
    let opened = replaced(
        events.iter().rposition(|event| matches!(event, Event::BlockOpened { .. })).unwrap(),
        &|event| {
            if let Event::BlockOpened { opening, .. } = event {
                opening.0 = u32::MAX;
            }
        },
    );
    assert_eq!(opened, "there is no such block");
    assert_eq!(reason(&workflow, &events, 0, &events[1]), "the run has not started");
}

async fn store_run(store: &dyn Store, run: RunId, workflow: &Workflow, parts: &[&[Event]]) {
    let frames = parts.iter().map(|events| {
        let mut payload = Vec::new();
        journal::encode(*events, &mut payload);
        Frame { at: UnixMillis(now().unix_millis()), payload: payload.into() }
    });
    let definition = Definition::new(workflow.source.as_bytes().to_vec().into());
    let mut commit = Commit::to_run(run, Seq::FIRST, frames.collect());
    let running = status_number(loom_definition::RunStatus::Running);
    commit.row = Some(RunRow::new(run, Arc::clone(&workflow.name), definition.hash(), running));
    commit.definitions.push(definition);
    store.commit(commit).await.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn other_runs_continue_and_nothing_is_written_to_an_illegal_journal() {
    let workflow = workflow(
        r#"{"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/x"}, "runAfter": {}}}"#,
    );
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let whole = history(&workflow, 3, |_| ok("{}"));
    let cut = whole.iter().position(|event| matches!(event, Event::AttemptStarted { .. })).unwrap() + 1;
    let (bad, good) = (RunId::MIN, "0000000000002".parse::<RunId>().unwrap());
    let again = [whole[cut - 1].clone()];
    store_run(&*store, bad, &workflow, &[&whole[..cut], &again]).await;
    store_run(&*store, good, &workflow, &[&whole[..cut]]).await;
    let before = store.load(bad).await.unwrap();

    let service = Service::new(|_, _| (Duration::ZERO, ok("{}")));
    let engine = engine(&service).store(Arc::clone(&store)).build();
    let mut recovered = engine.recover(None).await.expect("the store can be read");
    assert_eq!(recovered.runs.len(), 1);
    assert!(recovered.runs[0].ended().await.is_some(), "the other run ends");
    assert_eq!(service.count(), 1, "the illegal run calls nothing");
    let [(run, error)] = &recovered.unreadable[..] else { panic!("{:?}", recovered.unreadable) };
    assert_eq!(*run, bad);
    let RecoverError::Illegal { frame, source, .. } = error else { panic!("{error:?}") };
    assert_eq!((*frame, source.number, source.kind), (Seq(2), cut as u64 + 1, "AttemptStarted"));
    assert_eq!(source.reason, "the call's id was used before");
    assert_eq!(engine.why_unreadable(bad).as_deref(), Some(error.to_string().as_str()));
    assert!(engine.held().is_empty(), "trying again would not help");
    assert!(!engine.command(bad, Command::Cancel).await);
    engine.shut_down().await;
    assert_eq!(store.load(bad).await.unwrap(), before, "nothing was written to the run");
    let page = store.frames(FrameQuery::of(bad)).await.unwrap();
    assert_eq!(page.frames.len(), 2);
}
