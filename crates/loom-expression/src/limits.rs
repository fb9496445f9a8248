//! `Limits`: bounds on the cost of hostile or careless input. `Options`: the settings of compilation.

/// Limits of one expression and one evaluation. The defaults are those of the language, where it defines any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum length of an expression, in characters.
    pub expression_chars_max: usize,
    /// How deeply calls and indexes may nest in one expression.
    pub nesting_max: usize,
    /// The maximum length of a string that a function or an interpolation builds, in bytes.
    pub text_bytes_max: usize,
    /// The maximum number of items or properties that a function builds.
    pub items_max: usize,
    /// How deeply arrays and objects may nest in a result.
    pub depth_max: usize,
    /// The maximum number of steps of one XPath evaluation. A step visits one node.
    pub xpath_steps_max: u64,
    /// The maximum number of steps of one evaluation, if its context provides no [`crate::Budget`]. A function call costs
    /// one step, plus steps in proportion to the size of the strings and values that the function reads and makes.
    pub evaluation_steps_max: u64,
    /// The maximum number of values in one JSON text that a function parses. Scalars, arrays and objects all count.
    pub json_values_max: usize,
    /// The maximum size of a result, in bytes of memory as counted by [`crate::Value::bytes`].
    pub value_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            expression_chars_max: 8_192,
            nesting_max: 200,
            text_bytes_max: 104_857_600,
            items_max: 1_000_000,
            depth_max: 256,
            xpath_steps_max: 10_000_000,
            evaluation_steps_max: 20_000_000,
            json_values_max: crate::JSON_VALUES_MAX,
            value_bytes_max: 256 << 20,
        }
    }
}

/// Options of compilation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether to accept the Loom spelling: an `@` before a function name inside an expression, and `"true"` and
    /// `"false"` as conditions.
    pub loom_spelling: bool,
    /// The limits of compilation, and the default limits of evaluation.
    pub limits: Limits,
}
