//! Guarantees about the store as a whole: whether it is empty, whether it works, what it was working on.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Commit, Condition, Error, FrameQuery, KeyWrite, Post, Refusal, Seq, Shard, Store};

use super::{NAMESPACE, T0, WORKS, frame, run};

/// A store that was marked when it was opened, such as an encrypted one, is not empty.
pub(super) async fn a_store_is_empty_until_something_is_stored(store: Arc<dyn Store>) {
    let name = |key: &str, value: Option<&'static [u8]>| KeyWrite {
        namespace: NAMESPACE.into(),
        key: key.into(),
        value: value.map(Bytes::from_static),
        ..KeyWrite::default()
    };
    let begun = !store.is_empty().await.expect(WORKS);
    store.commit(Commit::new()).await.expect(WORKS);
    assert_eq!(store.is_empty().await.expect(WORKS), !begun, "an empty commit stores nothing");
    let mut commit = Commit::new();
    commit.keys.push(name("a", Some(b"1")));
    store.commit(commit).await.expect(WORKS);
    assert!(!store.is_empty().await.expect(WORKS), "a store with a named value is not empty");
    let mut commit = Commit::new();
    commit.keys.push(name("a", None));
    store.commit(commit).await.expect(WORKS);
    assert_eq!(store.is_empty().await.expect(WORKS), !begun, "a deleted value leaves the store empty");
    let mut commit = Commit::new();
    commit.inbox_posted.push(Post {
        run: None,
        kind: 1,
        at: T0,
        idempotency_key: None,
        payload: Bytes::from_static(b"hello"),
        shard: Shard::default(),
    });
    store.commit(commit).await.expect(WORKS);
    assert!(!store.is_empty().await.expect(WORKS), "a store with a message is not empty");
}

pub(super) async fn finished_work_is_not_reported_as_interrupted(store: Arc<dyn Store>) {
    let before = store.interrupted();
    assert_eq!(before.runs, []);
    let works: Vec<_> = (0..300).map(|number| store.at_work(run(number), Seq(1))).collect();
    assert_eq!(store.interrupted(), before, "work in progress was not interrupted");
    drop(works);
    store.forget_interrupted();
    assert_eq!(store.interrupted().runs, []);
}

pub(super) async fn a_condemned_store_can_be_read_but_not_written(store: Arc<dyn Store>) {
    store.commit(Commit::to_run(run(1), Seq::FIRST, vec![frame("kept")])).await.expect(WORKS);
    store.condemn(Error::Damaged { what: "frame 7 is not what was written".into() });
    let more = || Commit::to_run(run(1), Seq(2), vec![frame("more")]);
    let refused = store.commit(more()).await;
    assert!(
        matches!(&refused, Err(error @ Error::Damaged { what }) if what.contains("frame 7") && !error.is_retryable()),
        "{refused:?}"
    );
    assert!(
        matches!(store.append(more()).map(drop), Err(refused) if matches!(refused.reason, Refusal::Unavailable(Error::Damaged { .. })))
    );
    let condition = store.health().condition;
    assert!(matches!(condition, Condition::Paused(Error::Damaged { .. })), "{condition:?}");
    assert!(matches!(store.resume().await, Err(Error::Damaged { .. })), "it cannot be resumed");
    assert!(matches!(store.commit(more()).await, Err(Error::Damaged { .. })));
    let frames = store.frames(FrameQuery::of(run(1))).await.expect("it can be read").frames;
    assert_eq!(frames.len(), 1);
}
