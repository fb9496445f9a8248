//! What must be durable before a run continues, and what is committed with it.

use loom_store::KeyWrite;

use super::RunJournal;
use crate::event::{Event, Phase};

/// Whether these events must be durable before the run continues and before any of their effects become visible.
pub(crate) fn needs_barrier(events: &[Event]) -> bool {
    events.iter().any(|event| match event {
        Event::RunStarted { .. }
        | Event::RunWaiting { .. }
        | Event::RunAdmitted { .. }
        | Event::Responded { .. }
        | Event::TimerSet { .. }
        | Event::Suspended { .. }
        | Event::Resumed { .. }
        | Event::RunEnded { .. } => true,
        Event::AttemptStarted { phase, .. } => *phase != Phase::Admit,
        Event::BlockOpened { .. }
        | Event::ActionStarted { .. }
        | Event::LoopStarted { .. }
        | Event::AttemptNoted { .. }
        | Event::AttemptEnded { .. }
        | Event::TimerEnded { .. }
        | Event::VariableSet { .. }
        | Event::VariableAppended { .. }
        | Event::ActionEnded { .. }
        | Event::Tracked { .. } => false,
    })
}

impl RunJournal {
    /// Writes keys of shared memory with the next commit.
    pub(crate) fn write_memory(&mut self, writes: Vec<KeyWrite>) {
        self.keys.extend(writes);
        self.writes_memory = true;
    }

    /// Whether the store rejected a commit because another process has changed a key of shared memory.
    pub(crate) fn is_contended(&self) -> bool {
        self.is_contended
    }
}
