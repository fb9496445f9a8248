//! The concurrency limits of triggers: how many of their runs are in progress, and which runs wait for one of them to end.
//!
//! A run owns its permit: it receives it before its task exists, and the permit returns when it is dropped, wherever that
//! happens. So the gate counts nothing that may already be over, and no end has to be reported. A run beyond the limit owns
//! a [`Ticket`] instead, which becomes a permit in the order in which the runs were accepted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use loom_definition::{Workflow, trigger::TriggerConcurrency};
use tokio::sync::{Notify, oneshot};

use crate::event::{Command, RunId, RunStart};

/// The gates of all triggers with a limit.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    inner: Mutex<Inner>,
    /// Whether any trigger has ever had a limit; without one, starting a run costs nothing here.
    used: AtomicBool,
    /// Parked runs that have been admitted.
    turned: Mutex<Vec<RunId>>,
    /// Notified when there is one.
    turn: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// The limits of the triggers of all deployed workflows.
    limits: HashMap<Key, Option<TriggerConcurrency>>,
    gates: HashMap<Key, Gate>,
    /// While runs are being recovered, no new run is admitted: a run that was in progress takes its permit first.
    closed: bool,
    /// Triggers that have a limit now, and had none when the runs that are in progress started.
    counting: HashSet<Key>,
}

/// `workflow/trigger`, in lower case.
type Key = Arc<str>;

#[derive(Debug, Default)]
struct Gate {
    /// None admits everyone.
    limit: Option<TriggerConcurrency>,
    taken: u32,
    /// In the order in which the runs were accepted.
    waiting: BTreeMap<RunId, Waiting>,
}

/// A run that waits for a permit.
#[derive(Debug)]
struct Waiting {
    give: oneshot::Sender<Permit>,
    /// Whether it has to be woken to receive it.
    parked: bool,
}

/// The right of a run to be in progress. Dropping it admits the run that has waited longest.
#[derive(Debug)]
#[must_use = "dropping it gives the right up"]
pub struct Permit {
    at: Option<(Arc<Gates>, Key)>,
}

/// The place of a run that waits for a permit. Dropping it leaves the queue, and passes on a permit that was already given.
#[derive(Debug)]
pub(crate) struct Ticket {
    gates: Arc<Gates>,
    key: Key,
    run: RunId,
    turn: oneshot::Receiver<Permit>,
}

/// What a run owns at the gate of its trigger.
#[derive(Debug, Default)]
pub(crate) enum Pass {
    /// The trigger has no limit.
    #[default]
    Free,
    /// The run may be in progress.
    Inside(#[expect(dead_code, reason = "held for its Drop")] Permit),
    /// The run waits.
    Waiting(Ticket),
}

/// As many runs wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The limits of the trigger.
    pub(crate) limit: TriggerConcurrency,
}

