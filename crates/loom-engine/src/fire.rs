//! Firing a trigger: from its outputs to the runs that start, by way of conditions, `splitOn` and tracking ids.

use std::{cell::Cell, sync::Arc};

use loom_definition::{
    Workflow,
    model::same_name,
    trigger::{Trigger, TriggerKind},
};
use loom_expression::{
    Array, Budget, Context, Lookup, LookupError, MemoryForm, Name, Object, Template, Timestamp, Value,
};

use crate::{
    environment::Environment,
    event::{ErrorInfo, RunId, RunStart},
    random::{self, Purpose, Source},
    reads::Reads,
    record, scope,
    trace_parent::TraceParent,
};

/// The maximum number of `splitOn` items, and the maximum if the trigger limits the concurrency of its runs.
const SPLIT_MAX: usize = 100_000;
const SPLIT_MAX_WITH_CONCURRENCY: usize = 100;

/// One firing of one trigger.
#[derive(Clone, Debug)]
pub struct Firing<'a> {
    /// The workflow.
    pub workflow: &'a Arc<Workflow>,
    /// The trigger; none for a definition that has none.
    pub trigger: Option<&'a Trigger>,
    /// Its outputs: `{headers?, queries?, relativePathParameters?, body?}` for a request.
    pub outputs: Value,
    /// Parameter values, in the order of `Workflow::parameters`.
    pub parameters: Vec<Value>,
    /// The caller's tracking id, if it sent one.
    pub tracking_id: Option<Arc<str>>,
    /// Whether the caller waits for a Response.
    pub wants_response: bool,
    /// The parent span of the runs, if the caller sent one.
    pub trace: Option<TraceParent>,
    /// Number of ancestors in a chain of child workflows.
    pub depth: u8,
    /// The time of the firing.
    pub now: Timestamp,
}

/// The result of a firing.
#[derive(Debug)]
pub enum Fired<'a> {
    /// The runs that start, in order. More than one only with `splitOn`; none when its array is empty.
    Runs(Box<Starts<'a>>),
    /// A condition of the trigger was not met.
    NotMet {
        /// Which condition, from 0.
        condition: usize,
    },
}

/// An iterator over the runs that start. Each [`RunStart`] is created on demand, because `splitOn` may start very many runs.
#[derive(Debug)]
pub struct Starts<'a> {
    firing: Firing<'a>,
    name: Arc<str>,
    outputs: Outputs,
    /// The remaining runs.
    runs: std::vec::IntoIter<Given>,
    /// The initial number of runs.
    count: usize,
}

/// The trigger outputs of the runs.
#[derive(Debug)]
enum Outputs {
    Whole(Value),
    Items(Array),
}

/// A run that starts.
#[derive(Debug)]
struct Given {
    run: RunId,
    seed: u64,
    /// The tracking id that an expression computed.
    tracking_id: Option<Arc<str>>,
}

impl Starts<'_> {
    /// The ids of the remaining runs.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = RunId> {
        self.runs.as_slice().iter().map(|given| given.run)
    }
}

impl Iterator for Starts<'_> {
    type Item = Arc<RunStart>;

    fn next(&mut self) -> Option<Arc<RunStart>> {
        let index = self.count - self.runs.len();
        let Given { run, seed, tracking_id } = self.runs.next()?;
        let outputs = match &self.outputs {
            Outputs::Whole(outputs) => outputs.clone(),
            Outputs::Items(items) => item_outputs(&items[index]),
        };
        let tracking_id = tracking_id.unwrap_or_else(|| tracking_id_of(&self.firing, run));
        let record = trigger_record(&self.firing, &self.name, outputs, (run, seed), &tracking_id);
        Some(run_start(&self.firing, run, seed, record, tracking_id))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.runs.size_hint()
    }
}

impl ExactSizeIterator for Starts<'_> {}

