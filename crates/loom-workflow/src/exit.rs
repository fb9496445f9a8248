//! Exit codes: one number for each outcome that scripts may need to distinguish.

use std::process::ExitCode;

use loom_definition::RunStatus;

/// The exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Success = 0,
    /// A run, a test or an evaluation failed.
    Failure = 1,
    /// Invalid arguments, or a file that cannot be used.
    Usage = 2,
    /// The definition, its parameters or the expression are invalid.
    Refused = 3,
    /// The run was cancelled.
    Cancelled = 4,
    /// The run timed out.
    TimedOut = 5,
    /// The engine aborted the run.
    Aborted = 6,
    /// The server cannot be reached.
    Unreachable = 7,
    /// Interrupted: 128 plus the number of SIGINT, as in shells.
    Interrupted = 130,
}

impl Exit {
    /// A server or data directory does not have the requested item: 3, as for other invalid input.
    pub(crate) const NOT_FOUND: Exit = Exit::Refused;

    /// The server's token is missing or wrong: 4.
    pub(crate) const NOT_ALLOWED: Exit = Exit::Cancelled;

    /// The exit code for the status of a run.
    pub(crate) fn of_run(status: RunStatus) -> Exit {
        match status {
            RunStatus::Succeeded => Exit::Success,
            RunStatus::Failed => Exit::Failure,
            RunStatus::Cancelled => Exit::Cancelled,
            RunStatus::TimedOut => Exit::TimedOut,
            // A run that has not ended when the program exits is incomplete.
            RunStatus::Aborted | RunStatus::Waiting | RunStatus::Running | RunStatus::Suspended => {
                Exit::Aborted
            }
        }
    }

    /// The worse of two codes: the greater one.
    pub(crate) fn worse(self, other: Exit) -> Exit {
        if other as u8 > self as u8 { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
