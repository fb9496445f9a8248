//! Protection against poison runs, whose evaluation crashes the process: for example, because a value is nested too deeply or
//! too large. A durable run would crash it again at every start.
//!
//! While a worker evaluates a run, the run is marked in the store, without a sync, so the next process knows which runs were
//! being evaluated when the last one ended. That may be a coincidence, if the process was killed. A run that was being
//! evaluated at two such ends in a row is suspended when it is loaded, unless it has made progress between them: what crashes
//! the process crashes it before its result is durable. A run that makes progress is suspended after more ends in a row, because
//! it may also crash the process with what it accumulates. Runs that only wait or have calls in flight are never marked.
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

/// The same for a run that has made progress between the ends.
const ENDS_WITH_PROGRESS_MAX: u32 = 5;

/// The count of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    /// Ends in a row; those without progress between them, until there are so many that progress does not matter.
    ends: u32,
    /// Ends in a row, whatever came between them.
    total: u32,
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
        let ends = u32::try_from(number("ends")?).ok()?;
        Some(Count {
            ends,
            // Counts of earlier versions have no total.
            total: number("total").and_then(|total| u32::try_from(total).ok()).unwrap_or(ends),
            end: number("end")?,
            next: Seq(number("next")?),
        })
    }

    /// The first end.
    const fn first(end: u64, next: Seq) -> Count {
        Count { ends: 1, total: 1, end, next }
    }

    /// One more end, at which the journal was to continue with `next`.
    fn and(self, end: u64, next: Seq) -> Count {
        let total = self.total + 1;
        let ends = match next > self.next {
            true if total < ENDS_WITH_PROGRESS_MAX => 1,
            true => total,
            false => self.ends + 1,
        };
        Count { ends, total, end, next }
    }

    fn write(self) -> Bytes {
        let mut kept = Object::new();
        kept.insert("ends", i64::from(self.ends));
        kept.insert("total", i64::from(self.total));
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
            Some(next) => Some(count.and(end, next)),
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
        commit.keys.push(count_of(run, Some(Count::first(end, next))));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(journal: &[u64]) -> u32 {
        let (first, rest) = journal.split_first().expect("there is an end");
        let counted = (1..).zip(rest).fold(Count::first(0, Seq(*first)), |count, (end, next)| {
            let kept = Count::read(&count.write()).expect("it reads what it wrote");
            assert_eq!(kept, count);
            count.and(end, Seq(*next))
        });
        counted.ends
    }

    #[test]
    fn progress_between_two_ends_is_no_crash_of_the_run() {
        assert!(!is_poison(after(&[3])));
        assert!(is_poison(after(&[3, 3])), "it was to write the same frame");
        assert!(!is_poison(after(&[3, 4])), "a kill that comes twice at a bad time");
        assert!(!is_poison(after(&[3, 4, 9, 12])));
        assert!(is_poison(after(&[3, 4, 9, 9])));
        assert!(is_poison(after(&[3, 4, 9, 12, 15])), "it may crash with what it accumulates");
    }

    #[test]
    fn counts_of_earlier_versions_are_read() {
        let kept = Bytes::from_static(br#"{"ends": 2, "end": 7, "next": 3}"#);
        assert_eq!(Count::read(&kept), Some(Count { ends: 2, total: 2, end: 7, next: Seq(3) }));
    }
}
