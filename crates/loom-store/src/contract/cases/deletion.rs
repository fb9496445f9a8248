//! Deleting a run removes all its data and nothing else.

use std::sync::Arc;

use bytes::Bytes;

use crate::{BLOB_ROW_MAX, Commit, Deletion, FrameQuery, Retention, RunRow, Seq, Store};

use super::{T0, WORKS, frame, furnish, hash_of, row, run, write};
use crate::contract::dump;

pub(super) async fn a_deleted_run_leaves_nothing(store: Arc<dyn Store>) {
    let shared = Bytes::from(vec![9; BLOB_ROW_MAX + 7]);
    let shared_hash = hash_of(&*store, shared.clone()).await;
    for (number, ended) in [(2, Some(200)), (3, None)] {
        furnish(&*store, number, ended, &shared).await;
    }
    let before = dump(&*store).await;
    furnish(&*store, 1, Some(100), &shared).await;
    assert_eq!(store.delete_run(run(3)).await.expect(WORKS), Deletion::NotEnded);
    assert_eq!(store.delete_run(run(7)).await.expect(WORKS), Deletion::NotFound);
    assert_eq!(store.delete_run(run(1)).await.expect(WORKS), Deletion::Deleted);
    assert_eq!(dump(&*store).await, before, "all data of the run is removed, and nothing else");
    assert_eq!(store.delete_run(run(1)).await.expect(WORKS), Deletion::NotFound);
    assert!(store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.is_empty());
    assert_eq!(store.load(run(1)).await.expect(WORKS), None);
    assert_eq!(store.run_by_key("w", "1").await.expect(WORKS), None);
    assert_eq!(store.posted(Some(run(1)), "k").await.expect(WORKS), None);
    let own = hash_of(&*store, "blob of 1".into()).await;
    assert_eq!(store.blob(own, 0, 9).await.expect(WORKS), None);
    assert!(store.blob(shared_hash, 0, usize::MAX).await.expect(WORKS).is_some(), "another run refers to it");
    // A run that retention has purged can be deleted as well, and one with a long journal.
    let policy = Retention { age_max_ms: Some(1_000), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0.plus(2_000)).await.expect(WORKS).purged, 1);
    assert_eq!(store.delete_run(run(2)).await.expect(WORKS), Deletion::Deleted);
    let frames = (0..9_000).map(|_| frame("f")).collect();
    let row = RunRow { ended: Some(T0), ..row(4, "w") };
    write(&*store, Commit { row: Some(row), ..Commit::to_run(run(4), Seq::FIRST, frames) }).await;
    assert_eq!(store.delete_run(run(4)).await.expect(WORKS), Deletion::Deleted);
    assert_eq!(dump(&*store).await.runs, before.runs[1..]);
    store.sweep(Retention::default(), T0).await.expect(WORKS);
    assert!(store.frames(FrameQuery::of(run(4))).await.expect(WORKS).frames.is_empty());
    store.verify().await.expect(WORKS);
}
