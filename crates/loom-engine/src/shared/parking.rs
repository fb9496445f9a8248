//! When runs are parked, and how many are.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::clock::RunClock;

/// When runs are parked, and how many are.
pub(crate) struct Parking {
    /// How long a run waits in memory for something that may come at any time; none if no run is parked.
    pub(super) after: Option<Duration>,
    /// The number of runs that may be awake.
    pub(crate) awake_max: AtomicUsize,
    /// Notified when almost as many are.
    pub(super) crowded: Notify,
    /// Parked runs in the store.
    pub(crate) count: AtomicU64,
    /// The time of the engine, which never goes back.
    pub(super) clock: Mutex<RunClock>,
}

impl Parking {
    pub(crate) fn new(after: Option<Duration>, awake_max: usize, clock: RunClock) -> Parking {
        Parking {
            after,
            awake_max: awake_max.into(),
            crowded: Notify::new(),
            count: AtomicU64::new(0),
            clock: Mutex::new(clock),
        }
    }
}
