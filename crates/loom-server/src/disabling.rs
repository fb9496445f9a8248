//! Disabling and enabling workflows and triggers, and what follows for the engine and for triggers that act by themselves.

use std::{collections::BTreeSet, sync::Arc};

use loom_store::Commit;

use crate::{
    deploy::Deployment,
    host::Host,
    run_ended,
    switches::{DisabledBy, key},
    triggers,
};

impl Host {
    /// What disables a workflow or one of its triggers, if anything. A setting takes precedence over a command.
    pub fn disabled_by(&self, deployment: &Deployment, trigger: Option<&str>) -> Option<DisabledBy> {
        if deployment.disabled {
            return Some(DisabledBy::Setting);
        }
        self.switches.disabled_by(&deployment.workflow.name, trigger)
    }

    /// Disables or enables a workflow, or one of its triggers, until the next such command, across restarts too. A setting that
    /// disables the workflow still applies.
    ///
    /// # Errors
    /// The store is unavailable; nothing has changed then.
    pub(crate) async fn switch(
        self: &Arc<Self>,
        workflow: &str,
        trigger: Option<&str>,
        enable: bool,
    ) -> Result<(), loom_store::Error> {
        let _alone = self.switches.changing.lock().await;
        let key = key(workflow, trigger);
        if let Some((switch, write)) = self.switches.order(&key, enable, self.now().unix_nanos()) {
            let mut commit = Commit::new();
            commit.keys.push(write);
            self.store.commit(commit).await?;
            self.switches.adopt(key, switch);
        }
        self.apply_disabled();
        if let Some(deployment) = self.deployments.get(workflow) {
            triggers::stop_disabled(self, &deployment);
            if self.is_started() {
                triggers::start(self, &deployment);
            }
        }
        Ok(())
    }

    /// Follows the orders that another node has stored.
    pub(crate) async fn follow_switches(self: &Arc<Self>) -> Result<(), loom_store::Error> {
        self.switches.reload(&*self.store).await?;
        self.apply_disabled();
        for deployment in self.deployments.all() {
            triggers::stop_disabled(self, &deployment);
            triggers::start(self, &deployment);
        }
        Ok(())
    }

    /// Passes to the engine the workflows and triggers that actions cannot call.
    pub(crate) fn apply_disabled(&self) {
        let by_settings = self.deployments.all().into_iter().filter(|deployment| deployment.disabled);
        let mut names: BTreeSet<String> = self.switches.off().into_iter().collect();
        names.extend(by_settings.map(|deployment| deployment.workflow.name.to_lowercase()));
        self.engine.set_disabled(names);
        self.engine.watch_ends(run_ended::watched(self));
        self.deployments.note_change();
    }

    /// Warns of triggers that wait for runs of workflows that are not deployed.
    pub(crate) fn warn_of_unknown(&self, deployment: &Deployment) {
        let workflow = &deployment.workflow.name;
        for (trigger, waits_for) in run_ended::unknown(self, deployment) {
            tracing::warn!(%workflow, %trigger, %waits_for, "the trigger waits for runs of a workflow that is not deployed");
        }
    }
}
