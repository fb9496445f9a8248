use std::sync::Arc;

use loom_definition::trigger::TriggerConcurrency;
use loom_engine::RunId;

use super::{Full, Gates};

const LIMIT: TriggerConcurrency = TriggerConcurrency { runs: 1, maximum_waiting_runs: 1 };

fn run(number: u64) -> RunId {
    RunId::from_u64(number).unwrap()
}

#[tokio::test]
async fn a_place_is_handed_on_in_order_and_the_queue_is_bounded() {
    let gates = Arc::new(Gates::default());
    gates.enter("w/t", LIMIT).await.unwrap().keep(&[run(1)]);
    let mut second = Box::pin(gates.enter("w/t", LIMIT));
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(gates.enter("w/t", LIMIT).await.unwrap_err(), Full);
    assert!(gates.enter("w/other", LIMIT).await.is_ok());
    gates.ended(run(1));
    second.await.unwrap().keep(&[run(2)]);
    gates.ended(run(2));
    assert!(gates.lock().gates.is_empty());
}

#[tokio::test]
async fn a_caller_that_leaves_gives_up_its_turn_and_its_place() {
    let gates = Arc::new(Gates::default());
    gates.enter("w/t", LIMIT).await.unwrap().keep(&[run(1)]);
    let mut waiting = Box::pin(gates.enter("w/t", LIMIT));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    gates.ended(run(1));
    // The slot is free again; a slot that is dropped unused is free as well.
    drop(gates.enter("w/t", LIMIT).await.unwrap());
    gates.enter("w/t", LIMIT).await.unwrap().keep(&[]);
    assert!(gates.lock().gates.is_empty());
}

#[tokio::test]
async fn a_place_given_to_one_who_left_goes_on() {
    let gates = Arc::new(Gates::default());
    gates.enter("w/t", LIMIT).await.unwrap().keep(&[run(1)]);
    let mut first = Box::pin(gates.enter("w/t", LIMIT));
    assert!(futures_util::poll!(&mut first).is_pending());
    gates.ended(run(1));
    // The place was given, but the caller leaves before taking it.
    drop(first);
    assert!(gates.lock().gates.is_empty());
}
