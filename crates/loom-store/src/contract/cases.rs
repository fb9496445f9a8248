//! The guarantees, one per function.

mod deletion;
mod facts;
mod named;
mod parked;
mod state;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Append, BLOB_ROW_MAX, Blob, Commit, Committed, Conflict, ContentHash, Definition, Error, Frame,
    FrameQuery, InboxId, InboxQuery, KeyExpectation, Order, Post, Recipient, Refusal, Retention, RunId,
    RunQuery, RunRow, Seq, Shard, Shards, Snapshot, Store, Swept, Timer, TimerKey, TimerQuery, UnixMillis,
    Urgency, Written,
};

use super::{Case, NAMESPACE, Seeded};
use deletion::a_deleted_run_leaves_nothing;
use facts::lists_and_counts_narrow_by_every_fact;
use named::{
    named_values_change_only_as_expected, named_values_end_with_their_time_or_their_run, put,
    versions_are_never_reused,
};
use parked::{
    a_loaded_run_says_whether_it_has_messages, each_field_of_a_row_may_change_alone,
    parked_runs_are_unfinished_and_not_awake,
};
use state::{
    a_condemned_store_can_be_read_but_not_written, a_store_is_empty_until_something_is_stored,
    finished_work_is_not_reported_as_interrupted,
};

const WORKS: &str = "a store that works returns a result";

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All guarantees.
        pub const CASES: &[Case] = &[
            $(Case { name: stringify!($name), check: |store| Box::pin($name(store)) }),*
        ];
    };
}

cases![
    frames_are_read_as_written_in_pages,
    frames_continue_where_the_journal_ends,
    a_refused_commit_leaves_no_trace,
    a_row_is_found_by_each_of_its_fields,
    lists_page_without_gaps_or_repeats,
    lists_and_counts_narrow_by_every_fact,
    an_idempotency_key_accepts_one_run,
    the_identity_of_a_run_is_fixed,
    a_snapshot_shortens_the_load,
    unfinished_runs_are_those_without_an_end,
    parked_runs_are_unfinished_and_not_awake,
    timers_come_in_the_order_they_are_due,
    messages_are_consumed_once,
    a_loaded_run_says_whether_it_has_messages,
    each_field_of_a_row_may_change_alone,
    named_values_change_only_as_expected,
    versions_are_never_reused,
    named_values_end_with_their_time_or_their_run,
    definitions_and_blobs_are_stored_under_their_hash,
    retention_removes_only_what_the_policy_allows,
    retention_by_count_and_bytes_removes_the_runs_that_ended_first,
    a_deleted_run_leaves_nothing,
    lazy_commits_keep_their_order,
    concurrent_commits_take_effect_in_order,
    a_store_is_empty_until_something_is_stored,
    finished_work_is_not_reported_as_interrupted,
    a_condemned_store_can_be_read_but_not_written,
    a_closed_store_reports_that_it_is_closed,
];

const T0: UnixMillis = UnixMillis(1_700_000_000_000);

fn run(number: i64) -> RunId {
    RunId::first_at(T0.plus(number))
}

fn frame(text: &str) -> Frame {
    Frame { at: T0, payload: Bytes::copy_from_slice(text.as_bytes()) }
}

fn row(number: i64, workflow: &str) -> RunRow {
    RunRow::new(run(number), workflow, ContentHash::of(b"definition"), 0)
}

fn with_row(row: RunRow) -> Commit {
    Commit { row: Some(row), ..Commit::new() }
}

