//! Runs that are parked.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Commit, Flags, Post, RunQuery, RunRow, Seq, Shard, Shards, Store};

use super::{T0, WORKS, frame, row, run, with_row, write};

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

pub(super) async fn a_loaded_run_says_whether_it_has_messages(store: Arc<dyn Store>) {
    write(&*store, with_row(row(1, "w"))).await;
    write(&*store, with_row(row(2, "w"))).await;
    let has_messages =
        async |number| store.load(run(number)).await.expect(WORKS).map(|loaded| loaded.has_messages);
    let both = async || [has_messages(1).await, has_messages(2).await];
    assert_eq!(both().await, [Some(false); 2]);
    let post = |to: Option<i64>| Post {
        run: to.map(run),
        kind: 1,
        at: T0,
        idempotency_key: None,
        payload: Bytes::from_static(b"hello"),
        shard: Shard::default(),
    };
    let posts = vec![post(Some(1)), post(None), post(Some(1))];
    let ids = write(&*store, Commit { inbox_posted: posts, ..Commit::new() }).await.inbox;
    assert_eq!(both().await, [Some(true), Some(false)]);
    for (seq, message, left) in [(1, ids[0], true), (2, ids[2], false)] {
        let mut consume = Commit::to_run(run(1), Seq(seq), vec![frame("consumed it")]);
        consume.inbox_consumed = vec![message];
        write(&*store, consume).await;
        assert_eq!(both().await, [Some(left), Some(false)]);
    }
}

/// A store may write only what has changed; it has to find out what that is.
pub(super) async fn each_field_of_a_row_may_change_alone(store: Arc<dyn Store>) {
    let mut kept = row(1, "w");
    write(&*store, with_row(kept.clone())).await;
    let changes: [fn(&mut RunRow); 14] = [
        |row| row.wake_at = Some(T0),
        |row| row.flags = Flags(5),
        |row| row.details = Bytes::from_static(b"more"),
        |row| row.error = Some("Timeout".into()),
        |row| row.error_text = Some("too late".into()),
        |row| row.started = Some(T0),
        |row| row.tracking_id = Some("t".into()),
        |row| row.trigger = Some("manual".into()),
        |row| row.wake_at = None,
        |row| row.flags = Flags::NONE,
        |row| row.attempt = 2,
        |row| row.ended = Some(T0.plus(1)),
        |row| row.status = 7,
        |row| row.error = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        change(&mut kept);
        write(&*store, with_row(kept.clone())).await;
        let found = RunQuery {
            status: Some(kept.status),
            error: kept.error.clone(),
            tracking_id: kept.tracking_id.clone(),
            flags: kept.flags,
            ..RunQuery::default()
        };
        assert_eq!(store.run(run(1)).await.expect(WORKS), Some(kept.clone()), "change {number}");
        assert_eq!(store.runs(found).await.expect(WORKS).rows, [kept.clone()], "change {number}");
        let flag = RunQuery { flags: Flags(1), ..RunQuery::default() };
        let with_flag = store.runs(flag).await.expect(WORKS).rows.len();
        assert_eq!(with_flag, usize::from(kept.flags == Flags(5)), "change {number}");
    }
}
