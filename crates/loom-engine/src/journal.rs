//! The journal's encoding of events and states as bytes. The store never interprets these bytes.
//!
//! A frame is a version byte followed by events until its end; a snapshot is a version byte and a state. Numbers are LEB128
//! varints (zigzag if signed), a string is its length and UTF-8, a value is a tag and its content. Large values are stored
//! separately, and the frame or snapshot that refers to them begins with their hashes. Tags are never reused; see
//! `docs/journal-format.md`.

mod codec;
mod events;
mod format;
mod head;
mod large;
mod primitive;
mod reader;
mod secret;
mod seek;
mod snapshot;
pub(crate) mod waymark;

pub(crate) use self::{
    codec::{append, draft_snapshot},
    format::WAYMARKS,
    large::{Draft, LargeValues},
    secret::{Keys, SecretRef},
};
pub use self::{
    codec::{decode, decode_snapshot, encode, encode_snapshot},
    format::{JOURNAL_FORMAT, Unreadable, status_from_number, status_number},
    reader::FrameReader,
    seek::{Waypoint, seek},
};
