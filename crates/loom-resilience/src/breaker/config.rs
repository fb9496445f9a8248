//! When a circuit opens, how long it stays open, and when it closes again.

use std::{fmt, time::Duration};

use crate::config::{Checker, ConfigError, Plain};

/// The rules of a [`CircuitBreaker`](crate::CircuitBreaker). Each rule that is set can open the circuit.
///
/// ```
/// # use loom_resilience::{BreakerConfig, OpenDuration, Window};
/// # use std::time::Duration;
/// let config = BreakerConfig::new()
///     .failure_threshold(5)
///     .failure_rate(0.5, 20, Window::Time(Duration::from_secs(30)))
///     .open_for(OpenDuration::fixed(Duration::from_secs(10)));
/// assert!(config.validate().is_ok());
/// assert_eq!(
///     config.to_string(),
///     "opens on 5 failures in a row, or when 50 % of the calls of the last 30 s (at least 20) fail; \
///      stays open for 10 s; then up to 1 at once may probe, and 1 must succeed to close it"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct BreakerConfig {
    /// Opens after this many consecutive failures, at least 1.
    pub failure_threshold: Option<u32>,
    /// Opens when too many calls of a window failed.
    pub failure_rate: Option<RateRule>,
    /// Opens when too many calls of a window were slow.
    pub slow_calls: Option<SlowRule>,
    /// How long the circuit stays open.
    pub open_for: OpenDuration,
    /// Probes that may be in flight at once while half-open, at least 1.
    pub half_open_max_calls: u32,
    /// Successful probes that close the circuit, at least 1.
    pub success_threshold: u32,
    /// A probe that has not reported after this time loses its slot to another probe. Its outcome still counts when it
    /// arrives. A call that has a timeout keeps the slot for that timeout instead.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub probe_lease: Duration,
    /// Whether the rules are enforced, observed or off.
    pub mode: Mode,
    /// Whether the circuit is that of one process, or of all processes that share their state.
    pub scope: Scope,
}

/// For which processes a rate limit or a circuit is, when several processes share their state through a
/// [`Shared`](crate::Shared). Without one, every part is that of its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Scope {
    /// For all processes together.
    #[default]
    Cluster,
    /// For each process on its own.
    Node,
}

/// A share of the calls of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct RateRule {
    /// Opens at this share and above: more than 0, at most 1.
    pub rate: f64,
    /// Decides nothing before this many calls are in the window, at least 1.
    pub minimum_calls: u32,
    /// The calls that count.
    pub window: Window,
}

/// A share of slow calls. Dropping a call after `slower_than` counts as a slow call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct SlowRule {
    /// A call that takes this long or longer is slow.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub slower_than: Duration,
    /// The share of slow calls that opens the circuit.
    pub calls: RateRule,
}

/// The calls that a rate is computed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Window {
    /// The last calls, 1 to 65,536 of them.
    #[cfg_attr(feature = "serde", serde(alias = "Calls"))]
    Calls(u32),
    /// The calls of the last period, 10 ms to 365 days. It is counted in ten slots, so the window covers between nine
    /// tenths and the whole of the period. The cost does not grow with traffic.
    #[cfg_attr(feature = "serde", serde(alias = "Time"))]
    Time(#[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))] Duration),
}

/// How long a circuit stays open.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct OpenDuration {
    /// The duration of the first opening.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub initial: Duration,
    /// Each consecutive opening lasts this many times as long: 1 or more.
    pub growth: f64,
    /// The longest opening, jitter included.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub max: Duration,
    /// Varies the duration by this share up and down, so that many clients do not return together: 0 to 1.
    pub jitter: f64,
    /// A circuit that has been closed for this long opens for `initial` again.
    #[cfg_attr(feature = "serde", serde(alias = "forget_after", with = "crate::serde_duration"))]
    pub reset_after: Duration,
}

/// Whether a part enforces its rules.
///
/// [`Observe`](Self::Observe) is the dry run: the part counts as usual and reports what it would have refused through
/// [`Observer`](crate::Observer), but every call passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Mode {
    /// Enforces the rules.
    #[default]
    #[cfg_attr(feature = "serde", serde(alias = "Enforce"))]
    Enforce,
    /// Counts and reports what it would have refused, and lets every call pass.
    #[cfg_attr(feature = "serde", serde(alias = "Observe"))]
    Observe,
    /// Does nothing and counts nothing.
    #[cfg_attr(feature = "serde", serde(alias = "Off"))]
    Off,
}

