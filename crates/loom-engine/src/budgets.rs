//! `Budgets`: what one run may take of the process, so that no definition and no caller can take it from the others.
//!
//! What exceeds a budget is an error of that run, or of the request that wanted it, and names the budget.

/// What one run may take. Each field can be set by whoever embeds the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Steps that the evaluations of one action may take together, for all of its items; a call of a function is a step, and
    /// more are paid for in proportion to what it reads and makes. 20,000,000 take a second or two. From 1,000 up.
    pub evaluation_steps_max: u64,
    /// Bytes of memory that the values of one run may take: variables, inputs and outputs that can still be read, what
    /// loops collect, and calls in progress. 256 MiB. From 64 KiB up.
    pub run_bytes_max: u64,
    /// Nodes that one validation against a JSON schema may visit: each value counts once for every schema it is held
    /// against. 1,000,000. From 1,000 up.
    pub schema_nodes_max: u64,
    /// Values in one JSON text that is read: arrays, objects and all that is in them count. 2,000,000. From 1,000 up.
    pub json_values_max: usize,
    /// The longest chain of runs that start each other as child workflows, below the first. 32. From 0, which allows no
    /// child workflows, to [`Budgets::CHILD_DEPTH_LIMIT`].
    pub child_depth_max: u8,
    /// Runs in progress above which further runs of a firing that starts very many wait for their turn: 10,000. From 1 up.
    pub runs_max: usize,
}

impl Budgets {
    /// The most that [`Budgets::child_depth_max`] may be: no journal can tell of longer chains.
    pub const CHILD_DEPTH_LIMIT: u8 = 100;
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            evaluation_steps_max: 20_000_000,
            run_bytes_max: 256 << 20,
            schema_nodes_max: 1_000_000,
            json_values_max: loom_expression::JSON_VALUES_MAX,
            child_depth_max: 32,
            runs_max: 10_000,
        }
    }
}
