//! Handles on started runs.

use std::sync::Arc;

use loom_expression::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    envelope::Envelope,
    event::{Command, RunId, RunStart},
    run_report::RunReport,
};

/// A handle on a run that is in progress or has ended.
#[derive(Debug)]
pub struct RunHandle {
    /// Its id.
    pub id: RunId,
    /// What it was started from.
    pub start: Arc<RunStart>,
    pub(crate) commands: mpsc::Sender<Envelope>,
    pub(crate) accepted: Option<oneshot::Receiver<()>>,
    pub(crate) response: watch::Receiver<Option<Value>>,
    pub(crate) ended: watch::Receiver<Option<Arc<RunReport>>>,
}

impl RunHandle {
    /// Waits until the run's start is durable; from then on the run survives the process. False when the store rejected
    /// the start, or already has a run of the same firing: then none of its effects happened. Returns true immediately for
    /// runs that live in memory.
    pub async fn accepted(&mut self) -> bool {
        match self.accepted.take() {
            Some(accepted) => accepted.await.is_ok(),
            None => true,
        }
    }

    /// Waits for the Response. None when the run ends without one, or the engine is shut down first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn response(&mut self) -> Option<Value> {
        self.response.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits for the end of the run. None when the engine is shut down first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&mut self) -> Option<Arc<RunReport>> {
        let ended = self.ended.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }

    /// Cancels the run; it ends as `Cancelled`. Does nothing if it has ended.
    pub async fn cancel(&self) {
        // A closed channel means that the run has ended.
        self.commands.send(Envelope::new(Command::Cancel)).await.ok();
    }

    /// Sends the run a command. Does nothing if the run has ended.
    pub async fn command(&self, command: Command) {
        self.commands.send(Envelope::new(command)).await.ok();
    }
}
