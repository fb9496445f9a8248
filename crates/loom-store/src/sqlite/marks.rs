//! A page of memory that survives the process: which runs the process was working on when it ended, and how much of
//! the store had been synced by then.
//!
//! The page is the file `loom.marks`, mapped. Setting a mark is a plain store into it, without a system call and
//! without a sync: the kernel keeps the page when the process is killed. After a loss of power the page may be an
//! older one, so nothing in it is trusted further than that: each mark has the sequence number at which the journal
//! of its run was to continue, and is stale once the journal is past it; and the progress is a lower bound, which an
//! older page only makes lower.
//!
//! ```text
//!    0  magic, 8 bytes
//!    8  generation of the marks
//!   16  synced progress, and at 24 its complement; when the two do not match, the progress is unknown
//!  512  224 slots of 16 bytes: run id (0: free), sequence number at which its journal continues
//! ```
//! All numbers are 64 bits wide, in the byte order of the machine.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use mmap_io::MemoryMappedFile;

use crate::{Interrupted, RunId, Seq, at_work::Release};

pub(super) const NAME: &str = "loom.marks";

const MAGIC: u64 = u64::from_be_bytes(*b"LoomMrk1");
const PAGE: usize = 4_096;
const GENERATION: u64 = 8;
const SYNCED: u64 = 16;
const SYNCED_CHECK: u64 = 24;
const SLOTS: u64 = 512;
const SLOT: u64 = 16;
const SLOT_COUNT: u16 = ((PAGE as u64 - SLOTS) / SLOT) as u16;

/// The page, mapped for as long as the store is open.
#[derive(Debug)]
pub(super) struct Marks {
    /// `None` when the file cannot be mapped: then no run can be marked, and nothing is known of an earlier process.
    page: Option<MemoryMappedFile>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u16>,
    /// What the previous process left, each with its slot. Stays in the file until it was handled.
    left: Vec<(u16, RunId, Seq)>,
}

impl Marks {
    /// Maps the page of `directory`, and creates it if it does not exist.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        let sound = fs::read(&path).is_ok_and(|found| is_sound(&found));
        if !sound {
            create(directory, &path)?;
        }
        let page = match MemoryMappedFile::open_rw(&path) {
            Ok(page) => Some(page),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot map the file: runs that crash the process will not be detected");
                None
            }
        };
        let marks = Self { page, slots: Mutex::default() };
        let mut slots = Slots::default();
        // The lowest slots are taken first.
        for slot in (0..SLOT_COUNT).rev() {
            match marks.slot(slot) {
                Some((run, next)) => slots.left.push((slot, run, next)),
                None => slots.free.push(slot),
            }
        }
        *marks.lock() = slots;
        Ok(marks)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, offset: u64) -> u64 {
        let cell = self.page.as_ref().and_then(|page| page.atomic_u64(offset).ok());
        cell.map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    fn store(&self, offset: u64, value: u64) {
        if let Some(cell) = self.page.as_ref().and_then(|page| page.atomic_u64(offset).ok()) {
            cell.store(value, Ordering::Release);
        }
    }

    fn slot(&self, slot: u16) -> Option<(RunId, Seq)> {
        let offset = SLOTS + u64::from(slot) * SLOT;
        let run = RunId::from_u64(self.load(offset)).filter(|run| run.as_u64() > 0)?;
        Some((run, Seq(self.load(offset + 8))))
    }

    /// Marks a run; `None` when no slot is free or the page could not be mapped.
    pub(super) fn mark(&self, run: RunId, next: Seq) -> Option<u16> {
        self.page.as_ref()?;
        let slot = self.lock().free.pop()?;
        let offset = SLOTS + u64::from(slot) * SLOT;
        self.store(offset + 8, next.0);
        self.store(offset, run.as_u64());
        Some(slot)
    }

    /// What the previous process left.
    pub(super) fn left(&self) -> Interrupted {
        let runs = self.lock().left.iter().map(|(_, run, next)| (*run, *next)).collect();
        Interrupted { end: self.load(GENERATION), runs }
    }

    /// Clears what the previous process left, after it was handled.
    pub(super) fn forget_left(&self) {
        let mut slots = self.lock();
        for (slot, _, _) in std::mem::take(&mut slots.left) {
            self.store(SLOTS + u64::from(slot) * SLOT, 0);
            slots.free.push(slot);
        }
        // Written after the marks are cleared: a process that finds some of them with the old number knows that they
        // were handled.
        self.store(GENERATION, self.load(GENERATION) + 1);
    }

    /// Records that everything up to this progress is on the disk.
    pub(super) fn synced(&self, progress: u64) {
        self.store(SYNCED, progress);
        self.store(SYNCED_CHECK, !progress);
    }
}

impl Release for Marks {
    fn release(&self, slot: u16) {
        self.store(SLOTS + u64::from(slot) * SLOT, 0);
        self.lock().free.push(slot);
    }
}

/// The progress that is known to have been synced; 0 when it is unknown.
pub(super) fn synced(directory: &Path) -> u64 {
    let Some(page) = fs::read(directory.join(NAME)).ok().filter(|page| is_sound(page)) else { return 0 };
    let progress = word(&page, SYNCED);
    if word(&page, SYNCED_CHECK) == !progress { progress } else { 0 }
}

fn is_sound(page: &[u8]) -> bool {
    page.len() == PAGE && word(page, 0) == MAGIC
}

fn word(page: &[u8], offset: u64) -> u64 {
    let bytes = page.get(offset as usize..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// Writes an empty page and renames it when it is complete. It is written in full, so that a later store into the
/// mapping never needs space on the disk.
fn create(directory: &Path, path: &Path) -> io::Result<()> {
    let temporary = directory.join(format!("{NAME}.tmp"));
    fs::remove_file(&temporary).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    super::files::private(&mut options);
    let mut file = options.open(&temporary)?;
    let mut page = [0; PAGE];
    page[..8].copy_from_slice(&MAGIC.to_ne_bytes());
    page[SYNCED_CHECK as usize..][..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    file.write_all(&page)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