/// Evaluates the conditions, `splitOn` and tracking ids of a firing. `ids` returns the id and seed of each run.
///
/// # Errors
/// When a condition, `splitOn` or a tracking id cannot be evaluated, or has the wrong type.
pub(crate) fn fire<'a>(
    firing: Firing<'a>,
    environment: &Environment,
    reads: &Reads,
    mut ids: impl FnMut() -> (RunId, u64),
) -> Result<Fired<'a>, ErrorInfo> {
    let name = firing.trigger.map_or_else(|| Arc::from("manual"), |trigger| Arc::clone(&trigger.name));
    let (run, seed) = ids();
    let secure = firing.trigger.map(|trigger| trigger.secure).unwrap_or_default();
    let outputs = shown_outputs(&firing).secret_if(secure.outputs);
    let Some(trigger) = firing.trigger else {
        return Ok(one(firing, name, outputs, Given { run, seed, tracking_id: None }));
    };
    let tracking_id = tracking_id_of(&firing, run);
    let record = trigger_record(&firing, &name, outputs.clone(), (run, seed), &tracking_id);
    let scope = TriggerScope::of(&firing, (environment, reads), record, Source::of(run, seed));
    for (index, condition) in trigger.conditions.iter().enumerate() {
        let holds = condition.evaluate(&scope).map_err(|error| {
            let message = format!("Condition {index} of trigger '{name}' cannot be evaluated: {error}");
            ErrorInfo::new("InvalidTemplate", message)
        })?;
        if !holds {
            return Ok(Fired::NotMet { condition: index });
        }
    }
    let Some(split_on) = &trigger.split_on else {
        let tracking_id = given_tracking_id(trigger.tracking_id.as_ref(), &scope)?;
        return Ok(one(firing, name, outputs, Given { run, seed, tracking_id }));
    };
    let items = split_on.evaluate(&scope).map_err(|error| {
        let message = format!("'splitOn' of trigger '{name}' cannot be evaluated: {error}");
        ErrorInfo::new("InvalidTemplate", message)
    })?;
    let Some(items) = items.as_array() else {
        let message =
            format!("'splitOn' of trigger '{name}' must be an array, but it is of type '{}'.", items.kind());
        return Err(ErrorInfo::new("InvalidTemplate", message));
    };
    let most = if trigger.concurrency.is_some() { SPLIT_MAX_WITH_CONCURRENCY } else { SPLIT_MAX };
    if items.len() > most {
        let message =
            format!("'splitOn' of trigger '{name}' must have at most {most} items (got {}).", items.len());
        return Err(ErrorInfo::new("InvalidTemplate", message));
    }
    let own = trigger.split_on_tracking_id.as_ref().or(trigger.tracking_id.as_ref());
    let mut runs = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (run, seed) = if index == 0 { (run, seed) } else { ids() };
        let mut tracking_id = None;
        if own.is_some() {
            let usual = tracking_id_of(&firing, run);
            let record = trigger_record(&firing, &name, item_outputs(item), (run, seed), &usual);
            let scope = TriggerScope::of(&firing, (environment, reads), record, Source::of(run, seed));
            tracking_id = given_tracking_id(own, &scope)?;
        }
        runs.push(Given { run, seed, tracking_id });
    }
    let (count, outputs) = (runs.len(), Outputs::Items(items.clone()));
    Ok(Fired::Runs(Box::new(Starts { firing, name, outputs, runs: runs.into_iter(), count })))
}

