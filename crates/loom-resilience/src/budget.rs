//! Retry budget: bounds what retries may add to a service's load.
//!
//! In any window the retries may be a part of the calls, plus a floor for each second, so that an idle service can
//! still be retried. A retry is charged before its pause, so those that wait count as well. The ratio with a floor
//! follows Finagle's `RetryBudget` and tower's `TpsBudget`.

use std::{fmt, time::Duration};

use crate::{
    clock::Moment,
    config::{Checker, ConfigError, Plain},
    random::nanos,
    slots::{SLOTS, Slots, Stamp},
    snapshot::BudgetSnapshot,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// Rules of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct BudgetConfig {
    /// Retries for each call, 0 to 1.
    pub ratio: f64,
    /// Retries that are free in each second of the window.
    pub per_second: f64,
    /// The window, at least 1 s and at most a day.
    pub window: Duration,
}

impl Default for BudgetConfig {
    /// A tenth of the calls and one a second, over a minute.
    fn default() -> Self {
        Self { ratio: 0.1, per_second: 1.0, window: Duration::from_mins(1) }
    }
}

impl BudgetConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// All contradictions at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require((0.0..=1.0).contains(&self.ratio), "budget.ratio", "must lie in 0 to 1");
        check.require(
            (0.0..=1_000_000.0).contains(&self.per_second),
            "budget.per_second",
            "must lie in 0 to 1,000,000",
        );
        check.require(
            self.ratio > 0.0 || self.per_second > 0.0,
            "budget",
            "would never allow a retry; switch retries off instead",
        );
        check.require(
            (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.window),
            "budget.window",
            "must lie in 1 s to 24 h",
        );
        check.finish()
    }
}

impl fmt::Display for BudgetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "retries may be {} % of the calls, plus {} a second, over {}",
            self.ratio * 100.0,
            self.per_second,
            Plain(self.window)
        )
    }
}

/// The retry budget of one service.
#[derive(Debug)]
pub struct Budget {
    /// 0 when there is no budget: then every retry is allowed and nothing is counted.
    slot_nanos: AtomicU64,
    calls: Slots,
    retries: Slots,
    /// Held while a retry is charged, so that two cannot spend the same last one.
    config: Mutex<Option<BudgetConfig>>,
}

impl Budget {
    /// An unspent budget.
    ///
    /// # Errors
    /// Contradictions in the configuration.
    pub fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::from_config(Some(config)))
    }

    pub(crate) fn from_config(config: Option<BudgetConfig>) -> Self {
        let budget = Self {
            slot_nanos: AtomicU64::new(0),
            calls: Slots::default(),
            retries: Slots::default(),
            config: Mutex::new(None),
        };
        budget.put_config(config);
        budget
    }

    /// Changes the rules; `None` switches the budget off. What was counted stays while the window stays the same.
    pub(crate) fn put_config(&self, config: Option<BudgetConfig>) {
        *lock(&self.config) = config;
        let slot = config.map_or(0, |config| nanos(config.window / SLOTS).max(1));
        self.slot_nanos.store(slot, Ordering::Release);
    }

    /// Counts a call: its first attempt, not its retries.
    #[inline]
    pub fn deposit(&self, now: Moment) {
        if let Some(stamp) = self.stamp(now) {
            self.calls.add(stamp);
        }
    }

    /// Charges one retry, or says that there is nothing left.
    #[must_use]
    pub fn try_spend(&self, now: Moment) -> bool {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return true };
        if self.retries.sum(stamp) >= rules.allowed(self.calls.sum(stamp)) {
            return false;
        }
        self.retries.add(stamp);
        true
    }

    /// Retries that could be charged at `now`; `None` without a budget.
    pub fn available(&self, now: Moment) -> Option<u32> {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return None };
        Some(rules.allowed(self.calls.sum(stamp)).saturating_sub(self.retries.sum(stamp)))
    }

    /// The state to keep across a restart.
    pub fn snapshot(&self, now: Moment) -> BudgetSnapshot {
        let Some(stamp) = self.stamp(now) else { return BudgetSnapshot::default() };
        BudgetSnapshot { calls: self.calls.sum(stamp), retries: self.retries.sum(stamp) }
    }

    /// Takes up a saved state that is `age` old. It counts as if all of it had just happened, unless the whole window
    /// has passed since.
    pub fn restore(&self, saved: &BudgetSnapshot, age: Duration, now: Moment) {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return };
        if age < rules.window {
            self.calls.put(stamp, saved.calls);
            self.retries.put(stamp, saved.retries);
        }
    }

    /// As new.
    pub fn reset(&self, now: Moment) {
        let config = lock(&self.config);
        if let (Some(rules), Some(_)) = (*config, self.stamp(now)) {
            let slot = nanos(rules.window / SLOTS).max(1);
            let newest = now.as_nanos() / slot;
            for time in newest.saturating_sub(u64::from(SLOTS) - 1)..=newest {
                self.calls.put(Stamp::new(1, time), 0);
                self.retries.put(Stamp::new(1, time), 0);
            }
        }
    }

    #[inline]
    fn stamp(&self, now: Moment) -> Option<Stamp> {
        match self.slot_nanos.load(Ordering::Acquire) {
            0 => None,
            // Generation 1 throughout, because the word of a slot that was never used is zero.
            slot => Some(Stamp::new(1, now.as_nanos() / slot)),
        }
    }
}

impl BudgetConfig {
    fn allowed(&self, calls: u32) -> u32 {
        let floor = self.per_second * self.window.as_secs_f64();
        // The small addend keeps 0.1 of 30 calls at 3, where the product in floating point may fall just below.
        (self.ratio.mul_add(f64::from(calls), floor) + 1e-6) as u32
    }
}
