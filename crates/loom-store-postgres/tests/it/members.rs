//! The state machine of ownership, driven against the server.

use std::time::Duration;

use loom_store::{
    Commit, Conflict, Error, Failed, Intent, LeaseSettings, Membership, NewNode, Outcome, Seq, Shard, Shards,
    Under, prelude::*,
};
use loom_store_postgres::PostgresStore;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    faults::{frame, run, stored},
    server::shared,
};

const SETTINGS: LeaseSettings = LeaseSettings {
    lease: Duration::from_millis(900),
    renew_every: Duration::from_millis(150),
    margin: Duration::from_millis(100),
    claimed_at_once: 1_024,
};

/// Carries an intent out. `None` when nothing has to be reported.
async fn carry_out(
    store: &PostgresStore,
    intent: Intent,
    node: Option<loom_store::NodeId>,
) -> Option<Outcome> {
    fn answer<T>(result: Result<T, Error>, done: impl FnOnce(T) -> Outcome, failed: Failed) -> Outcome {
        match result {
            Ok(value) => done(value),
            Err(Error::Conflict(Conflict::Fenced { node })) => Outcome::Fenced(node),
            Err(_) => Outcome::Failed(failed),
        }
    }
    Some(match intent {
        Intent::Register => {
            let node = NewNode {
                name: "member".into(),
                address: "".into(),
                lease: SETTINGS.lease,
                ..NewNode::default()
            };
            answer(store.register(node).await, Outcome::Registered, Failed::Register)
        }
        Intent::Renew(node) => answer(store.renew(node).await, |()| Outcome::Renewed(node), Failed::Renew),
        Intent::Look => {
            let looked = store.nodes().await;
            let pairs =
                |nodes: Vec<loom_store::Node>| nodes.into_iter().map(|node| (node.id, node.shards)).collect();
            answer(looked, |nodes| Outcome::Looked(pairs(nodes)), Failed::Look)
        }
        Intent::Fence { by, node } => match store.fence(by, node).await {
            Ok(true) if by == node => Outcome::Fenced(node),
            _ => return None,
        },
        Intent::Claim { node, shards_max } => {
            let claimed = store.claim(node, shards_max).await;
            answer(claimed, |shards| Outcome::Claimed(node, shards), Failed::Claim)
        }
        Intent::Release { node, shards } => {
            let released = store.release(node, shards).await;
            answer(released, |()| Outcome::Released(node, shards), Failed::Release)
        }
        // Nothing works on the shards here.
        Intent::Drain(shards) => Outcome::Drained(node?, shards),
        Intent::Gain(_) | Intent::Drop => return None,
    })
}

/// Runs a member until it has left, which it does once it is asked to. Publishes its node and what it owns.
async fn member(
    store: PostgresStore,
    leave: watch::Receiver<bool>,
    state: watch::Sender<(Option<loom_store::NodeId>, Shards)>,
) {
    let began = Instant::now();
    let mut machine = Membership::new(SETTINGS, Duration::ZERO);
    let mut tick = interval(Duration::from_millis(10));
    while !machine.has_left() {
        tick.tick().await;
        if *leave.borrow() {
            machine.leave();
        }
        let mut intents = machine.tick(began.elapsed());
        while let Some(intent) = intents.pop() {
            if let Some(answer) = carry_out(&store, intent, machine.node()).await {
                intents.extend(machine.answered(began.elapsed(), answer));
            }
        }
        state.send_replace((machine.node(), machine.owned()));
    }
}

#[tokio::test]
async fn shards_are_shared_taken_over_and_given_back() {
    let options = shared().options();
    let mut members = JoinSet::new();
    let mut states = Vec::new();
    let mut leave = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let store = PostgresStore::open(options.clone()).await.unwrap();
        let (state, watched) = watch::channel((None, Shards::NONE));
        let (leaving, told) = watch::channel(false);
        tasks.push(members.spawn(member(store, told, state)));
        states.push(watched);
        leave.push(leaving);
    }
    let settled = async |live: &[usize]| {
        let share = usize::from(Shard::COUNT).div_ceil(live.len());
        loop {
            let counts: Vec<usize> = live.iter().map(|place| states[*place].borrow().1.len()).collect();
            if counts.iter().sum::<usize>() == usize::from(Shard::COUNT)
                && counts.iter().all(|count| *count <= share)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    settled(&[0, 1, 2]).await;
    let store = PostgresStore::open(options).await.unwrap();
    let shard = run(1).shard();
    let owner = states.iter().position(|state| state.borrow().1.contains(shard)).unwrap();
    let old = states[owner].borrow().0.unwrap();
    let under = |node| Some(Under { node, shard });
    store
        .commit(Commit { under: under(old), ..Commit::to_run(run(1), Seq(1), vec![frame()]) })
        .await
        .unwrap();
    // The owner is killed: it renews nothing, and releases nothing.
    tasks[owner].abort();
    let live: Vec<usize> = (0..3).filter(|place| *place != owner).collect();
    settled(&live).await;
    let heir = live.iter().copied().find(|place| states[*place].borrow().1.contains(shard)).unwrap();
    let new = states[heir].borrow().0.unwrap();
    let late =
        store.commit(Commit { under: under(old), ..Commit::to_run(run(1), Seq(2), vec![frame()]) }).await;
    assert!(matches!(late, Err(Error::Conflict(Conflict::Lost { node, .. })) if node == old), "{late:?}");
    store
        .commit(Commit { under: under(new), ..Commit::to_run(run(1), Seq(2), vec![frame()]) })
        .await
        .unwrap();
    // One leaves: the last one owns everything, and nothing had to be fenced for that.
    leave[heir].send_replace(true);
    let last: Vec<usize> = live.into_iter().filter(|place| *place != heir).collect();
    settled(&last).await;
    let nodes = store.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(Some(nodes[0].id), states[last[0]].borrow().0);
    assert_eq!(nodes[0].shards, Shards::ALL);
    assert_eq!(stored(&store, run(1)).await, 2);
    leave[last[0]].send_replace(true);
    while let Some(ended) = members.join_next().await {
        assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
    }
}
