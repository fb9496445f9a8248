//! What several processes that use one database may rely on.
//!
//! Each case gets two handles on one empty store: two connections to one database, or one store twice if it belongs to
//! one process. The nodes that it registers are different in any case.

use std::{cell::Cell, collections::BTreeSet, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;

use super::{Checked, NAMESPACE};
use crate::{
    Change, Commit, Committed, Conflict, ContentHash, Error, Frame, InboxId, InboxQuery, KeyExpectation,
    KeyWrite, NewNode, NodeId, Post, Recipient, RunId, RunRow, Seq, Shard, Shards, Store, Under, UnixMillis,
    Written,
};

/// A guarantee: its name, and its check on two handles of one empty store.
#[derive(Clone, Copy, Debug)]
pub struct ClusterCase {
    /// The guarantee, in words.
    pub name: &'static str,
    /// Checks the guarantee, and panics when it does not hold.
    pub check: fn([Arc<dyn Store>; 2]) -> Checked,
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All guarantees for several handles.
        pub const CLUSTER: &[ClusterCase] = &[
            $(ClusterCase { name: stringify!($name), check: |handles| Box::pin($name(handles)) }),*
        ];
    };
}

cases![
    a_node_that_lost_its_shards_writes_nothing,
    a_shard_has_one_owner,
    a_released_shard_can_be_claimed_by_others,
    a_message_is_taken_by_one,
    a_named_value_is_replaced_by_one,
    one_run_is_accepted_for_a_key,
    a_follower_misses_no_change,
];

const WORKS: &str = "a store that works returns a result";
const T0: UnixMillis = UnixMillis(1_700_000_000_000);

fn run(number: i64) -> RunId {
    RunId::first_at(T0.plus(number))
}

fn frames(number: i64, first: u64) -> Commit {
    let frame = Frame { at: T0, payload: Bytes::from_static(b"frame") };
    Commit::to_run(run(number), Seq(first), vec![frame])
}

/// Waits for two futures, which make progress together.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    let (mut left, mut right) = (None, None);
    poll_fn(|context| {
        if left.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            left = Some(value);
        }
        if right.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            right = Some(value);
        }
        match (left.take(), right.take()) {
            (Some(left), Some(right)) => Poll::Ready((left, right)),
            parts => {
                (left, right) = parts;
                Poll::Pending
            }
        }
    })
    .await
}

/// Lets others make progress once.
async fn step_back() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn join(store: &dyn Store, name: &str) -> NodeId {
    let node = NewNode {
        name: name.into(),
        address: "".into(),
        lease: Duration::from_millis(1),
        ..NewNode::default()
    };
    store.register(node).await.expect(WORKS)
}

async fn written(store: &dyn Store, commit: Commit) -> Written {
    match store.commit(commit).await.expect(WORKS) {
        Committed::Written(written) => written,
        Committed::Duplicate(earlier) => panic!("treated as a duplicate of {earlier}"),
    }
}

async fn conflict(store: &dyn Store, commit: Commit) -> Conflict {
    match store.commit(commit).await {
        Err(Error::Conflict(conflict)) => conflict,
        other => panic!("expected a conflict, found {other:?}"),
    }
}

/// Fences a node whose lease has run out, as soon as it has.
async fn fence(store: &dyn Store, by: NodeId, node: NodeId) {
    while !store.fence(by, node).await.expect(WORKS) {
        assert!(store.nodes().await.expect(WORKS).iter().any(|live| live.id == node), "it is not live");
    }
}

