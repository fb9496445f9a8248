//! Random numbers as a pure function of a seed, so that a replay draws the same jitter.
//!
//! The mixing function is the finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number
//! generators", 2014). It spreads consecutive seeds well, which is all that jitter needs. It is not cryptographic.

use std::time::Duration;

/// A well-mixed number for a seed and a counter.
pub(crate) fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A duration from `low` to `high` inclusive, chosen by `random`. Returns `low` when `high` is below it.
pub(crate) fn between(low: Duration, high: Duration, random: u64) -> Duration {
    let low_nanos = nanos(low);
    let span = nanos(high).saturating_sub(low_nanos);
    // The upper half of the product of two 64-bit numbers is uniform over the span to within one part in 2^64.
    let step = (u128::from(random) * (u128::from(span) + 1)) >> 64;
    Duration::from_nanos(low_nanos.saturating_add(step as u64))
}

/// A stable seed for a name (FNV-1a), so that two services draw different jitter.
pub(crate) fn seed_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The nanoseconds of a duration, at most `u64::MAX` (584 years).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
