//! How the pause between attempts grows, and how it is varied.
//!
//! The forms of jitter follow M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). Each draws
//! within the cap, so jitter neither passes the cap nor is eaten by it.

use std::{fmt, time::Duration};

use crate::{
    config::{Checker, Plain},
    random::{between, mix},
};

/// How the pause grows. Before jitter, and before the cap.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum Backoff {
    /// Always the same.
    Constant {
        /// The pause.
        delay: Duration,
    },
    /// `initial`, then `step` more each time.
    Linear {
        /// The first pause.
        initial: Duration,
        /// What each further one adds.
        step: Duration,
    },
    /// `initial`, then `factor` times as long each time.
    Exponential {
        /// The first pause.
        initial: Duration,
        /// At least 1.
        factor: f64,
    },
    /// The exponential form of workflow definitions: before retry n, anywhere between `max(2^(n-2) * interval, min)`
    /// (for the first retry `min`) and `min(2^(n-1) * interval, max)`. It varies by itself and has a cap of its
    /// own, so neither [`Jitter`] nor `max_delay` applies to it.
    Band {
        /// The interval.
        interval: Duration,
        /// The shortest pause.
        min: Duration,
        /// The longest pause.
        max: Duration,
    },
}

/// How the pause is varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum Jitter {
    /// Not at all.
    None,
    /// Anywhere between zero and the pause.
    #[default]
    Full,
    /// Between half the pause and the pause.
    Equal,
    /// Between the first pause and three times the one before, whatever the form of growth.
    Decorrelated,
}

impl Backoff {
    /// The pause after attempt `attempt` (from 1): within the cap (a band has its own), and a function of its arguments alone.
    pub(super) fn delay(&self, attempt: u32, cap: Duration, jitter: Jitter, seed: u64) -> Duration {
        let random = mix(seed, u64::from(attempt));
        if let Self::Band { interval, min, max } = *self {
            let floor = if attempt == 1 { Duration::ZERO } else { doubled(interval, attempt - 2) };
            let high = doubled(interval, attempt - 1).min(max);
            // A minimum above the growing interval holds, up to the maximum.
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

    /// The pause without jitter, capped.
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

    /// Draws the whole chain again, so that no pause has to be remembered. Once the upper end has reached the cap the
    /// links differ only by chance, so a long chain is begun late.
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
                    "is zero, so the pause would never grow; use a constant pause of zero",
                );
            }
            Self::Band { min, max, .. } => {
                check.require(min <= max, "retry.backoff.min", "must not be above `max`");
            }
        }
        if jitter == Jitter::Decorrelated {
            check.require(
                !self.base(1, cap).is_zero(),
                "retry.jitter",
                "decorrelated jitter grows from the first pause, which is zero",
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
