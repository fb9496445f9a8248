//! Loops: Foreach, Until, While, DoUntil, and the Retry action.

use std::{borrow::Cow, sync::Arc, time::Duration};

use loom_definition::{
    BlockIdx, Status,
    duration::Span,
    model::{ActionKind, Loop, LoopStyle, REPETITIONS_MAX, Setting},
    policy::{Mode, RetryPolicy, RetrySetting},
};
use loom_expression::{Error, Object, Template, Value};

use super::{Decider, control::block_outcome, read_span};
use crate::{
    event::{ErrorInfo, Event, OpeningId, Outcome, Place, Purpose, RetryHint, shown},
    random, record, retry,
    state::LoopState,
    time,
};

/// The maximum that an expression may set for `limit.count`.
const ROUNDS_MAX: i64 = 5_000;

/// The maximum number of items of a Foreach.
const ITEMS_MAX: usize = 100_000;

impl<'a> Decider<'a> {
    pub(super) fn start_foreach(&mut self, place: Place, items: &Template) {
        let items = match self.evaluate(place, items) {
            Ok(items) => items,
            Err(error) => return self.fail_evaluation(place, "foreach", &error),
        };
        let Some(count) = items.as_array().map(|items| items.len()) else {
            let why = format!("is of type '{}'. The result must be a valid array.", items.kind());
            return self.fail_expression(place, "foreach", &why);
        };
        if count > ITEMS_MAX {
            let why = format!("has {count} items, and the maximum of a Foreach is {ITEMS_MAX}.");
            return self.fail_expression(place, "foreach", &why);
        }
        self.start_block(place, Some(items));
    }

    /// Opens as many iterations as may run concurrently; ends the loop when none is left.
    pub(super) fn spawn_iterations(&mut self, place: Place) {
        let state = self.state;
        let ActionKind::Foreach { body, concurrency, .. } = &state.workflow.action(place.action).kind else {
            return;
        };
        let Some(activity) = state.activity(place) else { return };
        let Some(each) = &activity.each else { return };
        let count = each.items.len() as u32;
        let concurrency = match concurrency {
            Setting::Fixed(count) => *count,
            computed @ Setting::Computed(_) => self.repetitions(place, computed).unwrap_or(1),
        };
        let room = concurrency.saturating_sub(each.active).min(count - each.next.min(count));
        for index in each.next..each.next + room {
            self.open_opening(*body, place, index);
        }
        if room == 0 && each.active == 0 && each.next >= count {
            self.end_started(place, block_outcome(activity.failed, None));
        }
    }

    /// How many iterations of a Foreach may run concurrently.
    pub(super) fn repetitions(&self, place: Place, setting: &Setting<u32>) -> Result<u32, String> {
        let template = match setting {
            Setting::Fixed(count) => return Ok(*count),
            Setting::Computed(template) => template,
        };
        let value = self.evaluate(place, template).map_err(|error| error.to_string())?;
        let count = value.as_i64().and_then(|count| u32::try_from(count).ok());
        count.filter(|count| (1..=REPETITIONS_MAX).contains(count)).ok_or_else(|| {
            format!("`repetitions` must be between 1 and {REPETITIONS_MAX} (got {})", shown(&value))
        })
    }

    pub(super) fn start_loop(&mut self, place: Place, looping: &Loop) {
        let settings = self.loop_settings(place, looping);
        let (count, timeout, delay) = match settings {
            Ok(settings) => settings,
            Err(why) => {
                let message = format!("The limit of '{}' is invalid: {why}", self.action(place).name);
                let error = ErrorInfo::new("WorkflowRunActionUntilLimitInvalid", message);
                return self.end(place, Outcome::of_error(error));
            }
        };
        self.start_block(place, None);
        let deadline = time::add(self.now, timeout);
        self.out.push(Event::LoopStarted { place, count, deadline, delay });
        if looping.style == LoopStyle::While {
            match self.loop_condition(place, looping, None) {
                Ok(true) => {}
                Ok(false) => return self.end_loop(place, looping, None, LoopEnd::Completed),
                Err(why) => return self.fail_evaluation(place, "expression", &why),
            }
        }
        self.open_opening(looping.body, place, 0);
    }

