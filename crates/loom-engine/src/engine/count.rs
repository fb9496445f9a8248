//! Counting the runs that were in progress when their trigger got a concurrency limit.
//!
//! They started without a permit. Each of them is given one, beyond the limit if there are many, before any other run is admitted.

use std::{cell::Cell, sync::Arc, time::Duration};

use loom_definition::Workflow;
use loom_store::{Commit, Error as StoreError, RunQuery, RunRow};

use super::Engine;
use crate::{
    parked::{Holding, NAMESPACE, owns_nothing},
    shared::gate::{Counting, Pass},
};

/// Rows read at a time.
const PAGE: usize = 100;

/// The delay before the store is read again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Counts the runs of triggers that have a limit now and had none. Before the runs in the store are recovered, it does
    /// nothing: recovery counts them.
    pub(super) fn count_later(&self, workflow: &Arc<Workflow>, limited: Vec<Counting>) {
        let Some(runtime) = self.shared.recovered.get().filter(|_| !limited.is_empty()) else { return };
        let (engine, workflow) = (self.clone(), Arc::clone(workflow));
        let counts = async move {
            for counting in limited {
                while let Err(error) = engine.count(&workflow, &counting.trigger).await {
                    tracing::warn!(
                        workflow = %workflow.name,
                        %error,
                        "cannot count the runs of a trigger that has a concurrency limit now; trying again"
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let stopping = self.shared.stopping.clone();
        let until_stopped = async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = counts => {}
            }
        };
        self.shared.tasks.spawn_on(until_stopped, runtime);
    }

    /// Counts the parked runs of all triggers with a limit that did not have one when the runs were parked.
    pub(super) async fn count_uncounted(&self) -> Result<(), StoreError> {
        let deployed: Vec<Arc<Workflow>> = {
            let workflows = self.shared.workflows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            workflows.values().map(|(workflow, _)| Arc::clone(workflow)).collect()
        };
        for workflow in deployed {
            for trigger in workflow.triggers.iter().filter(|trigger| trigger.concurrency.is_some()) {
                self.count_those(&workflow, &trigger.name, true).await?;
            }
        }
        Ok(())
    }

    async fn count(&self, workflow: &Workflow, trigger: &str) -> Result<(), StoreError> {
        for parked in [false, true] {
            self.count_those(workflow, trigger, parked).await?;
        }
        Ok(())
    }

    /// Counts the runs of a trigger that are parked, or those that are not.
    async fn count_those(&self, workflow: &Workflow, trigger: &str, parked: bool) -> Result<(), StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        let mut query = RunQuery {
            workflow: Some(Arc::clone(&workflow.name)),
            trigger: Some(trigger.into()),
            parked: Some(parked),
            limit: PAGE,
            ..RunQuery::default()
        };
        loop {
            let page = durable.store.runs(query.clone()).await?;
            let without: Vec<&RunRow> =
                page.rows.iter().filter(|row| self.shared.may_load(row.id) && !self.has_pass(row)).collect();
            if parked {
                // First, so that the next process knows of everything that a run may own.
                self.note(trigger, &without).await?;
            }
            for row in without {
                let pass = self.shared.gates.take_again(workflow, Some(trigger), row.id, false);
                self.give(row, pass).await?;
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn has_pass(&self, row: &RunRow) -> bool {
        let awake = self.shared.awake.find(row.id, |reached| !reached.late.is_needed());
        awake.unwrap_or_else(|| self.shared.aside.has_pass(row.id))
    }

    /// Records that parked runs own a permit.
    async fn note(&self, trigger: &str, rows: &[&RunRow]) -> Result<(), StoreError> {
        let Some(durable) = self.shared.durable.as_ref().filter(|_| !rows.is_empty()) else { return Ok(()) };
        let mut commit = Commit::new();
        for row in rows {
            let stored = durable.store.key(NAMESPACE, &row.id.to_string()).await?;
            let holding = stored.and_then(|stored| Holding::read(&stored.value)).unwrap_or_default();
            let holding = Holding { trigger: Some(trigger.into()), ..holding };
            commit.keys.push(holding.write(row.id));
        }
        durable.store.commit(commit).await.map(drop)
    }

    /// Gives a run its permit, wherever the run is.
    async fn give(&self, row: &RunRow, pass: Pass) -> Result<(), StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        let (run, is_parked) = (row.id, row.wake_at.is_some());
        let pass = Cell::new(pass);
        let (not_needed, is_absent) = self.shared.awake.notify_or(
            run,
            |reached| (reached.late.give(pass.take(), is_parked), false),
            || (self.shared.aside.give(run, pass.take(), is_parked), true),
        );
        drop(not_needed);
        // A run that ended before it was given the permit does not return it.
        if is_absent && durable.store.run(run).await?.is_none_or(|row| row.ended.is_some()) {
            drop(self.shared.aside.take(run));
            let mut commit = Commit::new();
            commit.keys.push(owns_nothing(run));
            durable.store.commit(commit).await?;
        }
        Ok(())
    }
}
