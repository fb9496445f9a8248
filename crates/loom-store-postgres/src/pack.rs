//! How payloads are stored: as they are, or compressed with LZ4 where that pays; and their checksums.

use std::borrow::Cow;

use bytes::Bytes;

/// Payloads up to this size, in bytes, are never compressed, because little would be gained.
const PACK_FROM: usize = 1024;

/// The bytes as they are.
pub(crate) const RAW: i16 = 0;
/// The length in four bytes, little-endian, and an LZ4 block.
pub(crate) const LZ4: i16 = 1;

/// Compresses the payload if that saves at least an eighth.
pub(crate) fn pack(payload: &Bytes) -> (i16, Bytes) {
    if payload.len() > PACK_FROM {
        let packed = lz4_flex::block::compress_prepend_size(payload);
        if packed.len() <= payload.len() - payload.len() / 8 {
            return (LZ4, packed.into());
        }
    }
    (RAW, payload.clone())
}

/// Returns the payload, or `None` when the bytes are not what [`pack`] made.
pub(crate) fn unpack(codec: i16, stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    match codec {
        RAW => Some(Cow::Borrowed(stored)),
        LZ4 => {
            // A damaged block may claim any length, so the claim is limited before it is used.
            let claimed = u64::from(u32::from_le_bytes(*stored.first_chunk()?));
            let possible = claimed <= stored.len() as u64 * 256;
            let unpacked = possible.then(|| lz4_flex::block::decompress_size_prepended(stored).ok())?;
            unpacked.map(Cow::Owned)
        }
        _ => None,
    }
}

/// The CRC-32C of a record, over its parts: numbers in eight bytes, texts after their length, absent values as a marker.
#[derive(Clone, Copy)]
pub(crate) struct Checksum(u32);

impl Checksum {
    /// Starts the checksum of a record of this kind, so that no row is accepted as a row of another table.
    pub(crate) fn of(kind: &str) -> Self {
        Self(0).bytes(kind.as_bytes())
    }

    pub(crate) fn number(self, number: i64) -> Self {
        Self(crc32c::crc32c_append(self.0, &number.to_le_bytes()))
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.number(bytes.len() as i64).0, bytes))
    }

    pub(crate) fn maybe_number(self, number: Option<i64>) -> Self {
        number.map_or(self.number(0), |number| self.number(1).number(number))
    }

    pub(crate) fn maybe_text(self, text: Option<&str>) -> Self {
        text.map_or(self.number(0), |text| self.number(1).bytes(text.as_bytes()))
    }

    pub(crate) fn finish(self) -> i64 {
        i64::from(self.0)
    }
}
