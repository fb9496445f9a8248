//! What the engine and the tasks of all its runs share: the host's services, the store, and who is where.
//!
//! Nothing here starts a run. That is the engine's, which stands above the tasks of runs.

pub(crate) mod aside;
pub(crate) mod awake;
#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod gate;
pub(crate) mod handlers;
pub(crate) mod held;
pub(crate) mod late_pass;
pub(crate) mod parking;
pub(crate) mod queue;
pub(crate) mod wheel;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use loom_definition::Workflow;
use loom_expression::Value;
use loom_store::{RunIdSource, Shard, Standing};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    aside::Aside, awake::Awake, gate::Gates, handlers::Handlers, held::Held, late_pass::LatePass,
    parking::Parking, queue::Queue, wheel::Wheel,
};
use crate::{
    chaos::Chaos,
    clock::Now,
    durable::Durable,
    envelope::Envelope,
    environment::Environment,
    event::RunId,
    flights::Flights,
    guard::Services,
    live_text::Boards,
    pool::Pools,
    ports::{Clock, Stopwatch},
    random,
    signals::Mailbox,
    suspects::Suspects,
    time,
    watcher::Watcher,
};

/// What the engine and its runs share.
pub(crate) struct Shared {
    pub(crate) environment: Arc<Environment>,
    pub(crate) memory: loom_memory::StoredMemory,
    pub(crate) handlers: Handlers,
    pub(crate) services: Services,
    pub(crate) chaos: Option<Chaos>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workflows: Mutex<HashMap<String, Deployed>>,
    /// See [`Engine::set_disabled`](crate::Engine::set_disabled).
    pub(crate) disabled: RwLock<BTreeSet<String>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) flights: Arc<Flights>,
    pub(crate) ids: Mutex<RunIdSource>,
    pub(crate) held: Mutex<Held>,
    /// Base of the seeds of runs; the system's randomness when absent.
    pub(crate) seed: Option<u64>,
    pub(crate) durable: Option<Durable>,
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
    /// Runs suspected of crashing the process.
    pub(crate) suspects: Mutex<Suspects>,
    /// Whether a run's start is made durable before any of its expressions are evaluated.
    pub(crate) careful: AtomicBool,
    /// Whether runs are loaded only on request; see [`Engine::stand_by`](crate::Engine::stand_by).
    pub(crate) standing_by: AtomicBool,
    /// Locked by a run suspected of crashing the process while it is evaluated. No two suspects are evaluated at the same
    /// time, so that after a crash the next process knows which one caused it.
    pub(crate) alone: Arc<tokio::sync::Mutex<()>>,
    /// Runs that had messages in the store when the engine started, or have received an order since.
    pub(crate) messaged: Mutex<BTreeSet<RunId>>,
    pub(crate) awake: Awake<InProgress>,
    pub(crate) idle: AtomicUsize,
    pub(crate) parking: Parking,
    pub(crate) wheel: Wheel,
    pub(crate) queue: Queue,
    pub(crate) gates: Arc<Gates>,
    pub(crate) aside: Aside,
    /// Protections that a test takes out, to show that it notices.
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
    pub(crate) pools: Pools,
    pub(crate) stopwatch: Arc<dyn Stopwatch>,
    /// Where the engine's tasks run, once the runs in the store have been recovered.
    pub(crate) recovered: OnceLock<Handle>,
    /// What calls show while it arrives.
    pub(crate) boards: Boards,
    /// What this process owns, if it is one of several nodes.
    pub(crate) node: Option<Standing>,
    /// Locked while a question of a run is answered, so that it is answered once.
    pub(crate) answering: tokio::sync::Mutex<()>,
}

/// The channels to a run in progress.
#[derive(Debug)]
pub(crate) struct InProgress {
    pub(crate) commands: mpsc::Sender<Envelope>,
    pub(crate) response: watch::Receiver<Option<Value>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) late: Arc<LatePass>,
    /// How the run is made to leave this process; none if the process is no node.
    pub(crate) leave: Option<Leave>,
}

/// How a run is made to leave this process, because another node continues it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave {
    /// It begins nothing more, and leaves when its calls in flight have ended.
    pub(crate) soon: CancellationToken,
    /// It leaves at once.
    pub(crate) now: CancellationToken,
}

/// A workflow that others may call, with the parameter values of its runs.
pub(crate) type Deployed = (Arc<Workflow>, Vec<Value>);

impl Shared {
    /// A workflow that others may call, by its name.
    pub(crate) fn workflow(&self, name: &str) -> Option<Deployed> {
        let workflows = self.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        workflows.get(&name.to_lowercase()).cloned()
    }

    /// Number of times held runs have been released.
    pub(crate) fn releases(&self) -> u64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).releases
    }

    /// A new id, greater than all before, and a seed that cannot be guessed from it. A node makes it in the given shard.
    pub(crate) fn next_run(&self, shard: Option<Shard>) -> (RunId, u64) {
        let now = time::millis(self.clock.now());
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let run = match shard {
            None => ids.next(now),
            Some(shard) => ids.next_in(now, shard),
        };
        drop(ids);
        (run, self.seed.unwrap_or_else(fresh_seed) ^ random::mix(run.as_u64()))
    }

    /// Whether this process may load a run and continue it.
    pub(crate) fn may_load(&self, run: RunId) -> bool {
        self.node.as_ref().is_none_or(|node| node.may_load(run.shard()))
    }

    /// How a run of this process is made to leave it; none if the process is no node.
    pub(crate) fn leave(&self) -> Option<Leave> {
        self.node.is_some().then(Leave::default)
    }

    /// How long a run waits in memory; none if it is not parked.
    pub(crate) fn park_after(&self) -> Option<Duration> {
        self.parking.after.filter(|_| self.durable.is_some())
    }

    /// Whether almost as many runs are awake as may be: seven of eight.
    pub(crate) fn is_crowded(&self) -> bool {
        let most = self.parking.awake_max.load(Ordering::Relaxed);
        self.awake.len() >= most - most / 8
    }

    /// Waits until almost as many runs are awake as may be. May also return earlier.
    pub(crate) async fn crowds(&self) {
        self.parking.crowded.notified().await;
    }

    /// To be called when another run is awake: those that only wait make room for it.
    pub(crate) fn make_room(&self) {
        if self.is_crowded() {
            self.parking.crowded.notify_waiters();
        }
    }

    /// The time of the engine. While a run is parked, its time advances with that of the engine.
    pub(crate) fn now(&self) -> Now {
        self.parking.clock.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// A run is parked that was not, according to the store.
    pub(crate) fn count_parked(&self) {
        self.parking.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A parked run is loaded, or ends without being loaded.
    pub(crate) fn count_woken(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        self.parking.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }
}

/// Randomness of the operating system, taken from the standard library's hash keys.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
