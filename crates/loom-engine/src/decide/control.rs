//! Control actions: branches, scopes, Terminate, Response, static results, and the end of a block.

use std::{borrow::Cow, sync::Arc};

use loom_definition::{
    BlockIdx, RunStatus, Status,
    model::{ActionKind, Case, Setting},
};
use loom_expression::{Condition, MASK, Object, Template, Value, ValueRef};

use super::Decider;
use crate::event::{ErrorInfo, Event, OpeningId, Outcome, Place, shown};

impl Decider<'_> {
    pub(super) fn branch(
        &mut self,
        place: Place,
        condition: &Condition,
        then: BlockIdx,
        otherwise: BlockIdx,
    ) {
        let result = match self.evaluate_condition(place, condition) {
            Ok(result) => result,
            Err(error) => return self.fail_evaluation(place, "expression", &error),
        };
        let taken = result.as_bool() == Some(true);
        let result = [("expressionResult", result)].into_iter().collect::<Object>();
        self.start_block(place, Some(result.into()));
        self.open_opening(if taken { then } else { otherwise }, place, 0);
    }

    pub(super) fn switch(&mut self, place: Place, on: &Template, cases: &[Case], default: Option<BlockIdx>) {
        let value = match self.evaluate(place, on) {
            Ok(value) => value,
            Err(error) => return self.fail_evaluation(place, "expression", &error),
        };
        if !matches!(value.as_ref(), ValueRef::String(_) | ValueRef::Int(_)) {
            let why = format!("is of type '{}'. The result must be a string or an integer.", value.kind());
            return self.fail_expression(place, "expression", &why);
        }
        if let Some(case) = cases.iter().find(|case| case.value.kind() != value.kind()) {
            return self.fail_branches(place, value, case, cases, default);
        }
        let taken = cases.iter().find(|case| case.value == value).map(|case| case.block).or(default);
        self.start_block(place, Some(value));
        match taken {
            Some(block) => {
                self.open_opening(block, place, 0);
            }
            None => self.push_end(place, self.now, None, block_outcome(false, None)),
        }
    }

    /// Ends a Switch whose cases cannot be compared with its value: every action of every branch fails, and so does the
    /// Switch.
    fn fail_branches(
        &mut self,
        place: Place,
        value: Value,
        unlike: &Case,
        cases: &[Case],
        default: Option<BlockIdx>,
    ) {
        let state = self.state;
        let why = format!(
            "the expression of '{}' is of type '{}', but the value of case '{}' is of type '{}'",
            self.action(place).name,
            value.kind(),
            unlike.name,
            unlike.value.kind()
        );
        self.out.push(Event::ActionStarted { place, at: self.now, inputs: Some(value) });
        for block in cases.iter().map(|case| case.block).chain(default) {
            let opening = self.open_opening(block, place, 0);
            for action in &state.workflow.block(block).actions {
                let message = format!(
                    "The execution of template action '{}' failed: {why}.",
                    state.workflow.action(*action).name
                );
                let error = ErrorInfo::new("ActionConditionFailed", message);
                let outcome = Outcome::failed("InternalServerError", error);
                self.push_end(Place { opening, action: *action }, self.now, None, outcome);
            }
        }
        self.push_end(place, self.now, None, block_outcome(true, None));
    }

    pub(super) fn open_scope(&mut self, place: Place, blocks: &[BlockIdx]) {
        self.start_block(place, None);
        for block in blocks {
            self.open_opening(*block, place, 0);
        }
        if blocks.is_empty() {
            self.push_end(place, self.now, None, block_outcome(false, None));
        }
    }

    /// Records the start of an action that contains others, and sets its timeout.
    pub(super) fn start_block(&mut self, place: Place, inputs: Option<Value>) {
        self.push_start(place, inputs);
        self.set_limit(place);
    }

    /// Continues an action after one of its blocks has ended.
    pub(super) fn opening_done(&mut self, opening: OpeningId) {
        let state = self.state;
        let Some(place) = state.opening(opening).parent else { return };
        let failed = state.activity(place).is_some_and(|activity| activity.failed);
        match &state.workflow.action(place.action).kind {
            ActionKind::Loop(looping) => self.loop_iteration_done(place, opening, looping),
            ActionKind::Agent { .. } => self.next_turn(place),
            ActionKind::Retry { policy, .. } => self.retry_iteration_done(place, opening, policy),
            ActionKind::If { .. } => {
                let result = state.slot(place).inputs.clone();
                self.end_started(place, block_outcome(failed, result));
            }
            _ => self.end_started(place, block_outcome(failed, None)),
        }
    }

    pub(super) fn terminate(&mut self, place: Place, status: &Setting<RunStatus>, error: Option<&Template>) {
        let status = match status {
            Setting::Fixed(status) => *status,
            Setting::Computed(template) => {
                let value = match self.evaluate(place, template) {
                    Ok(value) => value,
                    Err(error) => return self.fail_inputs(place, &error),
                };
                let parsed = value.as_str().and_then(RunStatus::parse);
                let allowed = [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled];
                let Some(status) = parsed.filter(|status| allowed.contains(status)) else {
                    let message = format!(
                        "The status of Terminate '{}' must be Succeeded, Failed or Cancelled (got {}).",
                        self.action(place).name,
                        shown(&value)
                    );
                    let error = ErrorInfo::new("InvalidTemplate", message);
                    return self.end(place, Outcome::of_error(error));
                };
                status
            }
        };
        let mut run_error = None;
        if let Some(template) = error {
            let value = match self.evaluate(place, template) {
                Ok(value) => value,
                Err(error) => return self.fail_inputs(place, &error),
            };
            run_error = Some(ErrorInfo::specified(&value));
        }
        let run_error = match status {
            RunStatus::Failed => Some(Arc::new(
                run_error
                    .unwrap_or_else(|| ErrorInfo::new("Terminated", "A Terminate action ended the run.")),
            )),
            _ => None,
        };
        let outcome = Outcome { code: Cow::Borrowed("NotSpecified"), ..Outcome::ok(None) };
        self.push_end(place, self.now, None, outcome);
        self.cancel_opening(OpeningId::ROOT, "Terminated", Some(place));
        self.out.push(Event::RunEnded { status, error: run_error, outputs: None, at: self.now });
    }

    pub(super) fn respond(&mut self, place: Place, inputs: &Template) {
        let inputs = match self.evaluate(place, inputs) {
            Ok(inputs) => inputs,
            Err(error) => return self.fail_inputs(place, &error),
        };
        let action = self.action(place);
        if self.state.response.is_some() {
            let message = format!(
                "The execution of template action '{}' is skipped: a response has already been sent.",
                action.name
            );
            let outcome = Outcome {
                status: Status::Skipped,
                code: Cow::Borrowed("ActionResponseSkipped"),
                outputs: None,
                error: Some(Arc::new(ErrorInfo::new("ActionResponseSkipped", message))),
            };
            return self.push_end(place, self.now, Some(inputs), outcome);
        }
        let Some(inputs) = self.accepted(place, inputs) else { return };
        let response = match shape_response(&inputs) {
            Ok(response) => response,
            Err(why) => {
                let message = format!("The response of action '{}' cannot be sent: {why}", action.name);
                let error = ErrorInfo::new("InvalidTemplate", message);
                return self.push_end(place, self.now, Some(inputs), Outcome::of_error(error));
            }
        };
        self.out.push(Event::Responded { place, response: response.clone() });
        self.push_end(place, self.now, Some(inputs), Outcome::ok(Some(response)));
    }

    pub(super) fn end_with_static_result(&mut self, place: Place, index: usize) {
        let state = self.state;
        let action = state.workflow.action(place.action);
        // An action whose inputs cannot be evaluated fails even if it has a static result.
        let inputs = match &action.kind {
            ActionKind::Effect { inputs, .. }
            | ActionKind::Compose { inputs }
            | ActionKind::Response { inputs }
            | ActionKind::Emit { inputs }
            | ActionKind::Agent { inputs, .. } => match self.evaluate(place, inputs) {
                Ok(inputs) => Some(inputs),
                Err(error) => return self.fail_inputs(place, &error),
            },
            _ => None,
        };
        let canned = match self.evaluate(place, &state.workflow.static_results[index].content) {
            Ok(canned) => canned,
            Err(error) => return self.fail_inputs(place, &error),
        };
        let text = |name: &str| {
            let part = canned.get(name)?;
            Some(if part.contains_secret() { MASK.to_owned() } else { part.text().into_owned() })
        };
        let status = text("status").and_then(|status| Status::parse(&status)).unwrap_or(Status::Succeeded);
        let outputs = canned.get("outputs").cloned();
        let error = canned.get("error").map(|error| Arc::new(ErrorInfo::specified(error)));
        let code = text("code").map_or_else(
            || match status {
                Status::Succeeded => Cow::Borrowed("OK"),
                _ => error.as_ref().map_or(Cow::Borrowed("ActionFailed"), |error| error.code.clone()),
            },
            Cow::Owned,
        );
        self.push_end(place, self.now, inputs, Outcome { status, code, outputs, error });
    }
}

