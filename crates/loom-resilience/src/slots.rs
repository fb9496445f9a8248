//! A count over a sliding stretch of time, without a lock.
//!
//! Ten slots, each one word that carries its own stamp: the generation of its owner and the number of its time. A slot
//! whose stamp is old is simply begun anew, so nothing has to sweep, and the cost does not grow with traffic.

use crate::sync::{AtomicU64, Ordering};

/// Slots in a window.
pub(crate) const SLOTS: u32 = 10;

/// The newest slot's stamp, in the upper 40 bits of a word.
///
/// The generation is cut to 8 bits: its owner checks it in full before, and here it only keeps out the late write of
/// a thread that was held up in between.
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
    /// The stamp of the slot for `time`, counted in slots.
    #[inline]
    pub(crate) const fn new(generation: u32, time: u64) -> Self {
        let word = ((generation as u64 & 0xFF) << 56) | ((time & 0xFFFF_FFFF) << COUNT_BITS);
        Self { word, index: (time % SLOTS as u64) as usize }
    }

    pub(crate) const fn word(self) -> u64 {
        self.word
    }

    /// Whether a slot of this stamp word lies in the window that ends here.
    #[inline]
    pub(crate) const fn window_holds(self, word: u64) -> bool {
        generation_of(word) == generation_of(self.word)
            && time_of(self.word).wrapping_sub(time_of(word)) < SLOTS
    }

    /// Whether the word of a slot is ahead of this stamp. A slot never used (zero) is ahead of nothing.
    const fn is_behind(self, word: u64) -> bool {
        let generations = generation_of(word).wrapping_sub(generation_of(self.word)) as i8;
        let times = time_of(word).wrapping_sub(time_of(self.word)) as i32;
        word != 0 && (generations > 0 || (generations == 0 && times > 0))
    }
}

/// Ten counts: a word each, of generation (8 bits), number of its time (32 bits) and count (24 bits, which stops at
/// its largest).
#[derive(Debug)]
pub(crate) struct Slots([AtomicU64; SLOTS as usize]);

impl Default for Slots {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Slots {
    /// Counts one.
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

    /// The count of the window that ends with the slot of `now`.
    pub(crate) fn sum(&self, now: Stamp) -> u32 {
        let read = |slot: &AtomicU64| {
            let word = slot.load(Ordering::Acquire);
            if now.window_holds(word) { (word & COUNT_MASK) as u32 } else { 0 }
        };
        self.0.iter().map(read).fold(0, u32::saturating_add)
    }

    /// Puts `count` into the slot of `stamp`, for a restored window.
    pub(crate) fn put(&self, stamp: Stamp, count: u32) {
        let word = stamp.word | u64::from(count).min(COUNT_MASK);
        self.0[stamp.index].store(word, Ordering::Release);
    }
}
