//! A host that continues no run by itself: an operator looks at what there is, cancels or suspends what is wrong, and
//! releases runs one by one. And the folder of a server that does not run, which a command-line tool looks at.

use std::sync::{Arc, atomic::Ordering};

use loom_engine::{Order, RecoverError, RunId};
use loom_store::{Condition, Error as StoreError};

use crate::{host::Host, remember, revive};

/// Unfinished runs counted at a time.
const PAGE: usize = 500;

/// What became of an order for a run that was not in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordered {
    /// It was carried out.
    Done,
    /// It is left in the store, for the process that takes the run up.
    Left,
}

impl Host {
    /// Takes no run up, has no trigger fire and refuses requests, until somebody starts the server without this. Runs can
    /// be looked at, cancelled and suspended meanwhile; resuming one has it continue. Call it once, instead of
    /// [`Host::recover`]. Gives the number of runs that are held.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn hold_runs(self: &Arc<Self>) -> Result<usize, StoreError> {
        self.engine.stand_by().await?;
        self.holding.store(true, Ordering::Release);
        revive::start(self);
        remember::start(self);
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.store.unfinished(after, PAGE).await?;
            count += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.id),
                _ => return Ok(count),
            }
        }
    }

    /// Whether runs stay as they are until somebody releases them.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Acquire)
    }

    /// Whether runs are in progress here, all of them or those that were released.
    pub(crate) fn is_in_charge(&self) -> bool {
        self.is_started() || self.is_holding()
    }

    /// Sees to an order for a run that is not in progress.
    pub(crate) async fn order(&self, run: RunId, order: Order) -> Result<Ordered, RecoverError> {
        self.engine.leave(run, order).await.map_err(|source| RecoverError::Store { run, source })?;
        if !self.is_holding() {
            return Ok(Ordered::Left);
        }
        // It is carried out before anything of the run is evaluated.
        if self.engine.recover_run(run, None).await?.is_some() {
            // Taken by the run once the order has been; a run that has ended takes nothing.
            self.engine.command(run, order.command()).await;
        }
        Ok(Ordered::Done)
    }

    /// What keeps the store from working, if something does: with the place and what to do about it.
    pub fn store_problem(&self) -> Option<String> {
        match self.store.health().condition {
            Condition::Paused(StoreError::ReadOnly) | Condition::Running | Condition::Closed => None,
            Condition::Paused(why) => Some(with_causes(&why)),
        }
    }
}

/// What went wrong, and why.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.extend([": ", &deeper.to_string()]);
        cause = deeper.source();
    }
    text
}
