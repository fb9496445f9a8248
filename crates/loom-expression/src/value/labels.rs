//! `Labels`: a set of facts about the origin of a value, such as that it is secret. Values that are computed from
//! labelled values have their labels too.

use std::ops::{BitOr, BitOrAssign};
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(debug_assertions)]
static SWITCHED_OFF: AtomicBool = AtomicBool::new(false);

/// A set of labels in one byte, so that a union is one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(u8);

impl Labels {
    /// No label.
    pub const NONE: Self = Self(0);
    /// Secret: the value must never be shown, logged or quoted.
    pub const SECRET: Self = Self(1);
    /// Untrusted: a language model wrote the value, or a service that a language model chose to call.
    pub const UNTRUSTED: Self = Self(2);

    /// Whether the set contains every label of `others`.
    #[inline]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number, to store it: the sum of 1 for secret and 2 for untrusted.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set that [`Labels::bits`] returned. Bits that no label has are ignored.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::SECRET.0 | Self::UNTRUSTED.0))
    }

    /// The set without the labels of `others`.
    #[inline]
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The labels of both sets.
    #[inline]
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    #[cfg(not(debug_assertions))]
    #[inline]
    pub(super) fn if_enabled(self) -> Self {
        self
    }

    #[cfg(debug_assertions)]
    pub(super) fn if_enabled(self) -> Self {
        if SWITCHED_OFF.load(Ordering::Relaxed) { Self::NONE } else { self }
    }

    /// Disables labels for the rest of the process. Used for control experiments in tests: with labels disabled, a search
    /// for leaked secrets must find some. Available only with debug assertions.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn switch_off() {
        SWITCHED_OFF.store(true, Ordering::Relaxed);
    }
}

impl BitOr for Labels {
    type Output = Self;

    #[inline]
    fn bitor(self, others: Self) -> Self {
        self.union(others)
    }
}

impl BitOrAssign for Labels {
    #[inline]
    fn bitor_assign(&mut self, others: Self) {
        *self = self.union(others);
    }
}

impl FromIterator<Self> for Labels {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::NONE, Self::union)
    }
}
