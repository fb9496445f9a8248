//! The driver's part in shared memory: reads keys before the machine decides, and commits what `Memory` actions and the calls
//! of handlers write together with the end of the action.
//!
//! From its preparation to its commit, a write holds the locks of its keys. The driver waits for no other lock meanwhile, so
//! runs never wait for each other in a circle.

use std::sync::{Arc, atomic::AtomicBool};

use loom_definition::{
    Status,
    model::{ActionKind, EffectKind},
};
use loom_memory::{Held, Prepared};
use loom_store::{Error as StoreError, KeyWrite};

use super::{Driver, happened::Finished, under_way::UnderWay};
use crate::{
    event::{EffectId, EffectResult, Event, Phase, Place},
    memory::{self, Operated},
    ports::Call,
};

/// Writes to shared memory on their way into the store.
#[derive(Debug, Default)]
pub(super) struct MemoryWrites {
    /// Those of actions whose end is not recorded yet.
    prepared: Vec<Write>,
    /// The locks of those that are in the next commit.
    held: Vec<Held>,
    /// Why the store could not be read.
    failed: Option<StoreError>,
}

#[derive(Debug)]
struct Write {
    effect: EffectId,
    place: Place,
    keys: Vec<KeyWrite>,
    held: Option<Held>,
}

impl MemoryWrites {
    /// Keeps what a call wants to write until the end of its action is recorded.
    pub(super) fn prepare(&mut self, effect: EffectId, place: Place, prepared: Prepared) {
        let Prepared { writes: keys, held, .. } = prepared;
        self.prepared.push(Write { effect, place, keys, held: Some(held) });
    }

    /// Releases the locks of what has been committed.
    pub(super) fn committed(&mut self) {
        self.held.clear();
    }

    /// The error of the store, if a key could not be read.
    pub(super) fn failure(&mut self) -> Result<(), StoreError> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Driver {
    /// Whether a call is an operation on shared memory that the engine itself executes, because no handler is registered.
    pub(super) fn is_memory(&self, call: &Call) -> bool {
        let ActionKind::Effect { effect: EffectKind::Memory, .. } = &call.definition().kind else {
            return false;
        };
        call.phase == Phase::Call && self.shared.handlers.find(&EffectKind::Memory).is_none()
    }

    /// Begins the operation of a `Memory` action.
    pub(super) fn operate(&mut self, call: Call, place: Place) {
        let effect = call.effect;
        let memory = self.shared.memory.clone();
        let has_journal = self.journal.is_some();
        let abort = self.push(async move {
            if has_journal {
                return Finished::Memory(effect, place, memory::prepare(&memory, &call).await);
            }
            let result = memory::execute(&memory, &call).await;
            Finished::Memory(effect, place, Ok(Operated { result, writes: Vec::new(), held: None }))
        });
        let (aborts, waits) = ([Some(abort), None], Arc::<AtomicBool>::default());
        let flight = Some(self.shared.flights.begin());
        self.under_way.insert(effect, UnderWay { place, aborts, limit: None, flight, waits });
    }

    /// The result of an operation. Its writes are kept until the end of the action is recorded. None when the store failed.
    pub(super) fn operated(
        &mut self,
        effect: EffectId,
        place: Place,
        operated: Result<Operated, StoreError>,
    ) -> Option<EffectResult> {
        match operated {
            Ok(Operated { result, writes: keys, held }) => {
                if !keys.is_empty() {
                    self.memory.prepared.push(Write { effect, place, keys, held });
                }
                if let EffectResult::Done { outcome, .. } = &result
                    && let Some(outputs) = &outcome.outputs
                {
                    self.run.environment().masker.learn(outputs);
                }
                Some(result)
            }
            Err(why) => {
                self.memory.failed = Some(why);
                None
            }
        }
    }

    /// Adds the writes of the actions that have ended with these events to the commit of the events. True when there are any:
    /// the commit must follow at once, because others wait for the keys.
    pub(super) fn commit_memory(&mut self, events: &[Event]) -> bool {
        if self.memory.prepared.is_empty() {
            return false;
        }
        let mut commits = false;
        for event in events {
            // Only the operation itself succeeds without an error: a cancellation does not, and a fallback keeps the error.
            let Event::ActionEnded { place, outcome, .. } = event else { continue };
            if outcome.status != Status::Succeeded || outcome.error.is_some() {
                continue;
            }
            let Some(index) = self.memory.prepared.iter().position(|write| write.place == *place) else {
                continue;
            };
            let Write { keys, held, .. } = self.memory.prepared.swap_remove(index);
            if let Some(journal) = &mut self.journal {
                journal.write_memory(keys);
                self.memory.held.extend(held);
                commits = true;
            }
        }
        // The others are dropped, with their locks, when the run no longer waits for them.
        let state = self.run.state();
        self.memory.prepared.retain(|write| state.waits_for(write.effect));
        commits
    }

    /// Reads the keys of shared memory that the next decision needs.
    ///
    /// # Errors
    /// The store's. The run has to be held.
    pub(super) async fn read_memory(&mut self) -> Result<(), StoreError> {
        let addresses = self.run.missing_memory();
        let Some(run) = self.run.state().start().map(|start| start.run) else { return Ok(()) };
        let environment = Arc::clone(self.run.environment());
        let workflow = Arc::clone(self.run.state().workflow());
        for address in addresses {
            let read = memory::read(&environment, &workflow, run, &address).await;
            let read = match read {
                // Without a journal, nothing could hold the run.
                Err(why) if self.journal.is_none() => Err(why.to_string().into()),
                read => read?,
            };
            self.run.provide_memory(address, read);
        }
        Ok(())
    }
}
