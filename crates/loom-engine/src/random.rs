//! Random numbers that are a function of the run: the same run always draws the same numbers.
//!
//! Every draw is a BLAKE3 hash of its purpose, keyed with the run's seed. Nothing that a run exposes, be it an id, a `guid()`
//! or the time of a retry, reveals the seed or another draw. Not for secrets: a seed has only 64 bits.

use std::sync::Arc;

use crate::{
    event::{Place, RunId},
    state::RunState,
};

/// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). It is invertible, so it
/// may be used only for values that are never exposed.
pub(crate) const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The purpose of a draw. Draws for different purposes are independent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// `guid()` and `rand()` in an action.
    Expression,
    /// `guid()` and `rand()` in a trigger.
    Trigger,
    /// The tracking id of an action.
    ActionTracking,
    /// The tracking id of a trigger.
    TriggerTracking,
    /// The jitter of a retry's wait.
    Jitter,
}

impl Purpose {
    const fn byte(self) -> u8 {
        match self {
            Purpose::Expression => 1,
            Purpose::Trigger => 2,
            Purpose::ActionTracking => 3,
            Purpose::TriggerTracking => 4,
            Purpose::Jitter => 5,
        }
    }
}

/// The random source of one run.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    key: [u8; 32],
}

impl Source {
    pub(crate) fn of(run: RunId, seed: u64) -> Source {
        let mut key = *b"................draws of a run 1";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&run.as_u64().to_le_bytes());
        Source { key }
    }

    pub(crate) fn of_state(state: &RunState) -> Source {
        let (run, seed) = state.start.as_ref().map_or((RunId::MIN, 0), |start| (start.run, start.seed));
        Source::of(run, seed)
    }

    /// 128 random bits for one purpose; `parts` distinguish draws for the same purpose.
    pub(crate) fn draw(&self, purpose: Purpose, parts: [u64; 2]) -> u128 {
        let mut text = [0; 17];
        text[0] = purpose.byte();
        text[1..9].copy_from_slice(&parts[0].to_le_bytes());
        text[9..].copy_from_slice(&parts[1].to_le_bytes());
        let hash = blake3::keyed_hash(&self.key, &text);
        let [drawn, _] = hash.as_bytes().as_chunks::<16>().0 else { unreachable!("a hash has 32 bytes") };
        u128::from_le_bytes(*drawn)
    }
}

/// The seed of the jitter of an action's retries.
pub(crate) fn seed_of(state: &RunState, place: Place) -> u64 {
    Source::of_state(state).draw(Purpose::Jitter, occurrence(state, place)) as u64
}

/// The tracking id of one occurrence of an action.
pub(crate) fn tracking_id(state: &RunState, place: Place) -> Arc<str> {
    let drawn = Source::of_state(state).draw(Purpose::ActionTracking, occurrence(state, place));
    Arc::from(format_uuid(uuid(drawn)))
}

/// Identifies one occurrence of an action in its run.
fn occurrence(state: &RunState, place: Place) -> [u64; 2] {
    let iteration = u64::from(state.opening(place.opening).index);
    [u64::from(place.action.0), u64::from(place.opening.0) << 32 | iteration]
}

/// The bits of a version 4 UUID.
pub(crate) const fn uuid(bits: u128) -> u128 {
    bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

/// Formats a UUID in the usual form, with hyphens.
pub fn format_uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
