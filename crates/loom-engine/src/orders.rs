//! Orders: commands of an operator. Each is a durable message before anybody acts on it, whether it comes from the process that
//! executes the run, or from one that only has the data directory. A run in progress executes it at once; a run that is not
//! in progress executes it when it is loaded, before anything else: timers and signals that are older than the order may crash
//! the process or make calls, which is what the order is to prevent.
//!
//! An order is a message in the store's inbox, like a signal, and is consumed by the commit that records its consequences. A
//! run is not evaluated before that commit is durable, so an order is executed once, whatever the run does afterwards.

use std::{collections::BTreeSet, sync::PoisonError};

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::{
    Commit, Committed, Error as StoreError, Inbox, InboxId, InboxMessage, InboxQuery, Post, Recipient, Shard,
    Shards,
};

use crate::{
    durable::{self, RecoverError},
    engine::Engine,
    event::{Command, RunId},
};

/// The kind of inbox messages that are orders.
const KIND: u16 = 3;

/// Messages read at a time.
const PAGE: usize = 500;

/// A command of an operator for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Cancel the run.
    Cancel,
    /// Suspend the run.
    Suspend,
    /// Resume a suspended run.
    Resume,
}

impl Order {
    const ALL: [Order; 3] = [Order::Cancel, Order::Suspend, Order::Resume];

    /// Its name, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Order::Cancel => "cancel",
            Order::Suspend => "suspend",
            Order::Resume => "resume",
        }
    }

    /// The order that a command stands for; none for other commands.
    pub(crate) fn of(command: &Command) -> Option<Order> {
        match command {
            Command::Cancel => Some(Order::Cancel),
            Command::Suspend => Some(Order::Suspend),
            Command::Resume => Some(Order::Resume),
            _ => None,
        }
    }

    /// The command that executes it.
    pub fn command(self) -> Command {
        match self {
            Order::Cancel => Command::Cancel,
            Order::Suspend => Command::Suspend,
            Order::Resume => Command::Resume,
        }
    }
}

/// An order that is about to be executed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) order: Order,
    /// The message that it came as.
    pub(crate) message: Option<InboxId>,
}

impl Engine {
    /// Leaves an order in the store for a run that is not in progress, and waits until it is durable. Does nothing without a
    /// store.
    ///
    /// # Errors
    /// When the store does not accept it.
    pub async fn leave(&self, run: RunId, order: Order) -> Result<(), StoreError> {
        self.post(run, order).await?;
        let mut ordered = self.inner().ordered.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.insert(run);
        Ok(())
    }

    /// Makes an order durable; none without a store.
    pub(crate) async fn post(&self, run: RunId, order: Order) -> Result<Option<InboxId>, StoreError> {
        let Some(durable) = &self.inner().durable else { return Ok(None) };
        let now = self.inner().clock.now();
        let mut kept = Object::new();
        kept.insert("command", order.as_str());
        kept.insert("sentTime", now.to_string());
        let mut commit = Commit::new();
        commit.inbox_posted.push(Post {
            run: Some(run),
            kind: KIND,
            at: durable::millis(now),
            idempotency_key: None,
            payload: Bytes::from(Value::from(kept).to_json_text()),
            shard: Shard::default(),
        });
        Ok(match durable.store.commit(commit).await? {
            Committed::Written(written) => written.inbox.first().copied(),
            Committed::Duplicate(_) => None,
        })
    }

    /// Finds the runs that have orders, so that loading the others needs no query.
    pub(crate) async fn find_orders(&self) -> Result<(), StoreError> {
        let Some(durable) = &self.inner().durable else { return Ok(()) };
        let mut found = BTreeSet::new();
        let mut query =
            InboxQuery { recipient: Recipient::Anyone, after: None, limit: PAGE, shards: Shards::ALL };
        loop {
            let page = durable.store.inbox(query).await?;
            found.extend(
                page.iter()
                    .filter(|message| message.post.kind == KIND)
                    .filter_map(|message| message.post.run),
            );
            query.after = page.last().map(|message| message.id);
            if page.len() < PAGE {
                break;
            }
        }
        *self.inner().ordered.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// The orders for a run, oldest first.
    pub(crate) async fn orders_of(&self, run: RunId) -> Result<Vec<Given>, RecoverError> {
        let Some(durable) = &self.inner().durable else { return Ok(Vec::new()) };
        let there_may_be = {
            let ordered = self.inner().ordered.lock().unwrap_or_else(PoisonError::into_inner);
            ordered.contains(&run)
        };
        if !there_may_be {
            return Ok(Vec::new());
        }
        let found = read_all(&*durable.store, run).await;
        found.map_err(|source| RecoverError::Store { run, source })
    }
}

async fn read_all(store: &dyn Inbox, run: RunId) -> Result<Vec<Given>, StoreError> {
    let mut orders = Vec::new();
    let mut query =
        InboxQuery { recipient: Recipient::Run(run), after: None, limit: PAGE, shards: Shards::ALL };
    loop {
        let page = store.inbox(query).await?;
        for message in page.iter().filter(|message| message.post.kind == KIND) {
            match read(message) {
                Some(order) => orders.push(Given { order, message: Some(message.id) }),
                None => {
                    tracing::warn!(run_id = %run, message = message.id.0, "ignoring an unreadable command for a run");
                }
            }
        }
        query.after = page.last().map(|message| message.id);
        if page.len() < PAGE {
            return Ok(orders);
        }
    }
}

fn read(message: &InboxMessage) -> Option<Order> {
    let kept = Value::parse_json(&message.post.payload).ok()?;
    let name = kept.get("command").and_then(Value::as_str)?;
    Order::ALL.into_iter().find(|order| order.as_str() == name)
}
