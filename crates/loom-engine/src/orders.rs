//! Orders: commands of an operator. Each is a durable message before anybody acts on it, whether it comes from the process that
//! executes the run, or from one that only has the data directory. A run in progress executes it at once; a run that is not
//! in progress executes it when it is loaded, before anything else: timers and signals that are older than the order may crash
//! the process or make calls, which is what the order is to prevent.
//!
//! An order is a message in the store's inbox, like a signal, and is consumed by the commit that records its consequences. A
//! run is not evaluated before that commit is durable, so an order is executed once, whatever the run does afterwards.

use std::{collections::VecDeque, sync::Arc};

use loom_expression::Value;
use loom_store::{Error as StoreError, Inbox, InboxId, InboxMessage, InboxQuery, Recipient, Shards};

use crate::{
    envelope::Envelope,
    event::{Command, RunId},
    messages,
};

/// The kind of inbox messages that are orders.
pub(crate) const KIND: u16 = 3;

/// Messages read at a time.
pub(crate) const PAGE: usize = 500;

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

/// The messages to a run that is being loaded.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Executed before anything else.
    pub(crate) orders: Vec<Given>,
    pub(crate) callbacks: VecDeque<Envelope>,
    /// The ends of children, each with the key of the call that waits for it.
    pub(crate) ends: Vec<(InboxId, Arc<str>)>,
}

/// Reads the messages to a run, oldest first.
pub(crate) async fn read_all(store: &dyn Inbox, run: RunId) -> Result<Arrived, StoreError> {
    let mut arrived = Arrived::default();
    let mut query =
        InboxQuery { recipient: Recipient::Run(run), after: None, limit: PAGE, shards: Shards::ALL };
    loop {
        let page = store.inbox(query).await?;
        for message in &page {
            let is_read = match message.post.kind {
                KIND => read(message)
                    .map(|order| arrived.orders.push(Given { order, message: Some(message.id) }))
                    .is_some(),
                messages::CALLBACK => messages::callback(message)
                    .map(|callback| arrived.callbacks.push_back(callback))
                    .is_some(),
                messages::END => {
                    arrived.ends.extend(message.post.idempotency_key.clone().map(|key| (message.id, key)));
                    true
                }
                _ => true,
            };
            if !is_read {
                tracing::warn!(run_id = %run, message = message.id.0, "ignoring an unreadable message to a run");
            }
        }
        query.after = page.last().map(|message| message.id);
        if page.len() < PAGE {
            return Ok(arrived);
        }
    }
}

fn read(message: &InboxMessage) -> Option<Order> {
    let kept = Value::parse_json(&message.post.payload).ok()?;
    let name = kept.get("command").and_then(Value::as_str)?;
    Order::ALL.into_iter().find(|order| order.as_str() == name)
}
