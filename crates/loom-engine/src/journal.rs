//! The journal's encoding of events and states as bytes. The store never interprets these bytes.
//!
//! A frame is a version byte followed by events until its end; a snapshot is a version byte and a state. Numbers are LEB128
//! varints (zigzag if signed), a string is its length and UTF-8, a value is a tag and its content. Large values are stored
//! separately, and the frame or snapshot that refers to them begins with their hashes. Tags are never reused; see
//! `docs/journal-format.md`.

mod events;
mod large;
mod primitive;
mod reader;
mod secret;
mod seek;
mod snapshot;
pub(crate) mod waymark;

use std::sync::Arc;

use loom_definition::{RunStatus, Workflow};
use loom_expression::Value;
use loom_store::ContentHash;

use crate::{event::Event, state::RunState};
use primitive::{Outside, Reader, Writer};

pub(crate) use self::{
    large::{Draft, LargeValues},
    secret::{Keys, SecretRef},
};
pub use self::{
    reader::FrameReader,
    seek::{Waypoint, seek},
};

/// The version of a frame without references; with large values it is one higher, with secrets that were read two. All will be
/// readable for ever.
const VERSION: u8 = 1;

/// The version of a snapshot without references, counted like that of a frame. Other versions are not read, because a run's
/// frames contain the same.
const SNAPSHOT_VERSION: u8 = 4;

/// The version of a large value without references, counted like that of a frame.
const LARGE_VERSION: u8 = 1;

/// The error of decoding bytes that are not a valid frame or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Unreadable {
    /// What is wrong.
    pub reason: &'static str,
    /// The position in the frame or snapshot, in bytes.
    pub offset: usize,
}

/// Appends one frame with all of `events` to `out`, large values inline.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a Event>, out: &mut Vec<u8>) {
    let mut writer = Writer { out, apart: None };
    writer.byte(VERSION);
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Appends events to a frame under construction.
pub(crate) fn append(events: &[Event], draft: &mut Draft, values: &mut LargeValues) {
    draft.begin(VERSION);
    let mut writer = draft.writer(values, true);
    for event in events {
        events::write(&mut writer, event);
    }
}

/// Decodes a frame that refers to no large values; [`FrameReader`] decodes every frame.
///
/// # Errors
/// [`Unreadable`], with the position of the damage.
pub fn decode(frame: &[u8]) -> Result<Vec<Event>, Unreadable> {
    decode_with(frame, Outside::default())
}

fn decode_with(frame: &[u8], outside: Outside<'_>) -> Result<Vec<Event>, Unreadable> {
    let mut reader = body(frame, VERSION, outside)?;
    waymark::skip(&mut reader)?;
    let mut events = Vec::new();
    while !reader.is_at_end() {
        events.push(events::read(&mut reader)?);
    }
    Ok(events)
}

/// Encodes the state of a run, large values inline. The same state always yields the same bytes.
pub fn encode_snapshot(state: &RunState) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out, apart: None };
    writer.byte(SNAPSHOT_VERSION);
    snapshot::write(&mut writer, state);
    out
}

/// Like [`encode_snapshot`], but refers to large values that are already in the store. Others stay inline, because a snapshot
/// is soon replaced, while values in the store stay for as long as the run.
pub(crate) fn draft_snapshot(state: &RunState, values: &mut LargeValues) -> Draft {
    let mut draft = Draft::default();
    draft.begin(SNAPSHOT_VERSION);
    snapshot::write(&mut draft.writer(values, false), state);
    draft
}

/// Decodes the state of a run of `workflow`, which must be the definition that the run was started with, from a snapshot that
/// refers to no large values; [`FrameReader`] decodes every snapshot.
///
/// # Errors
/// [`Unreadable`], with the position: the snapshot is damaged, or has a version other than the one that this program writes.
/// The run's frames contain the same state.
pub fn decode_snapshot(workflow: &Arc<Workflow>, snapshot: &[u8]) -> Result<RunState, Unreadable> {
    decode_snapshot_with(workflow, snapshot, Outside::default())
}

fn decode_snapshot_with(
    workflow: &Arc<Workflow>,
    snapshot: &[u8],
    outside: Outside<'_>,
) -> Result<RunState, Unreadable> {
    let mut reader = body(snapshot, SNAPSHOT_VERSION, outside)?;
    let mut state = snapshot::read(&mut reader, workflow)?;
    if !reader.is_at_end() {
        return reader.unreadable("unexpected data after the end");
    }
    state.find_work();
    Ok(state)
}

fn decode_large(content: &[u8], outside: Outside<'_>) -> Result<Value, Unreadable> {
    let mut reader = body(content, LARGE_VERSION, outside)?;
    let value = reader.value()?;
    if reader.is_at_end() { Ok(value) } else { reader.unreadable("unexpected data after the end") }
}

/// What bytes refer to.
#[derive(Debug, Default)]
struct Head {
    /// The hashes of large values.
    names: Vec<ContentHash>,
    /// Secrets that were read.
    secrets: Vec<SecretRef>,
}

/// What `bytes` refer to; `version` is the version of bytes that refer to nothing.
fn references(bytes: &[u8], version: u8) -> Result<Head, Unreadable> {
    head(bytes, version).map(|(head, _)| head)
}

/// A reader for what follows the references.
fn body<'a>(bytes: &'a [u8], version: u8, outside: Outside<'a>) -> Result<Reader<'a>, Unreadable> {
    let (head, reader) = head(bytes, version)?;
    if head.names.len() != outside.large.len() {
        return reader.unreadable("unresolved references to large values");
    }
    if head.secrets.len() != outside.secrets.len() {
        return reader.unreadable("unresolved references to secrets");
    }
    Ok(reader.with(outside))
}

fn head(bytes: &[u8], version: u8) -> Result<(Head, Reader<'_>), Unreadable> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    let mut head = Head::default();
    if found == version {
        return Ok((head, reader));
    }
    if found != version + 1 && found != version + 2 {
        return Err(Unreadable { reason: "unknown format version", offset: 0 });
    }
    head.names = reader.names()?;
    if found == version + 2 {
        head.secrets = reader.secrets()?;
        // Reads that no value refers to are there for the record.
        reader.secrets()?;
    }
    Ok((head, reader))
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
