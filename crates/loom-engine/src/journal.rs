//! The journal's encoding of events and states: bytes in, events and states out. The store keeps the bytes and never
//! looks inside.
//!
//! A frame is a version byte and then events until its end; a snapshot is a version byte and a state. Numbers are
//! LEB128 varints (signed ones zigzag), text is length and UTF-8, a value is a tag and its content. Tags are never
//! reused; see `docs/journal-format.md`.

mod events;
mod primitive;
mod snapshot;

use std::sync::Arc;

use loom_definition::{RunStatus, Workflow};

use crate::{event::Event, state::RunState};
use primitive::{Reader, Writer};

/// The version of frames that is written. Older ones are read for ever.
const VERSION: u8 = 1;

/// The version of snapshots. Another one is not read, because a run's frames say the same.
const SNAPSHOT_VERSION: u8 = 2;

/// Bytes that are no journal frame or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read: {reason} at byte {offset}")]
pub struct Unreadable {
    /// What is wrong.
    pub reason: &'static str,
    /// Where in the frame.
    pub offset: usize,
}

/// Appends one frame with all of `events` to `out`.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a Event>, out: &mut Vec<u8>) {
    let mut writer = Writer { out };
    writer.byte(VERSION);
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Appends events to a frame in the making, beginning it if `out` is empty.
pub(crate) fn append(events: &[Event], out: &mut Vec<u8>) {
    let begin = out.is_empty();
    let mut writer = Writer { out };
    if begin {
        writer.byte(VERSION);
    }
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Reads a frame.
///
/// # Errors
/// [`Unreadable`] with the place; nothing of the frame is given then.
pub fn decode(frame: &[u8]) -> Result<Vec<Event>, Unreadable> {
    let mut reader = Reader::new(frame);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(Unreadable { reason: "its version is not known to this program", offset: 0 });
    }
    let mut events = Vec::new();
    while !reader.is_at_end() {
        events.push(events::read(&mut reader)?);
    }
    Ok(events)
}

/// The whole state of a run as bytes. The same state always gives the same bytes.
pub fn encode_snapshot(state: &RunState) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out };
    writer.byte(SNAPSHOT_VERSION);
    snapshot::write(&mut writer, state);
    out
}

/// Reads the state of a run of `workflow`, which must be the definition the run began with.
///
/// # Errors
/// [`Unreadable`] with the place: damage, or another version than this program writes. The run's frames hold the same
/// state.
pub fn decode_snapshot(workflow: &Arc<Workflow>, snapshot: &[u8]) -> Result<RunState, Unreadable> {
    let mut reader = Reader::new(snapshot);
    if reader.byte()? != SNAPSHOT_VERSION {
        return Err(Unreadable { reason: "its version is not known to this program", offset: 0 });
    }
    let mut state = snapshot::read(&mut reader, workflow)?;
    if !reader.is_at_end() {
        return reader.unreadable("something follows its end");
    }
    state.find_work();
    Ok(state)
}

/// The number a run's status is stored under, in its row and in its journal.
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

/// The status stored under a number.
pub fn status_of_number(number: u16) -> Option<RunStatus> {
    RunStatus::ALL.into_iter().find(|status| status_number(*status) == number)
}
