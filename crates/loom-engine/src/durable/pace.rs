//! When a run's journal contains a snapshot.

/// A snapshot is due after this many frames, or this many bytes of frames.
const SNAPSHOT_FRAMES: usize = 64;
const SNAPSHOT_BYTES: usize = 256 * 1024;

/// When a run leaves memory, a snapshot is taken after this many frames, or this many bytes of frames.
const PARK_FRAMES: usize = 16;
const PARK_BYTES: usize = 4 * 1024;

/// Decides when the next snapshot of a run is due: when the journal since the last one would take a while to read, but never
/// so often that snapshots make up more of the writes than the journal itself.
#[derive(Debug, Default)]
pub(super) struct Pace {
    frames: usize,
    bytes: usize,
    /// Size of the last snapshot.
    snapshot_bytes: usize,
}

impl Pace {
    pub(super) fn frame_written(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    pub(super) fn snapshot_taken(&mut self, bytes: usize) {
        *self = Pace { frames: 0, bytes: 0, snapshot_bytes: bytes };
    }

    /// Whether a run that leaves memory is read faster with a snapshot.
    pub(super) fn is_worth_it(&self) -> bool {
        (self.frames >= PARK_FRAMES || self.bytes >= PARK_BYTES) && self.bytes >= self.snapshot_bytes
    }

    pub(super) fn is_due(&self) -> bool {
        (self.frames >= SNAPSHOT_FRAMES || self.bytes >= SNAPSHOT_BYTES) && self.bytes >= self.snapshot_bytes
    }
}
