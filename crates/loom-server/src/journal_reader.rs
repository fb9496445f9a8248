//! Reads a run's events from its journal page by page, in order, after a position.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use loom_definition::Workflow;
use loom_engine::{
    Event, RecoverError, RunId, Trail,
    journal::{self, FrameReader, Waypoint},
};
use loom_store::{FrameQuery, Seq, Store, StoredFrame};

/// The size of a page in bytes. A single frame may be larger.
const PAGE_BYTES: usize = 256 << 10;

/// The number of frames of the first page. Each further page has twice as many, so a reader of few events reads few frames.
const PAGE_FRAMES: usize = 16;
const PAGE_FRAMES_MAX: usize = 1024;

/// A position in a run's journal.
#[derive(Debug)]
pub(crate) struct JournalReader {
    run: RunId,
    next_frame: Seq,
    page_frames: usize,
    /// Frames fetched from the store.
    fetched: u64,
    decoded: VecDeque<Event>,
    /// Frames that are not decoded yet: the values they refer to may be much larger than the frames.
    frames: VecDeque<StoredFrame>,
    decoder: FrameReader,
    ended: bool,
}

impl JournalReader {
    /// A reader after the event with number `after`, or at the present end of the journal if it has fewer; and the trail of the
    /// events before it. Reads what follows the last waymark before that event, without large values.
    pub(crate) async fn after(
        run: RunId,
        store: &dyn Store,
        workflow: &Arc<Workflow>,
        after: u64,
    ) -> Result<(JournalReader, Trail), RecoverError> {
        let Waypoint { frames, next, mut trail, fetched, .. } =
            journal::seek(store, run, workflow, after).await?;
        let mut reader = JournalReader {
            run,
            next_frame: next,
            page_frames: PAGE_FRAMES,
            fetched,
            decoded: VecDeque::new(),
            frames: frames.into(),
            decoder: FrameReader::new(run),
            ended: false,
        };
        while trail.seq() < after {
            if reader.frames.is_empty() {
                reader.read_page(store).await?;
            }
            let Some(frame) = reader.frames.pop_front() else { break };
            let unfit = |source| RecoverError::Illegal { run, frame: frame.seq, source };
            let mut events = reader.decoder.skim(&frame)?;
            let skipped = usize::try_from(after - trail.seq()).unwrap_or(usize::MAX).min(events.len());
            for event in &events[..skipped] {
                trail.follow(event).map_err(unfit)?;
                reader.ended |= matches!(event, Event::RunEnded { .. });
            }
            if skipped < events.len() {
                events = reader.decoder.events(store, &frame).await?;
                reader.decoded.extend(events.drain(skipped..));
            }
        }
        Ok((reader, trail))
    }

    /// The next durable event; None if there are no more at present.
    ///
    /// # Cancel safety
    /// A dropped read does not advance the reader.
    pub(crate) async fn next(&mut self, store: &dyn Store) -> Result<Option<Event>, RecoverError> {
        while self.decoded.is_empty() {
            if self.frames.is_empty() {
                self.read_page(store).await?;
            }
            let Some(frame) = self.frames.front() else { return Ok(None) };
            self.decoded.extend(self.decoder.events(store, frame).await?);
            self.frames.pop_front();
        }
        let event = self.decoded.pop_front();
        self.ended |= matches!(event, Some(Event::RunEnded { .. }));
        Ok(event)
    }

    /// Whether the reader has passed the end of the run.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The number of frames fetched from the store so far.
    #[cfg(test)]
    fn fetched(&self) -> u64 {
        self.fetched
    }

    async fn read_page(&mut self, store: &dyn Store) -> Result<(), RecoverError> {
        let run = self.run;
        let query = FrameQuery {
            from: self.next_frame,
            bytes_max: PAGE_BYTES,
            frames_max: self.page_frames,
            ..FrameQuery::of(run)
        };
        let page = store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        if let Some(last) = page.frames.last() {
            self.next_frame = last.seq.plus(1);
        }
        self.page_frames = (self.page_frames * 2).min(PAGE_FRAMES_MAX);
        self.fetched += page.frames.len() as u64;
        self.frames.extend(page.frames);
        Ok(())
    }
}
