//! Batch triggers: collect messages from other workflows and start a run for each batch.
//!
//! A message is durable in the store's inbox before its sender continues, under the idempotency key of the sending action; so a
//! message that is sent again after a crash exists once, even if its batch has been released. The run of a batch consumes its
//! messages in the commit that starts it; so after a crash each message is either still collected or in exactly one run.
//!
//! Messages belong to a workflow's name, not to its version. A new version collects them with its own criteria; messages that
//! match no batch wait. A batch that a condition prevents, or whose trigger fails, stays together and is checked again with its
//! next message or scheduled time.

mod message;
pub(crate) mod pile;
pub(crate) mod send;

use std::collections::HashMap;

use loom_definition::trigger::BatchConfiguration;
use loom_expression::{Labels, Object, Value};
use loom_store::{InboxId, InboxQuery, Recipient, Shards};

use self::{
    message::{Measure, SEAL},
    pile::PileName,
};
use crate::{
    keys::moment,
    recurrence::Timetable,
    sealed,
    trigger_history::{Note, NoteStatus},
    trigger_task::{AGAIN, CLOCK_STEP_MAX, Fired, TriggerTask},
};

/// Collects until the deployment is retired or the host stops. A release in progress is completed.
pub(crate) async fn keep(task: &TriggerTask) {
    // The previous version may still have a release in progress.
    let turn = task.host.piles.turn(&task.key());
    let _turn = tokio::select! {
        turn = turn.lock() => turn,
        () = task.stopped.cancelled() => return,
    };
    tokio::select! {
        () = collect_on(task) => {}
        () = task.stopped.cancelled() => {}
    }
}

/// Collects, and restarts from the stored state whenever the store has failed.
async fn collect_on(task: &TriggerTask) {
    while let Err(error) = collect(task).await {
        tracing::warn!(%error, trigger = %task.trigger().name, "the trigger is waiting for the store");
        task.host.piles.forget().await;
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = task.retired.cancelled() => return,
        }
    }
}

async fn collect(task: &TriggerTask) -> Result<(), loom_store::Error> {
    let (host, key) = (&task.host, task.key());
    task.count_notes().await?;
    let Some(mut collector) = Collector::load(task).await? else { return Ok(()) };
    let mut changes = host.piles.changes(&key);
    host.piles.touch_all(&key);
    loop {
        changes.mark_unchanged();
        host.piles.catch_up(&*host.store).await?;
        for pile in host.piles.touched(&key) {
            collector.release_full(task, &pile).await?;
            if task.retired.is_cancelled() {
                return Ok(());
            }
        }
        collector.follow_the_clock(task.now());
        let due = collector.next_due();
        if due.is_some_and(|(_, due)| due <= task.now()) {
            collector.release_due(task).await?;
            continue;
        }
        tokio::select! {
            // The sender lives as long as the host.
            changed = changes.changed() => changed.unwrap_or_default(),
            // Times are recomputed in either case.
            _ = task.sleep_until(due.map_or(i128::MAX, |(_, due)| due)) => {}
            () = task.retired.cancelled() => return Ok(()),
        }
    }
}

/// The batches of a trigger and their progress.
struct Collector {
    batches: Vec<Batch>,
    /// When collection started, in nanoseconds since 1970.
    since: i128,
}

struct Batch {
    configuration: BatchConfiguration,
    timetable: Option<Timetable>,
    /// The last scheduled release.
    last: i128,
}

impl Collector {
    /// Loads the batches. None if their configuration is invalid, which is recorded.
    async fn load(task: &TriggerTask) -> Result<Option<Collector>, loom_store::Error> {
        let kept = task.load().await?.unwrap_or_default();
        let now = task.now();
        let since = crate::keys::number(&kept, "since").unwrap_or(now);
        let batch = |configuration: BatchConfiguration| {
            let timetable = configuration.recurrence.as_ref().map(Timetable::new).transpose()?;
            let last = kept.get("last").and_then(|last| crate::keys::number(last, &configuration.name));
            Ok(Batch { timetable, last: last.unwrap_or(since), configuration })
        };
        let inputs = task.host.engine.trigger_inputs(task.view(None, None), None).await;
        let batches = inputs.map_err(|error| error.message).and_then(|inputs| {
            let read = BatchConfiguration::from_inputs(&inputs.unwrap_or_default());
            let read = read.map_err(|error| error.message)?;
            read.into_iter().map(batch).collect::<Result<Vec<Batch>, String>>()
        });
        match batches {
            Ok(batches) => {
                let collector = Collector { batches, since };
                task.commit(vec![task.state(collector.state())]).await?;
                Ok(Some(collector))
            }
            Err(why) => {
                let why = format!("The batch configuration is invalid: {}.", why.trim_end_matches('.'));
                task.fails_for_good("InvalidBatchConfiguration", &why).await?;
                Ok(None)
            }
        }
    }

    fn state(&self) -> Object {
        let last =
            |batch: &Batch| (batch.configuration.name.to_string(), Value::from(batch.last.to_string()));
        let mut kept = Object::new();
        kept.insert("since", self.since.to_string());
        kept.insert("last", self.batches.iter().map(last).collect::<Object>());
        kept
    }

    /// Forgets times that have not come yet: the clock was ahead when everything went at them.
    fn follow_the_clock(&mut self, now: i128) {
        let present = now + CLOCK_STEP_MAX;
        let follow = |at: i128| if at > present { now } else { at };
        self.since = follow(self.since);
        for batch in &mut self.batches {
            batch.last = follow(batch.last);
        }
    }

