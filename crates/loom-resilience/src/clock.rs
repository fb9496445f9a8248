//! Time: instants on an injected, monotonic clock.
//!
//! Every decision takes `now` as an argument; only the outermost functions read a [`Clock`]. All parts that work together
//! must share one clock (a clone is the same clock).

mod manual;

use std::{fmt, time::Duration};

pub use manual::ManualClock;

use crate::random::nanos;

/// A point in time on a [`Clock`], in nanoseconds since that clock's origin. Never wall time.
///
/// Arithmetic saturates: no instant is before the origin, and the last one is 584 years after it.
///
/// ```
/// # use loom_resilience::Instant;
/// # use std::time::Duration;
/// let later = Instant::ZERO + Duration::from_secs(3);
/// assert_eq!(later.since(Instant::ZERO), Duration::from_secs(3));
/// assert_eq!(Instant::ZERO.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant `wait` after this one.
    pub(crate) const fn after(self, wait: Duration) -> Self {
        let nanos = wait.as_nanos();
        let nanos = if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 };
        Self(self.0.saturating_add(nanos))
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }
}

/// A source of instants and timers. Cheap to clone; clones read the same clock.
///
/// ```
/// # use loom_resilience::{Clock, ManualClock};
/// # use std::time::Duration;
/// let manual = ManualClock::new();
/// let clock = Clock::manual(&manual);
/// let start = clock.now();
/// manual.advance(Duration::from_secs(1));
/// assert_eq!(clock.now().since(start), Duration::from_secs(1));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    #[cfg(not(loom_model))]
    System,
    #[cfg(not(loom_model))]
    Tokio,
    Manual(ManualClock),
}

impl Clock {
    /// The machine's monotonic clock, read through the time stamp counter where that is sound (about 10 ns a read instead
    /// of 25). The first use in a process calibrates it, which takes under a millisecond; after that its rate agrees with
    /// the operating system's within about 20 parts in a million.
    #[cfg(not(loom_model))]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// The clock of the tokio runtime, which follows `tokio::time::pause` and `advance`. For tests.
    #[cfg(not(loom_model))]
    pub const fn tokio() -> Self {
        Self(Source::Tokio)
    }

    /// A clock that moves only when the test advances it; timers on it fire as it is advanced.
    pub fn manual(clock: &ManualClock) -> Self {
        Self(Source::Manual(clock.clone()))
    }

    /// The current instant. Never goes back.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            #[cfg(not(loom_model))]
            Source::System => Instant(real::system_nanos()),
            #[cfg(not(loom_model))]
            Source::Tokio => Instant(real::tokio_nanos()),
            Source::Manual(clock) => clock.now(),
        }
    }

    /// Wall time since 1970-01-01 UTC. Used to age saved state across a restart and to read dates in HTTP headers, never
    /// to measure.
    pub fn unix_time(&self) -> Duration {
        match &self.0 {
            #[cfg(not(loom_model))]
            Source::System | Source::Tokio => real::unix_time(),
            Source::Manual(clock) => clock.unix_time(),
        }
    }
}

#[cfg(not(loom_model))]
impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(not(loom_model))]
            Source::System => "Clock::System",
            #[cfg(not(loom_model))]
            Source::Tokio => "Clock::Tokio",
            Source::Manual(_) => "Clock::Manual",
        })
    }
}

#[cfg(not(loom_model))]
mod real {
    //! Reading real clocks.

    use std::{
        sync::OnceLock,
        time::{Duration, SystemTime},
    };

    use crate::random::nanos;

    /// The counter and its reading at first use. One pair for the process, so that all instants are comparable.
    static COUNTER: OnceLock<(quanta::Clock, u64)> = OnceLock::new();

    #[inline]
    pub(super) fn system_nanos() -> u64 {
        let (counter, origin) = COUNTER.get_or_init(|| {
            let counter = quanta::Clock::new();
            let origin = counter.raw();
            (counter, origin)
        });
        // `delta_as_nanos` saturates, so a core whose counter lags a few ticks before the origin reads zero.
        counter.delta_as_nanos(*origin, counter.raw())
    }

    pub(super) fn tokio_nanos() -> u64 {
        static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
        let now = tokio::time::Instant::now().into_std();
        // A day of slack, because several runtimes, each paused at its own time, share this origin.
        let origin = ORIGIN.get_or_init(|| now.checked_sub(Duration::from_hours(24)).unwrap_or(now));
        nanos(now.saturating_duration_since(*origin))
    }

