//! A lock-free counter over a sliding time window.
//!
//! The window has ten slots. Each slot is one word that holds a count and a stamp: the generation of its owner and the
//! number of its time interval. A writer that finds an old stamp restarts the slot, so nothing has to sweep, and the cost
//! does not grow with traffic.

use crate::sync::{AtomicU64, Ordering};

/// Slots in a window.
pub(crate) const SLOTS: u32 = 10;

/// The stamp of a slot: generation and interval, in the upper 40 bits of a word.
///
/// Only the lowest 8 bits of the generation are kept. The owner compares the full generation first; the stamp only has to
/// reject the late write of a thread that was delayed after that comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    word: u64,
    index: usize,
}

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

const fn generation_of(word: u64) -> u8 {
    (word >> 56) as u8
}

const fn time_of(word: u64) -> u32 {
    (word >> COUNT_BITS) as u32
}

impl Stamp {
    /// The stamp for interval number `time`.
    #[inline]
    pub(crate) const fn new(generation: u32, time: u64) -> Self {
        let word = ((generation as u64 & 0xFF) << 56) | ((time & 0xFFFF_FFFF) << COUNT_BITS);
        Self { word, index: (time % SLOTS as u64) as usize }
    }

    pub(crate) const fn word(self) -> u64 {
        self.word
    }

    /// Whether the slot with this word is in the window that ends with this stamp.
    #[inline]
    pub(crate) const fn window_holds(self, word: u64) -> bool {
        generation_of(word) == generation_of(self.word)
            && time_of(self.word).wrapping_sub(time_of(word)) < SLOTS
    }

    /// Whether a slot's word is newer than this stamp. The word of an unused slot is zero and never newer.
    const fn is_behind(self, word: u64) -> bool {
        let generations = generation_of(word).wrapping_sub(generation_of(self.word)) as i8;
        let times = time_of(word).wrapping_sub(time_of(self.word)) as i32;
        word != 0 && (generations > 0 || (generations == 0 && times > 0))
    }
}

/// Ten counters of one word each: generation (8 bits), interval (32 bits), count (24 bits, saturating).
#[derive(Debug)]
pub(crate) struct Slots([AtomicU64; SLOTS as usize]);

impl Default for Slots {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Slots {
    /// Adds one to the slot of `stamp`. A slot that is newer than the stamp stays as it is.
    #[inline]
    pub(crate) fn add(&self, stamp: Stamp) {
        let slot = &self.0[stamp.index];
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let next = if word & !COUNT_MASK == stamp.word {
                if word & COUNT_MASK == COUNT_MASK {
                    return;
                }
                word + 1
            } else if stamp.is_behind(word) {
                return;
            } else {
                stamp.word | 1
            };
            match slot.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// The total of the window that ends with the slot of `now`.
    pub(crate) fn sum(&self, now: Stamp) -> u32 {
        let read = |slot: &AtomicU64| {
            let word = slot.load(Ordering::Acquire);
            if now.window_holds(word) { (word & COUNT_MASK) as u32 } else { 0 }
        };
        self.0.iter().map(read).fold(0, u32::saturating_add)
    }

    /// The count of the slot of `stamp` alone.
    pub(crate) fn count(&self, stamp: Stamp) -> u32 {
        let word = self.0[stamp.index].load(Ordering::Acquire);
        if word & !COUNT_MASK == stamp.word { (word & COUNT_MASK) as u32 } else { 0 }
    }

    /// Sets the slot of `stamp` to `count`, to restore a window.
    pub(crate) fn put(&self, stamp: Stamp, count: u32) {
        let word = stamp.word | u64::from(count).min(COUNT_MASK);
        // A swap rather than a store: it is ordered with the updates of `add`, so a late one finds this word.
        self.0[stamp.index].swap(word, Ordering::AcqRel);
    }
}
