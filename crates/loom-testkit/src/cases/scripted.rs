//! What stands in for services in a case: its mocks, and what the engine can execute without them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use loom_actions::{
    Artifacts, Connections, ScriptHandler, Settings, Sources, request_handlers, requests, transform_handlers,
};
use loom_definition::model::{ActionKind, EffectKind};
use loom_engine::{
    EffectId, RunId,
    clock::TokioClock,
    event::{EffectResult, ErrorInfo, Outcome, Phase, RetryHint},
    execute_memory,
    ports::{ActionHandler, Call, CallFuture, Clock},
};
use loom_expression::{Object, Value};
use loom_memory::StoredMemory;
use tokio::{sync::mpsc, time::Instant};

use super::{
    answers::Answer,
    workflow::{Mocks, mock_key},
};

/// Idempotency keys, by workflow and action.
pub(super) type Occurrences = BTreeMap<(String, String), Vec<Arc<str>>>;

/// Returns the case's mocks for calls, and executes scripts, transformations and operations on shared memory that it does not
/// mock.
pub(super) struct Scripted {
    pub(super) memory: StoredMemory,
    pub(super) answers: Mocks,
    pub(super) scripts: ScriptHandler,
    /// Transformations, and models that need no provider, by the action type in lower case.
    pub(super) own: HashMap<String, Arc<dyn ActionHandler>>,
    /// The idempotency keys of the occurrences of each action, in order.
    pub(super) occurrences: Mutex<Occurrences>,
    /// Actions that made a call without a mock, each with its workflow.
    pub(super) unanswered: Mutex<Vec<(Arc<str>, Arc<str>)>>,
    pub(super) checked: Option<Connections>,
    /// What is wrong with calls of described operations, each with the name of its action.
    pub(super) wrong_requests: Mutex<Vec<(String, String)>>,
    pub(super) callbacks: mpsc::Sender<Callback>,
}

pub(super) struct Callback {
    pub(super) run: RunId,
    pub(super) effect: EffectId,
    pub(super) payload: Value,
    pub(super) at: Instant,
}

impl Scripted {
    fn answer(&self, call: &Call) -> Option<&Answer> {
        let name = mock_key(&call.workflow.name, &call.definition().name);
        let answers = self.answers.get(&name)?;
        let mut occurrences = self.occurrences.lock().unwrap_or_else(PoisonError::into_inner);
        let known = occurrences.entry(name).or_default();
        let occurrence = known.iter().position(|key| *key == call.idempotency_key).unwrap_or_else(|| {
            known.push(Arc::clone(&call.idempotency_key));
            known.len() - 1
        });
        Some(answers.get(occurrence, call.attempt))
    }

    /// Compares the call of a described operation with its description.
    fn check_request(&self, call: &Call) {
        let ActionKind::Effect { effect, .. } = &call.definition().kind else { return };
        if !matches!(effect, EffectKind::ApiConnection | EffectKind::ApiConnectionWebhook) || call.attempt > 1
        {
            return;
        }
        let Some(connections) = &self.checked else { return };
        let problems = connections.check_inputs(&call.inputs);
        let mut wrong = self.wrong_requests.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.extend(problems.into_iter().map(|problem| (call.definition().name.to_string(), problem)));
    }
}

impl ActionHandler for Scripted {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            if call.phase == Phase::Unsubscribe {
                return EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() };
            }
            self.check_request(call);
            let answer = self.answer(call);
            if answer.is_none() && is_javascript(call) {
                return self.scripts.call(call).await;
            }
            if answer.is_none() && is_memory(call) {
                return execute_memory(&self.memory, call).await;
            }
            let own = self.own.get(&call.definition().type_name.to_lowercase());
            if let (None, Some(own)) = (answer, own) {
                return own.call(call).await;
            }
            let Some(answer) = answer else {
                let name = &call.definition().name;
                let caller = (Arc::clone(&call.workflow.name), Arc::clone(name));
                self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).push(caller);
                let message = format!("The test case does not mock the call of '{name}'.");
                let outcome = Outcome::failed("NoMock", ErrorInfo::new("NoMock", message));
                return EffectResult::Done { outcome, hint: RetryHint::default() };
            };
            if let Some(payload) = &answer.callback {
                let at = Instant::now() + answer.delay;
                let (run, effect, payload) = (call.run, call.effect, payload.clone());
                // The receiver lives until the run has ended.
                self.callbacks.send(Callback { run, effect, payload, at }).await.ok();
                return EffectResult::Done { outcome: Outcome::ok(None), hint: RetryHint::default() };
            }
            if !answer.delay.is_zero() {
                tokio::time::sleep(answer.delay).await;
            }
            answer.result()
        })
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let uri = inputs.get("uri").or_else(|| inputs.get("url")).and_then(Value::as_str)?;
        let after_scheme = uri.find("://")? + 3;
        let end = uri[after_scheme..].find(['/', '?', '#']).map_or(uri.len(), |at| after_scheme + at);
        Some(Arc::from(uri[..end].to_ascii_lowercase()))
    }
}

/// The handlers of what a case executes without mocks: transformations, and agents, group chats and `AI` actions whose models need no
/// provider.
///
/// # Errors
/// Why the models cannot be used.
pub(super) fn own_handlers(
    artifacts: &Artifacts,
    models: &Object,
    clock: &Arc<TokioClock>,
) -> Result<HashMap<String, Arc<dyn ActionHandler>>, String> {
    let mut named: HashMap<String, Arc<dyn ActionHandler>> = HashMap::new();
    for (effect, handler) in transform_handlers(artifacts) {
        if let EffectKind::Custom(name) = effect {
            named.insert(name.to_lowercase(), handler);
        }
    }
    if models.is_empty() {
        return Ok(named);
    }
    let file = Value::from(Object::single(Arc::from("models"), models.clone().into()));
    let connections =
        Connections::from_json(&file, &Sources::default()).map_err(|error| error.to_string())?;
    let settings = Settings { connections, ..Settings::default() };
    let made = requests(settings, Arc::clone(clock) as Arc<dyn Clock>).map_err(|error| error.to_string())?;
    for (effect, handler) in request_handlers(&made) {
        match effect {
            EffectKind::Ai => named.insert("ai".to_owned(), handler),
            EffectKind::Custom(name) if ["Agent", "GroupChat"].contains(&&*name) => {
                named.insert(name.to_lowercase(), handler)
            }
            _ => None,
        };
    }
    Ok(named)
}

fn is_memory(call: &Call) -> bool {
    matches!(&call.definition().kind, ActionKind::Effect { effect: EffectKind::Memory, .. })
}

fn is_javascript(call: &Call) -> bool {
    matches!(&call.definition().kind, ActionKind::Effect { effect: EffectKind::Script(language), .. }
        if &**language == "JavaScriptCode")
}
