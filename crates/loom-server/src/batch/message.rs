//! What the parts of a batch trigger agree on.

/// The partition of messages that are sent without one.
pub(super) const PARTITION: &str = "DEFAULT";

/// The `kind` of messages for batches in the store's inbox.
pub(super) const KIND: u16 = 1;

/// The context of sealed messages.
pub(super) const SEAL: &str = "batch";

/// How many messages a batch takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// A number of messages or bytes, whichever is reached first.
    Full {
        /// Messages.
        messages: usize,
        /// Bytes.
        bytes: u64,
    },
    /// All messages, up to the maximum of one batch.
    Everything,
}
