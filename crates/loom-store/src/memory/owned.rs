//! Ownership in a store in memory: its nodes live and die with the process.

use std::{sync::Arc, time::Duration};

use super::MemoryStore;
use crate::{Answer, NewNode, Node, NodeId, OwnerTable, Ownership, Shards};

impl Ownership for MemoryStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.own(|owners| Ok(owners.register(node)))
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.own(|owners| owners.renew(node))
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        self.own(|owners| owners.claim(node, shards_max))
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        self.own(|owners| {
            owners.release(node, shards);
            Ok(())
        })
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.own(|owners| Ok(owners.owned(node)))
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        // Every commit has taken effect when it is accepted, so there is nothing to wait for.
        self.own(|owners| owners.fence(by, node))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.own(|owners| Ok(owners.nodes()))
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.own(|owners| {
            owners.describe(node, settings);
            Ok(())
        })
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        self.own(|owners| owners.raise(node, shards, format))
    }

    fn time(&self) -> Answer<Duration> {
        self.own(|_| Ok(OwnerTable::time()))
    }
}