impl Pass {
    /// Whether the run must wait before it may be evaluated.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Pass::Waiting(_))
    }

    /// To be called when the run leaves memory: it will be among [`Gates::turned`] when it is admitted. False if it has been
    /// admitted already, and true for a run that does not wait.
    pub(crate) fn park(&mut self) -> bool {
        let Pass::Waiting(ticket) = self else { return true };
        let mut inner = ticket.gates.lock();
        let waiting = inner.gates.get_mut(&ticket.key).and_then(|gate| gate.waiting.get_mut(&ticket.run));
        waiting.map(|waiting| waiting.parked = true).is_some()
    }

    /// Waits until the run is admitted; immediately if it does not wait.
    ///
    /// # Cancel safety
    /// Cancel safe: the permit is either still in the ticket or in `self`.
    pub(crate) async fn admitted(&mut self) {
        if let Pass::Waiting(ticket) = self {
            match (&mut ticket.turn).await {
                Ok(permit) => *self = Pass::Inside(permit),
                // The gate keeps the sender until the ticket leaves.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

/// The command that starts a run, or accepts it if it has to wait.
pub(crate) fn first_command(pass: &Pass, start: Arc<RunStart>) -> Command {
    if pass.waits() { Command::Accept(start) } else { Command::Start(start) }
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the limits of a newly deployed workflow. Runs that a higher limit admits start before any newcomer. Returns the
    /// triggers that had no limit before: none of their runs is admitted until those in progress have been counted.
    pub(crate) fn deployed(self: &Arc<Self>, workflow: &Workflow) -> Vec<Counting> {
        let mut counting = Vec::new();
        let mut inner = self.lock();
        for trigger in &workflow.triggers {
            if trigger.concurrency.is_some() {
                self.used.store(true, Ordering::Release);
            }
            let key = key(&workflow.name, &trigger.name);
            let before = inner.limits.insert(Arc::clone(&key), trigger.concurrency).flatten();
            if before.is_none() && trigger.concurrency.is_some() && inner.counting.insert(Arc::clone(&key)) {
                let trigger = Arc::clone(&trigger.name);
                counting.push(Counting { gates: Arc::clone(self), key: Arc::clone(&key), trigger });
            }
            if let Some(gate) = inner.gates.get_mut(&key) {
                gate.limit = trigger.concurrency;
            }
            inner.admit(self, &key);
        }
        counting
    }

    /// The limit of a run's trigger: that of the deployed version, else that of the run's own definition.
    fn limit(&self, workflow: &Workflow, trigger: Option<&str>) -> Option<(Key, TriggerConcurrency)> {
        let trigger = match trigger {
            Some(name) => workflow.find_trigger(name),
            None => workflow.triggers.first(),
        };
        let own = trigger.and_then(|trigger| trigger.concurrency);
        if own.is_some() {
            self.used.store(true, Ordering::Release);
        } else if !self.used.load(Ordering::Acquire) {
            return None;
        }
        let key = key(&workflow.name, &trigger?.name);
        let limit = self.lock().limits.get(&key).copied().unwrap_or(own);
        limit.map(|limit| (key, limit))
    }

    /// Whether the runs of a trigger need permits.
    pub(crate) fn limits(&self, workflow: &Workflow, trigger: Option<&str>) -> bool {
        self.limit(workflow, trigger).is_some()
    }

    /// Whether a run of this workflow may need a permit.
    pub(crate) fn may_limit(&self, workflow: &Workflow) -> bool {
        workflow.triggers.iter().any(|trigger| self.limit(workflow, Some(&trigger.name)).is_some())
    }

    /// Takes a pass for each of the runs of one firing, in order. A firing is accepted as a whole: while fewer runs wait than
    /// may, all its runs are accepted, even those of a `splitOn` with more items than may wait.
    ///
    /// # Errors
    /// [`Full`]; nothing was taken.
    pub(crate) fn enter(
        self: &Arc<Self>,
        workflow: &Workflow,
        trigger: Option<&str>,
        runs: &[RunId],
        reserved: Option<Permit>,
    ) -> Result<Vec<Pass>, Full> {
        let free = || runs.iter().map(|_| Pass::Free).collect();
        let Some((key, limit)) = self.limit(workflow, trigger) else { return Ok(free()) };
        // A permit for another gate, because the limit has changed, is dropped after the lock.
        let mut reserved = reserved;
        let mut inner = self.lock();
        let closed = inner.is_closed(&key);
        let gate = inner.gates.entry(Arc::clone(&key)).or_default();
        gate.limit = Some(limit);
        let has_room = reserved.is_some() || gate.has_room(closed);
        if !has_room && gate.waiting.len() >= limit.maximum_waiting_runs as usize {
            return Err(Full { limit });
        }
        Ok(runs
            .iter()
            .map(|run| {
                if let Some(permit) = reserved.take() {
                    return Pass::Inside(permit);
                }
                if gate.has_room(closed) {
                    gate.taken += 1;
                    return Pass::Inside(Permit { at: Some((Arc::clone(self), Arc::clone(&key))) });
                }
                Pass::Waiting(gate.queue(self, &key, *run))
            })
            .collect())
    }

    /// Takes a permit for a run that does not exist yet. None when a run would have to wait; a trigger without a limit needs
    /// no permit.
    pub(crate) fn reserve(self: &Arc<Self>, workflow: &Workflow, trigger: Option<&str>) -> Option<Permit> {
        let Some((key, limit)) = self.limit(workflow, trigger) else { return Some(Permit { at: None }) };
        let mut inner = self.lock();
        let closed = inner.is_closed(&key);
        let gate = inner.gates.entry(Arc::clone(&key)).or_default();
        gate.limit = Some(limit);
        gate.has_room(closed).then(|| {
            gate.taken += 1;
            Permit { at: Some((Arc::clone(self), key)) }
        })
    }

    /// The pass of a run that is loaded from the store. One that was in progress gets its permit back even beyond the limit;
    /// one that waited waits again.
    pub(crate) fn take_again(
        self: &Arc<Self>,
        workflow: &Workflow,
        trigger: Option<&str>,
        run: RunId,
        waits: bool,
    ) -> Pass {
        let Some((key, limit)) = self.limit(workflow, trigger) else { return Pass::Free };
        let mut inner = self.lock();
        let closed = inner.is_closed(&key);
        let gate = inner.gates.entry(Arc::clone(&key)).or_default();
        gate.limit = Some(limit);
        if waits && !gate.has_room(closed) {
            return Pass::Waiting(gate.queue(self, &key, run));
        }
        gate.taken += 1;
        Pass::Inside(Permit { at: Some((Arc::clone(self), key)) })
    }

    /// Admits no run until the returned guard is dropped, except runs that were in progress before.
    pub(crate) fn close(self: &Arc<Self>) -> Closed {
        self.lock().closed = true;
        Closed(Arc::clone(self))
    }

    /// The number of runs that wait, at all gates.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().gates.values().map(|gate| gate.waiting.len()).sum()
    }

    /// The parked runs that have been admitted since the last call.
    pub(crate) fn turned(&self) -> Vec<RunId> {
        std::mem::take(&mut self.turned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a parked run is admitted.
    pub(crate) async fn turns(&self) {
        self.turn.notified().await;
    }

    fn leave(self: &Arc<Self>, key: &Key) {
        let mut inner = self.lock();
        if let Some(gate) = inner.gates.get_mut(key) {
            gate.taken = gate.taken.saturating_sub(1);
        }
        inner.admit(self, key);
    }
}

impl Inner {
    /// Whether a gate admits no new run for now.
    fn is_closed(&self, key: &Key) -> bool {
        self.closed || self.counting.contains(key)
    }

    /// Gives permits to the runs that have waited longest, as many as the limit allows.
    fn admit(&mut self, gates: &Arc<Gates>, key: &Key) {
        let closed = self.is_closed(key);
        let Some(gate) = self.gates.get_mut(key) else { return };
        while !closed
            && gate.is_below_limit()
            && let Some((run, waiting)) = gate.waiting.pop_first()
        {
            gate.taken += 1;
            let permit = Permit { at: Some((Arc::clone(gates), Arc::clone(key))) };
            if let Err(mut refused) = waiting.give.send(permit) {
                // A ticket leaves the queue before it is dropped, so some run always receives the permit. If not, it must
                // not be dropped under this lock.
                refused.at = None;
                gate.taken -= 1;
            } else if waiting.parked {
                gates.turned.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                gates.turn.notify_one();
            }
        }
        if gate.taken == 0 && gate.waiting.is_empty() {
            self.gates.remove(key);
        }
    }
}

impl Gate {
    fn is_below_limit(&self) -> bool {
        self.limit.is_none_or(|limit| self.taken < limit.runs)
    }

    /// Whether a new run may enter: no run overtakes those that wait.
    fn has_room(&self, closed: bool) -> bool {
        !closed && self.waiting.is_empty() && self.is_below_limit()
    }

    fn queue(&mut self, gates: &Arc<Gates>, key: &Key, run: RunId) -> Ticket {
        let (give, turn) = oneshot::channel();
        self.waiting.insert(run, Waiting { give, parked: false });
        Ticket { gates: Arc::clone(gates), key: Arc::clone(key), run, turn }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((gates, key)) = self.at.take() {
            gates.leave(&key);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.gates.lock();
        if let Some(gate) = inner.gates.get_mut(&self.key) {
            gate.waiting.remove(&self.run);
        }
        inner.admit(&self.gates, &self.key);
        // A permit that was already given returns when the channel is dropped, after the lock is released.
    }
}

/// See [`Gates::close`].
#[derive(Debug)]
#[must_use = "dropping it opens the gates"]
pub(crate) struct Closed(Arc<Gates>);

impl Drop for Closed {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.closed = false;
        let mut keys: Vec<Key> = inner.gates.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            inner.admit(&self.0, &key);
        }
    }
}

/// See [`Gates::deployed`].
#[derive(Debug)]
#[must_use = "dropping it opens the gate"]
pub(crate) struct Counting {
    gates: Arc<Gates>,
    key: Key,
    /// The trigger.
    pub(crate) trigger: Arc<str>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        let mut inner = self.gates.lock();
        inner.counting.remove(&self.key);
        inner.admit(&self.gates, &self.key);
    }
}

fn key(workflow: &str, trigger: &str) -> Key {
    format!("{}/{}", workflow.to_lowercase(), trigger.to_lowercase()).into()
}

#[cfg(test)]
mod tests;
