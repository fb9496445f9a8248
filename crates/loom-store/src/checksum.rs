//! CRC-32C over the parts of a record, which is stored beside the record.
//!
//! The parts are encoded so that no two lists of parts have the same encoding: numbers in eight bytes, strings after
//! their length, absent values as a marker of their own. `docs/journal-format.md` lists the parts of each record.

/// A checksum under construction.
#[derive(Clone, Copy)]
pub(crate) struct Checksum(u32);

impl Checksum {
    /// Starts the checksum of a record of this `kind`, so that a row is never accepted as a row of another table.
    pub(crate) fn of(kind: &str) -> Self {
        Self(0).bytes(kind.as_bytes())
    }

    pub(crate) fn number(self, number: u64) -> Self {
        Self(crc32c::crc32c_append(self.0, &number.to_le_bytes()))
    }

    pub(crate) fn signed(self, number: i64) -> Self {
        self.number(number.cast_unsigned())
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.number(bytes.len() as u64).0, bytes))
    }

    pub(crate) fn maybe_number(self, number: Option<i64>) -> Self {
        number.map_or(self.number(0), |number| self.number(1).signed(number))
    }

    pub(crate) fn maybe_text(self, text: Option<&str>) -> Self {
        text.map_or(self.number(0), |text| self.number(1).bytes(text.as_bytes()))
    }

    pub(crate) fn finish(self) -> u32 {
        self.0
    }
}
