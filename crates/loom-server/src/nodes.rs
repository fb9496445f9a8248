//! The host as one of several nodes on a database: what it owns, who else there is, and what follows when shards come and go.
//!
//! Every run and every trigger belongs to a shard. The node that owns a shard continues its runs and acts for its triggers; requests
//! that reach another node are passed on to it ([`forward`]). Runs of triggers that act on their own, or have a concurrency limit, are in
//! the shard of their trigger, so that one node counts and fences all of them. Other runs are in any shard of the node that
//! receives the request.

pub(crate) mod api;
pub(crate) mod feed;
pub(crate) mod forward;
mod lease;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use loom_definition::trigger::Trigger;
use loom_engine::trigger_shard;
use loom_store::{Commit, Error as StoreError, NodeId, Shard, Shards};

use crate::{cluster::Cluster, deploy::Deployment, host::Host, subscription, triggers};

/// How long the calls of runs may take that move to another node because it has joined.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a circuit has changed here, besides when one reports it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The delay before what a shard contains is read again after a failure.
const AGAIN: Duration = Duration::from_millis(200);

impl Host {
    /// Begins to own shards, if this process is a node. Waits until it is one.
    pub(crate) async fn join(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        cluster.services.circuits.follow().await?;
        self.share_circuits(Arc::clone(cluster));
        lease::start(self, Arc::clone(cluster));
        feed::start(self, cluster.since.clone());
        loop {
            let changed = cluster.changed.notified();
            if !cluster.standing.open().is_empty() || cluster.nodes().len() > 1 {
                return Ok(());
            }
            tokio::select! {
                () = changed => {}
                () = self.stopping.cancelled() => return Err(StoreError::Closed),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Starts the task that stores for the other nodes which circuits open and close here. It runs until the host stops.
    fn share_circuits(self: &Arc<Self>, cluster: Arc<Cluster>) {
        let keeper = Arc::clone(self);
        self.tasks.spawn(async move {
            let changed = &keeper.hub.tally.circuit_changed;
            loop {
                tokio::select! {
                    () = keeper.stopping.cancelled() => return,
                    () = changed.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                if let Err(error) = cluster.services.circuits.publish().await {
                    tracing::debug!(%error, "cannot store the state of a circuit for the other nodes; trying again");
                    tokio::time::sleep(AGAIN).await;
                    changed.notify_one();
                }
            }
        });
    }

    /// Says what the settings of this node are now that they were read again; see [`NodeSettings::likeness`](crate::NodeSettings).
    pub fn describe_settings(self: &Arc<Self>, likeness: Arc<str>) {
        let Some(cluster) = self.cluster.clone().filter(|cluster| *cluster.likeness() != *likeness) else {
            return;
        };
        cluster.set_likeness(Arc::clone(&likeness));
        self.tasks.spawn(async move {
            // A later registration says it, too.
            if let Some(node) = cluster.standing.node()
                && let Err(error) = cluster.store.describe(node, likeness).await
            {
                tracing::debug!(%error, "cannot say to other nodes that settings have changed");
            }
        });
    }

    /// Whether this process acts for a trigger.
    pub(crate) fn acts_for(&self, workflow: &str, trigger: &str) -> bool {
        let shard = || trigger_shard(workflow, trigger);
        self.cluster.as_ref().is_none_or(|cluster| cluster.standing.is_open(shard()))
    }

    /// Whether this process looks after what belongs to nobody in particular, such as retention.
    pub(crate) fn looks_after_all(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.standing.is_open(Shard::new(0)))
    }

    /// Fences a commit of a trigger that belongs to no run.
    pub(crate) fn fence(&self, workflow: &str, trigger: &str, commit: &mut Commit) -> Result<(), StoreError> {
        if let Some(cluster) = &self.cluster {
            commit.under = Some(cluster.standing.under(trigger_shard(workflow, trigger))?);
        }
        Ok(())
    }

    /// The shard whose owner handles a request for a trigger; none if every node does.
    pub(crate) fn shard_of(&self, deployment: &Deployment, trigger: &Trigger) -> Option<Shard> {
        self.engine.shard_of(&deployment.workflow, Some(trigger))
    }

    /// Continues the runs of shards that the node owns now, and acts for their triggers.
    async fn take_up(self: &Arc<Self>, cluster: &Cluster, node: NodeId, shards: Shards) {
        let _moving = cluster.moving.lock().await;
        let shards = loop {
            let shards = shards.and(cluster.standing.owned());
            if cluster.standing.node() != Some(node) || shards.is_empty() || self.stopping.is_cancelled() {
                return;
            }
            match self.engine.gain(shards).await {
                Ok(recovered) => {
                    for (run, error) in &recovered.unreadable {
                        tracing::error!(run_id = %run, %error, "cannot resume a run; it is left unchanged");
                    }
                    let runs = recovered.runs.len() + recovered.waiting;
                    tracing::info!(shards = shards.len(), runs, "took shards over");
                    break shards;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the runs of shards that this node owns; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        cluster.standing.open_up(shards);
        cluster.changed.notify_waiters();
        cluster.asked.store(true, Ordering::Release);
        self.read_piles().await;
        if !self.draining.is_cancelled() {
            if let Err(error) = subscription::end_orphans(self, shards).await {
                tracing::warn!(%error, "cannot read the subscriptions of webhook triggers");
            }
            for deployment in self.deployments.all() {
                triggers::start(self, &deployment);
            }
        }
        self.hub.ended.notify_one();
    }

    /// Gives up the runs and triggers of shards, which may be another node's already.
    async fn give_up(self: &Arc<Self>, cluster: &Cluster, shards: Shards, patience: Duration) {
        let moving = cluster.moving.lock();
        for deployment in self.deployments.all() {
            triggers::stop_in(&deployment, shards);
        }
        self.engine.lose(shards, patience).await;
        let _moving = moving.await;
        // Those that were being loaded meanwhile.
        self.engine.lose(shards, Duration::ZERO).await;
        self.read_piles().await;
    }

    /// Reads the messages of batches again, because other triggers collect here now.
    async fn read_piles(&self) {
        self.piles.forget().await;
        if let Err(error) = self.piles.catch_up(&*self.store).await {
            tracing::warn!(%error, "cannot read batch messages from the store; retrying later");
        }
    }
}
