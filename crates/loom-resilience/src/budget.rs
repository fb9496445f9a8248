//! Retry budget: bounds the load that retries add to a service.
//!
//! In any window, retries may be at most a share of the calls, plus a fixed number per second, so that calls to an idle service can
//! be retried too. A retry is charged before its delay, so waiting retries count. The ratio with a floor follows Finagle's
//! `RetryBudget` and tower's `TpsBudget`.

use std::{fmt, time::Duration};

use crate::{
    breaker::Mode,
    clock::Instant,
    config::{Checker, ConfigError, Plain},
    random::nanos,
    slots::{SLOTS, Slots, Stamp},
    snapshot::BudgetSnapshot,
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock},
};

/// The rules of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct BudgetConfig {
    /// Retries per call: 0 to 1.
    pub ratio: f64,
    /// Retries per second that are allowed in any case.
    pub per_second: f64,
    /// The window: 1 s to 24 h.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub window: Duration,
    /// Whether the budget is enforced, observed or off.
    pub mode: Mode,
}

impl Default for BudgetConfig {
    /// 10 % of the calls and one retry per second, over a minute.
    fn default() -> Self {
        Self { ratio: 0.1, per_second: 1.0, window: Duration::from_mins(1), mode: Mode::Enforce }
    }
}

impl BudgetConfig {
    /// Whether the budget is enforced, observed or off.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        check.require((0.0..=1.0).contains(&self.ratio), "budget.ratio", "must be between 0 and 1");
        check.require(
            (0.0..=1_000_000.0).contains(&self.per_second),
            "budget.per_second",
            "must be between 0 and 1,000,000",
        );
        check.require(
            self.ratio > 0.0 || self.per_second > 0.0 || self.mode != Mode::Enforce,
            "budget",
            "never allows a retry; remove the retry policy instead",
        );
        check.require(
            (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.window),
            "budget.window",
            "must be between 1 s and 24 h",
        );
        check.finish()
    }
}

impl fmt::Display for BudgetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            write!(
                f,
                "retries may be {} % of the calls, plus {} a second, over {}",
                self.ratio * 100.0,
                self.per_second,
                Plain(self.window)
            )
        })
    }
}

/// The retry budget of one service.
///
/// ```
/// # use loom_resilience::{Budget, BudgetConfig, Clock};
/// let now = Clock::system().now();
/// let budget = Budget::new(BudgetConfig { ratio: 0.1, per_second: 0.0, ..BudgetConfig::default() })?;
/// for _ in 0..20 {
///     budget.deposit(now);
/// }
/// assert!(budget.try_spend(now) && budget.try_spend(now), "10 % of 20 calls");
/// assert!(!budget.try_spend(now));
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Budget {
    /// 0 without a budget: every retry is then allowed and nothing is counted.
    slot_nanos: AtomicU64,
    /// Changes with the length of a slot, because the numbers of slots have another meaning then.
    epoch: AtomicU32,
    calls: Slots,
    retries: Slots,
    /// Held while a retry is charged, so that two calls cannot spend the same last retry.
    config: Mutex<Option<BudgetConfig>>,
}

