//! Wall clocks, and the monotonic time of a run.

use std::{sync::Arc, time::Duration};

use loom_expression::Timestamp;
use tokio::time::Instant;

use crate::{
    ports::{Clock, Stopwatch},
    time,
};

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    fn now(&self) -> Timestamp {
        Timestamp::from(std::time::SystemTime::now())
    }
}

/// A clock that starts at a given time and advances with tokio's clock: it stops while tokio's time is paused.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Timestamp,
    since: Instant,
}

impl TokioClock {
    /// A clock that shows `start` now. Must be called inside a tokio runtime if its time is paused.
    pub fn starting_at(start: Timestamp) -> TokioClock {
        TokioClock { start, since: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        time::after(self.start, self.since.elapsed())
    }
}

/// Measures time with tokio's clock, which a test may pause.
#[derive(Clone, Copy, Debug)]
pub struct TokioStopwatch(Instant);

impl TokioStopwatch {
    /// Counts from now.
    pub fn start() -> TokioStopwatch {
        TokioStopwatch(Instant::now())
    }
}

impl Stopwatch for TokioStopwatch {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The current time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time: used by expressions, and by a `Wait` until a given time.
    pub wall: Timestamp,
    /// The run's own time, used for everything else. It equals wall-clock time, except that it never goes back.
    pub run: Timestamp,
}

impl From<Timestamp> for Now {
    /// For a clock that never goes back.
    fn from(wall: Timestamp) -> Now {
        Now { wall, run: wall }
    }
}

/// The clock of a run. After the wall clock has been set back, the run's time advances by elapsed time until the wall clock
/// catches up, so that no wait becomes longer than intended.
pub(crate) struct RunClock {
    wall: Arc<dyn Clock>,
    /// The last known time of the run, and the instant at which it was read.
    shown: (Timestamp, Instant),
}

impl RunClock {
    /// A clock that starts at `reached` or, if it is later, at the wall clock's time.
    pub(crate) fn from(wall: Arc<dyn Clock>, reached: Timestamp) -> RunClock {
        RunClock { wall, shown: (reached, Instant::now()) }
    }

    pub(crate) fn now(&mut self) -> Now {
        // The wall clock first: a delay between the two readings then cannot put the run's time ahead.
        let wall = self.wall.now();
        let at = Instant::now();
        let (shown, since) = self.shown;
        let passed = time::after(shown, at.duration_since(since));
        if wall < passed {
            return Now { wall, run: passed };
        }
        self.shown = (wall, at);
        Now::from(wall)
    }
}
