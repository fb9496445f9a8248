//! The lease of this node: a thread of its own that renews it, claims and releases shards, and fences the dead, as
//! [`Membership`] decides. It has a thread so that long evaluations do not delay a renewal.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use loom_store::{Conflict, Error, Failed, Intent, Membership, NewNode, Node, Outcome, Shards};
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::PATIENCE;
use crate::{cluster::Cluster, host::Host};

/// How often the state machine is asked what is due.
const TICK: Duration = Duration::from_millis(25);

/// Starts the thread. It ends when the host stops or is dropped.
pub(super) fn start(host: &Arc<Host>, cluster: Arc<Cluster>) {
    let (host, runtime) = (Arc::downgrade(host), Handle::current());
    let thread =
        std::thread::Builder::new().name("loom-lease".into()).spawn(
            move || match Builder::new_current_thread().enable_time().build() {
                Ok(own) => own.block_on(keep(&host, &cluster, &runtime)),
                Err(error) => {
                    tracing::error!(%error, "cannot start the task that renews the lease of this node");
                }
            },
        );
    if let Err(error) = thread {
        tracing::error!(%error, "cannot start the thread that renews the lease of this node");
    }
}

#[expect(clippy::disallowed_methods, reason = "leases end by the monotonic clock of the machine")]
async fn keep(host: &Weak<Host>, cluster: &Arc<Cluster>, runtime: &Handle) {
    let began = Instant::now();
    let (report, mut outcomes) = mpsc::unbounded_channel();
    let mut machine = Membership::new(cluster.settings.lease, Duration::ZERO);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_leaving = false;
    while !machine.has_left() {
        let mut intents = tokio::select! {
            biased;
            Some(outcome) = outcomes.recv() => {
                machine.share_among(cluster.sharers());
                machine.answered(began.elapsed(), outcome)
            }
            () = cluster.leave.cancelled(), if !is_leaving => {
                is_leaving = true;
                machine.leave();
                Vec::new()
            }
            _ = ticks.tick() => Vec::new(),
        };
        let Some(host) = host.upgrade() else { return };
        if intents.contains(&Intent::Drop) && !is_leaving {
            tracing::warn!("this node was declared dead by another one; it drops its runs and joins again");
        }
        intents.extend(machine.tick(began.elapsed()));
        let deadline = machine.deadline().map(|deadline| began + deadline);
        cluster.standing.set(machine.node(), machine.owned(), deadline);
        for intent in intents {
            match (intent, machine.node()) {
                // Before the node registers anew: nothing of its earlier life may write under its new id.
                (Intent::Drop, _) => {
                    let (host, cluster) = (Arc::clone(&host), Arc::clone(cluster));
                    let dropped = runtime.spawn(async move {
                        host.give_up(&cluster, Shards::ALL, Duration::ZERO).await;
                    });
                    dropped.await.ok();
                }
                (Intent::Gain(shards), Some(node)) => {
                    let (host, cluster) = (Arc::clone(&host), Arc::clone(cluster));
                    drop(runtime.spawn(async move { host.take_up(&cluster, node, shards).await }));
                }
                (Intent::Drain(shards), Some(node)) => {
                    cluster.standing.close_down(shards);
                    let (host, cluster, report) = (Arc::clone(&host), Arc::clone(cluster), report.clone());
                    drop(runtime.spawn(async move {
                        host.give_up(&cluster, shards, PATIENCE).await;
                        report.send(Outcome::Drained(node, shards)).ok();
                    }));
                }
                (intent, _) => {
                    let (cluster, report) = (Arc::clone(cluster), report.clone());
                    drop(runtime.spawn(async move {
                        if let Some(outcome) = execute(&cluster, intent).await {
                            report.send(outcome).ok();
                        }
                    }));
                }
            }
        }
    }
    cluster.standing.set(None, Shards::NONE, None);
    cluster.left.cancel();
    watch(host, cluster).await;
}

/// Looks at the other nodes for as long as a node that has left still serves requests, which it passes on to them.
async fn watch(host: &Weak<Host>, cluster: &Cluster) {
    let mut looks = interval(cluster.settings.lease.renew_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if host.upgrade().is_none_or(|host| host.stopping.is_cancelled()) {
            return;
        }
        match cluster.store.nodes().await {
            Ok(nodes) => cluster.saw(nodes),
            Err(error) => tracing::debug!(%error, "cannot read the nodes of the cluster"),
        }
    }
}

/// Allows the newest format in the journals of the node's shards, once every node that may take them over reads it.
async fn raise(cluster: &Cluster, nodes: &[Node]) {
    let (standing, format) = (&cluster.standing, cluster.settings.format);
    let Some(me) = standing.node() else { return };
    let owned = standing.owned();
    if nodes.iter().any(|node| node.reads < format) || owned.without(standing.raised(format)).is_empty() {
        return;
    }
    match cluster.store.raise(me, owned, format).await {
        Ok(raised) if standing.node() == Some(me) => standing.raise(raised, format),
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "cannot raise the format of journals; trying again"),
    }
}

/// Executes an intent that concerns only the store. None when there is nothing to report.
async fn execute(cluster: &Cluster, intent: Intent) -> Option<Outcome> {
    fn outcome<T>(result: Result<T, Error>, done: impl FnOnce(T) -> Outcome, failed: Failed) -> Outcome {
        match result {
            Ok(value) => done(value),
            Err(Error::Conflict(Conflict::Fenced { node })) => Outcome::Fenced(node),
            Err(error) => {
                tracing::debug!(%error, ?failed, "the database did not answer a request about the lease of this node");
                Outcome::Failed(failed)
            }
        }
    }
    let store = &cluster.store;
    Some(match intent {
        Intent::Register => {
            let settings = &cluster.settings;
            let node = NewNode {
                name: Arc::clone(&settings.name),
                address: Arc::clone(&settings.address),
                lease: settings.lease.lease,
                version: Arc::clone(&settings.version),
                reads: settings.format,
                settings: cluster.likeness(),
            };
            let registered = store.register(node).await;
            if let Ok(node) = &registered {
                tracing::info!(%node, name = &*settings.name, "joined the cluster");
            }
            outcome(registered, Outcome::Registered, Failed::Register)
        }
        Intent::Renew(node) => outcome(store.renew(node).await, |()| Outcome::Renewed(node), Failed::Renew),
        Intent::Look => {
            let looked = store.nodes().await;
            if let Ok(nodes) = &looked {
                cluster.saw(nodes.clone());
                raise(cluster, nodes).await;
            }
            let pairs = |nodes: Vec<Node>| nodes.into_iter().map(|node| (node.id, node.shards)).collect();
            outcome(looked, |nodes| Outcome::Looked(pairs(nodes)), Failed::Look)
        }
        Intent::Fence { by, node } => match store.fence(by, node).await {
            Ok(true) if by == node => Outcome::Fenced(node),
            Ok(true) => {
                tracing::warn!(%node, "the lease of a node has ended; its shards are taken over");
                return None;
            }
            Err(Error::Conflict(Conflict::Fenced { node })) => Outcome::Fenced(node),
            _ => return None,
        },
        Intent::Claim { node, shards_max } => {
            let claimed = store.claim(node, shards_max).await;
            outcome(claimed, |shards| Outcome::Claimed(node, shards), Failed::Claim)
        }
        Intent::Release { node, shards } => {
            let released = store.release(node, shards).await;
            outcome(released, |()| Outcome::Released(node, shards), Failed::Release)
        }
        // The caller executes these.
        Intent::Drain(_) | Intent::Gain(_) | Intent::Drop => return None,
    })
}
