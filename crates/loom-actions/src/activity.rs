//! Activities: user code by name, in this process or behind an HTTP endpoint.

use std::{borrow::Cow, collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

use loom_engine::{
    event::{EffectResult, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::{Object, Value};

use crate::{
    Failure,
    handlers::{ended, failed, marks, named, posted},
    requests::{Behaviour, Requests},
};

/// Why user code failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UserError {
    /// The code of the failed action.
    pub code: Cow<'static, str>,
    /// The message, for people.
    pub message: String,
    /// Whether another attempt may succeed.
    pub transient: bool,
}

impl UserError {
    /// A failure with the code `ActionFailed` that another attempt would not fix.
    pub fn new(message: impl Into<String>) -> UserError {
        UserError { code: Cow::Borrowed("ActionFailed"), message: message.into(), transient: false }
    }

    /// Marks the failure as one that may be temporary.
    #[must_use]
    pub fn transient(mut self) -> UserError {
        self.transient = true;
        self
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Failure { transient: error.transient, ..Failure::lasting(error.code, error.message) }
    }
}

/// The arguments of an activity.
#[derive(Clone, Debug)]
pub struct ActivityCall {
    /// `inputs.input`.
    pub input: Value,
    /// The same for every attempt of this execution of the action. Use it where a repeated call could act twice.
    pub idempotency_key: Arc<str>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

type UserFuture = Pin<Box<dyn Future<Output = Result<Value, UserError>> + Send>>;
type UserCode = Arc<dyn Fn(ActivityCall) -> UserFuture + Send + Sync>;

/// Activities that the host program registers. Names are case-insensitive.
#[derive(Clone, Default)]
pub struct Activities {
    by_name: HashMap<String, UserCode>,
}

impl Activities {
    /// Registers code under a name and replaces what was registered under it.
    ///
    /// ```
    /// use loom_actions::{Activities, UserError};
    ///
    /// let mut activities = Activities::default();
    /// activities.register("greet", |call| async move {
    ///     let name = call.input.as_str().ok_or_else(|| UserError::new("a name is needed"))?;
    ///     Ok(format!("Hello, {name}!").into())
    /// });
    /// ```
    pub fn register<F, Fut>(&mut self, name: &str, code: F)
    where
        F: Fn(ActivityCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, UserError>> + Send + 'static,
    {
        self.by_name.insert(name.to_lowercase(), Arc::new(move |call| Box::pin(code(call))));
    }
}

impl fmt::Debug for Activities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.by_name.keys().collect();
        names.sort();
        f.debug_tuple("Activities").field(&names).finish()
    }
}

/// Executes `Activity` actions: calls registered code, or else sends the input by POST to the endpoint that the
/// connections file names. Either way the result is `body` of the outputs.
pub struct ActivityHandler {
    activities: Activities,
    requests: Arc<Requests>,
}

impl ActivityHandler {
    /// A handler for registered code and endpoints.
    pub fn new(activities: Activities, requests: Arc<Requests>) -> ActivityHandler {
        ActivityHandler { activities, requests }
    }

    async fn run(&self, call: &Call) -> EffectResult {
        let name =
            call.inputs.get("activityName").or_else(|| call.inputs.get("name")).and_then(Value::as_str);
        let Some(name) = name else {
            return failed(Failure::bad_request("The action's 'activityName' is missing."));
        };
        let input = call.inputs.get("input").cloned().unwrap_or_default();
        if let Some(code) = self.activities.by_name.get(&name.to_lowercase()) {
            let call = ActivityCall {
                input,
                idempotency_key: Arc::clone(&call.idempotency_key),
                attempt: call.attempt,
            };
            return match code(call).await {
                Ok(result) => done(result),
                Err(error) => failed(error.into()),
            };
        }
        let service = match self.requests.settings().connections.activity(name) {
            Ok(service) => service,
            Err(failure) => return failed(failure),
        };
        match posted(&service, &[], input) {
            Ok(spec) => {
                let (marks, plain) = (marks(call), Behaviour::default());
                ended(self.requests.perform(&spec, &marks, &plain, call.resume.as_ref()).await)
            }
            Err(failure) => failed(failure),
        }
    }
}

/// A result in the shape of a response, so that `body('Name')` reads it wherever the code runs.
pub(crate) fn done(result: Value) -> EffectResult {
    let outputs: Object = [("body", result)].into_iter().collect();
    EffectResult::Done { outcome: Outcome::ok(Some(outputs.into())), hint: RetryHint::default() }
}

impl ActionHandler for ActivityHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(self.run(call))
    }

    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let name = inputs.get("activityName").or_else(|| inputs.get("name"))?;
        Some(named(name, format!("activity:{}", name.as_str()?.to_lowercase())))
    }
}
