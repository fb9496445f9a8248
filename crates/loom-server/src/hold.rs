//! A host that holds all runs: an operator inspects them, cancels or suspends some, and releases runs one by one. Also orders for
//! runs in the data directory of a server that is not running.

use std::sync::atomic::Ordering;

use loom_engine::{Order, RecoverError, RunId};
use loom_store::{Condition, Error as StoreError};

use crate::host::Host;

/// The result of an order for a run that is not in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordered {
    /// It was executed.
    Done,
    /// It is stored for the process that will resume the run.
    Left,
}

impl Host {
    /// Whether all runs are held until they are released.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Acquire)
    }

    /// Whether this host executes runs, all or only released ones.
    pub(crate) fn executes_runs(&self) -> bool {
        self.is_started() || self.is_holding()
    }

    /// Executes or stores an order for a run that is not in progress.
    pub(crate) async fn order(&self, run: RunId, order: Order) -> Result<Ordered, RecoverError> {
        self.engine.leave(run, order).await.map_err(|source| RecoverError::Store { run, source })?;
        if !self.is_holding() {
            return Ok(Ordered::Left);
        }
        // The stored order is executed before anything of the run is evaluated.
        if self.engine.recover_run(run, None).await?.is_some() {
            // Processed after the stored order; ignored by a run that has ended.
            self.engine.command(run, order.command()).await;
        }
        Ok(Ordered::Done)
    }

    /// The reason why the store is paused, if it is, with its path and a remedy.
    pub fn store_problem(&self) -> Option<String> {
        match self.store.health().condition {
            Condition::Paused(StoreError::ReadOnly) | Condition::Running | Condition::Closed => None,
            Condition::Paused(why) => Some(with_causes(&why)),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.extend([": ", &deeper.to_string()]);
        cause = deeper.source();
    }
    text
}
