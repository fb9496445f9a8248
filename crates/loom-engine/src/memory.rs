//! Shared memory in workflows: what `Memory` actions do, and what expressions read.
//!
//! A write is prepared here and committed by the run's driver together with the end of its action. A read is made before the
//! decision that needs it, like that of a secret; see `reads`.

use std::{sync::Arc, time::Duration};

use loom_definition::{MemoryGrants, Workflow, duration::Span};
use loom_expression::{LookupError, MemoryForm, Object, Timestamp, Value};
use loom_memory::{
    Access, Address, Error, Grants, Held, Key, Namespace, Operation, Outcome as Found, Own, Pattern,
    Prepared, Request, SharedMemory, StoredMemory, Type,
};
use loom_store::{Error as StoreError, KeyWrite};

use crate::{
    environment::Environment,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint, RunId},
    ports::Call,
};

/// Operations in one transaction of an action.
const OPERATIONS_MAX: usize = 1_000;

/// A `Memory` action whose writes have not been committed.
#[derive(Debug)]
pub(crate) struct Operated {
    pub(crate) result: EffectResult,
    /// To be committed with the end of the action.
    pub(crate) writes: Vec<KeyWrite>,
    /// Keeps other writers of this process away from the keys until then.
    pub(crate) held: Option<Held>,
}

/// What a key held when it was read; `None` when it was absent.
#[derive(Clone, Debug)]
pub(crate) struct Read(Option<(Type, Value)>);

impl Read {
    /// What the key held, if it has the form that a function expects.
    pub(crate) fn of_form(&self, form: MemoryForm) -> Result<Option<Value>, LookupError> {
        let Some((kind, value)) = &self.0 else { return Ok(None) };
        let wanted = match form {
            MemoryForm::Any => *kind,
            MemoryForm::List => Type::List,
            MemoryForm::Hash => Type::Hash,
        };
        if *kind == wanted {
            return Ok(Some(value.clone()));
        }
        Err(LookupError::NotAvailable { why: format!("the key holds a {kind}, not a {wanted}") })
    }
}

/// Reads a key for expressions of a run. The inner error says why it cannot be read, which will not change.
pub(crate) async fn read(
    environment: &Environment,
    workflow: &Workflow,
    run: RunId,
    address: &str,
) -> Result<Result<Read, Arc<str>>, StoreError> {
    let Some(memory) = &environment.memory else {
        return Ok(Err("no shared memory is configured".into()));
    };
    let own = Own { run, workflow: Arc::clone(&workflow.name) };
    let read = async {
        let Address { namespace, key } = Address::parse(address, Some(&own))?;
        grants_of(&workflow.memory)?.check(Access::Read, &namespace, &own)?;
        let get = Request::new(key.as_arc_str(), Operation::Get)?;
        let outcome = memory.transact(&namespace, vec![get]).await?.pop();
        Ok(Read(outcome.and_then(|outcome| Some((outcome.kind?, outcome.value)))))
    };
    match read.await {
        Ok(read) => {
            if let Some((_, value)) = &read.0 {
                environment.masker.learn(value);
            }
            Ok(Ok(read))
        }
        Err(Error::Store(why)) => Err(why),
        Err(why) => Ok(Err(why.to_string().into())),
    }
}

/// Executes the operations of a `Memory` action at once. For hosts that have no journal, such as test runners: a crash may
/// take the end of the action, but not the writes.
///
/// # Cancel safety
/// Dropping the future gives up the result; the operations have taken effect as a whole, or not at all.
pub async fn execute(memory: &StoredMemory, call: &Call) -> EffectResult {
    let done = async {
        let asked = Asked::of(call)?;
        let outcomes = memory.transact(&asked.namespace, asked.requests.clone()).await?;
        Ok(asked.outputs(&outcomes))
    };
    result_of(call, done.await)
}

/// Prepares the operations of a `Memory` action.
///
/// # Errors
/// The store's. Every other error is a result of the action.
pub(crate) async fn prepare(memory: &StoredMemory, call: &Call) -> Result<Operated, StoreError> {
    let done = async {
        let asked = Asked::of(call)?;
        let Prepared { outcomes, writes, held } = memory.prepare(&asked.namespace, &asked.requests).await?;
        Ok((asked.outputs(&outcomes), writes, held))
    };
    match done.await {
        Ok((outputs, writes, held)) => {
            let held = (!writes.is_empty()).then_some(held);
            Ok(Operated { result: result_of(call, Ok(outputs)), writes, held })
        }
        Err(Error::Store(why)) => Err(why),
        Err(why) => Ok(Operated { result: result_of(call, Err(why)), writes: Vec::new(), held: None }),
    }
}

