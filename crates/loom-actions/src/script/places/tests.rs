use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_place_that_is_kept_by_a_script_given_up_is_lost_until_the_script_ends() {
    let places = Places::new(1);
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
    let places = Places::new(1);
    let (place, given_up) = places.enter().await.unwrap();
    drop(place);
    given_up.give_up();
    assert_eq!(*places.lost.borrow(), 0);
}
