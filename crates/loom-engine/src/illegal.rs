//! Events that a journal must not contain: what an event may refer to, and the error for one that cannot occur.

use loom_definition::Workflow;
use loom_expression::Timestamp;

use crate::event::{Event, Place};

/// An event that cannot follow the events before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {number} ({kind}) cannot occur here: {reason}")]
pub struct IllegalEvent {
    /// Its number in the history of the run, from 1.
    pub number: u64,
    /// Its kind, such as `ActionEnded`.
    pub kind: &'static str,
    /// Why it cannot follow.
    pub reason: &'static str,
}

/// The error is the reason.
pub(crate) type Check = Result<(), &'static str>;

/// Returns the reason unless the condition holds.
pub(crate) fn require(holds: bool, otherwise: &'static str) -> Check {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Event {
    /// When it happened; none for events that follow from another at the same time.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Event::RunStarted { at, .. }
            | Event::BlockOpened { at, .. }
            | Event::ActionStarted { at, .. }
            | Event::AttemptStarted { at, .. }
            | Event::AttemptNoted { at, .. }
            | Event::AttemptEnded { at, .. }
            | Event::ActionEnded { at, .. }
            | Event::RunWaiting { at }
            | Event::RunAdmitted { at }
            | Event::Suspended { at }
            | Event::Resumed { at }
            | Event::RunEnded { at, .. } => Some(*at),
            Event::LoopStarted { .. }
            | Event::TimerSet { .. }
            | Event::TimerEnded { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. }
            | Event::Responded { .. }
            | Event::Tracked { .. } => None,
        }
    }

    /// The name of its kind, as in `docs/journal-format.md`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Event::RunStarted { .. } => "RunStarted",
            Event::BlockOpened { .. } => "BlockOpened",
            Event::ActionStarted { .. } => "ActionStarted",
            Event::LoopStarted { .. } => "LoopStarted",
            Event::AttemptStarted { .. } => "AttemptStarted",
            Event::AttemptNoted { .. } => "AttemptNoted",
            Event::AttemptEnded { .. } => "AttemptEnded",
            Event::TimerSet { .. } => "TimerSet",
            Event::TimerEnded { .. } => "TimerEnded",
            Event::VariableSet { .. } => "VariableSet",
            Event::VariableAppended { .. } => "VariableAppended",
            Event::Responded { .. } => "Responded",
            Event::ActionEnded { .. } => "ActionEnded",
            Event::Tracked { .. } => "Tracked",
            Event::RunWaiting { .. } => "RunWaiting",
            Event::RunAdmitted { .. } => "RunAdmitted",
            Event::Suspended { .. } => "Suspended",
            Event::Resumed { .. } => "Resumed",
            Event::RunEnded { .. } => "RunEnded",
        }
    }

    /// Checks that everything that the event refers to exists in the definition: enough for those who show events without a
    /// state. `number` is its number in the history.
    ///
    /// # Errors
    /// What does not exist.
    pub fn check_references(&self, workflow: &Workflow, number: u64) -> Result<(), IllegalEvent> {
        self.fits(workflow).map_err(|reason| IllegalEvent { number, kind: self.kind(), reason })
    }

    /// Whether the definition has everything that the event refers to.
    pub(crate) fn fits(&self, workflow: &Workflow) -> Check {
        let action = |place: Place| {
            require((place.action.0 as usize) < workflow.actions.len(), "the definition has no such action")
        };
        match self {
            Event::BlockOpened { block, parent, .. } => {
                require((block.0 as usize) < workflow.blocks.len(), "the definition has no such block")?;
                parent.map_or(Ok(()), action)
            }
            Event::ActionStarted { place, .. }
            | Event::LoopStarted { place, .. }
            | Event::AttemptStarted { place, .. }
            | Event::AttemptEnded { place, .. }
            | Event::TimerSet { place, .. }
            | Event::Responded { place, .. }
            | Event::ActionEnded { place, .. }
            | Event::Tracked { place, .. } => action(*place),
            Event::VariableSet { variable, .. } | Event::VariableAppended { variable, .. } => require(
                (variable.0 as usize) < workflow.variables.len(),
                "the definition has no such variable",
            ),
            Event::RunStarted { .. }
            | Event::AttemptNoted { .. }
            | Event::TimerEnded { .. }
            | Event::RunWaiting { .. }
            | Event::RunAdmitted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::RunEnded { .. } => Ok(()),
        }
    }
}
