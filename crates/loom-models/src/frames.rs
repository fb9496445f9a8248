//! Cuts the bytes of a stream into events (SSE) or lines (NDJSON), however the bytes arrive.
//!
//! Chunks may end anywhere: inside a character, between CR and LF, inside the byte order mark. Nothing here knows what an
//! event means.

use crate::error::{ErrorKind, ModelError};

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The name; empty when the event has none.
    pub(crate) name: String,
    /// The data. Its lines are separated by `\n`.
    pub(crate) data: String,
}

/// Reads server-sent events as the HTML standard describes them, or lines.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    lines: bool,
    /// The current line, without its end.
    line: Vec<u8>,
    /// The last byte was CR, so an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet, so a byte order mark may come.
    first: bool,
    name: String,
    data: Option<Vec<u8>>,
    bytes_max: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Frames {
    /// Server-sent events. An event may have at most `bytes_max` bytes.
    pub(crate) fn events(bytes_max: usize) -> Frames {
        Frames {
            lines: false,
            line: Vec::new(),
            after_cr: false,
            first: true,
            name: String::new(),
            data: None,
            bytes_max,
        }
    }

    /// Lines of JSON, each at most `bytes_max` bytes long.
    pub(crate) fn lines(bytes_max: usize) -> Frames {
        Frames { lines: true, ..Frames::events(bytes_max) }
    }

    /// Takes bytes until a frame is complete. Returns the frame and how many bytes it took; without a frame, all of them.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<(usize, Option<Frame>), ModelError> {
        let mut at = 0;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            at = usize::from(bytes[0] == b'\n');
        }
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(rest.len());
            let held = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
            if held + taken > self.bytes_max {
                let max = self.bytes_max;
                let message = format!("an event of the stream exceeds {max} bytes");
                return Err(ModelError::new(ErrorKind::AnswerTooLarge, message));
            }
            self.line.extend_from_slice(&rest[..taken]);
            at += taken;
            let Some(end) = end.map(|end| rest[end]) else { break };
            at += 1;
            if end == b'\r' {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if let Some(frame) = self.end_line() {
                return Ok((at, Some(frame)));
            }
        }
        Ok((bytes.len(), None))
    }

    /// What remains when the bytes end. A frame that lacks its end is returned, because some peers close the connection
    /// right after their last line; whether it is whole, its reader sees.
    pub(crate) fn rest(&mut self) -> Option<Frame> {
        let frame = if self.line.is_empty() { None } else { self.end_line() };
        frame.or_else(|| if self.lines { None } else { self.dispatch() })
    }

    fn end_line(&mut self) -> Option<Frame> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if self.lines {
            let blank = line.iter().all(u8::is_ascii_whitespace);
            return (!blank).then(|| Frame { name: String::new(), data: text(line) });
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // llama.cpp's server once wrote an error as a field of its own.
            b"error" if self.data.is_none() => {
                "error".clone_into(&mut self.name);
                self.data = Some(value.to_vec());
            }
            // A comment, `id`, `retry`, or a field of a later standard.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Frame> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        Some(Frame { name, data: text(data) })
    }
}

/// Bytes that are not UTF-8 become U+FFFD, as the standard has it.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut frames: Frames, chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (taken, frame) = frames.next(rest).expect("it is small");
                rest = &rest[taken..];
                found.extend(frame);
            }
        }
        found.extend(frames.rest());
        found.into_iter().map(|frame| (frame.name, frame.data)).collect()
    }

    #[test]
    fn events_survive_a_cut_at_every_byte() {
        let stream = "\u{FEFF}: hello\r\nevent: a\r\ndata: ö\r\ndata:  two\r\rid: 7\ndata\n\n\nevent: lost\n\nretry:1\nerror: {}\n\ndata: 1";
        let expected = [("a", "ö\n two"), ("", ""), ("error", "{}"), ("", "1")];
        let expected = expected.map(|(name, data)| (name.to_owned(), data.to_owned()));
        let bytes = stream.as_bytes();
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            assert_eq!(read(Frames::events(100), &[one, two]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(Frames::events(100), &single), expected);
    }

    #[test]
    fn lines_survive_a_cut_at_every_byte() {
        let bytes = "{\"a\":\"ö\"}\r\n\n  \n{}\r{}".as_bytes();
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            let lines = read(Frames::lines(100), &[one, two]);
            let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
            assert_eq!(lines, ["{\"a\":\"ö\"}", "{}", "{}"], "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_has_a_bound() {
        let error = Frames::events(8).next(b"data: 12345").unwrap_err();
        assert_eq!(error.to_string(), "the answer is too large: an event of the stream exceeds 8 bytes");
        let mut frames = Frames::events(16);
        assert_eq!(frames.next(b"data: 123\ndata: 4").unwrap(), (17, None));
        assert!(frames.next(b"5678901234\n").is_err(), "the lines of an event count together");
    }
}
