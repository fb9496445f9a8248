//! Statuses of actions and runs, and sets of them.

use std::fmt;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// It was never started.
    Skipped,
    /// Its time limit elapsed.
    TimedOut,
    /// The run ended around it.
    Cancelled,
    /// The engine could not carry it out.
    Aborted,
}

impl Status {
    /// All of them, in the order of the language's documentation.
    pub const ALL: [Status; 6] = [
        Status::Succeeded,
        Status::Failed,
        Status::Skipped,
        Status::TimedOut,
        Status::Cancelled,
        Status::Aborted,
    ];

    /// The spelling of the language.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Succeeded => "Succeeded",
            Status::Failed => "Failed",
            Status::Skipped => "Skipped",
            Status::TimedOut => "TimedOut",
            Status::Cancelled => "Cancelled",
            Status::Aborted => "Aborted",
        }
    }

    /// Reads a status, ignoring case.
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether a leaf with this status makes its block fail by itself.
    pub const fn is_bad(self) -> bool {
        matches!(self, Status::Failed | Status::TimedOut | Status::Cancelled | Status::Aborted)
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
    /// The set of one.
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

    /// Whether nothing is in the set.
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

/// How a run stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunStatus {
    /// Queued by its trigger's concurrency limit.
    Waiting,
    /// In progress.
    Running,
    /// Held back by hand, or by a store that cannot write.
    Suspended,
    /// Every leaf ended well.
    Succeeded,
    /// A failure went unhandled.
    Failed,
    /// Stopped from outside, or by a Terminate that says so.
    Cancelled,
    /// It took longer than a run may.
    TimedOut,
    /// The engine could not go on.
    Aborted,
}

impl RunStatus {
    /// All of them.
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

    /// The spelling of the language.
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

    /// Reads a status, ignoring case.
    pub fn parse(text: &str) -> Option<RunStatus> {
        RunStatus::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, RunStatus::Waiting | RunStatus::Running | RunStatus::Suspended)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