    fn loop_settings(&self, place: Place, looping: &Loop) -> Result<(u32, Span, Duration), String> {
        let value = |template: &Template| self.evaluate(place, template).map_err(|error| error.to_string());
        let count = match &looping.count {
            Setting::Fixed(count) => *count,
            Setting::Computed(template) => {
                let count = value(template)?;
                let given = count.as_i64().filter(|count| (1..=ROUNDS_MAX).contains(count));
                given.ok_or_else(|| {
                    format!("`count` must be between 1 and {ROUNDS_MAX} (got {})", shown(&count))
                })? as u32
            }
        };
        let span = |setting: &Setting<Span>| match setting {
            Setting::Fixed(span) => Ok(*span),
            Setting::Computed(template) => read_span(&value(template)?),
        };
        let delay = match &looping.delay {
            Some(delay) => span(delay)?.approximate(),
            None => Duration::ZERO,
        };
        Ok((count, span(&looping.timeout)?, delay))
    }

    /// Whether the loop's condition is true, evaluated in its last iteration if there is one.
    fn loop_condition(
        &self,
        place: Place,
        looping: &Loop,
        iteration: Option<OpeningId>,
    ) -> Result<bool, Error> {
        let mut scope = self.scope(iteration.unwrap_or(place.opening));
        scope.current = Some(place);
        looping.condition.evaluate(&scope)
    }

    pub(super) fn loop_iteration_done(&mut self, place: Place, iteration: OpeningId, looping: &Loop) {
        let Some(progress) = self.progress(place) else { return };
        let met = match self.loop_condition(place, looping, Some(iteration)) {
            Ok(value) if looping.style == LoopStyle::While => !value,
            Ok(value) => value,
            Err(why) => return self.fail_evaluation(place, "expression", &why),
        };
        let end = if met {
            LoopEnd::Completed
        } else if progress.iterations >= progress.count {
            LoopEnd::MaxIterations
        } else if self.now >= progress.deadline {
            LoopEnd::Timeout
        } else {
            let delay = progress.delay;
            if delay.is_zero() {
                self.open_opening(looping.body, place, progress.iterations);
            } else {
                self.set_timer(place, time::after(self.now, delay), Purpose::Iteration);
            }
            return;
        };
        self.end_loop(place, looping, Some(progress), end);
    }

    /// Starts the next iteration after a pause.
    pub(super) fn next_iteration(&mut self, place: Place) {
        let state = self.state;
        let Some(iterations) = self.progress(place).map(|progress| progress.iterations) else { return };
        match &state.workflow.action(place.action).kind {
            ActionKind::Loop(looping) => {
                let late = self.progress(place).is_some_and(|progress| self.now >= progress.deadline);
                if late {
                    return self.end_loop(place, looping, self.progress(place), LoopEnd::Timeout);
                }
                self.open_opening(looping.body, place, iterations);
            }
            ActionKind::Retry { body, .. } => {
                self.open_opening(*body, place, iterations);
            }
            _ => {}
        }
    }

