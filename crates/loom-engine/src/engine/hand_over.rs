//! Commands and callbacks that are handed to a run in progress.

use std::sync::PoisonError;

use loom_expression::Value;

use super::{Delivered, Engine};
use crate::{
    driver::Envelope,
    event::{Command, EffectId, RunId},
    orders::Order,
};

impl Engine {
    /// Sends a command to a run in progress and waits until its effects are durable. False when no such run is in
    /// progress, when it ended before it received the command, or when the store does not accept it. An order of an operator is
    /// durable before the run receives it: if the process ends before the run has executed it, the next one does.
    pub async fn command(&self, run: RunId, command: Command) -> bool {
        self.deliver_command(run, command).await.is_some()
    }

    /// Delivers a callback to a run and waits until its effects are durable.
    ///
    /// # Cancel safety
    /// If the future is dropped, the callback may or may not have been delivered.
    pub async fn deliver(&self, run: RunId, effect: EffectId, payload: Value) -> Delivered {
        match self.deliver_command(run, Command::Callback { effect, payload }).await {
            Some(true) => Delivered::Taken,
            Some(false) => Delivered::NotAwaited,
            None => Delivered::NotInProgress,
        }
    }

    /// Whether the run was waiting for the command; none when no run in progress received it.
    async fn deliver_command(&self, run: RunId, command: Command) -> Option<bool> {
        self.call_up(run).await;
        // Before the message is posted: a task that loads the run after that finds the message and executes it.
        let sender = {
            let runs = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.get(&run).map(|reached| reached.commands.clone())
        };
        let sender = sender?;
        let message = match Order::of(&command) {
            Some(order) => self.post(run, order).await.ok()?,
            None => None,
        };
        let (envelope, done) = Envelope::acknowledged(command, self.inner.clock.now(), message);
        sender.send(envelope).await.ok()?;
        done.await.ok()
    }
}
