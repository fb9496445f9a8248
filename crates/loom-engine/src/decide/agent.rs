//! Agents: turns, the tools that they use, and handing over. What a turn means is known to the handler.

use loom_definition::{BlockIdx, model::ActionKind};
use loom_expression::{Template, Value};

use super::Decider;
use crate::{
    event::{EffectId, ErrorInfo, Event, Next, Outcome, Phase, Place, ToolUse},
    state::CallState,
};

impl Decider<'_> {
    /// Evaluates the inputs and limits of an agent once, and makes the call of its first turn.
    pub(super) fn start_agent(&mut self, place: Place, inputs: &Template, limits: &Template) {
        let evaluated =
            self.evaluate(place, inputs).and_then(|inputs| Ok((inputs, self.evaluate(place, limits)?)));
        let (mut inputs, limits) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(error) => return self.fail_inputs(place, &error),
        };
        if !limits.is_null() {
            let mut members = inputs.as_object().cloned().unwrap_or_default();
            members.insert("limit", limits);
            inputs = Value::from(members).labelled(inputs.labels());
        }
        let effect = self.next_effect();
        self.begin_call(place, inputs, effect, Phase::Call);
    }

    /// An agent has made a turn: opens the blocks of the tools that it uses.
    pub(super) fn turn(&mut self, place: Place, effect: EffectId, outcome: Outcome, uses: Vec<ToolUse>) {
        let state = self.state;
        let blocks: Option<Vec<BlockIdx>> = match &state.workflow.action(place.action).kind {
            ActionKind::Agent { tools, .. } => {
                uses.iter().map(|used| Some(tools.get(used.tool as usize)?.block)).collect()
            }
            _ => None,
        };
        let Some(blocks) = blocks else {
            let message = "The handler of the action made a turn that the action cannot make.";
            return self.end_call(place, Outcome::of_error(ErrorInfo::new("InvalidTurn", message)));
        };
        let turns = state.activity(place).and_then(|activity| activity.call.as_ref()).map(CallState::turns);
        let first = turns.map_or(0, |turns| turns.used + turns.uses.len() as u32);
        self.out.push(Event::AttemptEnded {
            place,
            effect,
            outcome,
            next: Next::Turn { uses },
            at: self.now,
        });
        if blocks.is_empty() {
            return self.next_turn(place);
        }
        for (index, block) in (first..).zip(blocks) {
            self.open_opening(block, place, index);
        }
    }

    /// All tools of a turn have ended.
    pub(super) fn next_turn(&mut self, place: Place) {
        let effect = self.next_effect();
        self.push_attempt(place, 1, effect, Phase::Call, None);
    }
}
