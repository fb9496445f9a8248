//! Wall clocks, and the time of a run.

use std::sync::Arc;

use loom_expression::Timestamp;
use tokio::time::Instant;

use crate::{ports::Clock, time};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    fn now(&self) -> Timestamp {
        Timestamp::from(std::time::SystemTime::now())
    }
}

/// A clock that starts at a given time and then goes as tokio's does: paused when tokio's time is paused.
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

/// What time it is for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: what expressions see, and what a `Wait` until an instant waits for.
    pub wall: Timestamp,
    /// The run's own time, in which everything else is reckoned. It is the wall clock's, except that it never goes back.
    pub run: Timestamp,
}

impl From<Timestamp> for Now {
    /// By a clock that nobody sets back.
    fn from(wall: Timestamp) -> Now {
        Now { wall, run: wall }
    }
}

/// Gives a run its time. While the wall clock stands behind what it has shown before, because it was set back, the run's
/// time goes on by the time that passes; so no wait grows longer than it was meant to be.
pub(crate) struct RunClock {
    wall: Arc<dyn Clock>,
    /// A time of the run, and when it was that.
    shown: (Timestamp, Instant),
}

impl RunClock {
    /// For a run that has come as far as `reached`.
    pub(crate) fn from(wall: Arc<dyn Clock>, reached: Timestamp) -> RunClock {
        RunClock { wall, shown: (reached, Instant::now()) }
    }

    pub(crate) fn now(&mut self) -> Now {
        // The wall clock first: a delay between the two then makes the run's time no later than it is.
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
