//! What actions and triggers have in common: settings that may be computed, and which parts are secured.

use loom_expression::{Labels, Template};

/// A setting that is either fixed in the definition or computed when the action starts.
#[derive(Clone, Debug)]
pub enum Setting<T> {
    /// The value.
    Fixed(T),
    /// A template with an expression; the `from_value` of the type reads its value.
    Computed(Template),
}

/// Which parts to hide from history, logs and the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secure {
    /// Hide the inputs.
    pub inputs: bool,
    /// Hide the outputs.
    pub outputs: bool,
}

impl Secure {
    /// The labels to attach to the inputs.
    pub fn labels_of_inputs(self) -> Labels {
        if self.inputs { Labels::SECRET } else { Labels::NONE }
    }
}
