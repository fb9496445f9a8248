//! How many steps a decision may take on a thread of the runtime. One that takes more is dropped, as if it had not been made, and is
//! made again on a thread of the pool; so no evaluation keeps a thread of the runtime for long, and decisions stay pure.
//!
//! The count belongs to the state only because everything that evaluates has the state. It is not part of the journal, and no
//! decision depends on it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use loom_expression::Budget;

/// Without a limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// The steps of one decision. Only one thread at a time makes decisions for a run.
pub(crate) struct Patience {
    given: AtomicU64,
    left: AtomicU64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { given: UNLIMITED.into(), left: UNLIMITED.into() }
    }
}

/// The same for every run: two equal states are shown alike.
impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patience")
    }
}

impl Patience {
    /// Begins a decision that may take so many steps.
    pub(crate) fn begin(&self, steps: u64) {
        self.given.store(steps, Relaxed);
        self.left.store(steps, Relaxed);
    }

    /// The steps that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    /// The steps that the decision has taken.
    pub(crate) fn spent(&self) -> u64 {
        self.given.load(Relaxed) - self.left()
    }

    /// Counts steps.
    pub(crate) fn spend(&self, steps: u64) {
        self.left.store(self.left().saturating_sub(steps), Relaxed);
    }

    /// Whether the decision is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.given.load(Relaxed) != UNLIMITED
    }

    /// Whether the decision takes too many steps, and its result does not matter.
    pub(crate) fn is_over(&self) -> bool {
        self.left() == 0
    }
}

/// A budget for evaluations, whose steps are counted when it is dropped.
pub(crate) struct Counted<'a> {
    budget: Budget,
    given: u64,
    patience: &'a Patience,
}

impl<'a> Counted<'a> {
    /// A budget of `steps_max` steps, or fewer if the decision has no more left.
    pub(crate) fn new(steps_max: u64, json_values_max: usize, patience: &'a Patience) -> Counted<'a> {
        let given = steps_max.min(patience.left());
        Counted { budget: Budget::new(given, json_values_max), given, patience }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.patience.spend(self.given - self.budget.left());
    }
}
