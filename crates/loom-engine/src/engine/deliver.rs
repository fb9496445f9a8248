//! Commands and callbacks that are handed to a run in progress.

use loom_expression::Value;
use loom_store::InboxId;

use super::{Delivered, Engine};
use crate::{
    envelope::Envelope,
    event::{Command, EffectId, RunId},
    messages,
    orders::Order,
};

impl Engine {
    /// Sends a command to a run in progress and waits until its effects are durable. False when no such run is in
    /// progress, when it ended before it received the command, or when the store does not accept it. An order of an operator is
    /// durable before the run receives it: if the process ends before the run has executed it, the next one does.
    pub async fn command(&self, run: RunId, command: Command) -> bool {
        self.deliver_command(run, command, None).await.is_some()
    }

    /// Delivers a callback to a run and waits until its effects are durable. The callback is a durable message before the run
    /// receives it; a run that is not in memory is loaded.
    ///
    /// # Cancel safety
    /// If the future is dropped, the callback may or may not have been delivered.
    pub async fn deliver(&self, run: RunId, effect: EffectId, payload: Value) -> Delivered {
        self.deliver_once(run, effect, payload, None).await
    }

    /// Like [`Engine::deliver`], at most once for each `key` of a run: a callback whose key is known has been delivered.
    pub async fn deliver_once(
        &self,
        run: RunId,
        effect: EffectId,
        payload: Value,
        key: Option<&str>,
    ) -> Delivered {
        if self.knows_callback(run, key).await {
            return Delivered::Taken;
        }
        match self.deliver_command(run, Command::Callback { effect, payload }, key).await {
            Some(true) => Delivered::Taken,
            Some(false) => Delivered::NotAwaited,
            None => Delivered::NotInProgress,
        }
    }

    /// Whether the run was waiting for the command; none when no run in progress received it.
    async fn deliver_command(&self, run: RunId, command: Command, key: Option<&str>) -> Option<bool> {
        self.load_if_waiting(run).await;
        // Before the message is posted: a task that loads the run after that finds the message and executes it.
        let mut commands = self.shared.awake.notify(run, |reached| reached.commands.clone())?;
        let message = self.post_command(run, &command, key).await?;
        loop {
            let (envelope, done) = Envelope::acknowledged(command.clone(), self.shared.clock.now(), message);
            if commands.send(envelope).await.is_ok()
                && let Ok(awaited) = done.await
            {
                return Some(awaited);
            }
            // The run has ended, or has left memory before it received the command.
            let (message, durable) = (message?, self.shared.durable.as_ref()?);
            let row = durable.store.run(run).await.ok()?;
            if !messages::is_pending(&*durable.store, run, message).await.ok()? {
                // It has received the message, and may have ended by it.
                return Some(true);
            }
            if row.is_none_or(|row| row.ended.is_some()) {
                return None;
            }
            self.load_if_waiting(run).await;
            commands = self.shared.awake.notify(run, |reached| reached.commands.clone())?;
        }
    }

    /// Makes a command durable as a message, unless it lives in memory only. None when the store does not accept it.
    async fn post_command(
        &self,
        run: RunId,
        command: &Command,
        key: Option<&str>,
    ) -> Option<Option<InboxId>> {
        match command {
            Command::Callback { effect, payload } => {
                self.post_callback(run, *effect, payload, key).await.ok()
            }
            _ => match Order::of(command) {
                Some(order) => self.post(run, order).await.ok(),
                None => Some(None),
            },
        }
    }
}
