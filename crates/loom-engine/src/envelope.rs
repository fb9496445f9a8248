//! A command on its way to the task of its run.

use loom_expression::Timestamp;
use loom_store::InboxId;
use tokio::sync::oneshot;

use crate::event::Command;

/// A command and, optionally, a channel that is notified when its consequences are durable: with true, or with false when the
/// run was not waiting for the command.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) command: Command,
    /// When it was sent, if that matters: timers that were due before are handled first.
    pub(crate) sent: Option<Timestamp>,
    /// The message that it came as.
    pub(crate) message: Option<InboxId>,
    /// For the end of a call: the message that the call has received.
    pub(crate) received: Option<InboxId>,
    pub(crate) done: Option<oneshot::Sender<bool>>,
}

impl Envelope {
    pub(crate) fn new(command: Command) -> Envelope {
        Envelope { command, sent: None, message: None, received: None, done: None }
    }

    /// A command that arrived as a message while the run was not in memory.
    pub(crate) fn message(command: Command, sent: Timestamp, message: InboxId) -> Envelope {
        Envelope { sent: Some(sent), message: Some(message), ..Envelope::new(command) }
    }

    /// A command that was sent at `now`, and is also a message in the store.
    pub(crate) fn acknowledged(
        command: Command,
        now: Timestamp,
        message: Option<InboxId>,
    ) -> (Envelope, oneshot::Receiver<bool>) {
        let (done, result) = oneshot::channel();
        // What an operator orders applies to the run as it is.
        let sent = matches!(command, Command::Callback { .. }).then_some(now);
        (Envelope { sent, message, done: Some(done), ..Envelope::new(command) }, result)
    }
}
