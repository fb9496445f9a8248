//! The head of a frame, a snapshot or a large value: its version, and what it refers to.

use loom_store::ContentHash;

use super::{
    format::Unreadable,
    primitive::{Outside, Reader},
    secret::SecretRef,
};

/// What bytes refer to.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The hashes of large values.
    pub(super) names: Vec<ContentHash>,
    /// Secrets that were read.
    pub(super) secrets: Vec<SecretRef>,
}

/// What `bytes` refer to; `version` is the version of bytes that refer to nothing.
pub(super) fn references(bytes: &[u8], version: u8) -> Result<Head, Unreadable> {
    head(bytes, version).map(|(head, _)| head)
}

/// A reader for what follows the references.
pub(super) fn body<'a>(bytes: &'a [u8], version: u8, outside: Outside<'a>) -> Result<Reader<'a>, Unreadable> {
    let (head, reader) = head(bytes, version)?;
    if head.names.len() != outside.large.len() {
        return reader.unreadable("unresolved references to large values");
    }
    if head.secrets.len() != outside.secrets.len() {
        return reader.unreadable("unresolved references to secrets");
    }
    Ok(reader.with(outside))
}

/// What `bytes` refer to, and a reader for what follows.
pub(super) fn head(bytes: &[u8], version: u8) -> Result<(Head, Reader<'_>), Unreadable> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    let mut head = Head::default();
    if found == version {
        return Ok((head, reader));
    }
    if found != version + 1 && found != version + 2 {
        return Err(Unreadable { reason: "unknown format version", offset: 0 });
    }
    head.names = reader.names()?;
    if found == version + 2 {
        head.secrets = reader.secrets()?;
        // Reads that no value refers to are there for the record.
        reader.secrets()?;
    }
    Ok((head, reader))
}
