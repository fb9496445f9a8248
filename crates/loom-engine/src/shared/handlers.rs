//! The registered handlers.

use std::{collections::HashMap, sync::Arc};

use loom_definition::model::EffectKind;

use crate::ports::ActionHandler;

/// Handlers by the kind of effect.
#[derive(Default)]
pub(crate) struct Handlers {
    pub(crate) known: Vec<(EffectKind, Arc<dyn ActionHandler>)>,
    pub(crate) custom: HashMap<String, Arc<dyn ActionHandler>>,
}

impl Handlers {
    pub(crate) fn find(&self, effect: &EffectKind) -> Option<&Arc<dyn ActionHandler>> {
        if let EffectKind::Custom(name) | EffectKind::Script(name) = effect
            && let Some(handler) = self.custom.get(&name.to_lowercase())
        {
            return Some(handler);
        }
        self.known.iter().find(|(kind, _)| kind == effect).map(|(_, handler)| handler)
    }
}
