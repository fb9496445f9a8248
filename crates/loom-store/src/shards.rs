//! Shards: the units in which runs and triggers are owned.

use std::fmt;

/// A number less than [`Shard::COUNT`]. Runs and triggers belong to a shard, and a shard belongs to at most one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u16);

impl Shard {
    /// The number of shards.
    pub const COUNT: u16 = 1_024;

    /// The shard with this number, modulo [`Shard::COUNT`].
    pub const fn new(number: u16) -> Self {
        Self(number % Self::COUNT)
    }

    /// The shard of something with a name, such as a trigger: a hash of the name in lower case.
    pub fn of(name: &str) -> Self {
        let hash = blake3::hash(name.to_lowercase().as_bytes());
        let [low, high, ..] = *hash.as_bytes();
        Self::new(u16::from_le_bytes([low, high]))
    }

    /// The number of the shard.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const WORDS: usize = Shard::COUNT as usize / 64;

/// A set of shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shards([u64; WORDS]);

impl Shards {
    /// All shards: everything in the store.
    pub const ALL: Self = Self([u64::MAX; WORDS]);
    /// No shard.
    pub const NONE: Self = Self([0; WORDS]);

    /// Whether the shard is in the set.
    pub const fn contains(&self, shard: Shard) -> bool {
        self.0[shard.0 as usize / 64] & (1 << (shard.0 % 64)) != 0
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: Shard) {
        self.0[usize::from(shard.0) / 64] |= 1 << (shard.0 % 64);
    }

    /// The shards in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The shards in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The shards of this set that are not in the other one.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// The number of shards in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The shards in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + use<> {
        let set = *self;
        (0..Shard::COUNT).map(Shard).filter(move |shard| set.contains(*shard))
    }
}

impl Default for Shards {
    /// All shards.
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Shard> for Shards {
    fn from_iter<T: IntoIterator<Item = Shard>>(shards: T) -> Self {
        let mut set = Self::NONE;
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("Shards::ALL");
        }
        f.debug_set().entries(self.iter().map(Shard::number)).finish()
    }
}
