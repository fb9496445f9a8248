//! The operator of the crash test: sends signals and orders to runs until they are acknowledged, whichever process is running.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::time::Duration;

use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::Timestamp;
use serde_json::Value;

use super::world::World;
use crate::served::pause;

/// The time between two orders: long enough for a run to leave memory, or for a kill.
const BETWEEN: Duration = Duration::from_millis(400);

/// A signal that was sent close to a deadline.
pub(super) struct Signalled {
    pub(super) run: String,
    /// When it was sent for the first time.
    pub(super) sent: Timestamp,
    pub(super) acknowledged: Timestamp,
}

impl Signalled {
    /// Sends the signal after a delay.
    pub(super) fn send(world: &World, run: String, after: Duration) -> Signalled {
        pause(after);
        let sent = SystemClock.now();
        let answer = world.insist("POST", &format!("/api/v1/runs/{run}/signals/go"), Some(&run), b"");
        if answer.status != 202 {
            world.note(format!("the signal to {run} was refused: {answer:?}"));
        }
        Signalled { run, sent, acknowledged: SystemClock.now() }
    }

    /// Compares what the run received with the times: a signal that was acknowledged before the deadline is in time, however
    /// often the process was killed since, and one that was sent after it is not.
    pub(super) fn check(&self, events: &[Value]) -> Result<(), String> {
        let of_wait = |kind: &str| {
            let mut all = events.iter().filter(|event| event["action"] == "Go" && event["type"] == kind);
            all.next().ok_or_else(|| format!("{}: no {kind} of Go in {events:?}", self.run))
        };
        let due = of_wait("timer.set")?["data"]["due"].as_str().unwrap_or_default();
        let deadline = due.parse::<Timestamp>().map_err(|_| format!("{due} is not a time"))?.unix_millis();
        let status = &of_wait("action.completed")?["data"]["status"];
        let (sent, acknowledged) = (self.sent.unix_millis(), self.acknowledged.unix_millis());
        let is_allowed = match status.as_str() {
            Some("Succeeded") => sent <= deadline,
            Some("TimedOut") => acknowledged >= deadline,
            _ => false,
        };
        if is_allowed {
            return Ok(());
        }
        Err(format!(
            "{}: Go is {status}; the signal was sent {} ms and acknowledged {} ms after the deadline",
            self.run,
            sent - deadline,
            acknowledged - deadline
        ))
    }
}

/// Suspends a run, resumes it and cancels it.
pub(super) fn suspend_resume_and_cancel(world: &World, run: &str) {
    for (order, status) in [("suspend", "Suspended"), ("resume", "Running"), ("cancel", "Cancelled")] {
        pause(BETWEEN);
        let answer = world.insist("POST", &format!("/api/v1/runs/{run}/{order}"), None, b"");
        // The response to an earlier attempt at it may have been lost with its server.
        if answer.status != 200 && !(order == "cancel" && answer.status == 409) {
            world.note(format!("{order} of {run} was refused: {answer:?}"));
        }
        pause(BETWEEN);
        let shown = world.insist("GET", &format!("/api/v1/runs/{run}"), None, b"");
        let shown: Value = serde_json::from_str(&shown.body).unwrap();
        if shown["status"] != status {
            world.note(format!("{run} is {} after {order}", shown["status"]));
        }
    }
}
