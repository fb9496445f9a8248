//! Encoding and decoding of whole frames, snapshots and large values.

use std::sync::Arc;

use loom_definition::Workflow;
use loom_expression::Value;

use super::{
    events,
    format::{LARGE_VERSION, SNAPSHOT_VERSION, Unreadable, VERSION},
    head::body,
    large::{Draft, LargeValues},
    primitive::{Outside, Writer},
    snapshot, waymark,
};
use crate::{event::Event, state::RunState};

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

/// Decodes a frame that refers to no large values; [`FrameReader`](super::FrameReader) decodes every frame.
///
/// # Errors
/// [`Unreadable`], with the position of the damage.
pub fn decode(frame: &[u8]) -> Result<Vec<Event>, Unreadable> {
    decode_with(frame, Outside::default())
}

pub(super) fn decode_with(frame: &[u8], outside: Outside<'_>) -> Result<Vec<Event>, Unreadable> {
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
/// refers to no large values; [`FrameReader`](super::FrameReader) decodes every snapshot.
///
/// # Errors
/// [`Unreadable`], with the position: the snapshot is damaged, or has a version other than the one that this program writes.
/// The run's frames contain the same state.
pub fn decode_snapshot(workflow: &Arc<Workflow>, snapshot: &[u8]) -> Result<RunState, Unreadable> {
    decode_snapshot_with(workflow, snapshot, Outside::default())
}

pub(super) fn decode_snapshot_with(
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

pub(super) fn decode_large(content: &[u8], outside: Outside<'_>) -> Result<Value, Unreadable> {
    let mut reader = body(content, LARGE_VERSION, outside)?;
    let value = reader.value()?;
    if reader.is_at_end() { Ok(value) } else { reader.unreadable("unexpected data after the end") }
}
