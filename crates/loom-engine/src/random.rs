//! Random numbers that are a function of the run: the same run draws the same numbers again.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) over the run's seed and
//! what the draw is for. Not for secrets.

use std::sync::Arc;

use crate::{event::Place, state::RunState};

/// One step of SplitMix64: mixes `state` into a number.
pub(crate) const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of everything drawn for one place in one run.
pub(crate) fn seed_of(state: &RunState, place: Place) -> u64 {
    let seed = state.start.as_ref().map_or(0, |start| start.seed);
    let round = u64::from(state.frame(place.frame).index);
    mix(mix(seed ^ u64::from(place.action.0)) ^ (u64::from(place.frame.0) << 32 | round))
}

/// The 128 bits of a version 4 UUID.
pub(crate) const fn uuid(high: u64, low: u64) -> u128 {
    let bits = (high as u128) << 64 | low as u128;
    bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

/// The tracking id of one occurrence of an action.
pub(crate) fn tracking_id(state: &RunState, place: Place) -> Arc<str> {
    let seed = seed_of(state, place) ^ 0x7472_6163_6b69_6e67;
    Arc::from(format_uuid(uuid(mix(seed), mix(seed.wrapping_add(1)))))
}

/// The usual form, with dashes.
pub fn format_uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