fn result_of(call: &Call, done: Result<Value, Error>) -> EffectResult {
    let outcome = match done {
        Ok(outputs) => Outcome::ok(Some(outputs)),
        Err(why) => {
            let message = format!("The action '{}' failed: {why}.", call.definition().name);
            Outcome::failed(why.code(), ErrorInfo::new(why.code(), message))
        }
    };
    EffectResult::Done { outcome, hint: RetryHint::default() }
}

/// What a `Memory` action asks for.
struct Asked {
    namespace: Namespace,
    requests: Vec<Request>,
    /// Whether it is a transaction, with a list of operations.
    is_list: bool,
}

impl Asked {
    /// Reads the inputs of an action, and checks its grants.
    fn of(call: &Call) -> Result<Asked, Error> {
        let own = Own { run: call.run, workflow: Arc::clone(&call.workflow.name) };
        let invalid = |why: &str| Error::InvalidRequest { why: why.to_owned() };
        let inputs = call.inputs.as_object().ok_or_else(|| invalid("the inputs must be an object"))?;
        // Inputs that the definition hides are secret as a whole; so is everything that they write.
        let labels = call.inputs.labels();
        let hides = call.definition().secure.inputs;
        let public = |value: &Value| hides || !(value.contains_secret() || call.inputs.is_secret());
        let text = |name: &'static str, of: &Object| {
            let value = of.get(name).ok_or_else(|| invalid(&format!("`{name}` is missing")))?;
            let text = value.as_arc_str().ok_or_else(|| invalid(&format!("`{name}` must be a string")))?;
            if public(value) {
                return Ok(Arc::clone(text));
            }
            Err(invalid(&format!("`{name}` must not be a secret, because names are stored in the clear")))
        };
        let labelled = |of: &Object| -> Value {
            Value::from(
                of.iter()
                    .map(|(name, value)| (Arc::clone(name), value.clone().labelled(labels)))
                    .collect::<Object>(),
            )
        };
        let Some(operations) = inputs.get("operations") else {
            let address = text("key", inputs)?;
            let Address { namespace, key } = Address::parse(&address, Some(&own))?;
            let request = Request::from_json(&labelled(inputs), key.as_arc_str(), duration)?;
            return Asked { namespace, requests: vec![request], is_list: false }.granted(call, &own);
        };
        if let Some(other) = inputs.keys().find(|name| !matches!(&***name, "namespace" | "operations")) {
            let other: String = other.chars().take(64).collect();
            return Err(invalid(&format!("unknown property `{other}` beside `operations`")));
        }
        let namespace = Namespace::parse(&text("namespace", inputs)?, Some(&own))?;
        let operations = operations.as_array().ok_or_else(|| invalid("`operations` must be an array"))?;
        if operations.is_empty() || operations.len() > OPERATIONS_MAX {
            let found = operations.len();
            let why = format!("`operations` must have 1 to {OPERATIONS_MAX} items (got {found})");
            return Err(invalid(&why));
        }
        let mut requests = Vec::with_capacity(operations.len());
        for operation in operations {
            let of = operation.as_object().ok_or_else(|| invalid("an operation must be an object"))?;
            let key = Key::new(&text("key", of)?)?;
            requests.push(Request::from_json(&labelled(of), key.as_arc_str(), duration)?);
        }
        Asked { namespace, requests, is_list: true }.granted(call, &own)
    }

    fn granted(self, call: &Call, own: &Own) -> Result<Asked, Error> {
        let writes = self.requests.iter().any(|request| request.operation.writes());
        let access = if writes { Access::Write } else { Access::Read };
        grants_of(&call.workflow.memory)?.check(access, &self.namespace, own)?;
        Ok(self)
    }

    /// The outputs of the action: `body` is the result of the operation, or the list of those of a transaction.
    fn outputs(&self, outcomes: &[Found]) -> Value {
        let mut outputs = Object::new();
        if self.is_list {
            let items = outcomes.iter().map(|outcome| Value::from(shown("value", outcome)));
            outputs.insert("body", items.collect::<Vec<Value>>());
        } else if let Some(outcome) = outcomes.first() {
            outputs = shown("body", outcome);
        }
        Value::from(outputs)
    }
}

fn shown(name: &'static str, outcome: &Found) -> Object {
    let mut object = Object::new();
    object.insert(name, outcome.value.clone());
    object.insert("revision", outcome.revision.map(|revision| revision.0 as i64));
    object.insert("type", outcome.kind.map(Type::name));
    let expires = outcome.expires.map(|expires| Timestamp::from_unix_millis(expires.0).to_string());
    object.insert("expires", expires);
    object
}

fn grants_of(granted: &MemoryGrants) -> Result<Grants, Error> {
    let patterns =
        |texts: &[Arc<str>]| texts.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>();
    Ok(Grants { read: patterns(&granted.read)?, write: patterns(&granted.write)? })
}

fn duration(text: &str) -> Option<Duration> {
    Some(Span::parse_iso8601(text).ok()?.approximate())
}
