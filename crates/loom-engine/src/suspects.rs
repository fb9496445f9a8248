//! Protection against poison runs, whose evaluation crashes the process: for example, because a value is nested too deeply or
//! too large. A durable run would crash it again at every start.
//!
//! While a worker evaluates a run, the run is marked in the store, without a sync, so the next process knows which runs were
//! being evaluated when the last one ended. That may be a coincidence, if the process was killed. A run that was being
//! evaluated at two such ends in a row is suspended when it is loaded. Runs that only wait or have calls in flight are never
//! marked.
//!
//! The count of a run is a named value. It is deleted when a process ends without evaluating the run, unless another run
//! crashed the process before this one had its turn; and when the run ends or is resumed.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::{
    Commit, Error as StoreError, FrameQuery, Interrupted, Journal, KeyQuery, KeyValue, KeyWrite, Named, Seq,
    Store,
};

use crate::event::RunId;

/// Namespace of the named values that count, for each run, the ends of the process during its evaluation.
const NAMESPACE: &str = "engine/suspects";

/// Such values read at a time.
const PAGE: usize = 500;

/// A run that was being evaluated at this many ends in a row is suspended.
const ENDS_MAX: u32 = 2;

/// The count of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    /// Ends in a row.
    ends: u32,
    /// The number of the last one in the store's numbering, so that each end is counted once.
    end: u64,
    /// The next sequence number of the run's journal at that time.
    next: Seq,
}

impl Count {
    fn read(value: &Bytes) -> Option<Count> {
        let kept = Value::parse_json(value).ok()?;
        let number =
            |name| kept.get(name).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok());
        Some(Count {
            ends: u32::try_from(number("ends")?).ok()?,
            end: number("end")?,
            next: Seq(number("next")?),
        })
    }

    fn write(self) -> Bytes {
        let mut kept = Object::new();
        kept.insert("ends", i64::from(self.ends));
        kept.insert("end", self.end as i64);
        kept.insert("next", self.next.0 as i64);
        Value::from(kept).to_json_text().into()
    }
}

/// The suspected runs of this process.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Ends in a row, by run.
    pub(crate) ends: BTreeMap<RunId, u32>,
    /// Whether a run crashed the process before its start was in the store.
    pub(crate) in_first_step: bool,
}

/// Whether a run that was being evaluated at this many ends in a row is suspended when it is loaded.
pub(crate) const fn is_poison(ends: u32) -> bool {
    ends >= ENDS_MAX
}

/// Updates the counts with the runs that the last process was evaluating when it ended.
pub(crate) async fn take_note(store: &dyn Store) -> Result<Suspects, StoreError> {
    let Interrupted { end, runs } = store.interrupted();
    let mut suspects = Suspects::default();
    let mut marked = BTreeMap::new();
    for (run, next) in runs {
        match store.run(run).await? {
            // The start was not durable, so its caller received no confirmation.
            None => suspects.in_first_step = true,
            Some(row) if row.ended.is_some() => {}
            Some(_) if is_past(store, run, next).await? => {}
            Some(_) => {
                marked.insert(run, next);
            }
        }
    }
    let blamed = !marked.is_empty() || suspects.in_first_step;
    let mut commit = Commit::new();
    for (run, count) in counts(store).await? {
        let count = match marked.remove(&run) {
            _ if count.end == end && count.ends > 0 => Some(count),
            Some(next) => Some(Count { ends: count.ends + 1, end, next }),
            None => {
                let unfinished = store.run(run).await?.is_some_and(|row| row.ended.is_none());
                // Another run crashed the process before its turn, or it is suspended already.
                let waits = is_poison(count.ends) || (blamed && !is_past(store, run, count.next).await?);
                (unfinished && waits).then_some(count)
            }
        };
        if let Some(count) = count {
            suspects.ends.insert(run, count.ends);
        }
        commit.keys.push(count_of(run, count));
    }
    for (run, next) in marked {
        suspects.ends.insert(run, 1);
        commit.keys.push(count_of(run, Some(Count { ends: 1, end, next })));
    }
    if !commit.keys.is_empty() {
        store.commit(commit).await?;
    }
    for (run, ends) in suspects.ends.iter().filter(|(_, ends)| !is_poison(**ends)) {
        tracing::warn!(run_id = %run, ends, "a worker was evaluating this run when the process ended; the run will be suspended if that happens again");
    }
    store.forget_interrupted();
    Ok(suspects)
}

/// Whether the journal of a run has a frame `next` or later.
async fn is_past(store: &dyn Journal, run: RunId, next: Seq) -> Result<bool, StoreError> {
    let query = FrameQuery { from: next, frames_max: 1, ..FrameQuery::of(run) };
    Ok(!store.frames(query).await?.frames.is_empty())
}

async fn counts(store: &dyn Named) -> Result<BTreeMap<RunId, Count>, StoreError> {
    let mut counts = BTreeMap::new();
    let mut after = None;
    loop {
        let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
        let page = store.keys(query).await?;
        for value in &page.values {
            if let (Ok(run), Some(count)) = (value.key.parse(), Count::read(&value.value)) {
                counts.insert(run, count);
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(counts),
        }
    }
}

fn count_of(run: RunId, count: Option<Count>) -> KeyWrite {
    let (namespace, key) = (Arc::from(NAMESPACE), Arc::from(run.to_string()));
    KeyWrite { namespace, key, value: count.map(Count::write), ..KeyWrite::default() }
}

/// Deletes the count of a run.
pub(crate) fn cleared(run: RunId) -> KeyWrite {
    count_of(run, None)
}

/// The value that counts a run's ends, if there is one.
pub(crate) async fn kept(store: &dyn Named, run: RunId) -> Result<Option<KeyValue>, StoreError> {
    store.key(NAMESPACE, &run.to_string()).await
}

/// How often in a row the process ended while the run was being evaluated, according to its value; none if it is unreadable.
pub(crate) fn ends(kept: &KeyValue) -> Option<u32> {
    Count::read(&kept.value).map(|count| count.ends)
}
