//! Creates spans for runs: one for each run, each action, and each call of an action.
//!
//! A span is exported when it ends, so the recorder keeps little state, and none of it has to survive the process: the next
//! process restores it from the run's state, and ids are derived from the run. Only durable events are recorded, so no span
//! shows something that a crash undoes. Secrets are omitted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use loom_actions::Url;
use loom_definition::{
    ActionIdx, RunStatus, Status, Workflow,
    model::{ActionKind, EffectKind},
    trigger::TriggerKind,
};
use loom_engine::{
    EffectId, Event, Iteration, OpeningId, Place, RunId, RunStart, RunState, Trail,
    event::{ErrorInfo, FALLBACK, Next, Note, Outcome, Phase},
    trace::{self, RunTrace},
};
use loom_expression::{Timestamp, Value};

use super::{
    Exporter, gen_ai,
    span::{Attribute, Attributes, Events, Kind, Span},
};
use crate::{event_json, redact::Redaction};

/// The maximum number of characters of an error message.
const MESSAGE_MAX: usize = 1_024;

/// The maximum number of cached redaction rules.
const RULES_MAX: usize = 1_024;

/// A definition, by its hash, and the trigger that fired.
type Fired = ([u8; 32], Option<Arc<str>>);

/// Creates spans from events.
#[derive(Debug)]
pub(crate) struct Recorder {
    exporter: Arc<Exporter>,
    runs: Mutex<HashMap<RunId, Arc<Mutex<Recorded>>>>,
    rules: Mutex<HashMap<Fired, Arc<Redaction>>>,
}

impl Recorder {
    pub(crate) fn new(exporter: Arc<Exporter>) -> Recorder {
        Recorder { exporter, runs: Mutex::default(), rules: Mutex::default() }
    }

    pub(crate) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Records new events of a run, which `state` already includes.
    pub(crate) fn events(&self, state: &RunState, events: &[Event]) {
        let Some(start) = state.start() else { return };
        if matches!(events.first(), Some(Event::RunStarted { .. })) {
            self.begin(state, start, Trail::new(Arc::clone(state.workflow())));
        }
        let known = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&start.run).cloned();
        let Some(known) = known else { return };
        {
            let mut recorded = known.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                recorded.event(event, state, &self.exporter);
            }
        }
        if state.status().is_final() {
            self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&start.run);
        }
    }

    /// Forgets a run that has left memory; see [`Recorder::resumes`].
    pub(crate) fn forget(&self, run: RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Continues a run that is resumed from the store.
    pub(crate) fn resumes(&self, state: &RunState) {
        let Some(start) = state.start() else { return };
        // The times in the trail are not used: spans begin with events that have their own.
        if let Some(recorded) = self.begin(state, start, Trail::of_state(state, state.started_at())) {
            recorded.lock().unwrap_or_else(PoisonError::into_inner).restore(state);
        }
    }

    fn begin(&self, state: &RunState, start: &Arc<RunStart>, trail: Trail) -> Option<Arc<Mutex<Recorded>>> {
        let trace = RunTrace::of(start);
        if !trace.is_sampled() {
            return None;
        }
        let workflow = state.workflow();
        let trigger = start.trigger.get("name").and_then(Value::as_str).map(Arc::from);
        let recorded = Arc::new(Mutex::new(Recorded {
            run: start.run,
            trace,
            workflow: Arc::clone(workflow),
            redaction: self.rules(workflow, trigger),
            trail,
            running: HashMap::new(),
            calls: HashMap::new(),
        }));
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(start.run, Arc::clone(&recorded));
        Some(recorded)
    }

    fn rules(&self, workflow: &Arc<Workflow>, trigger: Option<Arc<str>>) -> Arc<Redaction> {
        let key = (workflow.hash, trigger);
        let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let rules = Arc::new(Redaction::of(workflow, key.1.as_deref()));
            let mut all = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= RULES_MAX {
                all.clear();
            }
            all.insert(key, Arc::clone(&rules));
            rules
        })
    }
}

