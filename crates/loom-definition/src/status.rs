//! The statuses of actions and runs.

use std::fmt;

/// The final status of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was never started.
    Skipped,
    /// It exceeded its timeout.
    TimedOut,
    /// The run ended while it was in progress.
    Cancelled,
    /// The engine could not execute it.
    Aborted,
    /// An agent passed the conversation to another agent.
    HandedOff,
}

impl Status {
    /// All statuses, in the order of WDL's documentation.
    pub const ALL: [Status; 7] = [
        Status::Succeeded,
        Status::Failed,
        Status::Skipped,
        Status::TimedOut,
        Status::Cancelled,
        Status::Aborted,
        Status::HandedOff,
    ];

    /// All statuses, the one that a reader of several executions has to know first at the beginning.
    pub const WORST_FIRST: [Status; 7] = [
        Status::Failed,
        Status::TimedOut,
        Status::Aborted,
        Status::Cancelled,
        Status::Succeeded,
        Status::HandedOff,
        Status::Skipped,
    ];

    /// The name of the status in WDL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Succeeded => "Succeeded",
            Status::Failed => "Failed",
            Status::Skipped => "Skipped",
            Status::TimedOut => "TimedOut",
            Status::Cancelled => "Cancelled",
            Status::Aborted => "Aborted",
            Status::HandedOff => "HandedOff",
        }
    }

    /// Parses a status, ignoring case.
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether a leaf action with this status makes its block fail.
    pub const fn is_bad(self) -> bool {
        matches!(self, Status::Failed | Status::TimedOut | Status::Cancelled | Status::Aborted)
    }

    /// Whether something went wrong in an action with this status: it was not ended from outside.
    pub const fn is_failure(self) -> bool {
        matches!(self, Status::Failed | Status::TimedOut | Status::Aborted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A set of final statuses, as `runAfter` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet(u8);

impl StatusSet {
    /// A set with one status.
    pub const fn of(status: Status) -> StatusSet {
        StatusSet(1 << status as u8)
    }

    /// Adds a status.
    pub fn insert(&mut self, status: Status) {
        self.0 |= 1 << status as u8;
    }

    /// Whether `status` is in the set.
    #[inline]
    pub const fn contains(self, status: Status) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The statuses in the set, in the order of [`Status::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |status| self.contains(*status))
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, status) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(status.as_str())?;
        }
        Ok(())
    }
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunStatus {
    /// Waiting because of the concurrency limit of its trigger.
    Waiting,
    /// In progress.
    Running,
    /// Suspended by an operator, or because the store cannot write.
    Suspended,
    /// No leaf action failed.
    Succeeded,
    /// A failure was not handled.
    Failed,
    /// Cancelled by a caller or by a Terminate action.
    Cancelled,
    /// It exceeded the maximum duration of a run.
    TimedOut,
    /// The engine could not continue it.
    Aborted,
}

impl RunStatus {
    /// All statuses.
    pub const ALL: [RunStatus; 8] = [
        RunStatus::Waiting,
        RunStatus::Running,
        RunStatus::Suspended,
        RunStatus::Succeeded,
        RunStatus::Failed,
        RunStatus::Cancelled,
        RunStatus::TimedOut,
        RunStatus::Aborted,
    ];

    /// The name of the status in WDL.
    pub const fn as_str(self) -> &'static str {
        match self {
            RunStatus::Waiting => "Waiting",
            RunStatus::Running => "Running",
            RunStatus::Suspended => "Suspended",
            RunStatus::Succeeded => "Succeeded",
            RunStatus::Failed => "Failed",
            RunStatus::Cancelled => "Cancelled",
            RunStatus::TimedOut => "TimedOut",
            RunStatus::Aborted => "Aborted",
        }
    }

    /// Parses a status, ignoring case.
    pub fn parse(text: &str) -> Option<RunStatus> {
        RunStatus::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether the run has ended.
    pub const fn is_final(self) -> bool {
        !matches!(self, RunStatus::Waiting | RunStatus::Running | RunStatus::Suspended)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