    fn progress(&self, place: Place) -> Option<&'a LoopState> {
        self.state.activity(place)?.looping.as_deref()
    }

    fn end_loop(&mut self, place: Place, looping: &Loop, progress: Option<&LoopState>, end: LoopEnd) {
        let state = self.state;
        let action = state.workflow.action(place.action);
        let failed = state.activity(place).is_some_and(|activity| activity.failed);
        let outputs = looping.loom_spelling.then(|| loop_outputs(progress, end));
        let limit = match end {
            LoopEnd::Completed => None,
            LoopEnd::MaxIterations => Some("count"),
            LoopEnd::Timeout => Some("timeout"),
        };
        if let (false, Some(limit), true) = (failed, limit, action.options.fail_when_limits_reached) {
            let message =
                format!("'{}' reached its limit '{limit}' before its condition was met.", action.name);
            let error = ErrorInfo::new("ActionUntilConditionFailed", message);
            let outcome = Outcome { outputs, ..Outcome::failed("ActionFailed", error) };
            return self.end_started(place, outcome);
        }
        self.end_started(place, block_outcome(failed, outputs));
    }

    pub(super) fn start_retry(&mut self, place: Place, body: BlockIdx, policy: &RetrySetting) {
        let policy = self.retry_action_policy(place, policy);
        self.start_block(place, None);
        self.out.push(Event::LoopStarted {
            place,
            count: if policy.mode == Mode::Enforce { policy.max_attempts } else { 1 },
            deadline: loom_expression::Timestamp::MAX,
            delay: Duration::ZERO,
        });
        self.open_opening(body, place, 0);
    }

    fn retry_action_policy(&self, place: Place, policy: &RetrySetting) -> Arc<RetryPolicy> {
        match policy {
            RetrySetting::Fixed(policy) => Arc::clone(policy),
            RetrySetting::Computed(template, spelling) => {
                let policy = self.computed_retry(place, template, *spelling);
                Arc::new(policy.unwrap_or(RetryPolicy::NONE))
            }
            RetrySetting::Default => Arc::new(RetryPolicy::retry_action_default()),
        }
    }

    pub(super) fn retry_iteration_done(&mut self, place: Place, iteration: OpeningId, policy: &RetrySetting) {
        let state = self.state;
        let failed = state.activity(place).is_some_and(|activity| activity.failed);
        let Some(progress) = self.progress(place) else { return };
        let attempts = progress.iterations;
        let place_of_last = state.last_of_iteration(iteration);
        let last = place_of_last.map(|place| state.outcome_of(place));
        if !failed {
            let result = last.and_then(|outcome| outcome.outputs).unwrap_or(Value::NULL);
            let outputs = retry_outputs("success", attempts, &progress.attempts, ("result", result));
            return self.end_started(place, block_outcome(false, Some(outputs)));
        }
        let outcome = last.unwrap_or_else(|| block_outcome(true, None));
        let policy = self.retry_action_policy(place, policy);
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        let seed = random::seed_of(state, place) ^ u64::from(attempts);
        let wait = retry::wait_before_next(&policy, attempts, &outcome, hint, seed);
        if let Some(wait) = wait.filter(|_| policy.mode == Mode::Enforce) {
            return self.set_timer(place, time::after(self.now, wait), Purpose::Iteration);
        }
        let error = match (&outcome.error, place_of_last) {
            (Some(error), Some(place)) => {
                record::error_value(state.workflow.action(place.action).labels_of_outputs(), error)
            }
            (error, _) => error.as_ref().map_or(Value::NULL, |error| error.to_value()),
        };
        let why = error.get("message").map(|message| match message.as_str() {
            Some(text) if !message.is_secret() => text.to_owned(),
            _ => shown(message),
        });
        let outputs = retry_outputs("failed", attempts, &progress.attempts, ("error", error));
        let name = &state.workflow.action(place.action).name;
        let message = format!("'{name}' failed after {attempts} attempts: {}", why.unwrap_or_default());
        let outcome = Outcome {
            status: Status::Failed,
            code: Cow::Borrowed("ActionFailed"),
            outputs: Some(outputs),
            error: Some(Arc::new(ErrorInfo::new("ActionFailed", message))),
        };
        self.end_started(place, outcome);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LoopEnd {
    Completed,
    MaxIterations,
    Timeout,
}

fn loop_outputs(progress: Option<&LoopState>, end: LoopEnd) -> Value {
    let status = match end {
        LoopEnd::Completed => "completed",
        LoopEnd::MaxIterations => "max-iterations",
        LoopEnd::Timeout => "timeout",
    };
    let results = progress.map(|progress| progress.results.clone()).unwrap_or_default();
    let members = [
        ("status", Value::from(status)),
        ("iterations", Value::from(progress.map_or(0, |progress| i64::from(progress.iterations)))),
        ("conditionMet", Value::from(end == LoopEnd::Completed)),
        ("lastResult", results.last().cloned().unwrap_or(Value::NULL)),
        ("results", Value::from(results)),
    ];
    members.into_iter().collect::<Object>().into()
}

fn retry_outputs(status: &str, attempts: u32, history: &[Value], last: (&'static str, Value)) -> Value {
    let members = [
        ("status", Value::from(status)),
        ("attempts", Value::from(i64::from(attempts))),
        ("history", Value::from(history.to_vec())),
        last,
    ];
    members.into_iter().collect::<Object>().into()
}
