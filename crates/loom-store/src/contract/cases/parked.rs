//! Runs that are parked.

use std::sync::Arc;

use crate::{RunRow, Shards, Store};

use super::{T0, WORKS, row, run, with_row, write};

pub(super) async fn parked_runs_are_unfinished_and_not_awake(store: Arc<dyn Store>) {
    let parked = |number| RunRow { wake_at: Some(T0.plus(60_000)), ..row(number, "w") };
    for number in 0..6 {
        write(&*store, with_row(if number % 2 == 0 { parked(number) } else { row(number, "w") })).await;
    }
    let ids = |rows: Vec<RunRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(store.awake(Shards::ALL, None, 2).await.expect(WORKS)), [1, 3].map(run));
    assert_eq!(ids(store.awake(Shards::ALL, Some(run(3)), 9).await.expect(WORKS)), [run(5)]);
    assert_eq!(
        ids(store.unfinished(Shards::ALL, Some(run(0)), 4).await.expect(WORKS)),
        [1, 2, 3, 4].map(run)
    );
    assert_eq!(store.parked(Shards::ALL).await.expect(WORKS), 3);
    // One wakes, one that was awake is parked, and one ends.
    write(&*store, with_row(row(0, "w"))).await;
    write(&*store, with_row(parked(1))).await;
    write(&*store, with_row(RunRow { ended: Some(T0), ..parked(2) })).await;
    assert_eq!(ids(store.awake(Shards::ALL, None, 9).await.expect(WORKS)), [0, 3, 5].map(run));
    assert_eq!(store.parked(Shards::ALL).await.expect(WORKS), 2);
}
