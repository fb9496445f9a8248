//! Hedging: sends another copy of a slow call and uses the first good response.
//!
//! Only for idempotent calls. Each extra copy is charged to the retry budget, so hedging cannot multiply the load. After
//! J. Dean and L. A. Barroso, "The Tail at Scale" (2013).

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use crate::{
    breaker::Mode,
    budget::Budget,
    clock::Clock,
    config::{Checker, ConfigError, Plain},
};

/// The rules of hedging; see [`Policy::hedge`](crate::Policy::hedge).
///
/// ```
/// # use loom_resilience::{HedgeConfig, Policy};
/// # use std::time::Duration;
/// // A second copy after 200 ms, a third after 400 ms.
/// let policy = Policy::standard().hedge(HedgeConfig::new(Duration::from_millis(200)).max_copies(2));
/// assert!(policy.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct HedgeConfig {
    /// How long an attempt runs before another copy is sent, and how long the copies are apart. The 95th percentile of the
    /// durations of the call is a good choice.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub delay: Duration,
    /// The most copies in addition to the attempt itself, 1 to 10.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub max_copies: u32,
    /// Whether copies are sent, only reported, or neither.
    #[cfg_attr(feature = "serde", serde(default))]
    pub mode: Mode,
}

#[cfg(feature = "serde")]
const fn one() -> u32 {
    1
}

impl HedgeConfig {
    /// One more copy after `delay`.
    pub const fn new(delay: Duration) -> Self {
        Self { delay, max_copies: 1, mode: Mode::Enforce }
    }

    /// The most copies in addition to the attempt itself.
    #[must_use]
    pub const fn max_copies(mut self, copies: u32) -> Self {
        self.max_copies = copies;
        self
    }

    /// Whether copies are sent, only reported, or neither.
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
        check.require(!self.delay.is_zero(), "hedge.delay", "must be above zero");
        check.require((1..=10).contains(&self.max_copies), "hedge.max_copies", "must be between 1 and 10");
        check.finish()
    }
}

impl fmt::Display for HedgeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.describe(f, |f| match self.max_copies {
            1 => write!(f, "one more copy of an idempotent call after {}", Plain(self.delay)),
            copies => {
                write!(f, "up to {copies} more copies of an idempotent call, one every {}", Plain(self.delay))
            }
        })
    }
}

/// Hedges calls, without any other part.
///
/// ```
/// # use loom_resilience::{Budget, BudgetConfig, Clock, Hedge};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), loom_resilience::ConfigError> {
/// let budget = Budget::new(BudgetConfig::default())?;
/// let hedge = Hedge::new(Duration::from_millis(5), Clock::system());
/// let result = hedge
///     .run(&budget, |copy| async move {
///         if copy == 1 {
///             std::future::pending::<()>().await;
///         }
///         Ok::<_, std::io::Error>(copy)
///     })
///     .await;
/// assert_eq!(result.unwrap(), 2, "the first copy hung");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Hedge {
    config: HedgeConfig,
    clock: Clock,
}

impl Hedge {
    /// Sends one more copy after `delay`.
    pub const fn new(delay: Duration, clock: Clock) -> Self {
        Self { config: HedgeConfig::new(delay), clock }
    }

    /// Hedges by the rules of `config`. In observe mode and off, only the call itself is made.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn from_config(config: HedgeConfig, clock: Clock) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, clock })
    }

    /// Runs `work(1)`, and `work(2)` and so on as well when no copy has ended after the delay and `budget` allows another.
    ///
    /// # Errors
    /// The error of the copy that failed last. After the first failure no further copy is sent.
    ///
    /// # Cancel safety
    /// Dropping the future drops all copies. The first good response drops the other copies.
    pub async fn run<T, E, F, Fut>(&self, budget: &Budget, mut work: F) -> Result<T, E>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        budget.deposit(self.clock.now());
        if self.config.mode != Mode::Enforce {
            return work(1).await;
        }
        let launch = |copy| {
            if copy > 1 && !budget.try_spend(self.clock.now()) {
                return None;
            }
            Some(Box::pin(work(copy)))
        };
        race(&self.config, &self.clock, launch, Result::is_ok).await
    }
}

/// Polls copies until one of them decides, or all have failed. `launch` is asked for copy 1 and further ones, each `delay`
/// after the one before; `None` ends the hedging. Returns the output that decided, else the last one.
pub(crate) async fn race<Fut: Future>(
    config: &HedgeConfig,
    clock: &Clock,
    mut launch: impl FnMut(u32) -> Option<Pin<Box<Fut>>>,
    decides: impl Fn(&Fut::Output) -> bool,
) -> Fut::Output {
    let mut copies: Vec<Pin<Box<Fut>>> = Vec::with_capacity(2);
    copies.extend(launch(1));
    let mut launched = 1;
    let mut last = None;
    let mut timer = None;
    poll_fn(|cx| {
        loop {
            let mut index = 0;
            while index < copies.len() {
                let Poll::Ready(output) = copies[index].as_mut().poll(cx) else {
                    index += 1;
                    continue;
                };
                drop(copies.remove(index));
                if decides(&output) {
                    copies.clear();
                    return Poll::Ready(output);
                }
                last = Some(output);
            }
            // After a failure, further attempts are left to the retry.
            if let Some(output) = last.take_if(|_| copies.is_empty()) {
                return Poll::Ready(output);
            }
            if last.is_some() || launched > config.max_copies {
                return Poll::Pending;
            }
            let timer_now = timer.get_or_insert_with(|| clock.timer(config.delay));
            if timer_now.poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer = None;
            match launch(launched + 1) {
                Some(copy) => {
                    launched += 1;
                    copies.push(copy);
                }
                None => launched = u32::MAX,
            }
        }
    })
    .await
}
