//! This process as a node of a cluster, and the other nodes, as it last saw them. Knows no host; `nodes` does the work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_store::{Cursor, LeaseSettings, Node, NodeId, Shard, Standing, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::shared_services::SharedServices;

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
    /// The version of the program, for operators.
    pub version: Arc<str>,
    /// The newest format of journals that the node reads and writes.
    pub format: u32,
    /// Digests of the settings that have to be the same on all nodes: `name=digest`, separated by commas. No secrets.
    pub likeness: Arc<str>,
}

/// This process as a node, and the others.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) standing: Standing,
    pub(crate) settings: NodeSettings,
    /// The store without regard to what this node owns.
    pub(crate) store: Arc<dyn Store>,
    /// The limits and circuits of all nodes.
    pub(crate) services: Arc<SharedServices>,
    /// Where the feed of changes was before anything was read from the store.
    pub(crate) since: Cursor,
    /// See [`NodeSettings::likeness`]; it changes when settings are read again.
    likeness: Mutex<Arc<str>>,
    /// The live nodes, as last seen.
    nodes: Mutex<Vec<Node>>,
    /// The nodes of whose settings the operator was warned, with those settings.
    warned: Mutex<BTreeSet<(NodeId, Arc<str>)>>,
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
        let services = Arc::new(SharedServices::new(&store, standing.clone()));
        Cluster {
            services,
            standing,
            likeness: Mutex::new(Arc::clone(&settings.likeness)),
            warned: Mutex::default(),
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
        self.warn_of_differences(&nodes);
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        self.changed.notify_waiters();
    }

    pub(crate) fn likeness(&self) -> Arc<str> {
        Arc::clone(&self.likeness.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_likeness(&self, likeness: Arc<str>) {
        *self.likeness.lock().unwrap_or_else(PoisonError::into_inner) = likeness;
    }

    /// The kinds of settings in which a node differs from this one. A node that does not say what its settings are does not.
    pub(crate) fn differences(&self, node: &Node) -> Vec<String> {
        let mine = self.likeness();
        let of = |text: &str| -> BTreeMap<String, String> {
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
        };
        let mine = of(&mine);
        let theirs = of(&node.settings);
        theirs
            .into_iter()
            .filter(|(name, digest)| mine.get(name).is_some_and(|mine| mine != digest))
            .map(|(name, _)| name)
            .collect()
    }

    fn warn_of_differences(&self, nodes: &[Node]) {
        let me = self.standing.node();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.retain(|(id, _)| nodes.iter().any(|node| node.id == *id));
        for node in nodes.iter().filter(|node| Some(node.id) != me) {
            let differences = self.differences(node);
            if !differences.is_empty() && warned.insert((node.id, Arc::clone(&node.settings))) {
                tracing::warn!(
                    node = &*node.name,
                    differs_in = differences.join(", "),
                    "another node has other settings: a run behaves differently there; give all nodes the same ones"
                );
            }
        }
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
            None => Some(self.why_no_shards()),
            Some(shard) if !self.standing.may_start(shard) => {
                Some("the lease of the node could not be renewed in time".to_owned())
            }
            Some(_) => None,
        }
    }

    /// The number of nodes that can claim any shard, because they read its journals.
    pub(crate) fn sharers(&self) -> Option<usize> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = newest(&nodes);
        Some(nodes.iter().filter(|node| node.reads >= newest).count()).filter(|count| *count > 0)
    }

    fn why_no_shards(&self) -> String {
        let nodes = self.nodes();
        let newest = newest(&nodes);
        if newest > self.settings.format {
            return format!(
                "the node owns no shards: it reads journals up to format {}, and those of other nodes may have format {newest}",
                self.settings.format
            );
        }
        "the node owns no shards yet".to_owned()
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

/// The newest format that the journals of any shard may have.
fn newest(nodes: &[Node]) -> u32 {
    nodes.iter().map(|node| node.format).max().unwrap_or_default()
}
