use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_place_that_is_kept_by_a_script_given_up_is_lost_until_the_script_ends() {
    let places = Places::new(1, 0);
    let (place, given_up) = places.enter().await.unwrap();
    let (end, ends) = mpsc::channel::<()>();
    place.work(0, move || ends.recv().unwrap()).unwrap();
    // Somebody waits already when it is given up.
    let (waited, ()) = tokio::join!(places.enter(), async { given_up.give_up() });
    assert_eq!(waited.map(drop), Err(AllLost));
    assert_eq!(places.enter().await.map(drop), Err(AllLost));
    let mut lost = places.lost.subscribe();
    end.send(()).unwrap();
    lost.wait_for(|lost| *lost == 0).await.unwrap();
    let (_place, given_up) = places.enter().await.expect("the place is free again");
    drop(given_up);
}

#[tokio::test]
async fn giving_up_what_has_ended_loses_nothing() {
    let places = Places::new(1, 0);
    let (place, given_up) = places.enter().await.unwrap();
    drop(place);
    given_up.give_up();
    assert_eq!(*places.lost.borrow(), 0);
}

#[tokio::test]
async fn another_gets_the_place_of_a_script_that_does_not_end() {
    let places = Places::new(1, 2);
    let mut ends = Vec::new();
    let mut stuck = async || {
        let (place, given_up) = places.enter().await.expect("there is a thread to spare");
        let (end, ended) = mpsc::channel::<()>();
        place.work(0, move || ended.recv().unwrap()).unwrap();
        given_up.give_up();
        ends.push(end);
    };
    // Two are replaced; the third keeps the only place, and then nobody waits for one.
    stuck().await;
    stuck().await;
    stuck().await;
    assert_eq!(places.enter().await.map(drop), Err(AllLost));
    let mut lost = places.lost.subscribe();
    for (index, end) in ends.into_iter().enumerate().rev() {
        end.send(()).unwrap();
        lost.wait_for(|lost| usize::try_from(*lost).unwrap() == index).await.unwrap();
    }
    // There is one place again, and no more than one.
    let (place, _given_up) = places.enter().await.expect("the place is free again");
    assert_eq!(places.free.available_permits(), 0);
    drop(place);
    assert_eq!(places.free.available_permits(), 1);
}