impl Mode {
    /// Formats the rules of a part in this mode: `off`, or what the part enforces or would enforce.
    pub(crate) fn describe(
        self,
        f: &mut fmt::Formatter<'_>,
        rules: impl FnOnce(&mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match self {
            Self::Off => return f.write_str("off"),
            Self::Observe => f.write_str("observing only: ")?,
            Self::Enforce => {}
        }
        rules(f)
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::standard()
    }
}

impl Default for OpenDuration {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(30),
            growth: 2.0,
            max: Duration::from_mins(5),
            jitter: 0.1,
            reset_after: Duration::from_mins(10),
        }
    }
}

impl OpenDuration {
    /// Every opening lasts exactly `time`.
    pub const fn fixed(time: Duration) -> Self {
        Self { initial: time, growth: 1.0, max: time, jitter: 0.0, reset_after: Duration::ZERO }
    }
}

impl BreakerConfig {
    /// No rule yet; at least one must be added. The circuit opens for 30 s, doubling to 5 minutes, with 10 % jitter. One
    /// probe at a time, and one success closes the circuit.
    pub fn new() -> Self {
        Self {
            failure_threshold: None,
            failure_rate: None,
            slow_calls: None,
            open_for: OpenDuration::default(),
            half_open_max_calls: 1,
            success_threshold: 1,
            probe_lease: Duration::from_secs(30),
            mode: Mode::Enforce,
            scope: Scope::Cluster,
        }
    }

    /// Opens on 5 consecutive failures, or when half of at least 20 calls within 30 s failed.
    pub fn standard() -> Self {
        Self::new().failure_threshold(5).failure_rate(0.5, 20, Window::Time(Duration::from_secs(30)))
    }

    /// Opens after this many consecutive failures.
    #[must_use]
    pub const fn failure_threshold(mut self, failures: u32) -> Self {
        self.failure_threshold = Some(failures);
        self
    }

    /// Opens when at least `rate` (0 to 1) of at least `minimum_calls` in the window failed.
    #[must_use]
    pub const fn failure_rate(mut self, rate: f64, minimum_calls: u32, window: Window) -> Self {
        self.failure_rate = Some(RateRule { rate, minimum_calls, window });
        self
    }

    /// Opens when at least `rate` (0 to 1) of at least `minimum_calls` in the window took `slower_than` or longer.
    #[must_use]
    pub const fn slow_calls(
        mut self,
        slower_than: Duration,
        rate: f64,
        minimum_calls: u32,
        window: Window,
    ) -> Self {
        self.slow_calls = Some(SlowRule { slower_than, calls: RateRule { rate, minimum_calls, window } });
        self
    }

    /// How long the circuit stays open.
    #[must_use]
    pub const fn open_for(mut self, open_for: OpenDuration) -> Self {
        self.open_for = open_for;
        self
    }

    /// Allows `max_calls` probes at once while half-open; `success_threshold` successes close the circuit.
    #[must_use]
    pub const fn half_open(mut self, max_calls: u32, success_threshold: u32) -> Self {
        self.half_open_max_calls = max_calls;
        self.success_threshold = success_threshold;
        self
    }

    /// How long a probe without a timeout of its own keeps its slot without a report.
    #[must_use]
    pub const fn probe_lease(mut self, lease: Duration) -> Self {
        self.probe_lease = lease;
        self
    }

    /// Whether the rules are enforced, observed or off.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether the circuit is that of one process, or of all processes that share their state.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The probes of one half-open period: enough to reach `success_threshold`.
    pub(crate) fn probe_total(&self) -> u32 {
        self.half_open_max_calls.max(self.success_threshold)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All issues at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Checker::default();
        let any =
            self.failure_threshold.is_some() || self.failure_rate.is_some() || self.slow_calls.is_some();
        check.require(
            any || self.mode == Mode::Off,
            "breaker",
            "has no rule that can open the circuit; set failure_threshold, failure_rate or slow_calls",
        );
        check.require(self.failure_threshold != Some(0), "breaker.failure_threshold", "must be at least 1");
        check.require(
            self.failure_threshold.is_none_or(|n| n < 1 << 24),
            "breaker.failure_threshold",
            "must be below 16,777,216",
        );
        if let Some(rule) = self.failure_rate {
            rule.validate(&mut check, &RateFields::FAILURES);
        }
        if let Some(slow) = self.slow_calls {
            check.require(
                !slow.slower_than.is_zero(),
                "breaker.slow_calls.slower_than",
                "must be above zero",
            );
            slow.calls.validate(&mut check, &RateFields::SLOW);
        }
        let open = &self.open_for;
        check.require(!open.initial.is_zero(), "breaker.open_for.initial", "must be above zero");
        check.require(open.max >= open.initial, "breaker.open_for.max", "must be at least `initial`");
        check.require(
            open.growth.is_finite() && open.growth >= 1.0,
            "breaker.open_for.growth",
            "must be 1 or more",
        );
        check.require(
            (0.0..=1.0).contains(&open.jitter),
            "breaker.open_for.jitter",
            "must be between 0 and 1",
        );
        check.require(
            (1..=1024).contains(&self.half_open_max_calls),
            "breaker.half_open_max_calls",
            "must be between 1 and 1,024",
        );
        check.require(self.success_threshold >= 1, "breaker.success_threshold", "must be at least 1");
        check.require(!self.probe_lease.is_zero(), "breaker.probe_lease", "must be above zero");
        check.finish()
    }
}

