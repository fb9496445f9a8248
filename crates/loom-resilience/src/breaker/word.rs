//! The state of a circuit in one word: generation, streak of failures, mode and phase.

use super::config::Mode;
use crate::observer::CircuitState;

/// `generation (32) | streak (24) | isolated (1) | mode (2) | phase (2)`, with three bits free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// The state of the circuit, independent of the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open,
    HalfOpen,
}

const PHASE: u64 = 0b11;
const MODE_SHIFT: u32 = 2;
const MODE: u64 = 0b11 << MODE_SHIFT;
/// The bit of the mode that only [`Mode::Off`] has.
const OFF: u64 = 0b10 << MODE_SHIFT;
const ISOLATED: u64 = 1 << 4;
const STREAK_SHIFT: u32 = 8;
const STREAK_MAX: u32 = (1 << 24) - 1;
const STREAK: u64 = (STREAK_MAX as u64) << STREAK_SHIFT;
const GENERATION_SHIFT: u32 = 32;

impl Word {
    /// A closed circuit of the first generation. Generations start at 1, so that none equals a cleared slot.
    pub(super) const fn new(mode: Mode) -> Self {
        Self(1 << GENERATION_SHIFT).with_mode(mode)
    }

    /// Closed, not isolated, and enforced or observed: the common case, in one comparison.
    #[inline]
    pub(super) const fn is_counting_closed(self) -> bool {
        self.0 & (PHASE | OFF | ISOLATED) == 0
    }

    /// Off and not isolated: every call passes.
    #[inline]
    pub(super) const fn is_off(self) -> bool {
        self.0 & (OFF | ISOLATED) == OFF
    }

    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    pub(super) const fn phase(self) -> Phase {
        match self.0 & PHASE {
            0 => Phase::Closed,
            1 => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    pub(super) const fn mode(self) -> Mode {
        match (self.0 & MODE) >> MODE_SHIFT {
            0 => Mode::Enforce,
            1 => Mode::Observe,
            _ => Mode::Off,
        }
    }

    pub(super) const fn is_isolated(self) -> bool {
        self.0 & ISOLATED != 0
    }

    #[inline]
    pub(super) const fn streak(self) -> u32 {
        ((self.0 & STREAK) >> STREAK_SHIFT) as u32
    }

    pub(super) const fn with_streak(self, streak: u32) -> Self {
        let streak = if streak > STREAK_MAX { STREAK_MAX } else { streak };
        Self((self.0 & !STREAK) | ((streak as u64) << STREAK_SHIFT))
    }

    pub(super) const fn with_mode(self, mode: Mode) -> Self {
        let bits = match mode {
            Mode::Enforce => 0,
            Mode::Observe => 1,
            Mode::Off => 2,
        };
        Self((self.0 & !MODE) | (bits << MODE_SHIFT))
    }

    pub(super) const fn with_isolated(self, isolated: bool) -> Self {
        Self(if isolated { self.0 | ISOLATED } else { self.0 & !ISOLATED })
    }

    /// The next generation, in `phase`, with no streak.
    pub(super) const fn next(self, phase: Phase) -> Self {
        let generation = self.generation().wrapping_add(1) as u64;
        let bits = match phase {
            Phase::Closed => 0,
            Phase::Open => 1,
            Phase::HalfOpen => 2,
        };
        Self((generation << GENERATION_SHIFT) | (self.0 & (MODE | ISOLATED)) | bits)
    }
}

impl Phase {
    pub(super) const fn state(self) -> CircuitState {
        match self {
            Self::Closed => CircuitState::Closed,
            Self::Open => CircuitState::Open,
            Self::HalfOpen => CircuitState::HalfOpen,
        }
    }
}
