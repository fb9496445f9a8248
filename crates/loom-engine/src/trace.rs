//! Distributed tracing: the ids of a run's spans, and the trace context that its calls propagate.
//!
//! The formats are those of the W3C recommendation "Trace Context" (level 1). Ids are hashes of the run and of what happens in
//! it, not random: a run that is resumed by another process continues with the same ids, and nothing is stored for that.

use std::{fmt, sync::Arc};

use loom_definition::ActionIdx;

use crate::{
    event::{EffectId, RunStart},
    trail::Round,
};

/// The maximum length of a `tracestate` that is propagated, in bytes; longer ones are dropped, as the recommendation allows.
const STATE_BYTES_MAX: usize = 512;

/// The maximum number of list members of a `tracestate`.
const STATE_MEMBERS_MAX: usize = 32;

/// The maximum number of iterations that have spans; see [`has_spans`].
const ROUNDS_WITH_SPANS: u64 = 256;

/// The trace context of a caller: the headers `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace id; never 0.
    pub trace: u128,
    /// The id of the caller's span; never 0.
    pub span: u64,
    /// Whether the caller records the trace.
    pub sampled: bool,
    /// The `tracestate`, unchanged.
    pub state: Option<Arc<str>>,
}

impl TraceParent {
    /// Parses the two headers. None when `traceparent` does not have the form `00-{32 digits}-{16 digits}-{2 digits}` with
    /// lower-case hexadecimal digits; `state` is then ignored, too. Later versions may append further fields.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<TraceParent> {
        let bytes = parent.as_bytes();
        let (fixed, rest) = bytes.split_at_checked(55)?;
        let version = number(&fixed[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !is_whole || [fixed[2], fixed[35], fixed[52]] != *b"---" {
            return None;
        }
        let (trace, span) = (number(&fixed[3..35])?, number(&fixed[36..52])? as u64);
        if trace == 0 || span == 0 {
            return None;
        }
        let sampled = number(&fixed[53..])? & 1 == 1;
        let state = state.map(str::trim).filter(|state| is_state(state)).map(Arc::from);
        Some(TraceParent { trace, span, sampled, state })
    }
}

impl fmt::Display for TraceParent {
    /// The value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal digits, at most 32.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Whether every member is `key=value` in printable characters.
fn is_state(state: &str) -> bool {
    let members = || state.split(',').map(str::trim).filter(|member| !member.is_empty());
    let is_member = |member: &str| {
        let printable = member.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        printable && member.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
    };
    (1..=STATE_BYTES_MAX).contains(&state.len())
        && (1..=STATE_MEMBERS_MAX).contains(&members().count())
        && members().all(is_member)
}

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
    pub fn action(&self, action: ActionIdx, path: &[Round]) -> u64 {
        let iterations = path.iter().flat_map(|round| [round.action.0, round.index]);
        span(&self.key, b'a', &[action.0].into_iter().chain(iterations).collect::<Vec<_>>())
    }

    /// The id of the span of one call.
    pub fn call(&self, effect: EffectId) -> u64 {
        span(&self.key, b'c', &[effect.0])
    }

    /// The context that a call propagates: its own span or, if its iteration has no spans, the span of the enclosing loop.
    pub(crate) fn handed_on(&self, effect: EffectId, path: &[Round]) -> TraceParent {
        let shown = shown_part(path);
        let span = match path.get(shown) {
            None => self.call(effect),
            Some(round) => self.action(round.action, &path[..shown]),
        };
        let state = self.parent.as_ref().and_then(|parent| parent.state.clone());
        TraceParent { trace: self.trace, span, sampled: self.is_sampled(), state }
    }
}

/// Whether actions in an iteration have spans: while the product of the numbers, from 1, of the iteration and its enclosing
/// iterations is at most 256. The first iterations of each loop are therefore shown, and the number of spans of a run is
/// bounded, however many iterations it has. The rule depends on nothing else, so that every process decides alike.
pub fn has_spans(path: &[Round]) -> bool {
    shown_part(path) == path.len()
}

/// How many of the outermost iterations have spans.
fn shown_part(path: &[Round]) -> usize {
    let mut product = 1u64;
    path.iter()
        .take_while(|round| {
            product = product.saturating_mul(u64::from(round.index) + 1);
            product <= ROUNDS_WITH_SPANS
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
