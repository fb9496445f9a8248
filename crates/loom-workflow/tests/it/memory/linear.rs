//! Checks that a history of operations on one key is linearizable: that there is an order of all operations, compatible with
//! when each began and ended, in which each returns what it returned.
//!
//! The search is that of Wing and Gong (1993), with Lowe's cache of what has been tried (2017).

use std::collections::HashSet;

/// What an operation does, and what it returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// Added to a counter.
    Add(i64, Option<i64>),
    /// Appended to a list; returned its length.
    Append(i64, Option<i64>),
    /// Replaced the value; returned nothing.
    Set(i64),
    /// Read everything: a counter or a value has one number at most.
    Read(Vec<i64>),
}

/// An operation with the times between which it took effect, from one clock.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) did: Did,
    pub(crate) began: u64,
    /// `None` when the caller does not know whether it took effect, so that it may have done so at any later time, or never.
    pub(crate) ended: Option<u64>,
}

/// What a key holds afterwards, if the operation could return what it returned.
fn apply(state: &[i64], did: &Did) -> Option<Vec<i64>> {
    match did {
        Did::Add(by, returned) => {
            let sum = state.first().copied().unwrap_or(0) + by;
            returned.is_none_or(|returned| returned == sum).then(|| vec![sum])
        }
        Did::Append(item, returned) => {
            let mut state = state.to_vec();
            state.push(*item);
            returned.is_none_or(|returned| returned == state.len() as i64).then_some(state)
        }
        Did::Set(value) => Some(vec![*value]),
        Did::Read(found) => (state == found).then(|| state.to_vec()),
    }
}

/// Whether the operations on one key, which was absent before, are linearizable.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| operation.began);
    let mut done = vec![false; history.len()];
    let mut tried = HashSet::new();
    // Each step: an operation that was chosen, and what the key held before it.
    let mut steps: Vec<(usize, Vec<i64>)> = Vec::new();
    let mut state = Vec::new();
    let mut from = 0;
    loop {
        let is_over =
            |done: &[bool]| history.iter().zip(done).all(|(one, done)| *done || one.ended.is_none());
        if is_over(&done) {
            return true;
        }
        // An operation may come next if no other one ended before it began.
        let left = history.iter().zip(&done).filter(|(_, done)| !**done);
        let limit = left.filter_map(|(one, _)| one.ended).min().unwrap_or(u64::MAX);
        let mut next = None;
        for (index, operation) in history.iter().enumerate().skip(from) {
            if done[index] || operation.began > limit {
                continue;
            }
            let Some(after) = apply(&state, &operation.did) else { continue };
            done[index] = true;
            if tried.insert((done.clone(), after.clone())) {
                next = Some((index, after));
                break;
            }
            done[index] = false;
        }
        if let Some((index, after)) = next {
            steps.push((index, std::mem::replace(&mut state, after)));
            from = 0;
        } else if let Some((index, before)) = steps.pop() {
            (done[index], state, from) = (false, before, index + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: u64, ended: impl Into<Option<u64>>, did: Did) -> Operation {
        Operation { did, began, ended: ended.into() }
    }

    #[test]
    fn histories_with_an_order_are_accepted() {
        for history in [
            vec![],
            // Two overlap, and took effect in the other order.
            vec![at(0, 9, Did::Add(1, Some(2))), at(1, 2, Did::Add(1, Some(1)))],
            vec![at(0, 5, Did::Set(1)), at(1, 6, Did::Set(2)), at(7, 8, Did::Read(vec![1]))],
            // An operation without a result took effect later, or never.
            vec![
                at(0, None, Did::Append(7, None)),
                at(1, 2, Did::Read(vec![])),
                at(3, 4, Did::Read(vec![7])),
            ],
            vec![at(0, None, Did::Add(5, None)), at(1, 2, Did::Add(1, Some(1)))],
        ] {
            assert!(is_linearizable(&history), "{history:?}");
        }
    }

    #[test]
    fn histories_without_one_are_rejected() {
        for history in [
            // A lost update, a stale read, a value from nowhere, and an operation that took effect twice.
            vec![at(0, 9, Did::Add(1, Some(1))), at(1, 8, Did::Add(1, Some(1)))],
            vec![at(0, 1, Did::Set(1)), at(2, 3, Did::Set(2)), at(4, 5, Did::Read(vec![1]))],
            vec![at(0, 1, Did::Read(vec![3]))],
            vec![at(0, None, Did::Append(7, None)), at(1, 2, Did::Read(vec![7, 7]))],
            // It cannot take effect before it began.
            vec![at(5, None, Did::Set(1)), at(1, 2, Did::Read(vec![1]))],
        ] {
            assert!(!is_linearizable(&history), "{history:?}");
        }
    }
}
