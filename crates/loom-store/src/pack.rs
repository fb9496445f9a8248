//! How payloads are stored on the disk: as they are, or compressed with LZ4 where that pays.

use std::borrow::Cow;

use bytes::Bytes;

/// Payloads up to this size, in bytes, are never compressed, because little would be gained.
const PACK_FROM: usize = 1024;

/// The encoding of stored bytes. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// The bytes as they are.
    Raw = 0,
    /// The length in four bytes, little-endian, and an LZ4 block.
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

/// Compresses the payload if that saves at least an eighth. Takes about a millisecond for a megabyte.
pub(crate) fn pack(payload: &Bytes) -> (Codec, Bytes) {
    if payload.len() > PACK_FROM {
        let packed = lz4_flex::block::compress_prepend_size(payload);
        if packed.len() <= payload.len() - payload.len() / 8 {
            return (Codec::Lz4, packed.into());
        }
    }
    (Codec::Raw, payload.clone())
}

/// Returns the payload, or `None` when the bytes are not a valid LZ4 block. Check the checksum first: the length that
/// an LZ4 block claims is trusted.
pub(crate) fn unpack(codec: Codec, stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    match codec {
        Codec::Raw => Some(Cow::Borrowed(stored)),
        Codec::Lz4 => lz4_flex::block::decompress_size_prepended(stored).ok().map(Cow::Owned),
    }
}
