//! External calls: effects with their attempts, retries, polls and callbacks, and admission to services for actions that the
//! engine executes itself.

use std::sync::Arc;

use loom_definition::{
    Status,
    model::{Action, ActionKind, EffectKind},
    policy::{FallbackOutputs, Mode, RetryPolicy, RetrySetting, Spelling},
};
use loom_expression::{Labels, Object, Template, Timestamp, Value, without_quotes};
use loom_resilience::Part;

use super::Decider;
use crate::{
    call_kinds::{is_call, is_webhook, waits_for_instant},
    compute,
    event::{
        CircuitHint, EffectId, EffectResult, ErrorInfo, Event, FALLBACK, Next, Note, Outcome, Phase, Place,
        Purpose, RetryHint,
    },
    random, record, retry, time,
};

impl Decider<'_> {
    pub(super) fn admit(&mut self, place: Place, attempt: u32) {
        let effect = self.next_effect();
        self.push_attempt(place, attempt, effect, Phase::Admit, None);
    }

    pub(super) fn push_attempt(
        &mut self,
        place: Place,
        attempt: u32,
        effect: EffectId,
        phase: Phase,
        resume: Option<Value>,
    ) {
        self.out.push(Event::AttemptStarted { place, attempt, effect, phase, resume, at: self.now });
    }

    pub(super) fn start_effect(&mut self, place: Place, effect: &EffectKind, inputs: &Template) {
        match effect {
            EffectKind::Compute(kind) => {
                let computed = self.evaluate(place, inputs);
                match computed.and_then(|inputs| compute::run(kind, &inputs, self.wall)) {
                    Ok(outcome) => self.end(place, outcome),
                    Err(error) => self.fail_inputs(place, &error),
                }
            }
            EffectKind::HttpWebhook | EffectKind::ApiConnectionWebhook => {
                self.start_call(place, inputs, Phase::Subscribe);
            }
            EffectKind::Http
            | EffectKind::ApiConnection
            | EffectKind::Function
            | EffectKind::Workflow
            | EffectKind::Script(_)
            | EffectKind::Actor
            | EffectKind::Activity
            | EffectKind::Ai
            | EffectKind::Memory
            | EffectKind::Signal
            | EffectKind::Custom(_) => self.start_call(place, inputs, Phase::Call),
        }
    }

    /// Evaluates the inputs once, records the start, and makes the first attempt.
    pub(super) fn start_call(&mut self, place: Place, inputs: &Template, phase: Phase) {
        let effect = self.next_effect();
        let callback = self.callback_url(effect);
        let mut scope = self.scope(place.opening);
        scope.callback = callback.as_deref();
        match inputs.evaluate(&scope) {
            Ok(inputs) => self.begin_call(place, inputs, effect, phase),
            Err(error) => self.fail_inputs(place, &error),
        }
    }

    pub(super) fn begin_call(&mut self, place: Place, inputs: Value, effect: EffectId, phase: Phase) {
        if let Some(approval) = &self.action(place).approval
            && inputs.contains_untrusted()
        {
            return self.ask_approval(place, inputs, effect, approval);
        }
        let Some(inputs) = self.accepted(place, inputs) else { return };
        self.push_start(place, Some(inputs));
        self.set_limit(place);
        self.push_attempt(place, 1, effect, phase, None);
    }

    fn callback_url(&self, effect: EffectId) -> Option<String> {
        let callbacks = self.environment.callbacks.as_ref()?;
        Some(callbacks.url(self.state.start.as_ref()?.run, effect))
    }

    pub(super) fn effect_ended(&mut self, effect: EffectId, result: EffectResult) {
        let Some(call) = self.state.effects.get(effect) else { return };
        let (place, at) = (call.place, self.now);
        if call.phase == Phase::Approve {
            return self.approval_ended(place, effect, result);
        }
        let result = self.withheld(place, call.phase, result);
        let ended = |next, outcome| Event::AttemptEnded { place, effect, outcome, next, at };
        match result {
            EffectResult::Done { outcome, .. } | EffectResult::Pending { outcome, .. }
                if call.phase == Phase::Unsubscribe =>
            {
                self.out.push(ended(Next::End, outcome));
            }
            EffectResult::Admitted => self.out.push(ended(Next::Execute, Outcome::ok(None))),
            EffectResult::Turn { outcome, uses } => self.turn(place, effect, outcome, uses),
            EffectResult::Pending { outcome, after, resume } => {
                let due = time::after(at, after);
                self.out.push(ended(Next::Poll { due, resume }, outcome));
                self.set_timer(place, due, Purpose::Poll);
            }
            EffectResult::Done { outcome, hint } => {
                if matches!(outcome.status, Status::Succeeded | Status::HandedOff) {
                    if call.phase == Phase::Subscribe {
                        return self.out.push(ended(Next::Callback, outcome));
                    }
                    return self.end_call(place, outcome);
                }
                if let Some(due) = self.retry_at(place, call.attempt, effect, &outcome, hint) {
                    self.out.push(ended(Next::Retry { due }, outcome));
                    return self.set_timer(place, due, Purpose::Retry);
                }
                // A local rejection that ends the action must not hide an earlier response of the service.
                if call.phase == Phase::Subscribe && self.may_have_subscribed(place, &outcome) {
                    self.unsubscribe(place);
                }
                let earlier = if retry::is_refusal(&outcome) { self.last_failure(place) } else { None };
                self.end_call(place, earlier.unwrap_or(outcome));
            }
        }
    }

    /// The result of a call with quotations of secret inputs removed from its error, and with outputs labelled as secret
    /// where the definition says so, and as untrusted where a language model is behind them.
    fn withheld(&self, place: Place, phase: Phase, result: EffectResult) -> EffectResult {
        let clean = |mut outcome: Outcome| {
            let labels = self.action(place).labels_of_outputs();
            outcome.outputs = outcome.outputs.map(|outputs| outputs.labelled(labels));
            if outcome.error.is_some() {
                let inputs = match phase {
                    Phase::Unsubscribe => None,
                    Phase::Call | Phase::Admit | Phase::Subscribe | Phase::Approve => {
                        self.state.slot(place).inputs.as_ref()
                    }
                };
                let about = inputs.into_iter().chain(outcome.outputs.as_ref()).cloned().collect();
                outcome = outcome.withheld(&about, &self.environment.masker);
            }
            outcome
        };
        match result {
            EffectResult::Done { outcome, hint } => EffectResult::Done { outcome: clean(outcome), hint },
            EffectResult::Pending { outcome, after, resume } => {
                EffectResult::Pending { outcome: clean(outcome), after, resume }
            }
            EffectResult::Admitted => EffectResult::Admitted,
            EffectResult::Turn { outcome, mut uses } => {
                for used in &mut uses {
                    used.arguments = std::mem::take(&mut used.arguments).labelled(Labels::UNTRUSTED);
                }
                EffectResult::Turn { outcome: clean(outcome), uses }
            }
        }
    }

    /// A note with quotations of secret inputs removed.
    pub(super) fn withheld_note(&self, effect: EffectId, note: Note) -> Note {
        let place = self.state.effects.get(effect).map(|call| call.place);
        let inputs = place.and_then(|place| self.state.slot(place).inputs.as_ref()).unwrap_or(&Value::NULL);
        if !inputs.contains_secret() && self.environment.masker.is_empty() {
            return note;
        }
        let clean = |text: &str| self.environment.masker.mask(&without_quotes(text, [inputs])).into_owned();
        match note {
            Note::Waited { service, by, wait } => Note::Waited { service: clean(&service).into(), by, wait },
            Note::Breaker { service, from, to, why } => {
                Note::Breaker { service: clean(&service).into(), from, to, why: clean(&why) }
            }
            Note::Hedged { service, copies } => Note::Hedged { service: clean(&service).into(), copies },
            Note::Observed { service, part } => Note::Observed { service: clean(&service).into(), part },
            Note::Interrupted { text } => Note::Interrupted { text: clean(&text) },
            Note::Injected { service, kind, what } => {
                Note::Injected { service: clean(&service).into(), kind, what: clean(&what) }
            }
        }
    }

    pub(super) fn end_call(&mut self, place: Place, outcome: Outcome) {
        let started = self.state.slot(place).started;
        let outcome = self.fall_back(place, started, outcome);
        self.push_end(place, started, None, outcome);
    }

    /// The outcome of a call that has ended: its own, or that of its `fallback` if it failed.
    ///
    /// The failure stays in the history: as the result of the attempt, and as the error of the action.
    pub(super) fn fall_back(&mut self, place: Place, started: Timestamp, outcome: Outcome) -> Outcome {
        let action = self.action(place);
        let fallback = action.resilience.as_deref().and_then(|resilience| resilience.fallback.as_deref());
        let Some(fallback) = fallback.filter(|fallback| {
            fallback.mode != Mode::Off && fallback.on.contains(outcome.status) && is_call(&action.kind)
        }) else {
            return outcome;
        };
        let call = self.state.activity(place).and_then(|activity| activity.call.as_ref());
        let effect = call.and_then(|call| call.effect);
        if fallback.mode == Mode::Observe {
            if let Some(effect) = effect {
                self.note_observed(action, effect, Part::Fallback);
            }
            return outcome;
        }
        let (FallbackOutputs::Whole(template) | FallbackOutputs::Body(template)) = &fallback.outputs;
        let mut scope = self.scope(place.opening);
        scope.current = Some(place);
        scope.current_record = Some(record::of_outcome(self.state, place, started, self.now, &outcome));
        let value = match template.evaluate(&scope) {
            Ok(value) => value,
            Err(error) => {
                let mut outcome = outcome;
                let known = outcome.error.take().map(Arc::unwrap_or_clone).unwrap_or_default();
                let message = format!("{} The fallback cannot be evaluated: {error}", known.message);
                outcome.error = Some(Arc::new(ErrorInfo { message, ..known }));
                return outcome;
            }
        };
        let outputs = match fallback.outputs {
            FallbackOutputs::Whole(_) => value,
            FallbackOutputs::Body(_) => Value::from([("body", value)].into_iter().collect::<Object>()),
        };
        let error = outcome.error.clone();
        if let Some(effect) = effect {
            let next = Next::End;
            self.out.push(Event::AttemptEnded { place, effect, outcome, next, at: self.now });
        }
        Outcome {
            status: Status::Succeeded,
            code: FALLBACK.into(),
            outputs: Some(outputs.secret_if(action.secure.outputs)),
            error,
        }
    }

    /// Records that a part in observe mode would have changed the course of an action.
    fn note_observed(&mut self, action: &Action, effect: EffectId, part: Part) {
        let service = match action.resilience.as_deref().and_then(|own| own.named.as_ref()) {
            Some(using) => Arc::clone(&using.name),
            None => Arc::clone(&action.name),
        };
        let note = Note::Observed { service, part: part.as_str().into() };
        self.out.push(Event::AttemptNoted { effect, note, at: self.now });
    }

    /// Records that an action that is about to end took longer than its timeout, if that is only observed.
    #[cold]
    pub(super) fn observe_timeout(&mut self, place: Place, started: Timestamp) {
        let action = self.action(place);
        let (Some(timeout), Mode::Observe) = self.timeout_of(action) else { return };
        let call = self.state.activity(place).and_then(|activity| activity.call.as_ref());
        let Some(effect) = call.and_then(|call| call.effect.or(call.admitted)) else { return };
        // An invalid timeout was reported when the action began.
        if self.limit(place, &timeout).is_ok_and(|limit| time::add(started, limit) <= self.now) {
            self.note_observed(action, effect, Part::TotalTimeout);
        }
    }

    /// The time of the next attempt, if there is one. A retry that is only observed is recorded for the attempt `effect`.
    ///
    /// A local rejection is not an attempt at the service: the policy's attempts count the calls that were made, and the
    /// same number of rejections is allowed in addition.
    fn retry_at(
        &mut self,
        place: Place,
        attempt: u32,
        effect: EffectId,
        outcome: &Outcome,
        hint: RetryHint,
    ) -> Option<Timestamp> {
        let policy = self.retry_policy(place).filter(|policy| policy.mode != Mode::Off)?;
        let seed = random::seed_of(self.state, place) ^ u64::from(attempt);
        let refusals =
            self.earlier_attempts(place).iter().filter(|entry| retry::is_refusal_entry(entry)).count();
        let refusals = u32::try_from(refusals).unwrap_or(u32::MAX);
        let counted = if retry::is_refusal(outcome) {
            refusals.saturating_add(1)
        } else {
            attempt.saturating_sub(refusals)
        };
        let wait = retry::wait_before_next(&policy, counted, outcome, hint, seed)?;
        let due = time::after(self.now, wait);
        let opens_too_late = matches!(hint.circuit, CircuitHint::OpenFor(_))
            && self.limit_of(place).is_some_and(|limit| due >= limit);
        if opens_too_late {
            return None;
        }
        if policy.mode == Mode::Observe {
            self.note_observed(self.action(place), effect, Part::Retry);
            return None;
        }
        Some(due)
    }

    /// The outcomes of the attempts at an action that were followed by another attempt, oldest first.
    fn earlier_attempts(&self, place: Place) -> &[Value] {
        let call = self.state.activity(place).and_then(|activity| activity.call.as_ref());
        call.map_or(&[], |call| &call.history)
    }

    /// The last failure of the service itself, before calls were rejected locally.
    fn last_failure(&self, place: Place) -> Option<Outcome> {
        let entry = self.earlier_attempts(place).iter().rfind(|entry| !retry::is_refusal_entry(entry))?;
        let code = entry.get("code").map(|code| code.text().into_owned()).unwrap_or_default();
        let error = entry.get("error").map(ErrorInfo::from_value).unwrap_or_default();
        Some(Outcome::failed(code, error))
    }

    /// Whether a service may have accepted a subscription whose last attempt failed. It has not if it rejected all of them, or
    /// received none.
    fn may_have_subscribed(&self, place: Place, outcome: &Outcome) -> bool {
        let status = outcome.outputs.as_ref().and_then(|outputs| outputs.get("statusCode")?.as_i64());
        let rejected = status.is_some_and(|status| (400..500).contains(&status));
        let sent_before = self.earlier_attempts(place).iter().any(|entry| !retry::is_refusal_entry(entry));
        sent_before || !(rejected || retry::is_refusal(outcome))
    }

    /// The action's deadline, if it has a timeout.
    fn limit_of(&self, place: Place) -> Option<Timestamp> {
        let limit = self.state.activity(place).and_then(|activity| activity.limit)?;
        self.state.timers.get(limit).map(|timer| timer.due)
    }

    /// The retry policy in effect: the action's own, or the default of its kind.
    fn retry_policy(&self, place: Place) -> Option<Arc<RetryPolicy>> {
        let action = self.action(place);
        let applied = self.environment.policies.of(action);
        match applied.as_deref().map(|applied| &applied.retry) {
            Some(RetrySetting::Fixed(policy)) => Some(Arc::clone(policy)),
            Some(RetrySetting::Computed(template, spelling)) => {
                self.computed_retry(place, template, *spelling).ok().map(Arc::new)
            }
            Some(RetrySetting::Default) | None => {
                action.kind.retries_by_default().then(|| Arc::clone(&self.environment.default_retry))
            }
        }
    }

    /// A retry policy that an expression computes.
    pub(super) fn computed_retry(
        &self,
        place: Place,
        template: &Template,
        spelling: Spelling,
    ) -> Result<RetryPolicy, String> {
        let value = self.evaluate(place, template).map_err(|error| error.to_string())?;
        RetryPolicy::read(&value, spelling)
            .map_err(|problem| without_quotes(&problem.message, [&value]).into_owned())
    }

    /// Schedules a retry of an action that the engine executes itself, if its policy allows one.
    pub(super) fn retry_local(&mut self, place: Place, outcome: &Outcome) -> bool {
        let action = self.action(place);
        if is_call(&action.kind) || action.resilience.is_none() {
            return false;
        }
        let Some(call) = self.state.activity(place).and_then(|activity| activity.call.as_ref()) else {
            return false;
        };
        let hint = RetryHint { transient: true, ..RetryHint::default() };
        let Some(effect) = call.admitted else { return false };
        let Some(due) = self.retry_at(place, call.attempt, effect, outcome, hint) else { return false };
        let (outcome, next) = (outcome.clone(), Next::Retry { due });
        self.out.push(Event::AttemptEnded { place, effect, outcome, next, at: self.now });
        self.set_timer(place, due, Purpose::Retry);
        true
    }

    pub(super) fn next_attempt(&mut self, place: Place) {
        let state = self.state;
        let Some(call) = state.activity(place).and_then(|activity| activity.call.as_ref()) else { return };
        let kind = &state.workflow.action(place.action).kind;
        let phase = match (is_call(kind), is_webhook(kind)) {
            (false, _) => Phase::Admit,
            (true, true) => Phase::Subscribe,
            (true, false) => Phase::Call,
        };
        let effect = self.next_effect();
        self.push_attempt(place, call.attempt + 1, effect, phase, None);
    }

    pub(super) fn poll_again(&mut self, place: Place) {
        let state = self.state;
        let Some(call) = state.activity(place).and_then(|activity| activity.call.as_ref()) else { return };
        let effect = self.next_effect();
        self.push_attempt(place, call.attempt, effect, Phase::Call, call.resume.clone());
    }

    /// A callback ends the webhook that waits for it. A callback that arrives before the subscription has been confirmed, or
    /// between two attempts to subscribe, is accepted too, because services may call back immediately. A suspended run
    /// accepts it as well, because the service will not call again.
    pub(super) fn callback(&mut self, effect: EffectId, payload: Value) {
        let Some(place) = self.state.waiting_for_callback(effect) else { return };
        self.unsubscribe(place);
        let labels = self.action(place).labels_of_outputs();
        self.end_call(place, Outcome::ok(Some(payload.labelled(labels))));
    }

    /// Ends the subscription of a webhook that has one or may have one: the service may have accepted the subscription
    /// although its response has not arrived, and a request to end an unknown subscription does no harm.
    pub(super) fn unsubscribe(&mut self, place: Place) {
        let state = self.state;
        let Some(call) = state.activity(place).and_then(|activity| activity.call.as_ref()) else { return };
        if !is_webhook(&state.workflow.action(place.action).kind) {
            return;
        }
        let ActionKind::Effect { inputs, .. } = &state.workflow.action(place.action).kind else { return };
        let callback = self.callback_url(call.first_effect);
        let mut scope = self.scope(place.opening);
        scope.current = Some(place);
        scope.callback = callback.as_deref();
        // Evaluated again, because it may refer to the response of the subscription.
        let Ok(whole) = inputs.evaluate(&scope) else { return };
        let own = whole.get("unsubscribe").cloned();
        let Some(request) = own.or_else(|| of_response(&whole, call.resume.as_ref())) else { return };
        let effect = self.next_effect();
        self.push_attempt(place, 1, effect, Phase::Unsubscribe, Some(request));
    }

    pub(super) fn wait(&mut self, place: Place, inputs: &Template) {
        let inputs = match self.evaluate(place, inputs) {
            Ok(inputs) => inputs,
            Err(error) => return self.fail_inputs(place, &error),
        };
        let due = match wait_until(self.now, &inputs) {
            Ok(due) => due,
            Err(why) => {
                let error = ErrorInfo::new("InvalidTemplate", without_quotes(&why, [&inputs]));
                return self.end(place, Outcome::of_error(error));
            }
        };
        let now = if waits_for_instant(&inputs) { self.wall } else { self.now };
        if due <= now {
            return self.end(place, Outcome::ok(None));
        }
        self.push_start(place, Some(inputs));
        self.set_limit(place);
        self.set_timer(place, due, Purpose::Wait);
    }
}

