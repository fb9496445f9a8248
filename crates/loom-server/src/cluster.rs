//! This process as a node of a cluster, and the other nodes, as it last saw them. Knows no host; `nodes` does the work.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_store::{Cursor, LeaseSettings, Node, Shard, Standing, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a node that leaves waits until its shards are given back.
const LEAVING_MAX: Duration = Duration::from_secs(5);

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// A name for operators.
    pub name: Arc<str>,
    /// Where other nodes reach this one: `host:port`.
    pub address: Arc<str>,
    /// The lease.
    pub lease: LeaseSettings,
}

/// This process as a node, and the others.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) standing: Standing,
    pub(crate) settings: NodeSettings,
    /// The store without regard to what this node owns.
    pub(crate) store: Arc<dyn Store>,
    /// Where the feed of changes was before anything was read from the store.
    pub(crate) since: Cursor,
    /// The live nodes, as last seen.
    nodes: Mutex<Vec<Node>>,
    /// Held while shards are taken up or given up.
    pub(crate) moving: tokio::sync::Mutex<()>,
    /// Notified when shards were opened, or the nodes were read.
    pub(crate) changed: Notify,
    pub(crate) leave: CancellationToken,
    pub(crate) left: CancellationToken,
    /// Whether another node may have asked this one to start child workflows.
    pub(crate) asked: AtomicBool,
    /// Whether an operator has asked the node to give up its shards.
    drained: AtomicBool,
}

impl Cluster {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        since: Cursor,
        standing: Standing,
        settings: NodeSettings,
    ) -> Cluster {
        Cluster {
            standing,
            settings,
            store,
            since,
            nodes: Mutex::default(),
            moving: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
            asked: AtomicBool::new(false),
            drained: AtomicBool::new(false),
        }
    }

    /// The live nodes, as last seen.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn saw(&self, nodes: Vec<Node>) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        self.changed.notify_waiters();
    }

    /// The address of the node that owns a shard, as last seen; none if that is this one, or nobody.
    pub(crate) fn owner(&self, shard: Shard) -> Option<Arc<str>> {
        let me = self.standing.node();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = nodes.iter().find(|node| node.shards.contains(shard) && Some(node.id) != me);
        owner.map(|node| Arc::clone(&node.address))
    }

    /// The address of another node that owns shards.
    pub(crate) fn somebody(&self) -> Option<Arc<str>> {
        let me = self.standing.node();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let other = nodes.iter().find(|node| !node.shards.is_empty() && Some(node.id) != me);
        other.map(|node| Arc::clone(&node.address))
    }

    /// Why this node cannot start anything; none if it can.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.drained.load(Ordering::Acquire) {
            return Some("the node was drained".to_owned());
        }
        let open = self.standing.open();
        match open.iter().next() {
            None => Some("the node owns no shards yet".to_owned()),
            Some(shard) if !self.standing.may_start(shard) => {
                Some("the lease of the node could not be renewed in time".to_owned())
            }
            Some(_) => None,
        }
    }

    /// Gives up all shards, and waits until other nodes can claim them.
    pub(crate) async fn leave(&self) {
        self.leave.cancel();
        if tokio::time::timeout(LEAVING_MAX, self.left.cancelled()).await.is_err() {
            tracing::warn!(
                "cannot give the shards of this node back; other nodes take them over when its lease ends"
            );
        }
    }

    /// Like [`Cluster::leave`], for a node that continues to serve requests.
    pub(crate) fn drain(&self) {
        self.drained.store(true, Ordering::Release);
        self.leave.cancel();
    }
}
