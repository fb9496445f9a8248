//! The contract of a store, as tests that each backend's own tests call.
//!
//! [`CASES`] are the guarantees, one per function, each run on an empty store. [`dump`] reads everything in a store,
//! to compare stores with each other and with themselves after a restart. [`Workload`] generates commits from a seed,
//! valid and invalid ones, for comparisons and crash tests. Every check panics with what differed.

mod cases;
mod cluster;
mod faulty;
mod workload;

use std::{pin::Pin, sync::Arc};

use crate::{
    FrameQuery, InboxMessage, InboxQuery, KeyQuery, KeyValue, LoadedRun, Order, Recipient, RunQuery, Seq,
    Shards, Store, StoredFrame, Timer, TimerQuery, UnixMillis,
};

pub use cases::CASES;
pub use cluster::{CLUSTER, ClusterCase};
pub use faulty::{FaultRate, FaultyStore};
pub use workload::{Seeded, Workload};

/// A guarantee: its name, and its check on an empty store.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The guarantee, in words.
    pub name: &'static str,
    /// Checks the guarantee, and panics when it does not hold.
    pub check: fn(Arc<dyn Store>) -> Checked,
}

/// A check in progress.
pub type Checked = Pin<Box<dyn Future<Output = ()>>>;

/// The namespace that cases and workloads write to.
pub const NAMESPACE: &str = "contract";

/// Everything in a store, in an order that does not depend on the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Each run with all its frames, oldest first.
    pub runs: Vec<(LoadedRun, Vec<StoredFrame>)>,
    /// The runs that have not ended.
    pub unfinished: Vec<crate::RunId>,
    /// All armed timers.
    pub timers: Vec<Timer>,
    /// All pending messages.
    pub inbox: Vec<InboxMessage>,
    /// All values of [`NAMESPACE`].
    pub keys: Vec<KeyValue>,
}

/// Reads everything, in pages small enough that paging itself is tested.
pub async fn dump(store: &dyn Store) -> Dump {
    const WHY: &str = "a store that works can be read";
    let mut dump = Dump::default();
    let mut query = RunQuery { order: Order::OldestFirst, limit: 7, ..RunQuery::default() };
    loop {
        let page = store.runs(query.clone()).await.expect(WHY);
        for row in page.rows {
            let loaded = store.load(row.id).await.expect(WHY).expect("a listed run is there");
            assert_eq!(loaded.row, row, "a run has one row, however it is found");
            let mut frames = Vec::new();
            let mut from = Some(Seq::FIRST);
            while let Some(place) = from {
                let query = FrameQuery { from: place, frames_max: 3, ..FrameQuery::of(row.id) };
                let page = store.frames(query).await.expect(WHY);
                frames.extend(page.frames);
                from = page.next;
            }
            let upto = loaded.snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto);
            let later: Vec<_> = frames.iter().filter(|frame| frame.seq > upto).cloned().collect();
            assert_eq!(loaded.frames, later, "a run loads with the frames after its snapshot");
            dump.runs.push((loaded, frames));
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let mut after = None;
    loop {
        let page = store.unfinished(Shards::ALL, after, 5).await.expect(WHY);
        dump.unfinished.extend(page.iter().map(|row| row.id));
        after = page.last().map(|row| row.id);
        if page.len() < 5 {
            break;
        }
    }
    let mut query = TimerQuery { until: UnixMillis(i64::MAX), after: None, limit: 4, shards: Shards::ALL };
    loop {
        let page = store.timers(query).await.expect(WHY);
        dump.timers.extend_from_slice(&page);
        query.after = page.last().copied();
        if page.len() < 4 {
            break;
        }
    }
    let mut query = InboxQuery { recipient: Recipient::Anyone, after: None, limit: 4, shards: Shards::ALL };
    loop {
        let page = store.inbox(query).await.expect(WHY);
        query.after = page.last().map(|message| message.id);
        let last = page.len() < 4;
        dump.inbox.extend(page);
        if last {
            break;
        }
    }
    let mut query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after: None, limit: 3 };
    loop {
        let page = store.keys(query.clone()).await.expect(WHY);
        dump.keys.extend(page.values);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    dump
}
