//! Approvals of untrusted inputs: the action has started, and waits for a person before its call.
//!
//! The wait is that of a question to a person (see `questions`): a message in the run's inbox, which leaves it in the commit with the
//! decision. The start of the call is in that commit, too.

use loom_definition::model::Approval;
use loom_expression::{Object, Value};

use super::{Decider, UNTRUSTED_INPUTS};
use crate::{
    call_kinds::is_webhook,
    event::{EffectId, EffectResult, ErrorInfo, Event, Next, Outcome, Phase, Place, Purpose},
    state::SlotPhase,
    time,
};

impl Decider<'_> {
    /// Starts an action with untrusted inputs, and asks for their approval.
    #[cold]
    pub(super) fn ask_approval(
        &mut self,
        place: Place,
        inputs: Value,
        effect: EffectId,
        approval: &Approval,
    ) {
        let limit = approval.timeout.as_ref().map(|limit| self.limit(place, limit)).transpose();
        self.push_start(place, Some(inputs));
        let limit = match limit {
            Ok(limit) => limit,
            Err(why) => {
                let message =
                    format!("`approval.timeout` of action '{}' is invalid: {why}", self.action(place).name);
                return self.end_unapproved(place, "WorkflowRunActionTimeoutLimitInvalid", message);
            }
        };
        if let Some(limit) = limit {
            self.set_timer(place, time::add(self.now, limit), Purpose::Limit);
        }
        self.push_attempt(place, 0, effect, Phase::Approve, None);
    }

    /// The wait of an action for its approval, if it waits for one.
    pub(super) fn waits_for_approval(&self, place: Place) -> Option<EffectId> {
        let effect = self.state.activity(place)?.call.as_ref()?.effect?;
        let call = self.state.effects.get(effect)?;
        (call.phase == Phase::Approve).then_some(effect)
    }

    /// A person has decided, or nobody can be asked.
    pub(super) fn approval_ended(&mut self, place: Place, effect: EffectId, result: EffectResult) {
        let answer = match result {
            EffectResult::Done { outcome, .. } => outcome.outputs,
            EffectResult::Pending { .. } | EffectResult::Admitted | EffectResult::Turn { .. } => None,
        };
        let answer = answer.and_then(|signal| signal.get("body").cloned()).unwrap_or_default();
        match answer.get("approved").and_then(Value::as_bool) {
            Some(true) => {
                if let Some(timer) = self.state.activity(place).and_then(|activity| activity.limit) {
                    self.out.push(Event::TimerEnded { timer });
                }
                self.proceed(place, effect, answer);
            }
            Some(false) => {
                let text =
                    |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
                let reason = text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
                let by = text("by").map(|by| format!(" by {by}")).unwrap_or_default();
                let message =
                    format!("The call of action '{}' was rejected{by}{reason}", self.action(place).name);
                self.end_unapproved(place, "ApprovalRejected", message);
            }
            None => {
                let inputs = self.state.slot(place).inputs.clone().unwrap_or_default();
                let message =
                    format!("{} Nobody can be asked to approve it here.", self.untrusted(place, &inputs));
                self.end_unapproved(place, UNTRUSTED_INPUTS, message);
            }
        }
    }

    /// Nobody has decided in time.
    pub(super) fn approval_due(&mut self, place: Place, effect: EffectId) {
        if self.action(place).approval.as_ref().is_some_and(|approval| approval.approves) {
            let answer = [("approved", Value::from(true)), ("by", Value::from("the default"))];
            return self.proceed(place, effect, answer.into_iter().collect::<Object>().into());
        }
        let took = time::between(self.state.slot(place).started, self.now);
        let name = &self.action(place).name;
        let message =
            format!("The call of action '{name}' was not approved within {} seconds.", took.as_secs());
        self.end_unapproved(place, "ApprovalTimedOut", message);
    }

    /// Makes the call that was approved. Its timeout begins now.
    fn proceed(&mut self, place: Place, effect: EffectId, answer: Value) {
        let outcome = Outcome::ok(Some(answer));
        self.out.push(Event::AttemptEnded { place, effect, outcome, next: Next::Proceed, at: self.now });
        self.begin_limit(place);
        let phase = if is_webhook(&self.action(place).kind) { Phase::Subscribe } else { Phase::Call };
        let effect = self.next_effect();
        self.push_attempt(place, 1, effect, phase, None);
    }

    fn end_unapproved(&mut self, place: Place, code: &'static str, message: String) {
        let outcome = Outcome::of_error(ErrorInfo::new(code, message));
        if self.state.slot(place).phase == SlotPhase::Running {
            return self.end_started(place, outcome);
        }
        // Its start is among the events of this decision.
        self.push_end(place, self.now, None, outcome);
    }
}
