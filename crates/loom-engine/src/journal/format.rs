//! What all parts of the encoding agree on: versions, the numbers of statuses, and the error of bytes that are not valid.

use loom_definition::RunStatus;

/// The format of journals that this program writes when every node of the cluster reads it. All older ones are readable, too.
///
/// | format | what came with it |
/// |---|---|
/// | 1 | frames of events, large values apart, secrets by reference |
/// | 2 | waymarks at the heads of frames |
///
/// A program that does not know a format cannot continue the runs of a shard in which it was written. So a node writes the formats
/// before until all live nodes read the newest, and then raises the format of its shards first; see
/// [`Ownership::raise`](loom_store::Ownership::raise). Each addition to the encoding is a new format.
pub const JOURNAL_FORMAT: u32 = 2;

/// The format that came with waymarks.
pub(crate) const WAYMARKS: u32 = 2;

/// The version of a frame without references; with large values it is one higher, with secrets that were read two. All will be
/// readable for ever.
pub(super) const VERSION: u8 = 1;

/// The version of a snapshot without references, counted like that of a frame. Other versions are not read, because a run's
/// frames contain the same.
pub(super) const SNAPSHOT_VERSION: u8 = 7;

/// The version of a large value without references, counted like that of a frame.
pub(super) const LARGE_VERSION: u8 = 1;

/// The error of decoding bytes that are not a valid frame or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Unreadable {
    /// What is wrong.
    pub reason: &'static str,
    /// The position in the frame or snapshot, in bytes.
    pub offset: usize,
}

/// The number that represents a run's status in its row and journal.
pub fn status_number(status: RunStatus) -> u16 {
    match status {
        RunStatus::Waiting => 0,
        RunStatus::Running => 1,
        RunStatus::Suspended => 2,
        RunStatus::Succeeded => 3,
        RunStatus::Failed => 4,
        RunStatus::Cancelled => 5,
        RunStatus::TimedOut => 6,
        RunStatus::Aborted => 7,
    }
}

/// The status that a stored number represents; none when it is unknown.
pub fn status_from_number(number: u16) -> Option<RunStatus> {
    RunStatus::ALL.into_iter().find(|status| status_number(*status) == number)
}
