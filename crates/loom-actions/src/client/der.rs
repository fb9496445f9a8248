//! A parser for the part of ASN.1's distinguished encoding (ITU-T X.690) that is needed to read a known structure.

/// The unread bytes of a structure.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]` around a value, or in place of the tag of a primitive one.
pub(super) const CONTEXT_0: u8 = 0xA0;
pub(super) const CONTEXT_0_PRIMITIVE: u8 = 0x80;

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Der<'a> {
        Der(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The tag and content of the next value. `None` at the end, for a length that exceeds the rest, and for an
    /// indefinite length.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7F => usize::from(first),
            // The number of bytes of the length; no archive needs more than four.
            0x81..=0x84 => {
                let (length, after) = rest.split_at_checked(usize::from(first & 0x7F))?;
                rest = after;
                length.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte))
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    pub(super) fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.any()?;
        (found == tag).then_some(content)
    }

    /// The next value if it has this tag; otherwise nothing is consumed.
    pub(super) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.next(tag) } else { None }
    }

    /// The inside of the next value, which must have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next(tag).map(Der)
    }

    /// A non-negative number that fits in 32 bits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.next(INTEGER)?;
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        if bytes.len() > 4 {
            return None;
        }
        Some(bytes.iter().fold(0, |number, &byte| (number << 8) | u32::from(byte)))
    }
}