async fn write(store: &dyn Store, commit: Commit) -> Written {
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

async fn frames_are_read_as_written_in_pages(store: Arc<dyn Store>) {
    let mut random = Seeded::new(1);
    let payloads: Vec<Bytes> =
        (0..50).map(|n| random.payload(if n % 9 == 0 { 20_000 } else { 64 })).collect();
    let mut next = Seq::FIRST;
    for payloads in payloads.chunks(3) {
        let frames: Vec<_> =
            payloads.iter().map(|payload| Frame { at: T0.plus(-1), payload: payload.clone() }).collect();
        let count = frames.len() as u64;
        write(&*store, Commit::to_run(run(1), next, frames)).await;
        next = next.plus(count);
    }
    write(&*store, Commit::to_run(run(2), Seq::FIRST, vec![frame("another run's")])).await;

    let all = store.frames(FrameQuery::of(run(1))).await.expect(WORKS);
    assert_eq!(all.next, None);
    assert!(all.frames.iter().map(|frame| &frame.payload).eq(&payloads));
    assert!(all.frames.iter().all(|frame| frame.at == T0.plus(-1)));
    assert!(all.frames.iter().zip(1..).all(|(frame, seq)| frame.seq == Seq(seq)));
    let few = FrameQuery { from: Seq(11), frames_max: 4, ..FrameQuery::of(run(1)) };
    let few = store.frames(few).await.expect(WORKS);
    assert_eq!((&few.frames[..], few.next), (&all.frames[10..14], Some(Seq(15))));
    let small = FrameQuery { bytes_max: 1, ..FrameQuery::of(run(1)) };
    let small = store.frames(small).await.expect(WORKS);
    assert!(!small.frames.is_empty() && small.next.is_some(), "at least one frame is returned");
    let past = FrameQuery { from: Seq(51), ..FrameQuery::of(run(1)) };
    assert_eq!(store.frames(past).await.expect(WORKS).frames, []);
    assert_eq!(store.frames(FrameQuery::of(run(3))).await.expect(WORKS).frames, []);
}

async fn frames_continue_where_the_journal_ends(store: Arc<dyn Store>) {
    let append = |first, frames| Commit::to_run(run(1), Seq(first), frames);
    let seq = |expected, actual| Conflict::Seq { run: run(1), expected: Seq(expected), actual: Seq(actual) };
    assert_eq!(conflict(&*store, append(2, vec![frame("b")])).await, seq(2, 1));
    assert_eq!(conflict(&*store, append(0, vec![frame("b")])).await, seq(0, 1));
    write(&*store, append(1, vec![frame("a"), frame("b")])).await;
    assert_eq!(conflict(&*store, append(2, vec![frame("c")])).await, seq(2, 3));
    assert_eq!(conflict(&*store, append(4, vec![frame("c")])).await, seq(4, 3));
    // Without frames, the commit only checks where the journal ends.
    write(&*store, append(3, vec![])).await;
    assert_eq!(conflict(&*store, append(2, vec![])).await, seq(2, 3));
    assert_eq!(store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.len(), 2);
    let huge = Commit::to_run(run(1), Seq(u64::MAX), vec![]);
    assert_eq!(conflict(&*store, huge).await, Conflict::OutOfRange { number: u64::MAX });
}

async fn a_refused_commit_leaves_no_trace(store: Arc<dyn Store>) {
    write(&*store, Commit::to_run(run(1), Seq::FIRST, vec![frame("a")])).await;
    let mut commit = Commit::to_run(run(1), Seq::FIRST, vec![frame("again")]);
    commit.row = Some(row(1, "w"));
    commit.snapshot = Some(Snapshot { run: run(1), upto: Seq(1), state: Bytes::from_static(b"state") });
    commit.timers_set = vec![Timer { key: TimerKey { run: run(1), number: 1 }, due: T0, kind: 0 }];
    commit.definitions = vec![Definition::new(Bytes::from_static(b"definition"))];
    let blob = store.put_blob(Bytes::from_static(b"blob")).await.expect(WORKS);
    let hash = blob.hash();
    commit.blobs = vec![blob];
    commit.inbox_posted = vec![Post {
        run: None,
        kind: 0,
        at: T0,
        idempotency_key: None,
        payload: Bytes::new(),
        shard: Shard::default(),
    }];
    commit.keys = vec![put("key", KeyExpectation::Any, "value")];
    conflict(&*store, commit.clone()).await;
    // A failure of the last check leaves no trace either.
    let mut last = commit;
    last.journal = Some(Append { run: run(1), first: Seq(2), frames: vec![frame("b")] });
    last.keys.push(put("absent", KeyExpectation::Version(7), "value"));
    conflict(&*store, last).await;

    assert_eq!(store.run(run(1)).await.expect(WORKS), None);
    assert_eq!(store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.len(), 1);
    assert_eq!(store.timers(all_timers()).await.expect(WORKS), []);
    assert_eq!(store.inbox(all_messages()).await.expect(WORKS), []);
    assert_eq!(store.definition(ContentHash::of(b"definition")).await.expect(WORKS), None);
    assert_eq!(store.blob(hash, 0, 9).await.expect(WORKS), None);
    assert_eq!(store.key(NAMESPACE, "key").await.expect(WORKS), None);

    let strangers = Commit { row: Some(row(2, "w")), ..Commit::to_run(run(1), Seq(2), vec![frame("b")]) };
    assert_eq!(conflict(&*store, strangers).await, Conflict::MixedRuns);
    let blob = store.put_blob(Bytes::from_static(b"blob")).await.expect(WORKS);
    let ownerless = Commit { blobs: vec![blob], ..Commit::new() };
    assert_eq!(conflict(&*store, ownerless).await, Conflict::BlobsWithoutRun);
}

async fn a_row_is_found_by_each_of_its_fields(store: Arc<dyn Store>) {
    let mut full = row(1, "orders");
    full.status = 7;
    full.started = Some(T0);
    full.origin = Some(run(-5));
    full.attempt = 3;
    full.parent = Some(run(-6));
    full.parent_path = Some("actions/Call".into());
    full.idempotency_key = Some("key".into());
    full.wake_at = Some(T0.plus(1));
    full.error = Some("Timeout".into());
    full.details = Bytes::from_static(b"\0\xff");
    write(&*store, with_row(full.clone())).await;
    for number in 2..6 {
        write(&*store, with_row(row(number, "orders"))).await;
        write(&*store, with_row(row(number + 10, "other"))).await;
    }
    assert_eq!(store.run(run(1)).await.expect(WORKS), Some(full.clone()));
    assert_eq!(store.run(run(9)).await.expect(WORKS), None);
    assert_eq!(store.run_by_key("orders", "key").await.expect(WORKS), Some(full.clone()));
    assert_eq!(store.run_by_key("other", "key").await.expect(WORKS), None);
    assert_eq!(store.newest_run(Shards::ALL).await.expect(WORKS), Some(run(15)));
    // For every combination of filters: the values of the row find it, other values do not.
    for choice in 0..64_u32 {
        let with = |bit: u32| choice & (1 << bit) != 0;
        let query = RunQuery {
            workflow: with(0).then(|| "orders".into()),
            status: with(1).then_some(7),
            error: with(2).then(|| "Timeout".into()),
            parent: with(3).then_some(run(-6)),
            accepted_from: with(4).then_some(T0.plus(1)),
            accepted_before: with(5).then_some(T0.plus(2)),
            ..RunQuery::default()
        };
        let found = store.runs(query.clone()).await.expect(WORKS).rows;
        assert!(found.contains(&full), "{query:?}");
        for other in [
            RunQuery { workflow: Some("other".into()), ..query.clone() },
            RunQuery { status: Some(8), ..query.clone() },
            RunQuery { error: Some("Timeouts".into()), ..query.clone() },
            RunQuery { parent: Some(run(-7)), ..query.clone() },
            RunQuery { accepted_from: Some(T0.plus(2)), ..query.clone() },
            RunQuery { accepted_before: Some(T0.plus(1)), ..query.clone() },
        ] {
            assert!(!store.runs(other.clone()).await.expect(WORKS).rows.contains(&full), "{other:?}");
        }
    }
    // Fields that are not fixed can change, and the row is found by the new values.
    full.status = 9;
    full.error = None;
    full.ended = Some(T0.plus(9));
    full.details = Bytes::new();
    write(&*store, with_row(full.clone())).await;
    let by_status = |status| RunQuery { status: Some(status), ..RunQuery::default() };
    assert_eq!(store.runs(by_status(9)).await.expect(WORKS).rows, [full]);
    assert_eq!(store.runs(by_status(7)).await.expect(WORKS).rows, []);
}

async fn lists_page_without_gaps_or_repeats(store: Arc<dyn Store>) {
    for number in 0..23 {
        write(&*store, with_row(row(number, if number % 3 == 0 { "a" } else { "b" }))).await;
    }
    for (order, limit) in [(Order::NewestFirst, 4), (Order::OldestFirst, 5), (Order::NewestFirst, 23)] {
        for workflow in [None, Some("a"), Some("b"), Some("c")] {
            let mut query =
                RunQuery { workflow: workflow.map(Into::into), order, limit, ..RunQuery::default() };
            let mut seen = Vec::new();
            loop {
                let page = store.runs(query.clone()).await.expect(WORKS);
                assert!(page.rows.len() <= limit);
                seen.extend(page.rows.iter().map(|row| row.id));
                query.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            let mut wanted: Vec<RunId> = (0..23)
                .filter(|n| match workflow {
                    None => true,
                    Some("a") => n % 3 == 0,
                    Some("b") => n % 3 != 0,
                    Some(_) => false,
                })
                .map(run)
                .collect();
            if order == Order::NewestFirst {
                wanted.reverse();
            }
            assert_eq!(seen, wanted, "{order:?} {limit} {workflow:?}");
        }
    }
    let ends = [
        RunQuery { after: Some(RunId::MIN), ..RunQuery::default() },
        RunQuery { after: Some(RunId::MAX), order: Order::OldestFirst, ..RunQuery::default() },
        RunQuery { accepted_before: Some(UnixMillis(i64::MIN)), ..RunQuery::default() },
        RunQuery { accepted_from: Some(UnixMillis(i64::MAX)), ..RunQuery::default() },
    ];
    for query in ends {
        assert_eq!(store.runs(query).await.expect(WORKS).rows, []);
    }
}

async fn an_idempotency_key_accepts_one_run(store: Arc<dyn Store>) {
    let accept = |number, workflow: &str| {
        let mut row = row(number, workflow);
        row.idempotency_key = Some("key".into());
        Commit { row: Some(row), ..Commit::to_run(run(number), Seq::FIRST, vec![frame("accepted")]) }
    };
    // Sent together, so that they are written in one group.
    let sent: Vec<_> =
        (1..6).map(|number| store.append(accept(number, "w")).expect("there is room")).collect();
    let mut answers = Vec::new();
    for ack in sent {
        answers.push(ack.await.expect(WORKS));
    }
    assert_eq!(answers[0], Committed::Written(Written::default()));
    assert!(answers[1..].iter().all(|answer| *answer == Committed::Duplicate(run(1))));
    assert_eq!(store.run(run(2)).await.expect(WORKS), None);
    assert_eq!(store.frames(FrameQuery::of(run(2))).await.expect(WORKS).frames, []);
    write(&*store, accept(9, "another workflow")).await;
    // A later commit of the accepted run repeats its key and is not a duplicate.
    let mut later = accept(1, "w");
    later.journal = Some(Append { run: run(1), first: Seq(2), frames: vec![frame("more")] });
    write(&*store, later).await;
}

async fn the_identity_of_a_run_is_fixed(store: Arc<dyn Store>) {
    write(&*store, with_row(row(1, "w"))).await;
    let mut keyed = row(1, "w");
    keyed.idempotency_key = Some("key".into());
    let mut adopted = row(1, "w");
    adopted.parent = Some(run(0));
    for changed in [row(1, "v"), keyed, adopted] {
        assert_eq!(conflict(&*store, with_row(changed)).await, Conflict::Identity { run: run(1) });
    }
}

async fn a_snapshot_shortens_the_load(store: Arc<dyn Store>) {
    assert_eq!(store.load(run(1)).await.expect(WORKS), None);
    let frames = |texts: &[&str]| texts.iter().map(|text| frame(text)).collect::<Vec<_>>();
    let mut commit = Commit::to_run(run(1), Seq::FIRST, frames(&["a", "b", "c"]));
    commit.row = Some(row(1, "w"));
    write(&*store, commit).await;
    let loaded = store.load(run(1)).await.expect(WORKS).expect("it was written");
    assert_eq!((loaded.snapshot, loaded.frames.len(), loaded.next), (None, 3, Seq(4)));
    for (upto, left) in [(2, 2), (4, 0)] {
        let mut commit =
            Commit::to_run(run(1), Seq(2 + upto), if upto == 2 { frames(&["d"]) } else { vec![] });
        commit.journal.as_mut().expect("it has one").first = Seq(if upto == 2 { 4 } else { 5 });
        let state = Bytes::from(vec![upto as u8; 4_000]);
        commit.snapshot = Some(Snapshot { run: run(1), upto: Seq(upto), state: state.clone() });
        write(&*store, commit).await;
        let loaded = store.load(run(1)).await.expect(WORKS).expect("it was written");
        assert_eq!(loaded.snapshot.map(|snapshot| (snapshot.upto, snapshot.state)), Some((Seq(upto), state)));
        assert_eq!((loaded.frames.len(), loaded.next), (left, Seq(5)));
    }
    assert_eq!(
        store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.len(),
        4,
        "the history is kept"
    );
}

async fn unfinished_runs_are_those_without_an_end(store: Arc<dyn Store>) {
    for number in 0..10 {
        write(&*store, with_row(row(number, "w"))).await;
    }
    for number in [0, 3, 9] {
        write(&*store, with_row(RunRow { ended: Some(T0), ..row(number, "w") })).await;
    }
    let ids = |rows: Vec<RunRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let first = ids(store.unfinished(Shards::ALL, None, 4).await.expect(WORKS));
    assert_eq!(first, [1, 2, 4, 5].map(run));
    assert_eq!(
        ids(store.unfinished(Shards::ALL, first.last().copied(), 9).await.expect(WORKS)),
        [6, 7, 8].map(run)
    );
    // A run can become unfinished again.
    write(&*store, with_row(row(0, "w"))).await;
    assert_eq!(ids(store.unfinished(Shards::ALL, None, 1).await.expect(WORKS)), [run(0)]);
}

fn all_timers() -> TimerQuery {
    TimerQuery { until: UnixMillis(i64::MAX), after: None, limit: 100, shards: Shards::ALL }
}

async fn timers_come_in_the_order_they_are_due(store: Arc<dyn Store>) {
    let timer = |number, run_number, due| Timer {
        key: TimerKey { run: run(run_number), number },
        due: UnixMillis(due),
        kind: number as u16,
    };
    let timers = [timer(0, 1, -50), timer(0, 2, 10), timer(1, 2, 10), timer(5, 1, 20), timer(1, 1, 30)];
    let set = |timers: &[Timer]| Commit { timers_set: timers.to_vec(), ..Commit::new() };
    let mut mixed = timers;
    mixed.reverse();
    write(&*store, set(&mixed)).await;
    assert_eq!(store.timers(all_timers()).await.expect(WORKS), timers);
    let due = TimerQuery { until: UnixMillis(20), ..all_timers() };
    assert_eq!(store.timers(due).await.expect(WORKS), timers[..4]);
    let page = TimerQuery { after: Some(timers[1]), limit: 2, ..all_timers() };
    assert_eq!(store.timers(page).await.expect(WORKS), timers[2..4]);
    // Arming again moves the timer; clearing removes it, and clearing twice is not an error.
    write(&*store, set(&[timer(0, 1, 99)])).await;
    let cleared = Commit { timers_cleared: vec![timers[1].key, timers[1].key], ..Commit::new() };
    write(&*store, cleared).await;
    let left = [timers[2], timers[3], timers[4], timer(0, 1, 99)];
    assert_eq!(store.timers(all_timers()).await.expect(WORKS), left);
    // A timer that is cleared and set in one commit is set.
    let both = Commit { timers_cleared: vec![left[0].key], timers_set: vec![left[0]], ..Commit::new() };
    write(&*store, both).await;
    assert_eq!(store.timers(all_timers()).await.expect(WORKS), left);
}

fn all_messages() -> InboxQuery {
    InboxQuery { recipient: Recipient::Anyone, after: None, limit: 100, shards: Shards::ALL }
}

async fn messages_are_consumed_once(store: Arc<dyn Store>) {
    let post = |to: Option<i64>, key: Option<&str>, text: &str| Post {
        run: to.map(run),
        kind: 4,
        at: T0,
        idempotency_key: key.map(Into::into),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        shard: Shard::default(),
    };
    let posts = vec![
        post(Some(1), Some("k"), "one"),
        post(Some(2), Some("k"), "the key of another run"),
        post(None, Some("k"), "to no run"),
        post(Some(1), None, "two"),
        post(Some(1), None, "two"),
        post(Some(1), Some("k"), "one, repeated"),
        post(None, Some("k"), "to no run, repeated"),
    ];
    let ids = write(&*store, Commit { inbox_posted: posts.clone(), ..Commit::new() }).await.inbox;
    assert!(ids[..5].is_sorted_by(|one, two| one < two));
    assert_eq!(ids[5..], [ids[0], ids[2]]);
    let read = async |recipient, after, limit| {
        let found =
            store.inbox(InboxQuery { recipient, after, limit, shards: Shards::ALL }).await.expect(WORKS);
        found.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(read(Recipient::Anyone, None, 9).await, ids[..5]);
    assert_eq!(read(Recipient::Run(run(1)), None, 9).await, [ids[0], ids[3], ids[4]]);
    assert_eq!(read(Recipient::Run(run(1)), Some(ids[0]), 1).await, [ids[3]]);
    assert_eq!(read(Recipient::Nobody, None, 9).await, [ids[2]]);
    let pending = async |number| store.pending(run(number)).await.expect(WORKS);
    assert_eq!([pending(1).await, pending(2).await, pending(3).await], [3, 1, 0]);
    let messages = store.inbox(all_messages()).await.expect(WORKS);
    assert!(messages.iter().map(|message| &message.post).eq(&posts[..5]));

    let mut consume = Commit::to_run(run(1), Seq::FIRST, vec![frame("consumed them")]);
    consume.inbox_consumed = vec![ids[0], ids[2]];
    write(&*store, consume).await;
    assert_eq!(read(Recipient::Anyone, None, 9).await, [ids[1], ids[3], ids[4]]);
    assert_eq!([pending(1).await, pending(2).await], [2, 1]);
    // The second commit is rejected because the message is taken, and no part of it is written.
    for consumer in [Commit::to_run(run(2), Seq::FIRST, vec![frame("too late")]), Commit::new()] {
        let mut late = consumer;
        late.inbox_consumed = vec![ids[3], ids[2]];
        assert_eq!(conflict(&*store, late).await, Conflict::Taken { message: ids[2] });
    }
    let unknown = Commit { inbox_consumed: vec![InboxId(u64::MAX >> 1)], ..Commit::new() };
    assert_eq!(conflict(&*store, unknown).await, Conflict::Taken { message: InboxId(u64::MAX >> 1) });
    assert_eq!(read(Recipient::Anyone, None, 9).await, [ids[1], ids[3], ids[4]]);
    // A key is remembered after its message was consumed.
    let posted = async |of, key| store.posted(of, key).await.expect(WORKS);
    assert_eq!(
        [posted(Some(run(1)), "k").await, posted(Some(run(2)), "k").await],
        [Some(ids[0]), Some(ids[1])]
    );
    assert_eq!([posted(None, "k").await, posted(None, "other").await], [Some(ids[2]), None]);
    let again = Commit { inbox_posted: vec![posts[0].clone(), posts[2].clone()], ..Commit::new() };
    assert_eq!(write(&*store, again).await.inbox, [ids[0], ids[2]]);
    assert_eq!(read(Recipient::Anyone, None, 9).await, [ids[1], ids[3], ids[4]]);
}

async fn definitions_and_blobs_are_stored_under_their_hash(store: Arc<dyn Store>) {
    let definition = Definition::new(vec![b' '; 3_000].into());
    for _ in 0..2 {
        write(&*store, Commit { definitions: vec![definition.clone()], ..Commit::new() }).await;
    }
    let read = store.definition(definition.hash()).await.expect(WORKS);
    assert_eq!(read.as_ref(), Some(definition.body()));
    assert_eq!(store.definition(ContentHash::of(b"")).await.expect(WORKS), None);

    let unknown =
        Commit { blobs: vec![Blob::known(ContentHash::of(b"?"))], row: Some(row(1, "w")), ..Commit::new() };
    assert_eq!(conflict(&*store, unknown).await, Conflict::MissingBlob(ContentHash::of(b"?")));
    let mut random = Seeded::new(2);
    for size in [0, 1, 1_024, 70_000, BLOB_ROW_MAX, BLOB_ROW_MAX + 1, 3 * BLOB_ROW_MAX] {
        let mut content = random.payload(16).to_vec();
        content.resize(size, size as u8);
        let content = Bytes::from(content);
        let blob = store.put_blob(content.clone()).await.expect(WORKS);
        let hash = blob.hash();
        assert_eq!(store.blob(hash, 0, usize::MAX).await.expect(WORKS), None, "no commit refers to it yet");
        write(&*store, Commit { blobs: vec![blob], row: Some(row(1, "w")), ..Commit::new() }).await;
        assert_eq!(store.blob(hash, 0, usize::MAX).await.expect(WORKS).as_ref(), Some(&content));
        let middle = store.blob(hash, size as u64 / 2, 5).await.expect(WORKS).expect("it is there");
        assert_eq!(middle, content.slice(size / 2..(size / 2 + 5).min(size)));
        assert_eq!(store.blob(hash, u64::MAX, 5).await.expect(WORKS), Some(Bytes::new()));
        // Another run can refer to it, by its hash or with the content.
        let again = store.put_blob(content.clone()).await.expect(WORKS);
        assert_eq!(again.hash(), hash, "the same content has one hash");
        write(&*store, Commit { blobs: vec![again], row: Some(row(2, "w")), ..Commit::new() }).await;
        let known = Commit { blobs: vec![Blob::known(hash)], row: Some(row(3, "w")), ..Commit::new() };
        write(&*store, known).await;
    }
}

/// The hash that the store gives to this content.
async fn hash_of(store: &dyn Store, content: Bytes) -> ContentHash {
    store.put_blob(content).await.expect(WORKS).hash()
}

/// Writes a run with data of every kind, which ends at `ended` if that is given.
async fn furnish(store: &dyn Store, number: i64, ended: Option<i64>, shared: &Bytes) {
    let mut commit = Commit::to_run(run(number), Seq::FIRST, vec![frame("a"), frame("b")]);
    let mut row = row(number, "w");
    row.ended = ended.map(|at| T0.plus(at));
    row.idempotency_key = Some(number.to_string().into());
    commit.row = Some(row);
    commit.snapshot = Some(Snapshot { run: run(number), upto: Seq(1), state: Bytes::from_static(b"state") });
    commit.timers_set = vec![Timer { key: TimerKey { run: run(number), number: 1 }, due: T0, kind: 0 }];
    let own = Bytes::from(format!("blob of {number}"));
    commit.blobs =
        vec![store.put_blob(own).await.expect(WORKS), store.put_blob(shared.clone()).await.expect(WORKS)];
    commit.inbox_posted = vec![Post {
        run: Some(run(number)),
        kind: 0,
        at: T0,
        idempotency_key: Some("k".into()),
        payload: Bytes::new(),
        shard: Shard::default(),
    }];
    write(store, commit).await;
}

async fn retention_removes_only_what_the_policy_allows(store: Arc<dyn Store>) {
    let shared = Bytes::from(vec![9; BLOB_ROW_MAX + 7]);
    let shared_hash = hash_of(&*store, shared.clone()).await;
    for (number, ended) in [(1, Some(100)), (2, Some(200)), (3, Some(300)), (4, None)] {
        furnish(&*store, number, ended, &shared).await;
    }
    let whole = super::dump(&*store).await;
    assert_eq!(
        store.sweep(Retention::default(), T0.plus(i64::MAX / 2)).await.expect(WORKS),
        Swept::default()
    );
    let policy = Retention { age_max_ms: Some(1_000), ..Retention::default() };
    // To the millisecond: exactly as old as allowed is not too old.
    assert_eq!(store.sweep(policy, T0.plus(1_100)).await.expect(WORKS), Swept::default());
    assert_eq!(super::dump(&*store).await, whole);

    let swept = store.sweep(policy, T0.plus(1_250)).await.expect(WORKS);
    assert_eq!(swept, Swept { purged: 2, rows: 0, blobs: 2, values: 0 });
    let left = super::dump(&*store).await;
    assert_eq!(left.runs[2..], whole.runs[2..], "runs within the limits keep all their data");
    assert_eq!((&left.timers[..], &left.inbox[..]), (&whole.timers[2..], &whole.inbox[2..]));
    for (loaded, frames) in &left.runs[..2] {
        assert_eq!((loaded.snapshot.as_ref(), &loaded.frames[..], &frames[..]), (None, &[][..], &[][..]));
    }
    let (gone, kept) =
        (hash_of(&*store, "blob of 2".into()).await, hash_of(&*store, "blob of 3".into()).await);
    assert_eq!(store.blob(gone, 0, 9).await.expect(WORKS), None);
    assert!(store.blob(kept, 0, 9).await.expect(WORKS).is_some());
    assert!(store.blob(shared_hash, 0, usize::MAX).await.expect(WORKS).is_some(), "other runs refer to it");
    // The row stays: its key cannot be reused, and its journal cannot start again.
    let late = Commit::to_run(run(1), Seq::FIRST, vec![frame("late")]);
    assert_eq!(conflict(&*store, late).await, Conflict::Purged { run: run(1) });
    assert!(store.run_by_key("w", "1").await.expect(WORKS).is_some());

    let policy = Retention { row_age_max_ms: Some(1_000), ..Retention::default() };
    let swept = store.sweep(policy, T0.plus(1_301)).await.expect(WORKS);
    assert_eq!(swept, Swept { purged: 1, rows: 3, blobs: 1, values: 0 });
    assert_eq!(super::dump(&*store).await.runs, whole.runs[3..]);
    assert_eq!(store.run_by_key("w", "1").await.expect(WORKS), None);
    assert_eq!(store.sweep(policy, T0.plus(1_301)).await.expect(WORKS), Swept::default());
    // The shared blob is removed with the last run that refers to it.
    write(&*store, with_row(RunRow { ended: Some(T0), idempotency_key: Some("4".into()), ..row(4, "w") }))
        .await;
    let swept = store.sweep(policy, T0.plus(5_000)).await.expect(WORKS);
    assert_eq!(swept, Swept { purged: 1, rows: 1, blobs: 2, values: 0 });
    assert_eq!(store.blob(shared_hash, 0, 9).await.expect(WORKS), None);
    store.verify().await.expect(WORKS);
}

async fn retention_by_count_and_bytes_removes_the_runs_that_ended_first(store: Arc<dyn Store>) {
    // They end in the opposite order of their ids.
    for number in 0..8 {
        furnish(&*store, number, Some(1_000 - number), &Bytes::from_static(b"shared")).await;
    }
    let policy = Retention { runs_max: Some(5), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS).purged, 3);
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS), Swept::default());
    let with_data = async || {
        let dump = super::dump(&*store).await;
        let with_data = dump.runs.into_iter().filter(|(_, frames)| !frames.is_empty());
        with_data.map(|(loaded, _)| loaded.row.id).collect::<Vec<_>>()
    };
    assert_eq!(with_data().await, [0, 1, 2, 3, 4].map(run));
    // Less than the store can ever shrink to: every ended run is purged, and the sweep ends.
    furnish(&*store, 9, None, &Bytes::from_static(b"shared")).await;
    let policy = Retention { bytes_max: Some(0), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS).purged, 5);
    assert_eq!(with_data().await, [run(9)]);
    let policy = Retention { bytes_max: Some(1 << 40), runs_max: Some(100), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS), Swept::default());
    // Rows of purged runs are limited as well.
    let rows = async || {
        let found = store.runs(RunQuery { limit: 100, ..RunQuery::default() }).await.expect(WORKS).rows;
        found.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(rows().await.len(), 9);
    let policy = Retention { rows_max: Some(3), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS), Swept { rows: 5, ..Swept::default() });
    assert_eq!(rows().await, [9, 2, 1, 0].map(run));
    assert_eq!(store.sweep(policy, T0).await.expect(WORKS), Swept::default());
    store.verify().await.expect(WORKS);
}

