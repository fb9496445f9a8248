//! Runs that are suspected of crashing the process.

use std::sync::{PoisonError, atomic::Ordering};

use loom_definition::RunStatus;
use loom_store::{Error as StoreError, RunRow};

use super::Engine;
use crate::{event::RunId, journal::status_number, suspects, unloadable::RecoverError};

impl Engine {
    /// How often in a row a worker was evaluating the run when the process ended, if the run was suspended for that reason.
    /// Reads the store only for suspended runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn crash_count(&self, row: &RunRow) -> Result<Option<u32>, StoreError> {
        let suspended = status_number(RunStatus::Suspended);
        let Some(durable) = self.shared().durable.as_ref().filter(|_| row.status == suspended) else {
            return Ok(None);
        };
        let kept = suspects::kept(&*durable.store, row.id).await?;
        Ok(kept.as_ref().and_then(suspects::ends).filter(|ends| suspects::is_poison(*ends)))
    }

    /// How often in a row the process ended while a run was being evaluated.
    pub(crate) async fn ends_of(&self, run: RunId) -> Result<u32, RecoverError> {
        let ends = {
            let suspects = self.shared().suspects.lock().unwrap_or_else(PoisonError::into_inner);
            suspects.ends.get(&run).copied().unwrap_or(0)
        };
        let Some(durable) = self.shared().durable.as_ref().filter(|_| ends > 0) else { return Ok(0) };
        // The run may have been resumed since this process started.
        let kept = suspects::kept(&*durable.store, run).await;
        let kept = kept.map_err(|source| RecoverError::Store { run, source })?;
        Ok(if kept.is_some() { ends } else { 0 })
    }

    /// Records the runs that the last process was evaluating when it ended.
    pub(crate) async fn note_suspects(&self) -> Result<(), StoreError> {
        let Some(durable) = &self.shared().durable else { return Ok(()) };
        let noted = suspects::take_note(&*durable.store).await?;
        self.shared().careful.store(noted.in_first_step, Ordering::Relaxed);
        *self.shared().suspects.lock().unwrap_or_else(PoisonError::into_inner) = noted;
        Ok(())
    }
}