    /// The next scheduled release: batch and time.
    fn next_due(&self) -> Option<(usize, i128)> {
        let due = |(place, batch): (usize, &Batch)| {
            let timetable = batch.timetable.as_ref()?;
            let anchor = timetable.start.map_or(moment(self.since), |start| start);
            Some((place, timetable.next(moment(batch.last), anchor)?.as_nanosecond()))
        };
        self.batches.iter().enumerate().filter_map(due).min_by_key(|(_, due)| *due)
    }

    /// Releases all messages of the batch whose scheduled time has come. One release stands for all that were missed.
    async fn release_due(&mut self, task: &TriggerTask) -> Result<(), loom_store::Error> {
        let Some((place, due)) = self.next_due() else { return Ok(()) };
        let now = task.now();
        self.batches[place].last = now.max(due);
        let name = self.batches[place].configuration.name.to_lowercase();
        let piles = task.host.piles.of_batch(&task.key(), &name);
        for pile in &piles {
            let note = Note::new(now, NoteStatus::Succeeded).scheduled(due);
            while self.release(task, pile, Measure::Everything, note.clone()).await? {}
        }
        if piles.is_empty() {
            task.commit(vec![task.state(self.state())]).await?;
        }
        Ok(())
    }

    /// Releases batches as long as a pile has enough messages.
    async fn release_full(&self, task: &TriggerTask, pile: &PileName) -> Result<(), loom_store::Error> {
        let mut batches = self.batches.iter().map(|batch| &batch.configuration);
        // Messages for a batch that is not in the definition wait for a version that has it.
        let Some(batch) = batches.find(|batch| batch.name.to_lowercase() == pile.batch) else {
            return Ok(());
        };
        let measure = Measure::Full {
            messages: batch.message_count.unwrap_or(BatchConfiguration::MESSAGES_MAX) as usize,
            bytes: batch.batch_size.map_or(u64::MAX, u64::from),
        };
        while self.release(task, pile, measure, Note::new(task.now(), NoteStatus::Succeeded)).await? {}
        Ok(())
    }

    /// Starts a run for one batch if there are enough messages. Returns whether there may be more.
    async fn release(
        &self,
        task: &TriggerTask,
        pile: &PileName,
        measure: Measure,
        note: Note,
    ) -> Result<bool, loom_store::Error> {
        let (host, key) = (&task.host, task.key());
        let Some(chosen) = host.piles.choose(&key, pile, measure) else { return Ok(false) };
        let messages = read(task, &chosen).await?;
        if messages.len() < chosen.len() {
            // Another process or an operator has removed messages.
            let left: Vec<InboxId> = messages.iter().map(|(id, _)| *id).collect();
            let gone: Vec<InboxId> = chosen.into_iter().filter(|id| !left.contains(id)).collect();
            host.piles.remove(&key, pile, &gone);
            return Ok(true);
        }
        let outputs = self.outputs(pile, messages.into_iter().map(|(_, message)| message));
        match task.fire(outputs, None, None, self.state(), note, chosen.clone()).await? {
            Fired::Runs => {
                host.piles.remove(&key, pile, &chosen);
                Ok(true)
            }
            Fired::NotMet | Fired::Failed => Ok(false),
            Fired::NoRoom => {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => Ok(true),
                    () = task.retired.cancelled() => Ok(false),
                }
            }
        }
    }

    /// The trigger outputs of a batch.
    fn outputs(&self, pile: &PileName, messages: impl Iterator<Item = Value>) -> Value {
        let items: Vec<Value> = messages
            .map(|message| {
                let mut item = Object::new();
                let label = |name, label| {
                    let has = message.get(name).and_then(Value::as_bool) == Some(true);
                    if has { label } else { Labels::NONE }
                };
                let labels = label("secret", Labels::SECRET) | label("untrusted", Labels::UNTRUSTED);
                for member in ["messageId", "content"] {
                    item.insert(member, message.get(member).cloned().unwrap_or_default().labelled(labels));
                }
                item.into()
            })
            .collect();
        let mut names = self.batches.iter().map(|batch| &batch.configuration.name);
        let name = names.find(|name| name.to_lowercase() == pile.batch);
        let mut body = Object::new();
        body.insert("batchName", name.map_or(pile.batch.as_str(), |name| name));
        body.insert("partitionName", pile.partition.as_str());
        body.insert("items", items);
        [("body", body)].into_iter().collect::<Object>().into()
    }
}

/// The messages with these ids, in order; missing ones are omitted.
async fn read(task: &TriggerTask, ids: &[InboxId]) -> Result<Vec<(InboxId, Value)>, loom_store::Error> {
    let mut found = HashMap::with_capacity(ids.len());
    // Consecutive ids are read together, so that no other messages are read.
    for neighbours in ids.chunk_by(|one, next| next.0 == one.0 + 1) {
        let mut after = InboxId(neighbours[0].0 - 1);
        let last = neighbours[neighbours.len() - 1];
        while after < last {
            let limit = (last.0 - after.0) as usize;
            let query =
                InboxQuery { recipient: Recipient::Nobody, after: Some(after), limit, shards: Shards::ALL };
            let page = task.host.store.inbox(query).await?;
            let Some(end) = page.last().map(|message| message.id) else { break };
            for message in page {
                let value = sealed::read(&task.host.store.sealer(), SEAL, &message.post.payload);
                let value = value.map(|(value, _)| value).unwrap_or_default();
                found.insert(message.id, value);
            }
            after = end;
        }
    }
    Ok(ids.iter().filter_map(|id| Some((*id, found.remove(id)?))).collect())
}

#[cfg(test)]
mod tests;
