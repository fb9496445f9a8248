//! Reads a run's events from its journal, in order and numbered from 1, a page at a time.

use std::collections::VecDeque;

use loom_engine::{Event, RecoverError, RunId, journal::FrameReader};
use loom_store::{FrameQuery, Seq, Store, StoredFrame};

/// Bytes of frames read at a time. One frame may be larger.
const PAGE_BYTES: usize = 256 << 10;

/// A place in a run's journal.
#[derive(Debug)]
pub(crate) struct JournalReader {
    run: RunId,
    next_frame: Seq,
    /// The number of the last event that was given out.
    given: u64,
    decoded: VecDeque<Event>,
    /// Read and not decoded: the values that a frame names may be much larger than the frame.
    frames: VecDeque<StoredFrame>,
    decoder: FrameReader,
}

impl JournalReader {
    /// At the beginning.
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

    /// The next event that is durable and its number; none when there is no more now.
    ///
    /// # Cancel safety
    /// A dropped read has read nothing.
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
