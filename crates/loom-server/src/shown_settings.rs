//! The settings of the program around the server, which it publishes for its operators.

use std::sync::{Arc, PoisonError, RwLock};

use loom_expression::Value;

/// The settings as the API shows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShownSettings(Arc<RwLock<Value>>);

impl ShownSettings {
    pub(crate) fn new(settings: Value) -> ShownSettings {
        ShownSettings(Arc::new(RwLock::new(settings)))
    }

    /// Replaces them: a list of objects with `name`, `value` and `origin`. Secrets must be redacted already.
    pub fn replace(&self, settings: Value) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(crate) fn get(&self) -> Value {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
