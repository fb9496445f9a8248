//! The trace context that a caller sends and that calls pass on: `traceparent` and `tracestate` of the W3C recommendation
//! "Trace Context" (level 1).

use std::{fmt, sync::Arc};

/// The maximum length of a `tracestate` that is propagated, in bytes; longer ones are dropped, as the recommendation allows.
const STATE_BYTES_MAX: usize = 512;

/// The maximum number of list members of a `tracestate`.
const STATE_MEMBERS_MAX: usize = 32;

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

#[cfg(test)]
mod tests;
