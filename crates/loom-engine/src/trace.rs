//! Distributed tracing: the ids of a run's spans, and the trace context that its calls propagate.
//!
//! The formats are those of the W3C recommendation "Trace Context" (level 1). Ids are hashes of the run and of what happens in
//! it, not random: a run that is resumed by another process continues with the same ids, and nothing is stored for that.

use loom_definition::ActionIdx;

use crate::{
    event::{EffectId, RunStart},
    path::Iteration,
};

pub use crate::trace_parent::TraceParent;

/// The maximum number of iterations that have spans; see [`has_spans`].
const ITERATIONS_WITH_SPANS: u64 = 256;

/// The ids of one run's spans.
#[derive(Clone, Debug)]
pub struct RunTrace {
    /// The trace id: the caller's, or the run's own.
    pub trace: u128,
    /// The id of the run's span.
    pub run: u64,
    /// The caller's trace context, if it sent one.
    pub parent: Option<TraceParent>,
    key: [u8; 32],
}

impl RunTrace {
    /// The ids of the run that was started from `start`. The same start always yields the same ids.
    pub fn of(start: &RunStart) -> RunTrace {
        let mut key = blake3::Hasher::new_derive_key("loom-engine 2026-11-24 ids of a run's spans");
        // The seed must not be derivable from an id, because the run's random values are derived from it.
        key.update(&start.run.as_u64().to_le_bytes()).update(&start.seed.to_le_bytes());
        let key = *key.finalize().as_bytes();
        let own = || u128::from_le_bytes(first(&hash(&key, b't', &[])));
        RunTrace {
            trace: start.trace.as_ref().map_or_else(|| own().max(1), |parent| parent.trace),
            run: span(&key, b'r', &[]),
            parent: start.trace.clone(),
            key,
        }
    }

    /// Whether the trace is recorded: follows the caller's decision; true without a caller.
    pub fn is_sampled(&self) -> bool {
        self.parent.as_ref().is_none_or(|parent| parent.sampled)
    }

    /// The id of the span of one occurrence of an action. `path` are the iterations of the enclosing loops, outermost first.
    pub fn action(&self, action: ActionIdx, path: &[Iteration]) -> u64 {
        let iterations = path.iter().flat_map(|iteration| [iteration.action.0, iteration.index]);
        span(&self.key, b'a', &[action.0].into_iter().chain(iterations).collect::<Vec<_>>())
    }

    /// The id of the span of one call.
    pub fn call(&self, effect: EffectId) -> u64 {
        span(&self.key, b'c', &[effect.0])
    }

    /// The context that a call propagates: its own span or, if its iteration has no spans, the span of the enclosing loop.
    pub(crate) fn handed_on(&self, effect: EffectId, path: &[Iteration]) -> TraceParent {
        let shown = shown_part(path);
        let span = match path.get(shown) {
            None => self.call(effect),
            Some(iteration) => self.action(iteration.action, &path[..shown]),
        };
        let state = self.parent.as_ref().and_then(|parent| parent.state.clone());
        TraceParent { trace: self.trace, span, sampled: self.is_sampled(), state }
    }
}

/// Whether actions in an iteration have spans: while the product of the numbers, from 1, of the iteration and its enclosing
/// iterations is at most 256. The first iterations of each loop are therefore shown, and the number of spans of a run is
/// bounded, however many iterations it has. The rule depends on nothing else, so that every process decides alike.
pub fn has_spans(path: &[Iteration]) -> bool {
    shown_part(path) == path.len()
}

/// How many of the outermost iterations have spans.
fn shown_part(path: &[Iteration]) -> usize {
    let mut product = 1u64;
    path.iter()
        .take_while(|iteration| {
            product = product.saturating_mul(u64::from(iteration.index) + 1);
            product <= ITERATIONS_WITH_SPANS
        })
        .count()
}

/// An id is never 0.
fn span(key: &[u8; 32], kind: u8, parts: &[u32]) -> u64 {
    u64::from_le_bytes(first(&hash(key, kind, parts))).max(1)
}

fn hash(key: &[u8; 32], kind: u8, parts: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&[kind]);
    for part in parts {
        hasher.update(&part.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|index| bytes[index])
}

#[cfg(test)]
mod tests;
