//! Protections that a test can take out of an engine.

use std::sync::atomic::{AtomicBool, Ordering};

/// What is taken out.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What happens is handled as it comes, without a look at the times.
    pub(crate) ignores_times: Switch,
    /// A run that leaves memory drops its permit, and its places in services.
    pub(crate) drops_early: Switch,
    /// A run that has work receives nothing before it is done.
    pub(crate) is_never_interrupted: Switch,
    /// A run is not marked while a thread of the pool makes its decisions.
    pub(crate) is_unmarked: Switch,
    /// A message is consumed by the commit before the one that holds its consequences.
    pub(crate) consumes_early: Switch,
}

/// On or off.
#[derive(Debug, Default)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(crate) fn on(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
