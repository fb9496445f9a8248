//! Limits against hostile or careless input, and the options of compilation.

/// What one expression and one evaluation may cost. The defaults are those of the language where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest expression, in characters.
    pub expression_chars_max: usize,
    /// How deeply calls and indexers may nest in one expression.
    pub nesting_max: usize,
    /// Longest text that a function or an interpolation may build, in bytes.
    pub text_bytes_max: usize,
    /// Most items or members that a function may build.
    pub items_max: usize,
    /// How deeply arrays and objects may nest in a result.
    pub depth_max: usize,
    /// Steps that one XPath evaluation may take; a step visits one node.
    pub xpath_steps_max: u64,
    /// Steps that one evaluation may take where its context brings no [`crate::Budget`]: a call is a step, and more are
    /// paid for in proportion to the texts and values that functions read and make.
    pub evaluation_steps_max: u64,
    /// Most values in one JSON text that a function reads: scalars, arrays and objects all count.
    pub json_values_max: usize,
    /// Largest result, in bytes of memory as [`crate::Value::bytes`] counts them.
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

/// How templates are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Accept the Loom spelling: an inner `@` before a function name, and `"true"`/`"false"` as conditions.
    pub loom_spelling: bool,
    /// The limits of compiling, and of evaluating where no others are given.
    pub limits: Limits,
}