impl Budget {
    /// Creates an unspent budget.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::from_config(Some(config)))
    }

    pub(crate) fn from_config(config: Option<BudgetConfig>) -> Self {
        let budget = Self {
            slot_nanos: AtomicU64::new(0),
            epoch: AtomicU32::new(1),
            calls: Slots::default(),
            retries: Slots::default(),
            config: Mutex::new(None),
        };
        budget.put_config(config, Instant::ZERO);
        budget
    }

    /// Changes the rules of a budget in use. Calls and retries of the window stay counted. When the length of the window
    /// changes, what the old window held counts as if it had just happened, so a change never adds retries.
    ///
    /// # Errors
    /// The configuration is not valid; the old rules then stay in force.
    pub fn reconfigure(&self, config: BudgetConfig, now: Instant) -> Result<(), ConfigError> {
        config.validate()?;
        self.put_config(Some(config), now);
        Ok(())
    }

    /// Changes the rules; `None` switches the budget off and clears its counts.
    pub(crate) fn put_config(&self, config: Option<BudgetConfig>, now: Instant) {
        let mut current = lock(&self.config);
        *current = config;
        let slot = match config {
            Some(rules) if rules.mode != Mode::Off => nanos(rules.window / SLOTS).max(1),
            _ => 0,
        };
        let before = self.slot_nanos.load(Ordering::Acquire);
        if slot == before {
            return;
        }
        let (calls, retries) =
            self.stamp(now).map_or((0, 0), |stamp| (self.calls.sum(stamp), self.retries.sum(stamp)));
        // Nothing is counted while the numbers change their meaning. The epoch changes before the new length is published, so
        // a reader of the new length also sees the new epoch, and the next writer overwrites the stamp of a late one.
        self.slot_nanos.store(0, Ordering::Release);
        let epoch = self.epoch.load(Ordering::Relaxed).wrapping_add(1);
        self.epoch.store(epoch, Ordering::Release);
        if let Some(time) = now.as_nanos().checked_div(slot) {
            let stamp = Stamp::new(epoch, time);
            self.calls.put(stamp, calls);
            self.retries.put(stamp, retries);
        }
        self.slot_nanos.store(slot, Ordering::Release);
    }

    /// Counts a call: its first attempt, not its retries.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        if let Some(stamp) = self.stamp(now) {
            self.calls.add(stamp);
        }
    }

    /// Charges one retry. Returns `false`, and charges nothing, when the budget is spent.
    ///
    /// In [`Mode::Observe`] it returns `true` in every case.
    #[must_use]
    pub fn try_spend(&self, now: Instant) -> bool {
        !matches!(self.charge(now), Charge::Refused)
    }

    /// Charges one retry, and says whether a budget that only observes would have refused it.
    pub(crate) fn charge(&self, now: Instant) -> Charge {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return Charge::Charged };
        if self.retries.sum(stamp) < rules.allowed(self.calls.sum(stamp)) {
            self.retries.add(stamp);
            return Charge::Charged;
        }
        // A retry that is only observed is not counted: an enforced budget would not have allowed it.
        if rules.mode == Mode::Observe { Charge::Observed } else { Charge::Refused }
    }

    /// The retries that can be charged at `now`; `None` without a budget.
    pub fn available(&self, now: Instant) -> Option<u32> {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return None };
        Some(rules.allowed(self.calls.sum(stamp)).saturating_sub(self.retries.sum(stamp)))
    }

    /// The state to store for a restart.
    pub fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        let Some(stamp) = self.stamp(now) else { return BudgetSnapshot::default() };
        BudgetSnapshot { calls: self.calls.sum(stamp), retries: self.retries.sum(stamp) }
    }

    /// Restores a state that was saved `age` ago. All of it counts as if it had just happened, unless the whole window has
    /// passed since.
    pub fn restore(&self, saved: &BudgetSnapshot, age: Duration, now: Instant) {
        let config = lock(&self.config);
        let (Some(rules), Some(stamp)) = (*config, self.stamp(now)) else { return };
        if age < rules.window {
            self.calls.put(stamp, saved.calls);
            self.retries.put(stamp, saved.retries);
        }
    }

    /// Clears the counts.
    pub fn reset(&self, now: Instant) {
        let config = lock(&self.config);
        if let (Some(rules), Some(_)) = (*config, self.stamp(now)) {
            let slot = nanos(rules.window / SLOTS).max(1);
            let newest = now.as_nanos() / slot;
            for time in newest.saturating_sub(u64::from(SLOTS) - 1)..=newest {
                let stamp = Stamp::new(self.epoch.load(Ordering::Acquire), time);
                self.calls.put(stamp, 0);
                self.retries.put(stamp, 0);
            }
        }
    }

    #[inline]
    fn stamp(&self, now: Instant) -> Option<Stamp> {
        // The epoch is read first: with a length that is newer than the epoch, the stamp is old and does no harm.
        let epoch = self.epoch.load(Ordering::Acquire);
        match self.slot_nanos.load(Ordering::Acquire) {
            0 => None,
            slot => Some(Stamp::new(epoch, now.as_nanos() / slot)),
        }
    }
}

/// The result of charging a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    Charged,
    /// The budget is spent, and only observes.
    Observed,
    /// The budget is spent.
    Refused,
}

impl BudgetConfig {
    fn allowed(&self, calls: u32) -> u32 {
        let floor = self.per_second * self.window.as_secs_f64();
        // The small addend keeps 0.1 of 30 calls at 3, where the floating-point product may be just below.
        (self.ratio.mul_add(f64::from(calls), floor) + 1e-6) as u32
    }
}
