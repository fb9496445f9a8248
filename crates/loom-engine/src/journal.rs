//! The journal's encoding of events and states: bytes in, events and states out. The store keeps the bytes and never
//! looks inside.
//!
//! A frame is a version byte and then events until its end; a snapshot is a version byte and a state. Numbers are
//! LEB128 varints (signed ones zigzag), text is length and UTF-8, a value is a tag and its content. Large values are kept
//! apart, and the frame or snapshot that holds them begins with their names. Tags are never reused; see
//! `docs/journal-format.md`.

mod events;
mod large;
mod primitive;
mod reader;
mod snapshot;

use std::sync::Arc;

use loom_definition::{RunStatus, Workflow};
use loom_expression::Value;
use loom_store::ContentHash;

use crate::{event::Event, state::RunState};
use primitive::{Reader, Writer};

pub(crate) use self::large::{Draft, LargeValues};
pub use self::reader::FrameReader;

/// The version of a frame without large values; with them it is the one after. Both are read for ever.
const VERSION: u8 = 1;

/// The version of a snapshot without large values; with them it is the one after. Another one is not read, because a
/// run's frames say the same.
const SNAPSHOT_VERSION: u8 = 4;

/// The version of a large value that names no others; if it does, it is the one after.
const LARGE_VERSION: u8 = 1;

/// Bytes that are no journal frame or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read: {reason} at byte {offset}")]
pub struct Unreadable {
    /// What is wrong.
    pub reason: &'static str,
    /// Where in the frame.
    pub offset: usize,
}

/// Appends one frame with all of `events` to `out`, large values included.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a Event>, out: &mut Vec<u8>) {
    let mut writer = Writer { out, apart: None };
    writer.byte(VERSION);
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Appends events to a frame in the making, beginning it if it is empty.
pub(crate) fn append(events: &[Event], draft: &mut Draft, values: &mut LargeValues) {
    draft.begin(VERSION);
    let mut writer = draft.writer(values, true);
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Reads a frame that names no large values; [`FrameReader`] reads every frame.
///
/// # Errors
/// [`Unreadable`] with the place; nothing of the frame is given then.
pub fn decode(frame: &[u8]) -> Result<Vec<Event>, Unreadable> {
    decode_with(frame, &[])
}

fn decode_with(frame: &[u8], large: &[Value]) -> Result<Vec<Event>, Unreadable> {
    let mut reader = body(frame, VERSION, large)?;
    let mut events = Vec::new();
    while !reader.is_at_end() {
        events.push(events::read(&mut reader)?);
    }
    Ok(events)
}

/// The whole state of a run as bytes, large values included. The same state always gives the same bytes.
pub fn encode_snapshot(state: &RunState) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out, apart: None };
    writer.byte(SNAPSHOT_VERSION);
    snapshot::write(&mut writer, state);
    out
}

/// As [`encode_snapshot`], but values that the store has are named. Others stay here, because a snapshot is soon replaced and
/// what the store keeps for a run is not.
pub(crate) fn draft_snapshot(state: &RunState, values: &mut LargeValues) -> Draft {
    let mut draft = Draft::default();
    draft.begin(SNAPSHOT_VERSION);
    snapshot::write(&mut draft.writer(values, false), state);
    draft
}

/// Reads the state of a run of `workflow`, which must be the definition the run began with, from a snapshot that names no large
/// values; [`FrameReader`] reads every snapshot.
///
/// # Errors
/// [`Unreadable`] with the place: damage, or another version than this program writes. The run's frames hold the same
/// state.
pub fn decode_snapshot(workflow: &Arc<Workflow>, snapshot: &[u8]) -> Result<RunState, Unreadable> {
    decode_snapshot_with(workflow, snapshot, &[])
}

fn decode_snapshot_with(
    workflow: &Arc<Workflow>,
    snapshot: &[u8],
    large: &[Value],
) -> Result<RunState, Unreadable> {
    let mut reader = body(snapshot, SNAPSHOT_VERSION, large)?;
    let mut state = snapshot::read(&mut reader, workflow)?;
    if !reader.is_at_end() {
        return reader.unreadable("something follows its end");
    }
    state.find_work();
    Ok(state)
}

fn decode_large(content: &[u8], large: &[Value]) -> Result<Value, Unreadable> {
    let mut reader = body(content, LARGE_VERSION, large)?;
    let value = reader.value()?;
    if reader.is_at_end() { Ok(value) } else { reader.unreadable("something follows its end") }
}

/// The names of the large values that `bytes` holds; `version` is the one of bytes that hold none.
fn names(bytes: &[u8], version: u8) -> Result<Vec<ContentHash>, Unreadable> {
    head(bytes, version).map(|(names, _)| names)
}

/// What follows the names.
fn body<'a>(bytes: &'a [u8], version: u8, large: &'a [Value]) -> Result<Reader<'a>, Unreadable> {
    let (names, reader) = head(bytes, version)?;
    if names.len() == large.len() {
        return Ok(reader.with(large));
    }
    reader.unreadable("it names large values that are not at hand")
}

fn head(bytes: &[u8], version: u8) -> Result<(Vec<ContentHash>, Reader<'_>), Unreadable> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    if found == version {
        return Ok((Vec::new(), reader));
    }
    if found != version + 1 {
        return Err(Unreadable { reason: "its version is not known to this program", offset: 0 });
    }
    Ok((reader.names()?, reader))
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
