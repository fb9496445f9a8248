//! Identifiers: runs, sequence numbers, timestamps, content hashes.
//!
//! All backends share them. None of them knows what a run does.

use std::{fmt, str::FromStr};

use crate::Shard;

/// Milliseconds since the Unix epoch. The store never reads a clock for what it stores: callers pass the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This time plus `millis`, saturating at the ends of the range.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// The position of a frame in the journal of its run. The first frame is [`Seq::FIRST`], and there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first frame. A snapshot up to here holds nothing.
    pub const ZERO: Self = Self(0);
    /// The first frame of a run.
    pub const FIRST: Self = Self(1);

    /// The position `frames` frames later.
    #[must_use]
    pub const fn plus(self, frames: u64) -> Self {
        Self(self.0 + frames)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one run. Ids sort by the time at which the run was accepted.
///
/// 63 bits: 42 of Unix milliseconds (until the year 2109), 10 of the shard that made the id, 11 of a counter. The top
/// bit is always clear, so that every backend can store the id as a signed integer. The text form is 13 characters of
/// Crockford's base 32; the order of the texts is the order of the ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

const COUNTER_BITS: u32 = 11;
const SHARD_BITS: u32 = Shard::COUNT.ilog2();
const MILLIS_BITS: u32 = 42;
const TEXT_LENGTH: usize = 13;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// The smallest id.
    pub const MIN: Self = Self(0);
    /// The largest id.
    pub const MAX: Self = Self(u64::MAX >> 1);
    /// The number of shards that an id can distinguish.
    pub const SHARDS: u16 = Shard::COUNT;

    /// The id with this number, or `None` when the top bit is set.
    pub const fn from_u64(number: u64) -> Option<Self> {
        if number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number of this id.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The smallest id of a run accepted at `at` or later; a time out of range is moved to the nearest end of the
    /// range.
    pub fn first_at(at: UnixMillis) -> Self {
        let millis = (at.0.max(0) as u64).min((1 << MILLIS_BITS) - 1);
        Self(millis << (SHARD_BITS + COUNTER_BITS))
    }

    /// When the run was accepted, to the millisecond.
    pub const fn time(self) -> UnixMillis {
        UnixMillis((self.0 >> (SHARD_BITS + COUNTER_BITS)) as i64)
    }

    /// The shard that made the id.
    pub const fn shard(self) -> Shard {
        Shard::new(((self.0 >> COUNTER_BITS) as u16) & (Self::SHARDS - 1))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; TEXT_LENGTH];
        for (place, byte) in text.iter_mut().rev().enumerate() {
            *byte = ALPHABET[((self.0 >> (5 * place)) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != TEXT_LENGTH {
            return Err(InvalidId { kind: "run id", text: text.into() });
        }
        let mut number = 0_u64;
        for byte in text.bytes().map(|byte| byte.to_ascii_lowercase()) {
            let digit = ALPHABET.iter().position(|letter| *letter == byte);
            // 13 characters hold 65 bits; the first may use only three of its five.
            let (Some(digit), true) = (digit, number >> 58 == 0) else {
                return Err(InvalidId { kind: "run id", text: text.into() });
            };
            number = (number << 5) | digit as u64;
        }
        Ok(Self(number))
    }
}

/// Generates run ids that increase. A clock that is set back by less than [`RunIdSource::AHEAD_MAX_MS`] changes nothing; after one that was
/// further ahead, ids follow the clock again, under the next shard, so that no id is made twice.
#[derive(Debug)]
pub struct RunIdSource {
    shard: u16,
    last: u64,
}

impl RunIdSource {
    /// How far ahead of the clock ids may be, in milliseconds.
    pub const AHEAD_MAX_MS: i64 = 60_000;

    /// A source for `shard` (taken modulo [`RunId::SHARDS`]) that continues after `last`, the newest id in the store.
    pub fn new(shard: u16, last: Option<RunId>) -> Self {
        Self { shard: shard % RunId::SHARDS, last: last.map_or(0, RunId::as_u64) }
    }

    /// A source for a store whose newest ids were made while the clock was ahead: `newest` is the newest id, and `by_now`
    /// is the newest one that is at most [`RunIdSource::AHEAD_MAX_MS`] ahead of the clock now.
    pub fn after_clock_was_ahead(newest: RunId, by_now: Option<RunId>) -> Self {
        let shard = match by_now {
            // `by_now` was made after the clock was corrected, and the new ids continue from it.
            Some(by_now) if by_now.shard() != newest.shard() => by_now.shard().number(),
            _ => newest.shard().number() + 1,
        };
        Self::new(shard, by_now)
    }

    /// Returns a new id in a shard, at a later time than all before it, or in the same millisecond with a higher counter. For a
    /// process that makes ids in several shards, which nobody else does meanwhile; a clock that is set back changes nothing.
    pub fn next_in(&mut self, now: UnixMillis, shard: Shard) -> RunId {
        const COUNTER: u64 = (1 << COUNTER_BITS) - 1;
        let (last, counter) = (RunId(self.last).time(), self.last & COUNTER);
        let (at, counter) = if now > last || self.last == 0 {
            (now, 0)
        } else if counter < COUNTER {
            (last, counter + 1)
        } else {
            (last.plus(1), 0)
        };
        self.last = RunId::first_at(at).0 | (u64::from(shard.number()) << COUNTER_BITS) | counter;
        RunId(self.last)
    }

    /// Makes no id of [`next_in`](RunIdSource::next_in) at the time of this one, or earlier.
    pub fn continue_after(&mut self, newest: RunId) {
        let at = newest.time().max(RunId(self.last).time());
        self.last = RunId::first_at(at.plus(1)).0 - 1;
    }

    /// Returns a new id, larger than all before it unless the clock was set back far. When more than 2,048 ids are requested
    /// in one millisecond, or the clock is behind, the id uses one of the following milliseconds.
    pub fn next(&mut self, now: UnixMillis) -> RunId {
        if RunId(self.last).time() > now.plus(Self::AHEAD_MAX_MS) {
            self.shard = (self.shard + 1) % RunId::SHARDS;
            self.last = 0;
        }
        let shard = u64::from(self.shard) << COUNTER_BITS;
        let fresh = RunId::first_at(now).0 | shard;
        let last = RunId(self.last);
        self.last = if fresh > self.last {
            fresh
        } else if last.shard().number() == self.shard
            && self.last & ((1 << COUNTER_BITS) - 1) != (1 << COUNTER_BITS) - 1
        {
            self.last + 1
        } else {
            RunId::first_at(last.time().plus(1)).0 | shard
        };
        RunId(self.last)
    }
}

/// A BLAKE3 hash that identifies content: a blob or a definition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { kind: "content hash", text: text.into() };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut bytes = [0_u8; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

/// Identifies a message in the inbox; see [`InboxMessage`](crate::InboxMessage). Ids increase in the order of
/// arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(pub u64);

/// A string that is not a valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}")]
pub struct InvalidId {
    /// The kind of identifier that was expected.
    pub kind: &'static str,
    /// The string that was found.
    pub text: String,
}

#[cfg(test)]
mod tests;
