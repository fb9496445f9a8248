//! Exit codes: one number for each way that scripts may want to tell apart.

use std::process::ExitCode;

use loom_definition::RunStatus;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Success = 0,
    /// The run failed; a test failed; an expression has no value.
    Failure = 1,
    /// The arguments are wrong, or a file that they name is of no use.
    Usage = 2,
    /// The definition, its parameters or the expression's text are refused.
    Refused = 3,
    /// The run was cancelled.
    Cancelled = 4,
    /// The run took longer than it may.
    TimedOut = 5,
    /// The engine could not go on with the run.
    Aborted = 6,
    /// The server does not answer.
    Unreachable = 7,
    /// Stopped by an interrupt: 128 and the number of the signal, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// A server, or a folder of runs, has not what was asked for: 3, as for everything that is of no use.
    pub(crate) const NOT_FOUND: Exit = Exit::Refused;

    /// The server's token is missing or wrong: 4, as with other programs that ask servers.
    pub(crate) const NOT_ALLOWED: Exit = Exit::Cancelled;

    /// The code for a run that ended with this status.
    pub(crate) fn of_run(status: RunStatus) -> Exit {
        match status {
            RunStatus::Succeeded => Exit::Success,
            RunStatus::Failed => Exit::Failure,
            RunStatus::Cancelled => Exit::Cancelled,
            RunStatus::TimedOut => Exit::TimedOut,
            // A run that stands still when the program ends was not carried to its end.
            RunStatus::Aborted | RunStatus::Waiting | RunStatus::Running | RunStatus::Suspended => {
                Exit::Aborted
            }
        }
    }

    /// The worse of two: the greater code.
    pub(crate) fn worse(self, other: Exit) -> Exit {
        if other as u8 > self as u8 { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
