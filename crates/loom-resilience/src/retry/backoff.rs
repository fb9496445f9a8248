//! How the delay between attempts grows, and how it is randomised.
//!
//! The kinds of jitter follow M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Each draws below
//! the maximum, so jitter neither exceeds the maximum nor is clamped away by it.

use std::{fmt, time::Duration};

use crate::{
    config::{Checker, Plain},
    random::{between, mix},
};

/// How the delay grows, before jitter and before the maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Backoff {
    /// The same delay each time.
    Constant {
        /// The delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        delay: Duration,
    },
    /// `initial`, then `step` longer each time.
    Linear {
        /// The first delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        initial: Duration,
        /// What each further delay adds.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        step: Duration,
    },
    /// `initial`, then `factor` times as long each time.
    Exponential {
        /// The first delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        initial: Duration,
        /// The factor, at least 1.
        factor: f64,
    },
    /// The exponential form of workflow definitions: before retry n, a random delay between `max(2^(n-2) * interval, min)`
    /// (for the first retry `min`) and `min(2^(n-1) * interval, max)`. It is random and has a maximum of its own, so neither
    /// [`Jitter`] nor `max_delay` applies to it.
    Band {
        /// The interval.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        interval: Duration,
        /// The shortest delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        min: Duration,
        /// The longest delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
        max: Duration,
    },
}

/// How the delay is randomised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// No jitter.
    None,
    /// Between zero and the delay.
    #[default]
    Full,
    /// Between half the delay and the delay.
    Equal,
    /// Between the first delay and three times the previous one, whatever the growth.
    Decorrelated,
}

impl Backoff {
    /// The delay after attempt `attempt` (from 1): at most `cap` (a band has its own), and a function of the arguments alone.
    pub(super) fn delay(&self, attempt: u32, cap: Duration, jitter: Jitter, seed: u64) -> Duration {
        let random = mix(seed, u64::from(attempt));
        if let Self::Band { interval, min, max } = *self {
            let floor = if attempt == 1 { Duration::ZERO } else { doubled(interval, attempt - 2) };
            let high = doubled(interval, attempt - 1).min(max);
            // A minimum above the growing interval applies, up to the maximum.
            let low = floor.max(min).min(max);
            return between(low, high.max(low), random);
        }
        let base = self.base(attempt, cap);
        match jitter {
            Jitter::None => base,
            Jitter::Full => between(Duration::ZERO, base, random),
            Jitter::Equal => between(base / 2, base, random),
            Jitter::Decorrelated => self.decorrelated(attempt, cap, seed),
        }
    }

    /// The delay without jitter, at most `cap`.
    fn base(&self, attempt: u32, cap: Duration) -> Duration {
        match *self {
            Self::Constant { delay } => delay.min(cap),
            Self::Linear { initial, step } => {
                initial.saturating_add(step.saturating_mul(attempt - 1)).min(cap)
            }
            Self::Exponential { initial, factor } => {
                // Multiplied step by step, because `powi` may round differently on another machine.
                let limit = cap.as_secs_f64();
                let mut seconds = initial.as_secs_f64();
                for _ in 1..attempt {
                    if seconds >= limit || factor <= 1.0 || seconds == 0.0 {
                        break;
                    }
                    seconds *= factor;
                }
                if seconds >= limit { cap } else { Duration::from_secs_f64(seconds) }
            }
            Self::Band { max, .. } => max,
        }
    }

    /// Draws the whole chain again, so that no delay has to be stored. Once the upper end has reached the cap, the links
    /// differ only by chance, so a long chain starts late.
    fn decorrelated(&self, attempt: u32, cap: Duration, seed: u64) -> Duration {
        const LINKS: u32 = 64;
        let first = self.base(1, cap);
        let mut delay = first;
        for link in attempt.saturating_sub(LINKS).max(1)..=attempt {
            let high = delay.saturating_mul(3).min(cap).max(first);
            delay = between(first, high, mix(seed, u64::from(link)));
        }
        delay
    }

    pub(super) fn validate(&self, check: &mut Checker, cap: Duration, jitter: Jitter) {
        match *self {
            Self::Constant { .. } | Self::Linear { .. } => {}
            Self::Exponential { factor, initial } => {
                check.require(
                    factor.is_finite() && factor >= 1.0,
                    "retry.backoff.factor",
                    "must be 1 or more",
                );
                check.require(
                    !initial.is_zero() || factor <= 1.0,
                    "retry.backoff.initial",
                    "must be above zero, or the delay never grows; use a constant delay of zero",
                );
            }
            Self::Band { min, max, .. } => {
                check.require(min <= max, "retry.backoff.min", "must be at most `max`");
            }
        }
        if jitter == Jitter::Decorrelated {
            check.require(
                !self.base(1, cap).is_zero(),
                "retry.jitter",
                "must not be decorrelated when the first delay is zero, from which it grows",
            );
        }
    }
}

fn doubled(interval: Duration, times: u32) -> Duration {
    if times >= 32 { Duration::MAX } else { interval.saturating_mul(1 << times) }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Constant { delay } => write!(f, "pauses of {}", Plain(delay)),
            Self::Linear { initial, step } => {
                write!(f, "pauses from {}, each {} longer", Plain(initial), Plain(step))
            }
            Self::Exponential { initial, factor } => {
                write!(f, "pauses from {}, each {factor} times longer", Plain(initial))
            }
            Self::Band { interval, min, max } => write!(
                f,
                "pauses in doubling bands of {}, between {} and {}",
                Plain(interval),
                Plain(min),
                Plain(max)
            ),
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not varied",
            Self::Full => "full jitter",
            Self::Equal => "equal jitter",
            Self::Decorrelated => "decorrelated jitter",
        })
    }
}
