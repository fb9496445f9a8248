//! The pass of a run that was in progress when its trigger got a concurrency limit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gate::Pass;

/// What a run is given at the gate after it has started. It belongs to the run: the run takes it, or drops it with itself.
#[derive(Debug, Default)]
pub(crate) struct LatePass(Mutex<Late>);

#[derive(Debug, Default)]
struct Late {
    /// Whether the run has a pass of its own.
    has_one: bool,
    given: Option<Pass>,
    /// Whether the store says that the run, which was parked, owns something.
    is_noted: bool,
}

impl LatePass {
    /// For a run that starts, or is loaded, with this pass.
    pub(crate) fn beside(pass: &Pass) -> LatePass {
        let late = LatePass::default();
        late.lock().has_one = !matches!(pass, Pass::Free);
        late
    }

    fn lock(&self) -> MutexGuard<'_, Late> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the run has a pass, or has been given one.
    pub(crate) fn is_needed(&self) -> bool {
        let late = self.lock();
        !late.has_one && late.given.is_none()
    }

    /// The run is loaded, and has a pass of its own.
    pub(crate) fn not_needed(&self) {
        let given = {
            let mut late = self.lock();
            late.has_one = true;
            late.given.take()
        };
        drop(given);
    }

    /// Gives the run a pass. Returns it if the run needs none.
    pub(crate) fn give(&self, pass: Pass, is_noted: bool) -> Option<Pass> {
        let mut late = self.lock();
        late.is_noted |= is_noted;
        if late.has_one || late.given.is_some() {
            return Some(pass);
        }
        late.given = Some(pass);
        None
    }

    /// What the run has been given, and whether the store says that the run owns something.
    pub(crate) fn take(&self) -> (Option<Pass>, bool) {
        let mut late = self.lock();
        let given = late.given.take();
        late.has_one |= given.is_some();
        (given, std::mem::take(&mut late.is_noted))
    }
}