/// The state of a run that is needed to complete its spans.
#[derive(Debug)]
struct Recorded {
    run: RunId,
    trace: RunTrace,
    workflow: Arc<Workflow>,
    redaction: Arc<Redaction>,
    trail: Trail,
    /// Actions in progress that started with their own event.
    running: HashMap<Place, Running>,
    calls: HashMap<EffectId, CallSpan>,
}

#[derive(Debug, Default)]
struct Running {
    request: Option<Request>,
    events: Events,
    marks: Marks,
    call: Option<EffectId>,
}

/// What policies and chaos did to a call, as attributes by which its span can be found.
#[derive(Debug, Default)]
struct Marks {
    hedged: u32,
    /// The parts in observe mode that would have interfered, separated by commas.
    observed: String,
    /// The kinds of chaos, separated by commas.
    injected: String,
}

impl Marks {
    fn note(&mut self, note: &Note) {
        let add = |list: &mut String, name: &str| {
            if !list.split(',').any(|known| known == name) {
                list.push_str(if list.is_empty() { "" } else { "," });
                list.push_str(name);
            }
        };
        match note {
            Note::Hedged { copies, .. } => self.hedged = self.hedged.saturating_add(*copies),
            Note::Observed { part, .. } => add(&mut self.observed, part),
            Note::Injected { kind, .. } => add(&mut self.injected, kind),
            Note::Waited { .. } | Note::Breaker { .. } | Note::Interrupted { .. } => {}
        }
    }

    fn attributes(self) -> impl Iterator<Item = (&'static str, Attribute)> {
        let hedged = (self.hedged > 0).then(|| ("loom.hedge.copies", i64::from(self.hedged).into()));
        let list = |name, list: String| (!list.is_empty()).then(|| (name, list.into()));
        let lists = [list("loom.observed.parts", self.observed), list("loom.chaos.kinds", self.injected)];
        hedged.into_iter().chain(lists.into_iter().flatten())
    }
}

/// The public parts of an action's request.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    host: String,
    port: u16,
}

#[derive(Debug)]
struct CallSpan {
    place: Place,
    /// The span of its action.
    owner: u64,
    phase: Phase,
    attempt: u32,
    started: Timestamp,
    request: Option<Request>,
    events: Events,
    marks: Marks,
}