    pub(super) fn unix_time() -> Duration {
        #[expect(clippy::disallowed_methods, reason = "this is the clock; wall time only ages saved state")]
        let now = SystemTime::now();
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(not(loom_model))]
pub(crate) use timers::{Timer, poll_once};

#[cfg(not(loom_model))]
mod timers {
    //! Timers on a clock.

    use std::{
        future::{Future, poll_fn},
        pin::{Pin, pin},
        task::{Context, Poll},
        time::Duration,
    };

    use super::{Clock, Instant, Source, manual::ManualSleep};

    /// A boxed timer that one task can arm to wake another.
    pub(crate) enum Timer {
        Tokio(Pin<Box<tokio::time::Sleep>>),
        Manual(ManualSleep),
    }

    impl Timer {
        pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            match self {
                Self::Tokio(sleep) => sleep.as_mut().poll(cx),
                Self::Manual(sleep) => sleep.poll(cx),
            }
        }
    }

    /// Polls `work` once, and returns what it says. Work that is ready at once then needs no room for timers, which is felt.
    #[inline]
    pub(crate) fn poll_once<F: Future>(mut work: Pin<&mut F>) -> impl Future<Output = Poll<F::Output>> {
        poll_fn(move |cx| Poll::Ready(work.as_mut().poll(cx)))
    }

    impl Clock {
        /// A timer that fires `wait` from now.
        pub(crate) fn timer(&self, wait: Duration) -> Timer {
            match &self.0 {
                Source::System | Source::Tokio => Timer::Tokio(Box::pin(tokio::time::sleep(wait))),
                Source::Manual(clock) => Timer::Manual(clock.sleep(wait)),
            }
        }

        /// Waits until the clock reads `until`, and never returns earlier.
        pub(crate) async fn sleep_until(&self, until: Instant) {
            loop {
                let now = self.now();
                if now >= until {
                    return;
                }
                // The loop covers that the timer and the clock differ by some parts in a million.
                match &self.0 {
                    Source::System | Source::Tokio => tokio::time::sleep(until.since(now)).await,
                    Source::Manual(clock) => {
                        let mut sleep = clock.sleep(until.since(now));
                        poll_fn(|cx| sleep.poll(cx)).await;
                    }
                }
            }
        }

        /// Runs `work` until it is done, or until `wait` has passed since it was first pending.
        ///
        /// The timer is created only when `work` is first pending, so work that is ready at once needs none. `None` means
        /// that the time ran out; `work` is dropped before this returns. The flag says whether `work` was ever pending.
        #[inline]
        pub(crate) async fn limit<F: Future>(
            &self,
            wait: Option<Duration>,
            work: F,
        ) -> (Option<F::Output>, bool) {
            let mut work = pin!(work);
            match poll_once(work.as_mut()).await {
                Poll::Ready(output) => (Some(output), false),
                Poll::Pending => (self.limit_pending(wait, work).await, true),
            }
        }

        /// Runs `work`, which has just been polled and is pending, until it is done or `wait` has passed.
        pub(crate) async fn limit_pending<F: Future>(
            &self,
            wait: Option<Duration>,
            mut work: Pin<&mut F>,
        ) -> Option<F::Output> {
            let mut on_tokio = pin!(None::<tokio::time::Sleep>);
            let mut by_hand = None;
            match (wait, &self.0) {
                (Some(wait), Source::System | Source::Tokio) => on_tokio.set(Some(tokio::time::sleep(wait))),
                (Some(wait), Source::Manual(clock)) => by_hand = Some(clock.sleep(wait)),
                (None, _) => {}
            }
            let mut is_polled = true;
            poll_fn(|cx| {
                // Not a second time in the same poll. Work first, timer second, so that a result that is ready is never
                // discarded for a timer that fired.
                if !std::mem::take(&mut is_polled)
                    && let Poll::Ready(output) = work.as_mut().poll(cx)
                {
                    return Poll::Ready(Some(output));
                }
                let time_is_over = match (on_tokio.as_mut().as_pin_mut(), by_hand.as_mut()) {
                    (Some(sleep), _) => sleep.poll(cx),
                    (None, Some(sleep)) => sleep.poll(cx),
                    (None, None) => Poll::Pending,
                };
                time_is_over.map(|()| None)
            })
            .await
        }
    }
}
