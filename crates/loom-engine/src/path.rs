//! Where an action is in the iterations of its loops.

use std::sync::Arc;

use loom_definition::ActionIdx;

/// One iteration of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iteration {
    /// The loop.
    pub action: ActionIdx,
    /// The iteration, from 0.
    pub index: u32,
}

/// Iterations of the enclosing loops, outermost first.
pub type Path = Arc<[Iteration]>;
