//! The way in for every new run: the gate of its trigger.

use std::sync::Arc;

use loom_definition::Workflow;

use super::Engine;
use crate::{
    event::RunId,
    shared::gate::{Full, Pass, Permit},
    start::StartError,
};

impl Engine {
    /// What each of these new runs owns at the gate of its trigger. Every start of a run comes by here.
    pub(crate) fn enter(
        &self,
        workflow: &Workflow,
        trigger: Option<&str>,
        runs: &[RunId],
        reserved: Option<Permit>,
    ) -> Result<Vec<Pass>, StartError> {
        let entered = self.shared.gates.enter(workflow, trigger, runs, reserved);
        entered.map_err(|Full { limit }| StartError::Full {
            workflow: Arc::clone(&workflow.name),
            runs: limit.runs,
            waiting: limit.maximum_waiting_runs,
        })
    }

    /// Reserves the right to start one run of a trigger; pass it on as
    /// [`FiringCommit::permit`](crate::FiringCommit::permit). None when the run would have to wait for the trigger's
    /// concurrency limit.
    pub fn reserve(&self, workflow: &Workflow, trigger: &str) -> Option<Permit> {
        self.shared.gates.reserve(workflow, Some(trigger))
    }

    /// The number of accepted runs that wait for the concurrency limits of their triggers.
    pub fn runs_waiting(&self) -> usize {
        self.shared.gates.waiting()
    }
}
