//! A store that fails or does not answer delays calls, and never holds them.

use std::{sync::Arc, time::Duration};

use loom_resilience::{Limit, LimiterConfig, Refused};
use loom_store::{
    MemoryStore, Store,
    contract::{FaultRate, FaultyStore},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Limits, STORE_MAX};

fn limits(store: &FaultyStore) -> Arc<Limits> {
    Arc::new(Limits::new(Arc::new(store.clone()) as Arc<dyn Store>))
}

fn faulty(rate: FaultRate) -> FaultyStore {
    FaultyStore::new(MemoryStore::default(), 1, rate)
}

async fn take(
    limits: &Arc<Limits>,
    config: &Arc<LimiterConfig>,
    max_wait: Option<Duration>,
) -> Result<(), Refused> {
    limits.take(&"billing".into(), Arc::clone(config), 1, max_wait).await
}

/// Takes permits while the disk writes what it is given.
async fn take_written(
    store: &FaultyStore,
    limits: &Arc<Limits>,
    config: &Arc<LimiterConfig>,
) -> Result<(), Refused> {
    let writes = async {
        loop {
            store.work().await;
            store.turn();
        }
    };
    tokio::select! {
        taken = take(limits, config, Some(Duration::ZERO)) => taken,
        () = writes => unreachable!("the disk writes for ever"),
    }
}

fn a_day(permits: u32) -> Arc<LimiterConfig> {
    Arc::new(LimiterConfig::new(Limit::new(permits, Duration::from_hours(24)).burst(permits)))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_delays_a_call_by_a_bounded_time() {
    let store = faulty(FaultRate::default());
    let (limits, config) = (limits(&store), a_day(2));
    // Nobody writes, so the commit waits for ever.
    let began = Instant::now();
    take(&limits, &config, None).await.unwrap();
    assert_eq!(began.elapsed(), STORE_MAX);
    // Further calls wait less: it is known not to answer.
    let began = Instant::now();
    take(&limits, &config, None).await.unwrap();
    assert!(began.elapsed() < STORE_MAX / 4, "{:?}", began.elapsed());
    // When it answers, the limit is that of the cluster again. It counts what it was asked for meanwhile and nobody waited for.
    store.turn();
    let mut permitted = 0;
    for _ in 0..4 {
        permitted += u32::from(take_written(&store, &limits, &config).await.is_ok());
    }
    assert!((1..=2).contains(&permitted), "{permitted}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_delays_a_call_by_a_bounded_time() {
    let store = faulty(FaultRate { reads: Some(1), ..FaultRate::default() });
    let limits = limits(&store);
    let began = Instant::now();
    take(&limits, &a_day(1), None).await.unwrap();
    let took = began.elapsed();
    assert!(took >= STORE_MAX && took < STORE_MAX + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_applies_to_calls_that_wait() {
    let store = faulty(FaultRate::default());
    let (limits, once) = (limits(&store), a_day(1));
    take_written(&store, &limits, &once).await.unwrap();
    assert!(take_written(&store, &limits, &once).await.is_err());
    let waiting = take(&limits, &once, None);
    let raised = async {
        sleep(Duration::from_secs(1)).await;
        take(&limits, &a_day(10), None).await
    };
    let writes = async {
        loop {
            store.turn();
            sleep(Duration::from_millis(1)).await;
        }
    };
    let both = timeout(Duration::from_secs(5), async {
        tokio::select! {
            both = async { tokio::join!(waiting, raised) } => both,
            () = writes => unreachable!("the disk writes for ever"),
        }
    });
    let (waited, taken) = both.await.expect("calls do not wait for the rest of the day");
    waited.unwrap();
    taken.unwrap();
}