async fn a_node_that_lost_its_shards_writes_nothing([one, two]: [Arc<dyn Store>; 2]) {
    let old = join(&*one, "old").await;
    assert_eq!(one.claim(old, usize::MAX).await.expect(WORKS), Shards::ALL);
    let shard = run(1).shard();
    let under = |node, commit| Commit { under: Some(Under { node, shard }), ..commit };
    written(&*one, under(old, frames(1, 1))).await;
    let new = join(&*two, "new").await;
    assert!(new != old, "an id is never used again");
    let early = under(new, frames(1, 2));
    assert_eq!(conflict(&*two, early).await, Conflict::Lost { node: new, shard }, "it owns nothing yet");
    fence(&*two, new, old).await;
    assert!(!two.fence(new, old).await.expect(WORKS), "it is fenced already");
    assert_eq!(two.claim(new, usize::MAX).await.expect(WORKS), Shards::ALL);
    // What the new owner reads is complete, and what the old one writes is refused as a whole.
    let next = two.frames(crate::FrameQuery::of(run(1))).await.expect(WORKS).frames.len();
    assert_eq!(next, 1);
    let mut late = under(old, frames(1, 2));
    let value = KeyWrite {
        namespace: NAMESPACE.into(),
        key: "late".into(),
        value: Some(Bytes::from_static(b"late")),
        ..KeyWrite::default()
    };
    late.keys.push(value.clone());
    assert_eq!(conflict(&*one, late).await, Conflict::Lost { node: old, shard });
    let trigger = Commit { keys: vec![value.clone()], ..Commit::new() };
    assert_eq!(conflict(&*one, under(old, trigger)).await, Conflict::Lost { node: old, shard });
    assert!(two.key(NAMESPACE, "late").await.expect(WORKS).is_none());
    for refused in
        [one.renew(old).await, one.claim(old, 1).await.map(drop), one.fence(old, new).await.map(drop)]
    {
        assert!(
            matches!(refused, Err(Error::Conflict(Conflict::Fenced { node })) if node == old),
            "{refused:?}"
        );
    }
    written(&*two, under(new, frames(1, 2))).await;
    // The control: only the owner made the difference.
    written(&*one, Commit { keys: vec![value], ..frames(1, 3) }).await;
    assert!(two.key(NAMESPACE, "late").await.expect(WORKS).is_some());
    assert_eq!(two.nodes().await.expect(WORKS).iter().map(|node| node.id).collect::<Vec<_>>(), [new]);
}

async fn a_shard_has_one_owner([one, two]: [Arc<dyn Store>; 2]) {
    let (left, right) = (join(&*one, "left").await, join(&*two, "right").await);
    let (mut owned, mut rounds) = ([Shards::NONE; 2], 0);
    loop {
        let (a, b) = both(one.claim(left, 64), two.claim(right, 64)).await;
        let gained = [a.expect(WORKS), b.expect(WORKS)];
        if gained.iter().all(Shards::is_empty) {
            break;
        }
        for (owned, gained) in owned.iter_mut().zip(gained) {
            *owned = owned.iter().chain(gained.iter()).collect();
        }
        rounds += 1;
        assert!(rounds <= 2 * usize::from(Shard::COUNT), "a claim returns what is new");
    }
    assert_eq!(owned[0].len() + owned[1].len(), usize::from(Shard::COUNT), "all shards, none twice");
    assert!(owned[0].iter().all(|shard| !owned[1].contains(shard)));
    assert_eq!(two.owned(left).await.expect(WORKS), owned[0]);
    let nodes = one.nodes().await.expect(WORKS);
    assert_eq!(nodes.iter().map(|node| node.shards).collect::<Vec<_>>(), owned);
    assert_eq!([&*nodes[0].name, &*nodes[1].name], ["left", "right"]);
}

async fn a_released_shard_can_be_claimed_by_others([one, two]: [Arc<dyn Store>; 2]) {
    let (left, right) = (join(&*one, "left").await, join(&*two, "right").await);
    one.claim(left, usize::MAX).await.expect(WORKS);
    assert_eq!(two.claim(right, 9).await.expect(WORKS), Shards::NONE);
    let given: Shards = [3, 500, 1_023].into_iter().map(Shard::new).collect();
    // Releasing what one does not own changes nothing.
    two.release(right, Shards::ALL).await.expect(WORKS);
    one.release(left, given).await.expect(WORKS);
    assert_eq!(two.claim(right, 9).await.expect(WORKS), given);
    let shard = Shard::new(500);
    let note = |node| Commit { under: Some(Under { node, shard }), ..Commit::new() };
    assert_eq!(conflict(&*one, note(left)).await, Conflict::Lost { node: left, shard });
    written(&*two, note(right)).await;
    // A run needs its own shard as well.
    let shard = run(1).shard();
    let mut foreign = frames(1, 1);
    foreign.under = Some(Under { node: right, shard: Shard::new(500) });
    assert_eq!(conflict(&*two, foreign).await, Conflict::Lost { node: right, shard });
}

