//! The journal's encoding of events: bytes in, events out. The store keeps the bytes and never looks inside.
//!
//! A frame is a version byte and then events until its end. Numbers are LEB128 varints (signed ones zigzag), text is
//! length and UTF-8, a value is a tag and its content. Tags are never reused; see `docs/journal-format.md`.

mod events;
mod primitive;

use crate::event::Event;
use primitive::{Reader, Writer};

/// The version that is written. Older ones are read for ever.
const VERSION: u8 = 1;

/// Bytes that are no journal frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a journal frame cannot be read: {reason} at byte {offset}")]
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