/// The outcome of an action that contains others.
pub(super) fn block_outcome(failed: bool, outputs: Option<Value>) -> Outcome {
    if !failed {
        return Outcome {
            status: Status::Succeeded,
            code: Cow::Borrowed("NotSpecified"),
            outputs,
            error: None,
        };
    }
    let error = ErrorInfo::new("ActionFailed", "An action failed. No dependent actions succeeded.");
    Outcome { outputs, ..Outcome::failed("ActionFailed", error) }
}

/// `{statusCode, headers?, body?}` with the status as a number.
fn shape_response(inputs: &Value) -> Result<Value, String> {
    let status = match inputs.get("statusCode").map(Value::as_ref) {
        None | Some(ValueRef::Null) => Some(200),
        Some(ValueRef::Int(status)) => Some(status),
        Some(ValueRef::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let Some(status) = status.filter(|status| matches!(status, 200..=299 | 400..=599)) else {
        let given = inputs.get("statusCode").map_or_else(String::new, shown);
        return Err(format!("'statusCode' must be between 200 and 299 or between 400 and 599 (got {given})"));
    };
    let mut members = vec![("statusCode", Value::from(status))];
    if let Some(headers) = inputs.get("headers") {
        members.push(("headers", headers.clone()));
    }
    if let Some(body) = inputs.get("body") {
        members.push(("body", body.clone()));
    }
    Ok(members.into_iter().collect::<Object>().into())
}
