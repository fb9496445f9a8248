//! Waymarks: at the head of some frames, the trail as it is after the frame.

use std::sync::Arc;

use loom_definition::{ActionIdx, Workflow};

use super::{
    events::{read_place, write_place},
    format::{Unreadable, VERSION},
    head::head,
    primitive::{Reader, Writer},
};
use crate::{
    event::{EffectId, OpeningId, Phase, TimerId},
    path::Iteration,
    trail::{Opened, Trail},
};

/// The first byte after the version and the names of large values, where an event would have its tag.
pub(super) const TAG: u8 = 0;

/// Each frame whose number is a multiple of this has a waymark.
pub(super) const WAYMARK_FRAMES: u64 = 64;

/// Each frame of at least this size has one, too, so that a reader skips few bytes.
const FRAME_BYTES: usize = 16 * 1024;

/// A larger waymark is not written. Readers manage without.
const BYTES_MAX: usize = 64 * 1024;

type Read<T> = Result<T, Unreadable>;

/// Whether the frame with this number and size ends at a waymark.
pub(crate) fn is_due(frame: u64, bytes: usize) -> bool {
    frame.is_multiple_of(WAYMARK_FRAMES) || bytes >= FRAME_BYTES
}

/// Encodes a waymark; none if it is too large.
pub(crate) fn encode(trail: &Trail) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut w = Writer { out: &mut out, apart: None };
    w.byte(TAG);
    w.uint(trail.seq);
    w.time(trail.at);
    w.uint(trail.openings.len() as u64);
    for (frame, opened) in &trail.openings {
        w.uint(u64::from(frame.0));
        w.option(opened.parent, write_place);
        w.list(&opened.path, |w, round| {
            w.uint(u64::from(round.action.0));
            w.uint(u64::from(round.index));
        });
    }
    w.uint(trail.calls.len() as u64);
    for (effect, called) in &trail.calls {
        w.uint(u64::from(effect.0));
        write_place(&mut w, called.place);
        w.uint(u64::from(called.attempt));
        w.byte(u8::from(called.outlives));
    }
    w.uint(trail.timers.len() as u64);
    for (timer, place) in &trail.timers {
        w.uint(u64::from(timer.0));
        write_place(&mut w, *place);
    }
    (out.len() <= BYTES_MAX).then_some(out)
}

/// The waymark of a frame, if it has one. Reads nothing else of the frame.
pub(crate) fn decode(frame: &[u8], workflow: &Arc<Workflow>) -> Read<Option<Trail>> {
    let (_, mut r) = head(frame, VERSION)?;
    if !r.skip_byte(TAG) {
        return Ok(None);
    }
    let trail = read(&mut r, workflow)?;
    let known = |action: ActionIdx| (action.0 as usize) < workflow.actions.len();
    let rounds = trail.openings.values().flat_map(|opened| opened.path.iter()).map(|round| round.action);
    let parents = trail.openings.values().filter_map(|opened| opened.parent);
    let calls = trail.calls.values().map(|called| called.place);
    let places = parents.chain(calls).chain(trail.timers.values().copied());
    if !rounds.chain(places.map(|place| place.action)).all(known) {
        return r.unreadable("the waymark refers to an action that does not exist");
    }
    Ok(Some(trail))
}

/// Skips the waymark at the head of a frame, if there is one.
pub(super) fn skip(r: &mut Reader<'_>) -> Read<()> {
    if !r.skip_byte(TAG) {
        return Ok(());
    }
    r.uint()?;
    r.time()?;
    r.list(|r| {
        r.u32()?;
        read_opened(r)
    })?;
    r.list(|r| {
        r.u32()?;
        read_place(r)?;
        r.u32()?;
        r.byte()
    })?;
    r.list(|r| {
        r.u32()?;
        read_place(r)
    })?;
    Ok(())
}

fn read(r: &mut Reader<'_>, workflow: &Arc<Workflow>) -> Read<Trail> {
    let mut trail = Trail::new(Arc::clone(workflow));
    trail.seq = r.uint()?;
    trail.at = r.time()?;
    trail.openings.extend(r.list(|r| Ok((OpeningId(r.u32()?), read_opened(r)?)))?);
    for _ in 0..r.uint()? {
        let (effect, place, attempt) = (EffectId(r.u32()?), read_place(r)?, r.u32()?);
        let phase = if r.byte()? == 0 { Phase::Call } else { Phase::Unsubscribe };
        trail.call(effect, place, attempt, phase);
    }
    for _ in 0..r.uint()? {
        let timer = TimerId(r.u32()?);
        trail.timer(timer, read_place(r)?);
    }
    Ok(trail)
}

fn read_opened(r: &mut Reader<'_>) -> Read<Opened> {
    let parent = r.option(read_place)?;
    let path = r.list(|r| Ok(Iteration { action: ActionIdx(r.u32()?), index: r.u32()? }))?;
    Ok(Opened { parent, path: path.into() })
}
