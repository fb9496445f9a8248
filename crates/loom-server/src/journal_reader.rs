//! Reads a run's events from its journal page by page, in order and numbered from 1.

use std::collections::VecDeque;

use loom_engine::{Event, RecoverError, RunId, journal::FrameReader};
use loom_store::{FrameQuery, Seq, Store, StoredFrame};

/// The size of a page in bytes. A single frame may be larger.
const PAGE_BYTES: usize = 256 << 10;

/// A position in a run's journal.
#[derive(Debug)]
pub(crate) struct JournalReader {
    run: RunId,
    next_frame: Seq,
    /// The number of the last event that was returned.
    given: u64,
    decoded: VecDeque<Event>,
    /// Frames that are not decoded yet: the values they refer to may be much larger than the frames.
    frames: VecDeque<StoredFrame>,
    decoder: FrameReader,
}

impl JournalReader {
    /// A reader at the beginning of the journal.
    pub(crate) fn new(run: RunId) -> JournalReader {
        JournalReader {
            run,
            next_frame: Seq::FIRST,
            given: 0,
            decoded: VecDeque::new(),
            frames: VecDeque::new(),
            decoder: FrameReader::new(run),
        }
    }

    /// The next durable event and its number; None if there are no more at present.
    ///
    /// # Cancel safety
    /// A dropped read does not advance the reader.
    pub(crate) async fn next(&mut self, store: &dyn Store) -> Result<Option<(u64, Event)>, RecoverError> {
        while self.decoded.is_empty() {
            if self.frames.is_empty() {
                self.read_page(store).await?;
            }
            let Some(frame) = self.frames.front() else { return Ok(None) };
            self.decoded.extend(self.decoder.events(store, frame).await?);
            self.frames.pop_front();
        }
        let Some(event) = self.decoded.pop_front() else { return Ok(None) };
        self.given += 1;
        Ok(Some((self.given, event)))
    }

    async fn read_page(&mut self, store: &dyn Store) -> Result<(), RecoverError> {
        let run = self.run;
        let query = FrameQuery { from: self.next_frame, bytes_max: PAGE_BYTES, ..FrameQuery::of(run) };
        let page = store.frames(query).await.map_err(|source| RecoverError::Store { run, source })?;
        if let Some(last) = page.frames.last() {
            self.next_frame = last.seq.plus(1);
        }
        self.frames.extend(page.frames);
        Ok(())
    }
}