async fn a_message_is_taken_by_one([one, two]: [Arc<dyn Store>; 2]) {
    let post = Post {
        run: None,
        shard: Shard::new(7),
        kind: 1,
        at: T0,
        idempotency_key: None,
        payload: Bytes::from_static(b"message"),
    };
    for round in 0..20 {
        let posted = Commit { inbox_posted: vec![post.clone()], ..Commit::new() };
        let message = written(&*one, posted).await.inbox[0];
        let take = |number: i64| Commit { inbox_consumed: vec![message], ..frames(number, 1) };
        let (left, right) = (2 * round, 2 * round + 1);
        let taken = both(one.commit(take(left)), two.commit(take(right))).await;
        let refused = |answer: &Result<Committed, Error>| matches!(answer, Err(Error::Conflict(Conflict::Taken { message: taken })) if *taken == message);
        assert!(refused(&taken.0) != refused(&taken.1), "{taken:?}");
        let loser = if refused(&taken.0) { left } else { right };
        let found = one.frames(crate::FrameQuery::of(run(loser))).await.expect(WORKS);
        assert!(found.frames.is_empty(), "a refused commit leaves no trace");
        // The control: without the message, both may write.
        written(&*two, frames(loser, 1)).await;
    }
    let mut query = InboxQuery { recipient: Recipient::Nobody, shards: Shards::ALL, after: None, limit: 9 };
    assert!(one.inbox(query).await.expect(WORKS).is_empty());
    let posted = Commit { inbox_posted: vec![post], ..Commit::new() };
    let last: InboxId = written(&*one, posted).await.inbox[0];
    query.shards = [Shard::new(7)].into_iter().collect();
    assert_eq!(two.inbox(query).await.expect(WORKS).iter().map(|found| found.id).collect::<Vec<_>>(), [last]);
    query.shards = [Shard::new(8)].into_iter().collect();
    assert!(two.inbox(query).await.expect(WORKS).is_empty());
}

async fn a_named_value_is_replaced_by_one([one, two]: [Arc<dyn Store>; 2]) {
    let write = |expect, value: &'static str| {
        let write = KeyWrite {
            namespace: NAMESPACE.into(),
            key: "k".into(),
            expect,
            value: Some(Bytes::from_static(value.as_bytes())),
            ..KeyWrite::default()
        };
        Commit { keys: vec![write], ..Commit::new() }
    };
    let mut expect = KeyExpectation::Absent;
    for _ in 0..20 {
        let (left, right) = both(one.commit(write(expect, "left")), two.commit(write(expect, "right"))).await;
        let winner = match (&left, &right) {
            (Ok(_), Err(Error::Conflict(Conflict::Key { .. }))) => "left",
            (Err(Error::Conflict(Conflict::Key { .. })), Ok(_)) => "right",
            other => panic!("one must win: {other:?}"),
        };
        let found = one.key(NAMESPACE, "k").await.expect(WORKS).expect("it was written");
        assert_eq!(found.value, winner.as_bytes());
        assert_eq!(two.key(NAMESPACE, "k").await.expect(WORKS), Some(found.clone()));
        expect = KeyExpectation::Version(found.version);
    }
}

async fn one_run_is_accepted_for_a_key([one, two]: [Arc<dyn Store>; 2]) {
    let accept = |number: i64| {
        let mut row = RunRow::new(run(number), "w", ContentHash::of(b"{}"), 0);
        row.idempotency_key = Some("key".into());
        Commit { row: Some(row), ..frames(number, 1) }
    };
    let mut answers = Vec::new();
    for round in 0..8 {
        let both = both(one.commit(accept(2 * round)), two.commit(accept(2 * round + 1))).await;
        answers.extend([both.0.expect(WORKS), both.1.expect(WORKS)]);
    }
    let accepted = one.run_by_key("w", "key").await.expect(WORKS).expect("one was accepted").id;
    let written = answers.iter().filter(|answer| matches!(answer, Committed::Written(_))).count();
    assert_eq!(written, 1);
    assert_eq!(
        answers.iter().filter(|answer| **answer == Committed::Duplicate(accepted)).count(),
        answers.len() - 1
    );
}

/// Reads all changes after a cursor, two at a time.
async fn follow(store: &dyn Store, cursor: &mut Option<crate::Cursor>) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        let page = store.changes(cursor.clone(), 2).await.expect(WORKS);
        assert!(!page.is_incomplete);
        changes.extend(page.changes);
        // A cursor survives being written down.
        *cursor = Some(page.next.to_string().parse().expect("a cursor can be parsed"));
        if !page.has_more {
            return changes;
        }
    }
}

