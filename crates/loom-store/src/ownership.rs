//! Who may write to what, when several processes use one database.
//!
//! A process registers as a *node* and claims *shards*. Each run belongs to the shard in its id, each trigger to the one
//! that its name hashes to. A commit [`under`](crate::Commit::under) a node and a shard is refused once the node no longer
//! owns the shard, so a process that was believed dead and continues can write nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Answer, Commit, Conflict, Error, RunId, Shard, Shards};

/// Registers processes as nodes, and says which shards each of them owns.
///
/// # What every backend promises
/// - A shard has at most one owner. It changes hands only when its owner releases it, or after its owner was fenced.
/// - When [`fence`](Ownership::fence) returns `true`, every commit of that node has either taken effect and can be read,
///   or never will. So what a new owner reads after [`claim`](Ownership::claim) has returned is complete.
/// - The id of a node is never used again.
///
/// A node that cannot renew its lease in time must stop on its own: it starts nothing that others can observe later than
/// the lease of its last successful renewal, measured from before that request.
pub trait Ownership: fmt::Debug + Send + Sync {
    /// Registers this process as a new node. It owns nothing yet.
    fn register(&self, node: NewNode) -> Answer<NodeId>;

    /// Extends the node's lease. The first success counts from its registration.
    ///
    /// # Errors
    /// [`Conflict::Fenced`] when another node has fenced it. The process drops everything and registers anew.
    fn renew(&self, node: NodeId) -> Answer<()>;

    /// Claims at most `shards_max` shards that no live node owns. Returns those that the node owns now and did not own
    /// before, perhaps fewer than there are. Read what they contain only after this has returned.
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards>;

    /// Gives shards back. Call it after the last commit under them was acknowledged; later ones are refused. A shard that
    /// the node does not own is ignored.
    fn release(&self, node: NodeId, shards: Shards) -> Answer<()>;

    /// The shards that a node owns.
    fn owned(&self, node: NodeId) -> Answer<Shards>;

    /// Declares `node` dead, unless its lease is still running: then, and for a node that is not live, the result is
    /// `false`. A node may fence itself at any time, which is how it leaves. A node may fence others only while its own
    /// renewals succeed.
    ///
    /// # Errors
    /// [`Conflict::Fenced`] when `by` itself is fenced.
    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool>;

    /// The nodes that are live, oldest first.
    fn nodes(&self) -> Answer<Vec<Node>>;

    /// Says what the settings of a node are now; see [`NewNode::settings`].
    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()>;

    /// Allows journals of `format` in those of the shards that the node owns: from now on, only nodes that read it claim them.
    /// Returns all shards of the node whose format is at least that.
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards>;

    /// The time since 1970-01-01 UTC by one clock for all processes: that of the database, if there is one.
    fn time(&self) -> Answer<Duration>;
}

/// Identifies one registration of a process. Never used again, so it also serves as the fencing token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// On whose behalf a commit is written: see [`Commit::under`](crate::Commit::under).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    /// The node that writes.
    pub node: NodeId,
    /// The shard that it must own.
    pub shard: Shard,
}

/// A process that wants to be a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNode {
    /// A name for operators.
    pub name: Arc<str>,
    /// Where other nodes reach it; may be empty.
    pub address: Arc<str>,
    /// How long it may own shards without a renewal. A backend whose nodes live in one process has no use for it.
    pub lease: Duration,
    /// The version of its program, for operators.
    pub version: Arc<str>,
    /// The newest format of journals that it reads. It claims no shard whose format is newer.
    pub reads: u32,
    /// What its settings are, in a form that other nodes compare with theirs. No secrets.
    pub settings: Arc<str>,
}

/// A live node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// Where other nodes reach it.
    pub address: Arc<str>,
    /// The version of its program.
    pub version: Arc<str>,
    /// The newest format of journals that it reads.
    pub reads: u32,
    /// What its settings are; see [`NewNode::settings`].
    pub settings: Arc<str>,
    /// What it owns.
    pub shards: Shards,
    /// The newest format of journals in its shards; see [`Ownership::raise`].
    pub format: u32,
}

/// The nodes of a backend that lives in one process, and what they own. They live and die with the process, so their
/// leases never run out. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct OwnerTable(Arc<Mutex<Owners>>);

#[derive(Debug, Default)]
struct Owners {
    last: u64,
    live: BTreeMap<NodeId, NewNode>,
    shards: BTreeMap<Shard, NodeId>,
    /// The formats that were raised.
    formats: BTreeMap<Shard, u32>,
}

