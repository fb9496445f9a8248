//! Which agent hands over to which.

use loom_definition::Status;
use loom_expression::Value;

use crate::{event::Place, state::RunState};

/// The agent that an agent with these outputs has handed over to.
pub(crate) fn handed_to(outputs: &Value) -> Option<&str> {
    outputs.get("handoff")?.get("name")?.as_str()
}

impl RunState {
    /// The outputs of the agent that has handed over to this one.
    pub(crate) fn handed_over(&self, place: Place) -> Option<&Value> {
        let name = &self.workflow.action(place.action).name;
        let slots = &self.opening(place.opening).slots;
        let handing = slots.iter().filter(|slot| slot.status == Status::HandedOff);
        let mut outputs = handing.filter_map(|slot| slot.outputs.as_ref());
        outputs.find(|outputs| handed_to(outputs).is_some_and(|to| to.eq_ignore_ascii_case(name)))
    }
}