async fn a_follower_misses_no_change([one, two]: [Arc<dyn Store>; 2]) {
    const WRITERS: i64 = 4;
    const COMMITS: i64 = 25;
    let mut cursor = Some(one.latest().await.expect(WORKS));
    assert!(follow(&*one, &mut cursor).await.is_empty());
    let key = |writer: i64, value: Option<Bytes>| KeyWrite {
        namespace: NAMESPACE.into(),
        key: writer.to_string().into(),
        value,
        ..KeyWrite::default()
    };
    let write = |store: Arc<dyn Store>, writer: i64| async move {
        for number in 0..COMMITS {
            let mut commit = frames(writer * COMMITS + number, 1);
            commit.inbox_posted.push(Post {
                run: Some(run(writer)),
                shard: Shard::default(),
                kind: 0,
                at: T0,
                idempotency_key: None,
                payload: Bytes::new(),
            });
            commit.keys.push(key(writer, Some(Bytes::from_static(b"value"))));
            store.commit(commit).await.expect(WORKS);
        }
    };
    let (mut seen, done) = (Vec::new(), Cell::new(false));
    let writers = async {
        let left = both(write(Arc::clone(&one), 0), write(Arc::clone(&two), 1));
        both(left, both(write(Arc::clone(&one), 2), write(Arc::clone(&two), 3))).await;
        done.set(true);
    };
    // The follower reads while they write.
    let follower = async {
        while !done.get() {
            seen.extend(follow(&*two, &mut cursor).await);
            step_back().await;
        }
    };
    both(writers, follower).await;
    seen.extend(follow(&*two, &mut cursor).await);
    let runs: BTreeSet<RunId> = seen
        .iter()
        .filter_map(|change| if let Change::Run(run) = change { Some(*run) } else { None })
        .collect();
    assert_eq!(runs.len() as i64, WRITERS * COMMITS);
    let messages: BTreeSet<InboxId> = seen
        .iter()
        .filter_map(|change| if let Change::Message { id, .. } = change { Some(*id) } else { None })
        .collect();
    assert_eq!(messages.len() as i64, WRITERS * COMMITS);
    let value = |name: &str| Change::Value { namespace: NAMESPACE.into(), key: name.into() };
    assert!((0..WRITERS).all(|writer| seen.contains(&value(&writer.to_string()))));

    let all = two.changes(None, usize::MAX >> 1).await.expect(WORKS);
    assert!(runs.iter().all(|run| all.changes.contains(&Change::Run(*run))) && !all.is_incomplete);

    // A row without a frame, a deleted value and a deleted run are changes too.
    let mut row = RunRow::new(run(900), "w", ContentHash::of(b"{}"), 0);
    row.ended = Some(T0);
    written(&*one, Commit { row: Some(row), ..Commit::new() }).await;
    assert_eq!(follow(&*two, &mut cursor).await, [Change::Run(run(900))]);
    written(&*one, Commit { keys: vec![key(2, None)], ..Commit::new() }).await;
    assert_eq!(follow(&*two, &mut cursor).await, [value("2")]);
    let values = two.value_changes(None, usize::MAX >> 1).await.expect(WORKS);
    assert!(values.changes.iter().all(|change| matches!(change, Change::Value { .. })));
    assert!(values.changes.contains(&value("2")) && !values.is_incomplete);
    let rest = two.value_changes(Some(values.next), 9).await.expect(WORKS);
    assert!(rest.changes.is_empty() && !rest.is_incomplete);
    let latest = one.latest().await.expect(WORKS);
    one.delete_run(run(900)).await.expect(WORKS);
    assert_eq!(follow(&*two, &mut cursor).await, [Change::Run(run(900))]);
    assert_eq!(follow(&*two, &mut Some(latest)).await, [Change::Run(run(900))]);
    assert!(follow(&*two, &mut cursor).await.is_empty());

    // A reader whose changes are gone learns that, and only such a reader.
    let mut ended = frames(901, 1);
    let mut row = RunRow::new(run(901), "w", ContentHash::of(b"{}"), 0);
    row.ended = Some(T0);
    ended.row = Some(row);
    let before = one.latest().await.expect(WORKS);
    written(&*one, ended).await;
    let after = one.latest().await.expect(WORKS);
    let policy = crate::Retention { age_max_ms: Some(1), ..crate::Retention::default() };
    assert_eq!(one.sweep(policy, T0.plus(2)).await.expect(WORKS).purged, 1);
    assert!(two.changes(Some(before), 9).await.expect(WORKS).is_incomplete);
    assert!(!two.changes(Some(after), 9).await.expect(WORKS).is_incomplete);
}