impl Owners {
    fn check(&self, node: NodeId) -> Result<(), Conflict> {
        if self.live.contains_key(&node) { Ok(()) } else { Err(Conflict::Fenced { node }) }
    }

    fn format(&self, shard: Shard) -> u32 {
        self.formats.get(&shard).copied().unwrap_or_default()
    }

    fn owned(&self, node: NodeId) -> Shards {
        self.shards.iter().filter(|(_, owner)| **owner == node).map(|(shard, _)| *shard).collect()
    }
}

impl OwnerTable {
    /// A table whose nodes get ids after `last`.
    pub fn after(last: u64) -> Self {
        Self(Arc::new(Mutex::new(Owners { last, ..Owners::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the owner of a commit. The backend calls this in the order in which commits take effect.
    ///
    /// # Errors
    /// [`Conflict::Lost`], for the shard of [`Commit::under`] or for that of the run which the commit writes to.
    pub fn check(&self, commit: &Commit) -> Result<(), Conflict> {
        let Some(Under { node, shard }) = commit.under else { return Ok(()) };
        let owners = self.lock();
        let lost =
            |shard: &Shard| !owners.live.contains_key(&node) || owners.shards.get(shard) != Some(&node);
        let needed = [Some(shard), commit.run().map(RunId::shard)];
        match needed.into_iter().flatten().find(lost) {
            Some(shard) => Err(Conflict::Lost { node, shard }),
            None => Ok(()),
        }
    }

    /// See [`Ownership::register`].
    pub fn register(&self, node: NewNode) -> NodeId {
        let mut owners = self.lock();
        owners.last += 1;
        let id = NodeId(owners.last);
        owners.live.insert(id, node);
        id
    }

    /// See [`Ownership::renew`].
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    pub fn renew(&self, node: NodeId) -> Result<(), Error> {
        Ok(self.lock().check(node)?)
    }

    /// See [`Ownership::claim`].
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    pub fn claim(&self, node: NodeId, shards_max: usize) -> Result<Shards, Error> {
        let mut owners = self.lock();
        owners.check(node)?;
        let is_free =
            |shard: &Shard| owners.shards.get(shard).is_none_or(|owner| !owners.live.contains_key(owner));
        let reads = owners.live.get(&node).map_or(0, |node| node.reads);
        let is_read = |shard: &Shard| owners.format(*shard) <= reads;
        let claimed: Shards = Shards::ALL.iter().filter(is_free).filter(is_read).take(shards_max).collect();
        owners.shards.extend(claimed.iter().map(|shard| (shard, node)));
        Ok(claimed)
    }

    /// See [`Ownership::release`].
    pub fn release(&self, node: NodeId, shards: Shards) {
        self.lock().shards.retain(|shard, owner| *owner != node || !shards.contains(*shard));
    }

    /// See [`Ownership::owned`].
    pub fn owned(&self, node: NodeId) -> Shards {
        self.lock().owned(node)
    }

    /// See [`Ownership::fence`]. The caller then waits until what it accepted before has taken effect.
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    pub fn fence(&self, by: NodeId, node: NodeId) -> Result<bool, Error> {
        let mut owners = self.lock();
        owners.check(by)?;
        Ok(owners.live.remove(&node).is_some())
    }

    /// See [`Ownership::nodes`].
    pub fn nodes(&self) -> Vec<Node> {
        let owners = self.lock();
        let node = |(id, node): (&NodeId, &NewNode)| Node {
            id: *id,
            name: Arc::clone(&node.name),
            address: Arc::clone(&node.address),
            version: Arc::clone(&node.version),
            reads: node.reads,
            settings: Arc::clone(&node.settings),
            shards: owners.owned(*id),
            format: owners.owned(*id).iter().map(|shard| owners.format(shard)).max().unwrap_or_default(),
        };
        owners.live.iter().map(node).collect()
    }

    /// See [`Ownership::describe`].
    pub fn describe(&self, node: NodeId, settings: Arc<str>) {
        if let Some(node) = self.lock().live.get_mut(&node) {
            node.settings = settings;
        }
    }

    /// See [`Ownership::raise`].
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    pub fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Result<Shards, Error> {
        let mut owners = self.lock();
        owners.check(node)?;
        let owned = owners.owned(node);
        for shard in owned.and(shards).iter() {
            let raised = owners.format(shard).max(format);
            owners.formats.insert(shard, raised);
        }
        Ok(owned.iter().filter(|shard| owners.format(*shard) >= format).collect())
    }

    /// See [`Ownership::time`].
    pub fn time() -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the clock that all nodes of one process share")]
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}