/// The request that ends the subscription of a connector which is not told how: its inputs, and what its service responded. The
/// handler knows what the connector's description says about it.
fn of_response(inputs: &Value, response: Option<&Value>) -> Option<Value> {
    let host = inputs.get("host")?;
    host.get("operationId")?;
    let mut request = inputs.as_object()?.clone();
    request.insert("$subscribed", response?.clone());
    Some(request.into())
}

/// The time at which a `Wait` ends.
fn wait_until(now: Timestamp, inputs: &Value) -> Result<Timestamp, String> {
    if let Some(interval) = inputs.get("interval") {
        let count = interval.get("count").cloned().unwrap_or(Value::NULL);
        let unit = interval.get("unit").cloned().unwrap_or(Value::NULL);
        return time::shift(&Value::from(now.to_string()), &count, &unit)
            .and_then(|due| time::parse(&due))
            .map_err(|error| format!("The 'interval' of the wait is invalid: {error}"));
    }
    let until = inputs.get("until");
    let until = until.and_then(|until| until.get("timestamp")).or(until);
    match until {
        Some(until) => {
            time::parse(until).map_err(|error| format!("The 'until' of the wait is invalid: {error}"))
        }
        None => Err("The inputs of a wait must have 'interval' or 'until'.".to_owned()),
    }
}
