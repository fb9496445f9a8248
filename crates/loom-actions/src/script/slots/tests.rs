use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn the_place_of_an_abandoned_script_is_lost_until_it_ends() {
    let slots = Slots::new(1, 0);
    let (slot, given_up) = slots.enter().await.unwrap();
    let (end, ends) = mpsc::channel::<()>();
    slot.work(0, move || ends.recv().unwrap()).unwrap();
    // A script is already waiting when the other one is abandoned.
    let (waited, ()) = tokio::join!(slots.enter(), async { given_up.give_up() });
    assert_eq!(waited.map(drop), Err(AllLost));
    assert_eq!(slots.enter().await.map(drop), Err(AllLost));
    let mut lost = slots.lost.subscribe();
    end.send(()).unwrap();
    lost.wait_for(|lost| *lost == 0).await.unwrap();
    let (_place, given_up) = slots.enter().await.expect("the slot is free again");
    drop(given_up);
}

#[tokio::test]
async fn giving_up_an_ended_script_loses_no_place() {
    let slots = Slots::new(1, 0);
    let (slot, given_up) = slots.enter().await.unwrap();
    drop(slot);
    given_up.give_up();
    assert_eq!(*slots.lost.borrow(), 0);
}

#[tokio::test]
async fn another_script_gets_the_place_of_one_that_does_not_end() {
    let slots = Slots::new(1, 2);
    let mut ends = Vec::new();
    let mut stuck = async || {
        let (slot, given_up) = slots.enter().await.expect("there is a thread to spare");
        let (end, ended) = mpsc::channel::<()>();
        slot.work(0, move || ended.recv().unwrap()).unwrap();
        given_up.give_up();
        ends.push(end);
    };
    // Two are replaced; the third keeps the only slot, and new scripts fail.
    stuck().await;
    stuck().await;
    stuck().await;
    assert_eq!(slots.enter().await.map(drop), Err(AllLost));
    let mut lost = slots.lost.subscribe();
    for (index, end) in ends.into_iter().enumerate().rev() {
        end.send(()).unwrap();
        lost.wait_for(|lost| usize::try_from(*lost).unwrap() == index).await.unwrap();
    }
    // Exactly one slot is free again.
    let (slot, _given_up) = slots.enter().await.expect("the slot is free again");
    assert_eq!(slots.free.available_permits(), 0);
    drop(slot);
    assert_eq!(slots.free.available_permits(), 1);
}
