//! What can happen to a run: one of its futures ends, or somebody sends it a command.

use std::sync::Arc;

use loom_definition::Status;
use loom_expression::Timestamp;
use loom_memory::Prepared;
use loom_store::InboxId;
use tokio::sync::oneshot;

use crate::{
    envelope::Envelope,
    event::{EffectId, EffectResult, Note, Place},
    guard::Guarded,
    memory::Operated,
    signals::Received,
};

/// The result of one of the run's futures.
pub(super) enum Finished {
    /// A call ended.
    Call(EffectId, EffectResult, Vec<Note>, Option<Arc<Guarded>>, Along),
    /// A wait for a signal ended; the mailbox keeps the signal for the call.
    Signal(EffectId, Received),
    /// An operation on shared memory is ready to be committed; or the store failed.
    Memory(EffectId, Place, Result<Operated, loom_store::Error>),
    /// A service admitted an action; the admission is held while the engine executes it.
    Admitted(EffectId, Place, oneshot::Sender<Status>, Vec<Note>, Arc<Guarded>),
    /// Nothing that concerns the run.
    Nothing,
}

/// What is committed together with the end of a call.
pub(super) enum Along {
    /// Nothing else.
    Nothing,
    /// Of a child workflow: the message that says that it has ended.
    Message(InboxId),
    /// Writes to shared memory, for the action at this place.
    Writes(Place, Prepared),
}

/// Something that has happened to a run.
pub(super) enum Happened {
    /// One of its futures ended.
    Finished(Finished),
    /// A command was sent.
    Sent(Envelope),
}

impl Happened {
    /// When, if timers that were due before must be handled first.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Happened::Finished(Finished::Signal(_, received)) => received.sent,
            Happened::Finished(_) => None,
            Happened::Sent(envelope) => envelope.sent,
        }
    }
}