fn one(firing: Firing<'_>, name: Arc<str>, outputs: Value, given: Given) -> Fired<'_> {
    let outputs = Outputs::Whole(outputs);
    Fired::Runs(Box::new(Starts { firing, name, outputs, runs: vec![given].into_iter(), count: 1 }))
}

/// The trigger outputs of a run that starts from one item.
fn item_outputs(item: &Value) -> Value {
    [("body", item.clone())].into_iter().collect::<Object>().into()
}

/// The tracking id of a run whose trigger defines none: the caller's, or the run's own id.
fn tracking_id_of(firing: &Firing<'_>, run: RunId) -> Arc<str> {
    firing.tracking_id.clone().unwrap_or_else(|| Arc::from(run.to_string()))
}

/// The tracking id that an expression computes.
fn given_tracking_id(
    template: Option<&Template>,
    scope: &TriggerScope<'_>,
) -> Result<Option<Arc<str>>, ErrorInfo> {
    let Some(template) = template else { return Ok(None) };
    let value = template.evaluate(scope).map_err(|error| {
        let name = scope.record.get("name").and_then(Value::as_str).unwrap_or_default();
        let message = format!("The tracking id of trigger '{name}' cannot be evaluated: {error}");
        ErrorInfo::new("InvalidTemplate", message)
    })?;
    // Tracking ids are sent and shown, so a secret cannot be one.
    Ok((!value.is_null() && !value.contains_secret()).then(|| Arc::from(value.text())))
}

/// The start of a run that is resubmitted from `before`: the same trigger, under a new id.
pub(crate) fn again(
    workflow: &Workflow,
    parameters: Vec<Value>,
    before: &RunStart,
    (run, seed): (RunId, u64),
) -> Arc<RunStart> {
    Arc::new(RunStart {
        run,
        seed,
        parameters,
        trigger: before.trigger.clone(),
        workflow: workflow_record(workflow, run),
        tracking_id: Arc::clone(&before.tracking_id),
        wants_response: false,
        // The original caller is not the one who resubmits.
        trace: None,
        depth: 0,
    })
}

/// The outputs that expressions see: without the `Authorization` header, unless the trigger includes it.
fn shown_outputs(firing: &Firing<'_>) -> Value {
    let keep = firing.trigger.is_none_or(|trigger| trigger.options.include_authorization);
    let Some(mut outputs) = firing.outputs.as_object().cloned() else { return firing.outputs.clone() };
    if keep {
        return firing.outputs.clone();
    }
    if let Some(mut headers) = outputs.get("headers").and_then(Value::as_object).cloned() {
        let hidden: Vec<Arc<str>> =
            headers.keys().filter(|name| name.eq_ignore_ascii_case("authorization")).cloned().collect();
        if hidden.is_empty() {
            return firing.outputs.clone();
        }
        for name in hidden {
            headers.remove(&name);
        }
        outputs.insert("headers", headers);
    }
    outputs.into()
}

fn trigger_record(
    firing: &Firing<'_>,
    name: &Arc<str>,
    outputs: Value,
    (run, seed): (RunId, u64),
    tracking_id: &Arc<str>,
) -> Value {
    let now = record::timestamp(firing.now);
    let mut members = vec![("name", Value::from(Arc::clone(name)))];
    if let Some(TriggerKind::Request { schema, method, relative_path, .. }) =
        firing.trigger.map(|trigger| &trigger.kind)
    {
        let mut inputs = Object::new();
        if schema.as_object().is_some_and(|schema| !schema.is_empty()) {
            inputs.insert("schema", schema.clone());
        }
        if let Some(method) = method {
            inputs.insert("method", Value::from(Arc::clone(method)));
        }
        if let Some(path) = relative_path {
            inputs.insert("relativePath", Value::from(Arc::clone(path)));
        }
        if !inputs.is_empty() {
            let secure = firing.trigger.is_some_and(|trigger| trigger.secure.inputs);
            members.push(("inputs", Value::from(inputs).secret_if(secure)));
        }
    }
    // A trigger that makes requests has a status code, which conditions may refer to.
    let code = outputs.get("statusCode").cloned();
    let trigger_tracking =
        random::format_uuid(random::uuid(Source::of(run, seed).draw(Purpose::TriggerTracking, [0; 2])));
    members.extend([
        ("outputs", outputs),
        ("startTime", now.clone()),
        ("endTime", now),
        ("trackingId", Value::from(trigger_tracking)),
        ("clientTrackingId", Value::from(Arc::clone(tracking_id))),
        ("originHistoryName", Value::from(run.to_string())),
        ("status", Value::from("Succeeded")),
    ]);
    members.extend(code.map(|code| ("code", code)));
    members.into_iter().collect::<Object>().into()
}

fn run_start(
    firing: &Firing<'_>,
    run: RunId,
    seed: u64,
    trigger: Value,
    tracking_id: Arc<str>,
) -> Arc<RunStart> {
    Arc::new(RunStart {
        run,
        seed,
        parameters: firing.parameters.clone(),
        trigger,
        workflow: workflow_record(firing.workflow, run),
        tracking_id,
        wants_response: firing.wants_response,
        trace: firing.trace.clone(),
        depth: firing.depth,
    })
}

/// What `workflow()` returns.
fn workflow_record(workflow: &Workflow, run: RunId) -> Value {
    let id = format!("/workflows/{}", workflow.name);
    let run_members = [
        ("name", Value::from(run.to_string())),
        ("type", Value::from("Microsoft.Logic/workflows/runs")),
        ("id", Value::from(format!("{id}/runs/{run}"))),
    ];
    let kind = workflow.kind.as_str();
    let tags = if workflow.tags.is_null() { Value::from(Object::new()) } else { workflow.tags.clone() };
    let members = [
        ("name", Value::from(Arc::clone(&workflow.name))),
        ("type", Value::from("Microsoft.Logic/workflows")),
        ("id", Value::from(id)),
        ("location", Value::from("local")),
        ("kind", Value::from(kind)),
        ("tags", tags),
        ("run", run_members.into_iter().collect::<Object>().into()),
    ];
    members.into_iter().collect::<Object>().into()
}

/// The evaluation context of a trigger's expressions.
pub(crate) struct TriggerScope<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) parameters: &'a [Value],
    pub(crate) environment: &'a Environment,
    pub(crate) reads: &'a Reads,
    /// What `trigger()` returns; null before the trigger has fired.
    pub(crate) record: Value,
    /// What `listCallbackUrl()` returns.
    pub(crate) callback: Option<&'a str>,
    pub(crate) now: Timestamp,
    /// The source of random values.
    pub(crate) source: Source,
    /// The number of values drawn.
    pub(crate) draws: Cell<u64>,
    /// The evaluation budget of all expressions together.
    pub(crate) budget: Budget,
}

