//! Distinguishes a torn tail of the write-ahead log from damage in its middle, before SQLite opens it.
//!
//! SQLite accepts the log up to the first frame with a wrong checksum and drops the rest silently. That is right for
//! the tail that a loss of power left, and wrong for a commit that was synced and has been damaged since: it and all
//! later commits would vanish. In durable mode a commit is synced before the next begins. So when a broken frame is
//! followed by the end of a commit, and that by a frame written after it, the broken place had been synced, and the
//! store is refused.
//!
//! The layout and the checksum are those of SQLite's file format, section 4, "The Write-Ahead Log".

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// The verdict on a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every frame is sound, or the broken ones are a torn tail.
    Sound,
    /// Frame `frame`, counted from 1, is broken, although a commit after it was followed by another.
    Damaged {
        /// The first broken frame.
        frame: u64,
    },
}

/// The running checksum of the log.
type Sums = (u32, u32);

/// Scans the log at `path`. A log that is missing or empty is sound.
pub(super) fn scan(path: &Path) -> io::Result<Verdict> {
    match File::open(path) {
        Ok(log) => scan_log(&mut BufReader::with_capacity(1 << 18, log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Verdict::Sound),
        Err(error) => Err(error),
    }
}

fn scan_log(log: &mut impl Read) -> io::Result<Verdict> {
    let mut header = [0; HEADER];
    if !fill(log, &mut header)? {
        return Ok(Verdict::Sound);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let page = word(&header, 8) as usize;
    let sums = checksum(big_endian, (0, 0), &header[..24]);
    let header_checks = word(&header, 0) & !1 == MAGIC && sums == (word(&header, 24), word(&header, 28));
    // A broken header may have been in the middle of being written when the power failed. The log is then new, and
    // nothing in it was ever synced.
    if !header_checks || !page.is_power_of_two() || !(512..=65_536).contains(&page) {
        return Ok(Verdict::Sound);
    }
    let mut frame = vec![0; FRAME_HEADER + page];
    let mut before = sums;
    let mut broken = None;
    let mut commit_ended_before = false;
    for number in 1.. {
        if !fill(log, &mut frame)? {
            break;
        }
        let (head, content) = frame.split_at(FRAME_HEADER);
        let claimed = (word(head, 16), word(head, 20));
        let ours = head[8..16] == header[16..24];
        let computed = checksum(big_endian, checksum(big_endian, before, &head[..8]), content);
        let follows = ours && computed == claimed;
        if !follows && broken.is_none() {
            broken = Some(number);
        }
        if let Some(frame) = broken
            && follows
            && commit_ended_before
        {
            return Ok(Verdict::Damaged { frame });
        }
        // After a break, each frame is checked against the checksum that the previous frame claims, as its writer
        // did.
        before = claimed;
        commit_ended_before = ours && word(head, 4) != 0;
    }
    Ok(Verdict::Sound)
}

/// Fills `buffer`; `false` when the file ends before that.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(big_endian: bool, sums: Sums, bytes: &[u8]) -> Sums {
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    let word =
        |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    pairs.iter().fold(sums, |(one, two), [first, second]| {
        let one = one.wrapping_add(word(*first)).wrapping_add(two);
        (one, two.wrapping_add(word(*second)).wrapping_add(one))
    })
}
