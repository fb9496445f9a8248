//! The memory of a run's values, estimated as they are added.
//!
//! Every event adds an upper bound of the size of its values, which know their size. Released values are not subtracted:
//! only when the sum could exceed the budget is the state measured, and the count restarts from the result. Most runs are
//! therefore never measured, and data shared by many values counts once where it matters.

use std::collections::HashSet;

use loom_expression::{Value, ValueRef};

use crate::state::{Activity, RunState, Slot};

/// Values up to this size, in bytes, are counted without checking whether they are shared.
const SMALL: u64 = 1_024;

/// A state is measured at most once for each 1/16 of the budget that is added; the budget may be exceeded by as much.
const SHARE: u64 = 16;

/// After producing values of this many bytes, a run yields, so that its events can be written and their memory released.
const KEPT_MAX: u64 = 32 << 20;

/// Bytes counted for each event: an action's inputs and outputs without their heap data. No event adds more values than
/// these two, except the start of a run, which counts its parameters itself.
const EVENT_BYTES: u64 = 2 * Value::OWN_BYTES;

/// The memory count of one run.
///
/// Adding to one sum and comparing it with one limit is all that happens for an event; everything else is done when the
/// limit is reached or events are taken.
#[derive(Debug)]
pub(crate) struct Live {
    /// Bytes added that are in neither of the two sums below.
    added: u64,
    /// When `added` exceeds this, one of the two limits is reached.
    room: u64,
    /// Bytes added since the state was measured.
    unmeasured: u64,
    /// Bytes added since events were taken last.
    kept: u64,
    /// Bytes that may be added before the state has to be measured.
    measure_after: u64,
}

impl Live {
    /// The count of a run without values, which may hold `most` bytes.
    pub(crate) fn new(most: u64) -> Live {
        let mut live = Live { added: 0, room: 0, unmeasured: 0, kept: 0, measure_after: allowance(most, 0) };
        live.settle();
        live
    }

    /// Counts events whose values have `heap_bytes` of heap data. True if a limit is reached; see [`Live::is_due`] and
    /// [`Live::is_full`].
    #[inline]
    pub(crate) fn count(&mut self, events: usize, heap_bytes: u64) -> bool {
        if heap_bytes > 0 {
            // Leaves room for adding without a check, which is all that most events need.
            self.added = self.added.saturating_add(heap_bytes).min(u64::MAX / 2);
        }
        self.added += events as u64 * EVENT_BYTES;
        self.added > self.room
    }

    /// Whether the state may exceed its budget and has to be measured.
    pub(crate) fn is_due(&mut self) -> bool {
        self.settle();
        self.unmeasured > self.measure_after
    }

    /// Whether the events should be taken before more work is done.
    pub(crate) fn is_full(&self) -> bool {
        self.kept > KEPT_MAX
    }

    /// Bytes of heap data added since events were taken last, when these were so many events.
    pub(crate) fn kept_heap(&mut self, events: usize) -> u64 {
        self.settle();
        self.kept.saturating_sub(events as u64 * EVENT_BYTES)
    }

    /// Measures the state, which may hold `most` bytes, and returns its size in bytes.
    pub(crate) fn measure(&mut self, state: &RunState, most: u64) -> u64 {
        let live = live_bytes(state);
        self.settle();
        self.unmeasured = 0;
        self.measure_after = allowance(most, live);
        self.settle();
        live
    }

    /// The events have been taken.
    pub(crate) fn taken(&mut self) {
        self.settle();
        self.kept = 0;
        self.settle();
    }

    /// Adds `added` to both sums, and computes the room that remains.
    fn settle(&mut self) {
        let added = std::mem::take(&mut self.added);
        self.unmeasured = self.unmeasured.saturating_add(added);
        self.kept = self.kept.saturating_add(added);
        let to_measure = self.measure_after.saturating_sub(self.unmeasured);
        self.room = to_measure.min(KEPT_MAX.saturating_sub(self.kept));
    }
}

/// The bytes that a state that holds `held` of `most` bytes may add before it is measured.
fn allowance(most: u64, live: u64) -> u64 {
    most.saturating_sub(live).max(most / SHARE)
}

/// The size of all values that a state holds; shared values count once.
fn live_bytes(state: &RunState) -> u64 {
    let mut values: Vec<&Value> = Vec::new();
    if let Some(start) = &state.start {
        values.push(&start.trigger);
        values.extend(&start.parameters);
    }
    values.extend(state.variables.iter().flatten());
    values.extend(state.response.iter().chain(&state.outputs));
    values.extend(state.effects.iter().filter_map(|(_, call)| call.resume.as_ref()));
    for slot in state.openings.iter().flat_map(|opening| &opening.slots) {
        let Slot { inputs, outputs, activity, .. } = slot;
        values.extend(inputs.iter().chain(outputs));
        let Some(activity) = activity.as_deref() else { continue };
        let Activity { each, looping, call, .. } = activity;
        if let Some(each) = each {
            // The items themselves are the loop's inputs.
            values.extend(each.results.iter().flatten().flatten());
        }
        if let Some(looping) = looping {
            values.extend(looping.results.iter().chain(&looping.attempts));
        }
        if let Some(call) = call {
            values.extend(call.resume.iter().chain(&call.history).chain(&call.turns().earlier));
            values.extend(call.turns().uses.iter().map(|used| &used.arguments));
        }
    }
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    while let Some(value) = values.pop() {
        if value.bytes() <= SMALL {
            bytes = bytes.saturating_add(value.bytes());
            continue;
        }
        if value.address().is_some_and(|address| !seen.insert(address)) {
            continue;
        }
        // The size of a container without its parts, which are counted separately.
        let mut own = value.bytes();
        match value.as_ref() {
            ValueRef::Array(items) => {
                own = size_of::<Value>() as u64 * items.len() as u64;
                values.extend(items.iter());
            }
            ValueRef::Object(members) => {
                own = members.iter().map(|(name, _)| 64 + name.len() as u64).sum();
                values.extend(members.values());
            }
            _ => {}
        }
        bytes = bytes.saturating_add(own);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events without heap data fit before a limit is reached.
    fn fitting(live: &mut Live) -> u64 {
        (0..u32::MAX).take_while(|_| !live.count(1, 0)).count() as u64
    }

    #[test]
    fn a_state_is_due_when_the_sum_could_exceed_the_budget() {
        let mut live = Live::new(64 << 10);
        assert!(!live.count(1, (64 << 10) - EVENT_BYTES));
        assert!(!live.is_due());
        assert!(live.count(1, 0), "one event more");
        assert!(live.is_due() && !live.is_full());
    }

    #[test]
    fn values_without_heap_data_count() {
        let mut live = Live::new(64 << 10);
        assert_eq!(fitting(&mut live), (64 << 10) / EVENT_BYTES);
        assert!(live.is_due());
    }

    #[test]
    fn taking_events_makes_room_for_more_and_hides_nothing_from_the_budget() {
        let mut live = Live::new(100 << 20);
        for _ in 0..3 {
            assert!(live.count(1, KEPT_MAX));
            assert!(!live.is_due() && live.is_full());
            live.taken();
            assert!(!live.is_full());
        }
        assert!(live.count(1, KEPT_MAX));
        assert!(live.is_due(), "four times 32 MiB are more than 100 MiB");
    }

    #[test]
    fn the_largest_size_is_due() {
        let mut live = Live::new(1 << 62);
        for _ in 0..3 {
            assert!(live.count(1, u64::MAX));
            assert!(live.is_due());
            live.taken();
        }
    }
}