impl<'a> TriggerScope<'a> {
    fn of(
        firing: &'a Firing<'_>,
        (environment, reads): (&'a Environment, &'a Reads),
        record: Value,
        source: Source,
    ) -> TriggerScope<'a> {
        TriggerScope {
            workflow: firing.workflow,
            parameters: &firing.parameters,
            environment,
            reads,
            record,
            callback: None,
            now: firing.now,
            source,
            draws: Cell::new(0),
            budget: scope::budget(environment),
        }
    }
}

impl TriggerScope<'_> {
    fn draw(&self) -> u128 {
        let draw = self.draws.get();
        self.draws.set(draw + 1);
        self.source.draw(Purpose::Trigger, [draw, 0])
    }
}

impl Context for TriggerScope<'_> {
    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }

    fn parameter(&self, name: Name<'_>) -> Lookup {
        let parameters = &self.workflow.parameters;
        let index = parameters.iter().position(|parameter| same_name(&parameter.name, name.text));
        index.and_then(|index| self.parameters.get(index).cloned()).ok_or_else(|| LookupError::Unknown {
            available: parameters.iter().map(|parameter| Arc::clone(&parameter.name)).collect(),
        })
    }

    fn trigger(&self) -> Lookup {
        Ok(self.record.clone())
    }

    fn callback_url(&self) -> Lookup {
        self.callback.map(Value::from).ok_or_else(|| LookupError::NotAvailable {
            why: "listCallbackUrl() is available only in the subscription of a webhook".to_owned(),
        })
    }

    fn app_setting(&self, name: &str) -> Lookup {
        self.environment.app_setting(name)
    }

    fn secret(&self, name: &str) -> Lookup {
        self.reads.secret(name)
    }

    fn memory(&self, _: &str, _: MemoryForm) -> Result<Option<Value>, LookupError> {
        let why = "shared memory is available only in actions, not in triggers".to_owned();
        Err(LookupError::NotAvailable { why })
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn random_u64(&self) -> u64 {
        self.draw() as u64
    }

    fn guid(&self) -> u128 {
        random::uuid(self.draw())
    }
}
