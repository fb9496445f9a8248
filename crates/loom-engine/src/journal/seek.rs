//! Finds where to begin reading a journal in order to show the events after a given one.

use std::sync::Arc;

use loom_definition::Workflow;
use loom_store::{FrameQuery, Seq, Store, StoredFrame};

use super::waymark::{self, WAYMARK_FRAMES};
use crate::{event::RunId, trail::Trail, unloadable::RecoverError};

/// The frames between two regular waymarks are fetched together if they are not larger than this, in bytes.
const PAGE_BYTES: usize = 256 << 10;

/// A place in a journal from which events can be read with their places.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Waypoint {
    /// Its first frames, if they were fetched already.
    pub frames: Vec<StoredFrame>,
    /// The first frame after those.
    pub next: Seq,
    /// The trail of the events before it.
    pub trail: Trail,
    /// The number of frames that were fetched to find it.
    pub fetched: u64,
}

/// The last waypoint before the event with number `after + 1`: that of a waymark, or the beginning of the journal, as in
/// journals of earlier versions. Fetches a few single frames and at most one page of small ones, however long the journal is.
///
/// # Errors
/// [`RecoverError`]: a waymark is damaged, or the store cannot be read.
///
/// # Cancel safety
/// Cancel safe.
pub async fn seek(
    store: &dyn Store,
    run: RunId,
    workflow: &Arc<Workflow>,
    after: u64,
) -> Result<Waypoint, RecoverError> {
    let trail = Trail::new(Arc::clone(workflow));
    let best = Waypoint { frames: Vec::new(), next: Seq::FIRST, trail, fetched: 0 };
    if after == 0 {
        return Ok(best);
    }
    let mut search = Search { store, run, workflow, after, best };
    // Doubles the distance until a waymark is beyond the position, or the journal ends.
    let (mut before, mut beyond) = (0, WAYMARK_FRAMES);
    while let Some(probe) = search.probe(beyond).await? {
        match probe {
            Probe::Before => before = beyond,
            Probe::Unmarked => {}
            Probe::Beyond => break,
        }
        beyond *= 2;
    }
    search.halve(before, beyond, WAYMARK_FRAMES).await?;
    // The large frames between two of the regular waymarks have their own.
    let from = search.best.next.0 - 1;
    let (mut frames, is_done) = search.scan(from).await?;
    if let Some(last) = frames.last().map(|last| last.seq)
        && !is_done
    {
        search.halve(last.0, from + WAYMARK_FRAMES, 1).await?;
    }
    // Those after the waypoint need not be fetched again.
    frames.retain(|frame| frame.seq >= search.best.next);
    if let Some(last) = frames.last() {
        search.best.next = last.seq.plus(1);
    }
    search.best.frames = frames;
    Ok(search.best)
}

struct Search<'a> {
    store: &'a dyn Store,
    run: RunId,
    workflow: &'a Arc<Workflow>,
    after: u64,
    best: Waypoint,
}

/// What a frame says about the position.
enum Probe {
    /// The position is after the frame.
    Before,
    /// The position is in the frame, or before it.
    Beyond,
    /// The frame has no waymark.
    Unmarked,
}

impl Search<'_> {
    /// Looks for a later waymark between two frames, among the multiples of `step`.
    async fn halve(&mut self, mut before: u64, mut beyond: u64, step: u64) -> Result<(), RecoverError> {
        while beyond - before > step {
            let middle = before + (beyond - before) / step / 2 * step;
            let mut frame = middle;
            // A frame without a waymark says nothing: the next earlier one that has one does.
            loop {
                match self.probe(frame).await? {
                    Some(Probe::Unmarked) if frame - before > step => frame -= step,
                    Some(Probe::Before | Probe::Unmarked) => {
                        before = middle;
                        break;
                    }
                    Some(Probe::Beyond) => {
                        beyond = frame;
                        break;
                    }
                    None => {
                        beyond = middle;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for a later waymark in the frames after `frame` that fit in a page. Returns them, and whether the position cannot
    /// be after a later waymark.
    async fn scan(&mut self, frame: u64) -> Result<(Vec<StoredFrame>, bool), RecoverError> {
        let most = WAYMARK_FRAMES as usize - 1;
        let frames = self.frames(Seq(frame + 1), most, PAGE_BYTES).await?;
        for frame in &frames {
            if let Probe::Beyond = self.look(frame)? {
                return Ok((frames, true));
            }
        }
        let is_done = frames.len() == most;
        Ok((frames, is_done))
    }

    /// None when there is no such frame.
    async fn probe(&mut self, frame: u64) -> Result<Option<Probe>, RecoverError> {
        let frames = self.frames(Seq(frame), 1, 0).await?;
        let found = frames.first().filter(|found| found.seq.0 == frame);
        found.map(|found| self.look(found)).transpose()
    }

    fn look(&mut self, frame: &StoredFrame) -> Result<Probe, RecoverError> {
        let unreadable = |source| RecoverError::Journal { run: self.run, frame: frame.seq, source };
        Ok(match waymark::decode(&frame.payload, self.workflow).map_err(unreadable)? {
            None => Probe::Unmarked,
            Some(trail) if trail.seq() <= self.after => {
                self.best.next = frame.seq.plus(1);
                self.best.trail = trail;
                Probe::Before
            }
            Some(_) => Probe::Beyond,
        })
    }

    async fn frames(
        &mut self,
        from: Seq,
        frames_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredFrame>, RecoverError> {
        let run = self.run;
        let query = FrameQuery { from, frames_max, bytes_max, ..FrameQuery::of(run) };
        let page = self.store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        self.best.fetched += page.frames.len() as u64;
        Ok(page.frames)
    }
}
