//! No timer is missed, however many there are, and whenever they are set.

use std::collections::BTreeMap;

use loom_store::{Commit, Journal, MemoryStore, contract::Seeded};

use super::*;
use crate::parked::{alarm, alarm_key};

fn run(number: u64) -> RunId {
    RunId::from_u64(number).unwrap()
}

async fn store_timers(store: &MemoryStore, timers: Vec<Timer>) {
    let commit = Commit { timers_set: timers, ..Commit::new() };
    store.commit(commit).await.unwrap();
}

#[tokio::test]
async fn every_timer_fires_in_its_time() {
    for seed in 0..60 {
        let mut random = Seeded::new(seed);
        let (store, wheel) = (MemoryStore::default(), Wheel::default());
        // Many are due at once, so that pages end between them.
        let many = 1 + random.below(3_000);
        let mut wanted: BTreeMap<RunId, UnixMillis> = BTreeMap::new();
        for number in 0..many {
            wanted.insert(run(number), UnixMillis((random.below(40) * 10_000) as i64));
        }
        store_timers(&store, wanted.iter().map(|(run, due)| alarm(*run, *due)).collect()).await;
        let (mut now, mut more) = (0, many);
        while now < 600_000 {
            wheel.read_ahead(&store, UnixMillis(now)).await.unwrap();
            let (fired, next) = wheel.due(UnixMillis(now));
            for fired in &fired {
                let due = wanted.remove(fired);
                assert!(due.is_none_or(|due| due.0 <= now), "seed {seed}: {fired} fires early");
            }
            let gone = fired.iter().map(|fired| alarm_key(*fired)).collect();
            store.commit(Commit { timers_cleared: gone, ..Commit::new() }).await.unwrap();
            if fired.is_empty() {
                let late = wanted.iter().find(|(_, due)| due.0 < now - 10_000);
                assert_eq!(late, None, "seed {seed}: a timer is missed at {now}");
                assert!(next.0 > now, "seed {seed}: it would spin");
                now = next.0.min(now + 1 + random.below(9_000) as i64);
            }
            // A run is parked: first the store, then the wheel.
            if random.one_in(3) {
                let due = UnixMillis(now + 1 + random.below(100_000) as i64);
                store_timers(&store, vec![alarm(run(more), due)]).await;
                wheel.set(run(more), due);
                wanted.insert(run(more), due);
                more += 1;
            }
        }
        while now < 800_000 {
            now += 1_000;
            wheel.read_ahead(&store, UnixMillis(now)).await.unwrap();
            let fired = wheel.due(UnixMillis(now)).0;
            wanted.retain(|run, _| !fired.contains(run));
        }
        assert!(wanted.is_empty(), "seed {seed}: {wanted:?}");
    }
}

/// The control: a timer that is set near the present has to be added to the wheel, because its place in the store has been
/// read already.
#[tokio::test]
async fn a_timer_that_is_only_in_the_store_may_be_behind_the_cursor() {
    let (store, wheel) = (MemoryStore::default(), Wheel::default());
    store_timers(&store, vec![alarm(run(1), UnixMillis(50_000))]).await;
    wheel.read_ahead(&store, UnixMillis(0)).await.unwrap();
    store_timers(&store, vec![alarm(run(2), UnixMillis(20_000))]).await;
    wheel.read_ahead(&store, UnixMillis(20_000)).await.unwrap();
    assert_eq!(wheel.due(UnixMillis(30_000)).0, []);
    wheel.set(run(2), UnixMillis(20_000));
    assert_eq!(wheel.due(UnixMillis(30_000)).0, [run(2)]);
    assert_eq!(wheel.due(UnixMillis(60_000)).0, [run(1)]);
}

/// What is known is bounded, however much is due.
#[tokio::test]
async fn the_wheel_knows_a_bounded_number_of_timers() {
    let (store, wheel) = (MemoryStore::default(), Wheel::default());
    let all = 3 * KNOWN_MAX as u64;
    store_timers(&store, (0..all).map(|number| alarm(run(number), UnixMillis(1))).collect()).await;
    let mut fired = Vec::new();
    while fired.len() < all as usize {
        wheel.read_ahead(&store, UnixMillis(5)).await.unwrap();
        assert!(wheel.lock().due.len() <= KNOWN_MAX);
        fired.extend(wheel.due(UnixMillis(5)).0);
    }
    fired.sort_unstable();
    fired.dedup();
    assert_eq!(fired.len(), all as usize);
}