impl Recorded {
    fn event(&mut self, event: &Event, state: &RunState, exporter: &Exporter) {
        // The events of a run in progress refer to its own definition.
        if self.trail.follow(event).is_err() {
            return;
        }
        match event {
            Event::ActionStarted { place, inputs, .. } if self.has_span(*place) => {
                self.begin(*place, inputs.as_ref());
            }
            Event::AttemptStarted { place, attempt, effect, phase, at, .. } if self.has_span(*place) => {
                self.begin_call(*effect, *place, *phase, *attempt, *at);
            }
            Event::AttemptNoted { effect, note, at } => self.note(*effect, note, *at),
            // The action that was admitted may still be noted for it.
            Event::AttemptEnded { next: Next::Execute, .. } => {}
            Event::AttemptEnded { effect, outcome, at, .. } => {
                self.end_call(*effect, Some(outcome), *at, exporter);
            }
            Event::ActionEnded { place, started, at, outcome, .. } => {
                self.end(*place, *started, *at, outcome, exporter);
            }
            Event::RunWaiting { .. }
            | Event::RunAdmitted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. } => {}
            Event::RunEnded { status, error, at, .. } => {
                let open: Vec<EffectId> = self.calls.keys().copied().collect();
                for effect in open {
                    self.end_call(effect, None, *at, exporter);
                }
                exporter.offer(self.run_span(state, *status, error.as_deref(), *at));
            }
            Event::RunStarted { .. }
            | Event::BlockOpened { .. }
            | Event::ActionStarted { .. }
            | Event::AttemptStarted { .. }
            | Event::LoopStarted { .. }
            | Event::TimerSet { .. }
            | Event::TimerEnded { .. }
            | Event::VariableSet { .. }
            | Event::VariableAppended { .. }
            | Event::Responded { .. }
            | Event::Tracked { .. } => {}
        }
    }

    /// Restores the recorder's state for a run that an earlier process started.
    fn restore(&mut self, state: &RunState) {
        for (place, _, inputs) in state.running_actions() {
            if self.has_span(place) {
                self.begin(place, inputs);
            }
        }
        for (effect, call) in state.calls() {
            // An unsubscription outlives its action, and its start time is not known.
            if call.phase != Phase::Unsubscribe
                && self.has_span(call.place)
                && let Some(started) = state.attempt_started_at(call.place)
            {
                self.begin_call(effect, call.place, call.phase, call.attempt, started);
            }
        }
    }

    /// The action with a span that reports failures of the actions in this block, if they have none.
    fn reporter(&self, mut frame: OpeningId) -> Option<Place> {
        let mut reporter = None;
        while !trace::has_spans(&self.trail.path(frame))
            && let Some(parent) = self.trail.parent(frame)
        {
            (reporter, frame) = (Some(parent), parent.opening);
        }
        reporter
    }

    fn has_span(&self, place: Place) -> bool {
        trace::has_spans(&self.trail.path(place.opening))
    }

    fn begin(&mut self, place: Place, inputs: Option<&Value>) {
        let request = inputs.and_then(|inputs| self.request(place.action, inputs));
        let running = self.running.entry(place).or_default();
        if request.is_some() {
            running.request = request;
        }
    }

    /// The method and host of a request, unless they are secret.
    fn request(&self, action: ActionIdx, inputs: &Value) -> Option<Request> {
        let ActionKind::Effect { effect: EffectKind::Http | EffectKind::HttpWebhook, .. } =
            &self.workflow.action(action).kind
        else {
            return None;
        };
        let shown = self.redaction.inputs(action, inputs);
        let part =
            |name: &str| shown.get("subscribe").and_then(|half| half.get(name)).or_else(|| shown.get(name));
        let address = part("uri").or_else(|| part("url"))?;
        let url = Url::parse(address.as_str()?).ok()?;
        let given = part("method").and_then(Value::as_str).unwrap_or("GET").trim().to_ascii_uppercase();
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
        let method = if known.contains(&given.as_str()) { given } else { "_OTHER".to_owned() };
        Some(Request { method, host: url.host().to_owned(), port: url.port() })
    }

    fn begin_call(&mut self, effect: EffectId, place: Place, phase: Phase, attempt: u32, at: Timestamp) {
        let owner = self.action_span(place);
        let running = (phase != Phase::Unsubscribe).then(|| self.running.entry(place).or_default());
        let request = running.and_then(|running| {
            running.call = Some(effect);
            running.request.clone()
        });
        let (events, marks) = (Events::default(), Marks::default());
        let call = CallSpan { place, owner, phase, attempt, started: at, request, events, marks };
        self.calls.insert(effect, call);
    }

    fn action_span(&self, place: Place) -> u64 {
        self.trace.action(place.action, &self.trail.path(place.opening))
    }

    fn note(&mut self, effect: EffectId, note: &Note, at: Timestamp) {
        let Some(call) = self.calls.get_mut(&effect) else { return };
        let (name, attributes): (_, Attributes) = match note {
            Note::Waited { service, by, wait } => (
                "held",
                vec![
                    ("loom.service.name", (&**service).into()),
                    ("loom.held.by", by.as_ref().into()),
                    ("loom.held.wait_ms", (wait.as_millis() as i64).into()),
                ],
            ),
            Note::Breaker { service, from, to, why } => (
                "breaker",
                vec![
                    ("loom.service.name", (&**service).into()),
                    ("loom.breaker.from", from.as_ref().into()),
                    ("loom.breaker.to", to.as_ref().into()),
                    ("loom.breaker.why", why.as_str().into()),
                ],
            ),
            Note::Hedged { service, copies } => (
                "hedged",
                vec![
                    ("loom.service.name", (&**service).into()),
                    ("loom.hedge.copies", i64::from(*copies).into()),
                ],
            ),
            Note::Observed { service, part } => (
                "observed",
                vec![
                    ("loom.service.name", (&**service).into()),
                    ("loom.observed.part", part.as_ref().into()),
                ],
            ),
            Note::Injected { service, kind, what } => (
                "chaos",
                vec![
                    ("loom.service.name", (&**service).into()),
                    ("loom.chaos.kind", kind.as_ref().into()),
                    ("loom.chaos.what", what.as_str().into()),
                ],
            ),
            Note::Interrupted { text } => {
                ("interrupted", vec![("loom.interrupted.chars", (text.chars().count() as i64).into())])
            }
        };
        // An admission is not a call and has no span.
        match (call.phase, self.running.get_mut(&call.place)) {
            (Phase::Admit, Some(running)) => {
                running.marks.note(note);
                running.events.push(name, at, attributes);
            }
            (Phase::Admit, None) => {}
            _ => {
                call.marks.note(note);
                call.events.push(name, at, attributes);
            }
        }
    }

    /// Ends a call with its outcome, or with none if its result is no longer needed.
    fn end_call(&mut self, effect: EffectId, outcome: Option<&Outcome>, at: Timestamp, exporter: &Exporter) {
        let Some(call) = self.calls.remove(&effect) else { return };
        if let Some(running) = self.running.get_mut(&call.place)
            && running.call == Some(effect)
        {
            running.call = None;
        }
        // A wait for a person is no call either.
        if matches!(call.phase, Phase::Admit | Phase::Approve) {
            return;
        }
        let action = self.workflow.action(call.place.action);
        let mut attributes: Attributes = vec![
            ("loom.action.name", (&*action.name).into()),
            ("loom.attempt.number", i64::from(call.attempt).into()),
            ("loom.attempt.phase", event_json::phase_name(call.phase).into()),
        ];
        if let Some(request) = &call.request {
            attributes.push(("http.request.method", request.method.as_str().into()));
            attributes.push(("server.address", request.host.as_str().into()));
            attributes.push(("server.port", i64::from(request.port).into()));
            let responded = outcome.and_then(|outcome| outcome.outputs.as_ref()?.get("statusCode")?.as_i64());
            attributes.extend(responded.map(|status| ("http.response.status_code", status.into())));
            if call.attempt > 1 {
                attributes.push(("http.request.resend_count", i64::from(call.attempt - 1).into()));
            }
        }
        attributes.extend(gen_ai::of_call(&self.workflow, call.place.action, self.run, outcome));
        attributes.extend(call.marks.attributes());
        let failed = outcome.and_then(|outcome| self.failure(call.place.action, outcome, &mut attributes));
        let name = match &call.request {
            Some(request) if request.method != "_OTHER" => request.method.clone(),
            Some(_) => "HTTP".to_owned(),
            None => action.type_name.to_string(),
        };
        exporter.offer(Span {
            id: self.trace.call(effect),
            parent: Some(call.owner),
            name,
            kind: Kind::Client,
            start: call.started,
            end: at,
            attributes,
            events: call.events,
            failed,
            ..self.blank(at)
        });
    }

    fn end(
        &mut self,
        place: Place,
        started: Timestamp,
        at: Timestamp,
        outcome: &Outcome,
        exporter: &Exporter,
    ) {
        let path = self.trail.path(place.opening);
        let action = &self.workflow.action(place.action);
        let (name, kind) = (action.name.to_string(), action.type_name.to_string());
        let mut attributes: Attributes = vec![
            ("loom.action.name", name.as_str().into()),
            ("loom.action.type", kind.into()),
            ("loom.action.status", outcome.status.as_str().into()),
            ("loom.action.code", outcome.code.as_ref().into()),
        ];
        if !path.is_empty() {
            let part =
                |round: &Iteration| format!("{}/{}", self.workflow.action(round.action).name, round.index);
            let parts: Vec<String> = path.iter().map(part).collect();
            attributes.push(("loom.action.path", parts.join("/").into()));
        }
        attributes.extend(gen_ai::of_action(&self.workflow, place.action, outcome));
        if outcome.code == FALLBACK {
            // The error is that of the failure that the fallback replaced.
            let replaced = outcome.error.as_deref().map_or(FALLBACK, |error| error.code.as_ref());
            attributes.push(("loom.fallback.replaced", replaced.into()));
        }
        let failed = self.failure(place.action, outcome, &mut attributes);
        if let Some(reporter) = self.reporter(place.opening) {
            if let Some(message) = failed
                && let Some(running) = self.running.get_mut(&reporter)
            {
                attributes.push(("exception.message", message.into()));
                running.events.push("action failed", at, attributes);
            }
            return;
        }
        let running = self.running.remove(&place).unwrap_or_default();
        if let Some(effect) = running.call {
            self.end_call(effect, Some(outcome), at, exporter);
        }
        attributes.extend(running.marks.attributes());
        exporter.offer(Span {
            id: self.trace.action(place.action, &path),
            parent: Some(
                self.trail.parent(place.opening).map_or(self.trace.run, |parent| self.action_span(parent)),
            ),
            name,
            kind: Kind::Internal,
            start: started,
            end: at,
            attributes,
            events: running.events,
            failed,
            ..self.blank(at)
        });
    }

    /// The error message; its type is added to `attributes`.
    fn failure(&self, action: ActionIdx, outcome: &Outcome, attributes: &mut Attributes) -> Option<String> {
        if !matches!(outcome.status, Status::Failed | Status::TimedOut | Status::Aborted) {
            return None;
        }
        let error = outcome.error.as_deref();
        let kind = error.map_or(outcome.code.as_ref(), |error| error.code.as_ref());
        attributes.push(("error.type", kind.into()));
        let message = error.map_or("", |error| error.message.as_str());
        // The message may quote inputs as well as outputs.
        let shown = self.redaction.outputs(action, &self.redaction.inputs(action, &Value::from(message)));
        Some(bounded(shown.as_str().unwrap_or_default()))
    }

    fn run_span(
        &self,
        state: &RunState,
        status: RunStatus,
        error: Option<&ErrorInfo>,
        at: Timestamp,
    ) -> Span {
        let mut attributes: Attributes = vec![
            ("loom.workflow.name", (&*self.workflow.name).into()),
            ("loom.workflow.content_version", (&*self.workflow.content_version).into()),
            ("loom.run.status", status.as_str().into()),
        ];
        let mut kind = Kind::Internal;
        if let Some(start) = state.start() {
            attributes.push(("loom.run.id", start.run.to_string().into()));
            attributes.push(("loom.client_tracking_id", bounded(&start.tracking_id).into()));
            let trigger = start.trigger.get("name").and_then(Value::as_str);
            attributes.extend(trigger.map(|name| ("loom.trigger.name", Attribute::from(name))));
            let found = trigger.and_then(|name| self.workflow.find_trigger(name));
            if found.is_some_and(|trigger| matches!(trigger.kind, TriggerKind::Request { .. })) {
                kind = Kind::Server;
            }
        }
        let failed = matches!(status, RunStatus::Failed | RunStatus::TimedOut | RunStatus::Aborted);
        if failed {
            let kind = error.map_or(status.as_str(), |error| error.code.as_ref());
            attributes.push(("error.type", kind.into()));
        }
        let message = error.map(|error| bounded(&error.message)).unwrap_or_default();
        Span {
            id: self.trace.run,
            parent: self.trace.parent.as_ref().map(|parent| parent.span),
            name: self.workflow.name.to_string(),
            kind,
            start: state.started_at(),
            end: at,
            attributes,
            failed: failed.then_some(message),
            ..self.blank(at)
        }
    }

    /// The common attributes of all spans of the run.
    fn blank(&self, at: Timestamp) -> Span {
        Span {
            trace: self.trace.trace,
            id: 0,
            parent: None,
            state: self.trace.parent.as_ref().and_then(|parent| parent.state.clone()),
            name: String::new(),
            kind: Kind::Internal,
            start: at,
            end: at,
            attributes: Attributes::new(),
            events: Events::default(),
            failed: None,
        }
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