impl RateRule {
    /// Opens when at least `rate` (0 to 1) of at least `minimum_calls` in the window are bad.
    pub const fn new(rate: f64, minimum_calls: u32, window: Window) -> Self {
        Self { rate, minimum_calls, window }
    }
}

impl SlowRule {
    /// Calls that take `slower_than` or longer are slow; `calls` says how many of them open the circuit.
    pub const fn new(slower_than: Duration, calls: RateRule) -> Self {
        Self { slower_than, calls }
    }
}

/// The names under which a rule's fields are reported.
struct RateFields {
    rate: &'static str,
    minimum_calls: &'static str,
    window: &'static str,
}

impl RateFields {
    const FAILURES: Self = Self {
        rate: "breaker.failure_rate.rate",
        minimum_calls: "breaker.failure_rate.minimum_calls",
        window: "breaker.failure_rate.window",
    };
    const SLOW: Self = Self {
        rate: "breaker.slow_calls.calls.rate",
        minimum_calls: "breaker.slow_calls.calls.minimum_calls",
        window: "breaker.slow_calls.calls.window",
    };
}

impl RateRule {
    fn validate(&self, check: &mut Checker, fields: &RateFields) {
        check.require(self.rate > 0.0 && self.rate <= 1.0, fields.rate, "must be above 0 and at most 1");
        check.require(self.minimum_calls >= 1, fields.minimum_calls, "must be at least 1");
        match self.window {
            Window::Calls(calls) => {
                check.require(
                    (1..=65_536).contains(&calls),
                    fields.window,
                    "must hold between 1 and 65,536 calls",
                );
                check.require(
                    self.minimum_calls <= calls,
                    fields.minimum_calls,
                    format!("must be at most {calls}, the number of calls in the window"),
                );
            }
            Window::Time(time) => {
                check.require(
                    (Duration::from_millis(10)..=Duration::from_hours(24 * 365)).contains(&time),
                    fields.window,
                    "must be between 10 ms and 365 days",
                );
                check.require(self.minimum_calls < 1 << 24, fields.minimum_calls, "must be below 16,777,216");
            }
        }
    }
}

impl fmt::Display for RateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.rate * 100.0;
        match self.window {
            Window::Calls(calls) => write!(f, "{percent} % of the last {calls} calls")?,
            Window::Time(time) => write!(f, "{percent} % of the calls of the last {}", Plain(time))?,
        }
        write!(f, " (at least {})", self.minimum_calls)
    }
}

impl fmt::Display for BreakerConfig {
    /// The effective rules as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| {
            f.write_str("opens on ")?;
            let mut rules = Vec::new();
            if let Some(failures) = self.failure_threshold {
                rules.push(format!("{failures} failures in a row"));
            }
            if let Some(rule) = self.failure_rate {
                rules.push(format!("when {rule} fail"));
            }
            if let Some(slow) = self.slow_calls {
                rules.push(format!("when {} take {} or longer", slow.calls, Plain(slow.slower_than)));
            }
            f.write_str(&rules.join(", or "))?;
            let open = &self.open_for;
            write!(f, "; stays open for {}", Plain(open.initial))?;
            if open.growth > 1.0 {
                write!(f, ", each time {} times longer, up to {}", open.growth, Plain(open.max))?;
            }
            if open.jitter > 0.0 {
                write!(f, ", varied by {} %", open.jitter * 100.0)?;
            }
            write!(
                f,
                "; then up to {} at once may probe, and {} must succeed to close it",
                self.half_open_max_calls, self.success_threshold
            )?;
            if self.scope == Scope::Node {
                f.write_str("; on each node alone")?;
            }
            Ok(())
        })
    }
}