async fn lazy_commits_keep_their_order(store: Arc<dyn Store>) {
    let lazy =
        |first| Commit { urgency: Urgency::Lazy, ..Commit::to_run(run(1), Seq(first), vec![frame("lazy")]) };
    for first in 1..20 {
        drop(store.append(lazy(first)).expect("there is room"));
    }
    let urgent = Commit::to_run(run(1), Seq(20), vec![frame("urgent")]);
    write(&*store, urgent).await;
    assert_eq!(store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.len(), 20);
    drop(store.append(lazy(21)).expect("there is room"));
    store.flush().await.expect(WORKS);
    assert_eq!(store.frames(FrameQuery::of(run(1))).await.expect(WORKS).frames.len(), 21);
}

async fn concurrent_commits_take_effect_in_order(store: Arc<dyn Store>) {
    let append = |run_number, first| {
        store.append(Commit::to_run(run(run_number), Seq(first), vec![frame("x")])).expect("there is room")
    };
    let acks: Vec<_> = (1..40)
        .flat_map(|first| (0..5).map(move |run| (run, first)))
        .map(|(run, first)| append(run, first))
        .collect();
    // A commit out of place is refused alone, and does not affect its neighbours.
    let astray = append(2, 7);
    let after = append(2, 40);
    for ack in acks {
        assert!(matches!(ack.await, Ok(Committed::Written(_))));
    }
    assert!(matches!(astray.await, Err(Error::Conflict(Conflict::Seq { .. }))));
    assert!(after.await.is_ok());
}

async fn a_closed_store_reports_that_it_is_closed(store: Arc<dyn Store>) {
    let ack = store.append(Commit::to_run(run(1), Seq::FIRST, vec![frame("a")])).expect("there is room");
    store.close().await.expect(WORKS);
    assert!(ack.await.is_ok(), "an accepted commit is written");
    store.close().await.expect("closing twice is not an error");
    let refused = store.append(Commit::new()).expect_err("it is closed");
    assert!(matches!(refused.reason, Refusal::Unavailable(Error::Closed)));
    assert!(matches!(store.commit(Commit::new()).await, Err(Error::Closed)));
    assert!(matches!(store.run(run(1)).await, Err(Error::Closed)));
    assert!(matches!(store.resume().await, Err(Error::Closed)));
    assert!(matches!(store.health().condition, crate::Condition::Closed));
}
