//! An index of waiting messages by batch, in memory, over the store's inbox.
//!
//! It has only ids and sizes: contents are read when a batch is released. It contains only messages that are pending and durable
//! in the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use loom_definition::trigger::BatchConfiguration;
use loom_expression::{Object, Value};
use loom_store::{InboxId, InboxQuery, Recipient, Shards, Store};
use tokio::sync::watch;

use super::message::{KIND, Measure, SEAL};
use crate::{keys::trigger_key, sealed};

/// The number of messages that are read from the store at once.
const PAGE: usize = 200;

/// The maximum number of piles of a trigger that the API shows.
const PILES_SHOWN: usize = 100;

/// A batch that is being collected: name and partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PileName {
    /// In lower case.
    pub(crate) batch: String,
    /// As sent.
    pub(crate) partition: String,
}

/// The batches of all triggers that are being collected.
#[derive(Debug, Default)]
pub(crate) struct Piles {
    /// The position up to which the inbox was read.
    read: tokio::sync::Mutex<Option<InboxId>>,
    triggers: Mutex<BTreeMap<String, Trigger>>,
}

#[derive(Debug, Default)]
struct Trigger {
    piles: BTreeMap<PileName, Pile>,
    /// Piles that have grown since [`Piles::touched`] was last called.
    touched: BTreeSet<PileName>,
    changed: watch::Sender<()>,
    /// Held by the deployment that collects.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Pile {
    /// Sizes in bytes, in order of arrival.
    messages: BTreeMap<InboxId, u64>,
    bytes: u64,
}

impl Piles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Trigger>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the messages that have arrived in the inbox since the last call.
    ///
    /// # Cancel safety
    /// Pages that were read have been added; the next call reads the rest.
    pub(crate) async fn catch_up(&self, store: &dyn Store) -> Result<(), loom_store::Error> {
        let mut read = self.read.lock().await;
        loop {
            let query =
                InboxQuery { recipient: Recipient::Nobody, after: *read, limit: PAGE, shards: Shards::ALL };
            let page = store.inbox(query).await?;
            let Some(last) = page.last() else { return Ok(()) };
            *read = Some(last.id);
            let mut triggers = self.lock();
            for message in page.iter().filter(|message| message.post.kind == KIND) {
                let Some((value, _)) = sealed::read(&store.sealer(), SEAL, &message.post.payload) else {
                    continue;
                };
                let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
                let name = PileName {
                    batch: text("batchName").to_lowercase(),
                    partition: text("partitionName").to_owned(),
                };
                let trigger = triggers.entry(trigger_key(text("workflow"), text("trigger"))).or_default();
                let bytes = value.get("content").map_or(0, |content| content.text().len() as u64);
                let pile = trigger.piles.entry(name.clone()).or_default();
                if pile.messages.insert(message.id, bytes).is_none() {
                    pile.bytes += bytes;
                }
                trigger.touched.insert(name);
                trigger.changed.send_replace(());
            }
        }
    }

    /// Clears the index, so that it is read again after a failure of the store.
    pub(crate) async fn forget(&self) {
        let mut read = self.read.lock().await;
        *read = None;
        for trigger in self.lock().values_mut() {
            trigger.piles.clear();
        }
    }

    /// The lock whose holder collects for a trigger.
    pub(crate) fn turn(&self, trigger: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.lock().entry(trigger.to_owned()).or_default().turn)
    }

    /// A receiver that changes when a message arrives.
    pub(crate) fn changes(&self, trigger: &str) -> watch::Receiver<()> {
        self.lock().entry(trigger.to_owned()).or_default().changed.subscribe()
    }

    /// Marks all piles of a trigger as touched.
    pub(crate) fn touch_all(&self, trigger: &str) {
        if let Some(trigger) = self.lock().get_mut(trigger) {
            trigger.touched.extend(trigger.piles.keys().cloned());
        }
    }

    /// The piles that have grown since the last call.
    pub(crate) fn touched(&self, trigger: &str) -> BTreeSet<PileName> {
        self.lock().get_mut(trigger).map(|trigger| std::mem::take(&mut trigger.touched)).unwrap_or_default()
    }

    /// The piles of a batch, one for each partition with messages.
    pub(crate) fn of_batch(&self, trigger: &str, batch: &str) -> Vec<PileName> {
        let triggers = self.lock();
        let names = triggers.get(trigger).into_iter().flat_map(|trigger| trigger.piles.keys());
        names.filter(|name| name.batch == batch).cloned().collect()
    }

    /// The waiting messages of a trigger for the API: the first piles, sorted by name.
    pub(crate) fn waiting(&self, trigger: &str) -> Vec<Value> {
        let triggers = self.lock();
        let piles = triggers.get(trigger).into_iter().flat_map(|trigger| &trigger.piles).take(PILES_SHOWN);
        let shown = piles.map(|(name, pile)| {
            let mut shown = Object::new();
            shown.insert("batchName", name.batch.as_str());
            shown.insert("partitionName", name.partition.as_str());
            shown.insert("messages", pile.messages.len() as i64);
            shown.insert("bytes", i64::try_from(pile.bytes).unwrap_or(i64::MAX));
            shown.into()
        });
        shown.collect()
    }

    /// The oldest messages of a pile, as many as one batch takes. None if there are too few.
    pub(crate) fn choose(&self, trigger: &str, name: &PileName, measure: Measure) -> Option<Vec<InboxId>> {
        let triggers = self.lock();
        let pile = triggers.get(trigger)?.piles.get(name)?;
        let (messages, bytes) = match measure {
            Measure::Full { messages, bytes } => {
                if pile.messages.len() < messages && pile.bytes < bytes {
                    return None;
                }
                (messages, bytes)
            }
            Measure::Everything => (BatchConfiguration::MESSAGES_MAX as usize, u64::MAX),
        };
        let mut taken = 0;
        let enough = pile.messages.iter().take(messages).take_while(|(_, size)| {
            let more = taken < bytes;
            taken = taken.saturating_add(**size);
            more
        });
        let chosen: Vec<InboxId> = enough.map(|(id, _)| *id).collect();
        (!chosen.is_empty()).then_some(chosen)
    }

    /// Removes released messages.
    pub(crate) fn remove(&self, trigger: &str, name: &PileName, gone: &[InboxId]) {
        let mut triggers = self.lock();
        let Some(trigger) = triggers.get_mut(trigger) else { return };
        let Some(pile) = trigger.piles.get_mut(name) else { return };
        for id in gone {
            pile.bytes -= pile.messages.remove(id).unwrap_or(0);
        }
        if pile.messages.is_empty() {
            trigger.piles.remove(name);
        }
    }
}
