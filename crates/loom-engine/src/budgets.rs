//! `Budgets`: limits on the resources of one run, so that no definition and no caller can starve the others.
//!
//! Exceeding a budget is an error of that run, or of the request, and the error names the budget.

/// The resources that one run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Evaluation steps of one action, all its items together. A function call is a step, plus more in proportion to the
    /// data that it reads and produces. Default 20,000,000, which takes a second or two; minimum 1,000.
    pub evaluation_steps_max: u64,
    /// Memory of the values of one run, in bytes: variables, inputs and outputs that can still be read, results that loops
    /// collect, and calls in progress. Default 256 MiB; minimum 64 KiB.
    pub run_bytes_max: u64,
    /// Nodes that one validation against a JSON schema may visit: each value counts once for every schema that is applied
    /// to it. Default 1,000,000; minimum 1,000.
    pub schema_nodes_max: u64,
    /// Values in one parsed JSON text, including arrays, objects and everything in them. Default 2,000,000; minimum 1,000.
    pub json_values_max: usize,
    /// Maximum depth of child workflows below the first run. Default 32; from 0, which allows no child workflows, to
    /// [`Budgets::CHILD_DEPTH_LIMIT`].
    pub child_depth_max: u8,
    /// Maximum number of runs in progress before the runs of a very large firing are queued. Default 10,000; minimum 1.
    pub runs_max: usize,
}

impl Budgets {
    /// The upper limit of [`Budgets::child_depth_max`]: the journal cannot represent deeper chains.
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
