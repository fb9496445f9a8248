//! How payloads lie on the disk: as they are, or compressed with LZ4 where that pays.

use std::borrow::Cow;

use bytes::Bytes;

/// Payloads up to this size, in bytes, are never compressed: there is little to win.
const PACK_FROM: usize = 1024;

/// How stored bytes are to be read. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As they are.
    Raw = 0,
    /// An LZ4 block after its length, four bytes, little-endian.
    Lz4 = 1,
}

impl Codec {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// Compresses what is worth it: a payload that shrinks by less than an eighth stays as it is. About a millisecond for
/// a megabyte.
pub(crate) fn pack(payload: &Bytes) -> (Codec, Bytes) {
    if payload.len() > PACK_FROM {
        let packed = lz4_flex::block::compress_prepend_size(payload);
        if packed.len() <= payload.len() - payload.len() / 8 {
            return (Codec::Lz4, packed.into());
        }
    }
    (Codec::Raw, payload.clone())
}

/// The payload again, or `None` when the bytes are no LZ4 block. Check the checksum first: the length that an LZ4
/// block claims is trusted.
pub(crate) fn unpack(codec: Codec, stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    match codec {
        Codec::Raw => Some(Cow::Borrowed(stored)),
        Codec::Lz4 => lz4_flex::block::decompress_size_prepended(stored).ok().map(Cow::Owned),
    }
}
