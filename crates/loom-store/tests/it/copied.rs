//! Copying a store: there and back again, everything is the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::sync::Arc;

use bytes::Bytes;
use loom_store::{
    Commit, CopyError, Definition, Flags, Frame, FrameQuery, InboxQuery, KeyQuery, KeyWrite, MemoryStore,
    Order, Post, Recipient, RunId, RunQuery, RunRow, Seq, Shard, Shards, Snapshot, SqliteOptions,
    SqliteStore, Store, Timer, TimerKey, TimerQuery, UnixMillis, copy,
};

fn frame(number: u64) -> Frame {
    Frame { at: UnixMillis(number as i64), payload: format!("frame {number}").into() }
}

/// Fills a store with runs that have everything a run can have.
async fn fill(store: &dyn Store) {
    let definition = Definition::new(Bytes::from_static(b"{}"));
    for number in 0..20_u64 {
        let run = RunId::from_u64(RunId::first_at(UnixMillis(1_000 + number as i64)).as_u64()).unwrap();
        let small = store.put_blob(Bytes::from(format!("small {}", number / 2))).await.unwrap();
        let large = store.put_blob(Bytes::from(vec![number as u8; 2 << 20])).await.unwrap();
        let mut row = RunRow::new(run, "workflow", definition.hash(), 3);
        row.idempotency_key = Some(format!("key {number}").into());
        row.wake_at = (number % 3 == 0).then_some(UnixMillis(77));
        row.ended = (number % 3 == 1).then_some(UnixMillis(99));
        row.flags = Flags(number as u16 % 5);
        row.trigger = Some("trigger".into());
        let mut commit = Commit::to_run(run, Seq::FIRST, vec![frame(1)]);
        commit.row = Some(row);
        commit.definitions = vec![definition.clone()];
        commit.blobs = if number < 3 { vec![small, large] } else { vec![small] };
        if number % 3 == 0 {
            let key = TimerKey { run, number: 0 };
            commit.timers_set = vec![Timer { key, due: UnixMillis(77), kind: 1 }];
        }
        commit.inbox_posted = vec![Post {
            run: (number % 2 == 0).then_some(run),
            shard: Shard::new(9),
            kind: 4,
            at: UnixMillis(5),
            idempotency_key: Some(format!("message {number}").into()),
            payload: Bytes::from_static(b"message"),
        }];
        commit.keys = vec![KeyWrite {
            namespace: if number % 2 == 0 { "even".into() } else { "odd".into() },
            key: format!("value {number}").into(),
            value: Some(Bytes::from(format!("{number}"))),
            expires: (number == 4).then_some(UnixMillis(1 << 40)),
            run: (number == 5).then_some(run),
            ..KeyWrite::default()
        }];
        store.commit(commit).await.unwrap();
        let more = (2..=1 + number * 150).map(frame).collect();
        let mut commit = Commit::to_run(run, Seq(2), more);
        let state = Bytes::from_static(b"state");
        commit.snapshot = (number % 4 == 0).then_some(Snapshot { run, upto: Seq(1), state });
        store.commit(commit).await.unwrap();
    }
}

/// Everything in a store, without the numbers that a store assigns.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    let query = RunQuery { order: Order::OldestFirst, limit: 1_000, ..RunQuery::default() };
    for row in store.runs(query).await.unwrap().rows {
        let mut query = FrameQuery::of(row.id);
        loop {
            let page = store.frames(query).await.unwrap();
            all.extend(page.frames.iter().map(|frame| format!("{frame:?}")));
            let Some(next) = page.next else { break };
            query.from = next;
        }
        let loaded = store.load(row.id).await.unwrap().unwrap();
        all.push(format!("{:?} {:?} {:?}", loaded.row, loaded.snapshot, loaded.next));
        for hash in store.blobs_of(row.id).await.unwrap() {
            let content = store.blob(hash, 0, usize::MAX).await.unwrap().unwrap();
            all.push(format!("{hash} {}", content.len()));
        }
        all.push(format!("{:?}", store.definition(row.definition).await.unwrap()));
    }
    let until = UnixMillis(i64::MAX);
    let timers = TimerQuery { shards: Shards::ALL, until, after: None, limit: 1_000 };
    all.push(format!("{:?}", store.timers(timers).await.unwrap()));
    let inbox = InboxQuery { recipient: Recipient::Anyone, shards: Shards::ALL, after: None, limit: 1_000 };
    all.extend(store.inbox(inbox).await.unwrap().iter().map(|message| format!("{:?}", message.post)));
    let mut start = String::new();
    while let Some(namespace) = store.namespace_from(&start).await.unwrap() {
        start = format!("{namespace}\0");
        let prefix = String::new();
        let query = KeyQuery { namespace: Arc::clone(&namespace), prefix, after: None, limit: 1_000 };
        let page = store.keys(query).await.unwrap();
        let value = |value: &loom_store::KeyValue| {
            format!("{namespace} {} {:?} {:?} {:?}", value.key, value.value, value.expires, value.run)
        };
        all.extend(page.values.iter().map(value));
    }
    all
}

#[tokio::test]
async fn everything_is_the_same_after_two_copies() {
    let directory = tempfile::tempdir().unwrap();
    let (first, last) = (MemoryStore::default(), MemoryStore::default());
    fill(&first).await;
    let before = everything(&first).await;
    assert!(before.len() > 20_000, "{}", before.len());
    let middle = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    let copied = copy(&first, &middle, |_| {}).await.unwrap();
    assert_eq!((copied.runs, copied.purged, copied.messages, copied.values), (20, 0, 20, 20));
    assert_eq!(everything(&middle).await, before);
    let again = copy(&middle, &last, |_| {}).await.unwrap();
    assert_eq!(again, copied);
    assert_eq!(everything(&last).await, before);
    let refused = copy(&first, &middle, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::NotEmpty)), "{refused:?}");
}
