//! Handlers of the action types that are HTTP requests: they turn a call of the engine into an attempt, and its
//! result back.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use hyper::Method;
use loom_definition::{
    Status,
    model::{EffectKind, WorkflowKind},
};
use loom_engine::{
    event::{EffectResult, ErrorInfo, Outcome, Phase, RetryHint},
    http_status,
    ports::{ActionHandler, Call, CallFuture, Clock},
};
use loom_expression::{MASK, Object, Value, percent};
use loom_resilience::Idempotency;

use crate::{
    Failure, Settings,
    agent::AgentHandler,
    client::TlsError,
    connections::{SUBSCRIPTION_KEY, Service, host_of},
    described::{self, Described},
    headers::Marks,
    mcp::{McpHandler, Sessions},
    models::{ModelHandler, Models},
    requests::{Answer, Behaviour, Progress, Requests, Spec},
    script::ScriptHandler,
    transforms::transform_handlers,
    url::Url,
};

/// The header that tells a connector its callback URL when the inputs of its webhook do not.
const CALLBACK_HEADER: &str = "x-loom-callback-url";

/// How an action names the service that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By its URL: `uri`.
    Address,
    /// By a connection, and a path below it.
    Connection,
    /// By a function's id or name.
    Function,
    /// By a workflow's id or name.
    Workflow,
    /// By the type of the action.
    Type,
}

/// Makes the requests of one kind of action.
pub struct RequestHandler {
    requests: Arc<Requests>,
    kind: Kind,
}

/// Creates the requests for an engine's handlers, with the time of the engine's clock.
///
/// # Errors
/// [`TlsError`] when an extra root in the settings is not a certificate.
pub fn requests(settings: Settings, clock: Arc<dyn Clock>) -> Result<Arc<Requests>, TlsError> {
    Requests::new(settings, Arc::new(move || clock.now())).map(Arc::new)
}

/// The handlers for Http, ApiConnection, Function, both webhooks, AI, agents, tools of MCP servers, scripts, transformations, and the action types for
/// which the connections file has a URL.
pub fn request_handlers(requests: &Arc<Requests>) -> Vec<(EffectKind, Arc<dyn ActionHandler>)> {
    let of = |kind| -> Arc<dyn ActionHandler> { Arc::new(RequestHandler::new(requests, kind)) };
    let mut all = vec![
        (EffectKind::Http, of(Kind::Address)),
        (EffectKind::HttpWebhook, of(Kind::Address)),
        (EffectKind::ApiConnection, of(Kind::Connection)),
        (EffectKind::ApiConnectionWebhook, of(Kind::Connection)),
        (EffectKind::Function, of(Kind::Function)),
        (EffectKind::Custom(Arc::from("InvokeFunction")), of(Kind::Function)),
    ];
    let models = Arc::new(Models::new(requests));
    all.push((EffectKind::Ai, Arc::new(ModelHandler::asking(&models))));
    let sessions = Arc::new(Sessions::new(requests));
    let agents: Arc<dyn ActionHandler> = Arc::new(AgentHandler::asking(&models, &sessions));
    for name in ["Agent", "GroupChat"] {
        all.push((EffectKind::Custom(Arc::from(name)), Arc::clone(&agents)));
    }
    all.push((EffectKind::Custom(Arc::from("McpClientTool")), Arc::new(McpHandler::new(&sessions))));
    all.extend(transform_handlers(&requests.settings().artifacts));
    for name in requests.settings().connections.action_types() {
        all.push((EffectKind::Custom(Arc::clone(name)), of(Kind::Type)));
    }
    let scripts = Arc::new(ScriptHandler::new(requests.settings().scripts));
    for language in ["JavaScriptCode", "PowerShellCode", "CSharpScriptCode"] {
        all.push((EffectKind::Script(Arc::from(language)), Arc::clone(&scripts) as Arc<dyn ActionHandler>));
    }
    all
}

/// The handler that calls child workflows over HTTP, as listed under `workflows` in the connections file. Not among
/// [`request_handlers`], because an engine runs its own child workflows itself.
pub fn remote_workflow_handler(requests: &Arc<Requests>) -> Arc<dyn ActionHandler> {
    Arc::new(RequestHandler::new(requests, Kind::Workflow))
}

impl RequestHandler {
    pub(crate) fn new(requests: &Arc<Requests>, kind: Kind) -> RequestHandler {
        RequestHandler { requests: Arc::clone(requests), kind }
    }

    /// The request that the inputs describe.
    pub(crate) fn spec(&self, inputs: &Value, type_name: &str) -> Result<Spec, Failure> {
        let connections = &self.requests.settings().connections;
        let (service, path, default) = match self.kind {
            Kind::Address => return Spec::from_inputs(inputs),
            // The request that ends a subscription may go to a URL that the service returned.
            Kind::Connection if host_of(inputs).is_null() && inputs.get("uri").is_some() => {
                return Spec::from_inputs(inputs);
            }
            Kind::Connection if inputs.get("pathTemplate").is_some() => return self.templated_spec(inputs),
            Kind::Connection if inputs.get("path").is_none() && operation(inputs).is_some() => {
                return self.operation_spec(inputs);
            }
            Kind::Connection => {
                let host = host_of(inputs);
                let path = match inputs.get("path").filter(|path| !path.is_null()) {
                    None => "",
                    Some(path) => path.as_str().ok_or_else(|| {
                        Failure::bad_request(format!("'path' must be a string, found {}.", path.kind()))
                    })?,
                };
                (connections.of_host(&host)?, path, Method::GET)
            }
            Kind::Type => {
                let body = inputs.clone();
                return posted(&*connections.action_type(type_name)?, &[], body);
            }
            // A function of the app itself is called by its name and takes its parameters as an object.
            Kind::Function if inputs.get("functionName").is_some() => {
                let named = inputs.get("functionName").and_then(Value::as_str);
                let named = named.ok_or_else(|| Failure::bad_request("'functionName' must be a string."))?;
                let parameters = inputs.get("parameters").cloned().unwrap_or_else(|| Object::new().into());
                return posted(&*connections.function(named)?, &[], parameters);
            }
            Kind::Function => {
                let function = inputs.get("function").cloned().unwrap_or_default();
                let named = [function.get("connectionName"), function.get("id"), Some(&function)];
                let named = named.into_iter().flatten().find_map(Value::as_str);
                let named =
                    named.ok_or_else(|| Failure::bad_request("The action's 'function' is missing."))?;
                (connections.function(named)?, "", Method::POST)
            }
            Kind::Workflow => {
                let host = inputs.get("host");
                let named = host.and_then(|host| host.get("workflow"));
                let flow = host.and_then(|host| host.get("workflowReferenceName"));
                let id = named.and_then(|workflow| workflow.get("id")).or(named).or(flow);
                let id = id.and_then(Value::as_str);
                let id =
                    id.ok_or_else(|| Failure::bad_request("The action's 'host' does not name a workflow."))?;
                (connections.workflow(id)?, "", Method::POST)
            }
        };
        through(&service, path, inputs, default)
    }

    /// A connector that names an operation instead of a path: `POST base/operationId` with the operation's parameters
    /// as the body. The service behind it is the operator's own, so this form is Loom's.
    fn operation_spec(&self, inputs: &Value) -> Result<Spec, Failure> {
        let service = self.requests.settings().connections.of_host(&host_of(inputs))?;
        let id = operation(inputs).unwrap_or_default();
        let request: Object = [
            ("method", Value::from("POST")),
            ("body", inputs.get("parameters").cloned().unwrap_or_else(|| Value::from(Object::new()))),
        ]
        .into_iter()
        .collect();
        through(&service, &format!("/{}", percent::encode(id)), &Value::from(request), Method::POST)
    }

    /// An operation of API Management: its path has parameters, and its subscription key may be beside it.
    fn templated_spec(&self, inputs: &Value) -> Result<Spec, Failure> {
        let service = self.requests.settings().connections.of_host(&host_of(inputs))?;
        let template = inputs.get("pathTemplate").cloned().unwrap_or_default();
        let path = fill(&template)?;
        let mut spec = through(&service, &path, inputs, Method::GET)?;
        if let Some(key) = inputs.get("subscriptionKey").filter(|key| !key.is_null())
            && service.headers.get_ignore_case(SUBSCRIPTION_KEY).is_none()
        {
            spec.add_headers(&[(SUBSCRIPTION_KEY, key.clone())].into_iter().collect());
        }
        Ok(spec)
    }

    /// Tells a connector its callback URL when its inputs do not: in a header, and in the property of the body that
    /// the connections file names.
    pub(crate) fn add_callback(
        &self,
        spec: &mut Spec,
        inputs: &Value,
        callback: &str,
    ) -> Result<(), Failure> {
        if self.kind != Kind::Connection || inputs.to_json_text().contains(callback) {
            return Ok(());
        }
        let host = host_of(inputs);
        if host.is_null() {
            return Ok(());
        }
        let service = self.requests.settings().connections.of_host(&host)?;
        if let Some(member) = &service.notification_url {
            // The parameters of an operation are flat, whatever their names contain; a body has the nested properties
            // of its path.
            let is_operation = inputs.get("path").is_none() && operation(inputs).is_some();
            let path: Vec<&str> = if is_operation { vec![member] } else { member.split('/').collect() };
            spec.body = with_member(&spec.body, &path, callback)?;
        }
        spec.add_plain_header(CALLBACK_HEADER, callback);
        Ok(())
    }

    /// The connection with a description that the inputs name, if they do.
    pub(crate) fn described(&self, inputs: &Value) -> Option<Result<Described, Failure>> {
        let is_connection = self.kind == Kind::Connection;
        let connections = &self.requests.settings().connections;
        is_connection.then(|| connections.described(&host_of(inputs)))?
    }

    /// One attempt of a call of a described operation.
    async fn attempt_described(
        &self,
        call: &Call,
        described: &Described,
        inputs: &Value,
    ) -> Result<Progress, Failure> {
        let callback = match call.phase {
            Phase::Subscribe => Some(callback_of(call)?),
            Phase::Call | Phase::Admit | Phase::Unsubscribe | Phase::Approve => None,
        };
        let plan = described.plan(inputs, callback)?;
        let (marks, mut behaviour) = (marks(call), behaviour(call, self.kind));
        plan.adapt(&mut behaviour);
        self.requests.perform_plan(&plan, &marks, &behaviour, call.resume.as_ref()).await
    }

    async fn attempt(&self, call: &Call) -> Result<Progress, Failure> {
        let inputs = match call.phase {
            Phase::Subscribe => subscription(&call.inputs),
            Phase::Call | Phase::Admit | Phase::Unsubscribe | Phase::Approve => call.inputs.clone(),
        };
        if let Some(described) = self.described(&inputs) {
            let described = described?;
            return match described::subscribed(&inputs) {
                None => self.attempt_described(call, &described, &inputs).await,
                Some((inputs, response)) => match described.unsubscription(inputs, response)? {
                    Some(spec) => {
                        let behaviour = Behaviour { no_polling: true, ..behaviour(call, self.kind) };
                        self.requests.perform(&spec, &marks(call), &behaviour, None).await
                    }
                    None => Ok(Progress::Final(nothing_to_end())),
                },
            };
        }
        if described::subscribed(&inputs).is_some() {
            return Ok(Progress::Final(nothing_to_end()));
        }
        let mut spec = self.spec(&inputs, &call.definition().type_name)?;
        if call.phase == Phase::Subscribe {
            if inputs.get("method").is_none() {
                spec.method = Method::POST;
            }
            self.add_callback(&mut spec, &inputs, callback_of(call)?)?;
        }
        let behaviour = behaviour(call, self.kind);
        self.requests.perform(&spec, &marks(call), &behaviour, call.resume.as_ref()).await
    }
}

fn callback_of(call: &Call) -> Result<&str, Failure> {
    call.callback.as_deref().ok_or_else(|| {
        Failure::lasting(
            "CallbackUrlNotAvailable",
            "The action waits for a callback, but no server is running to receive it; start the workflow with `loom serve`.",
        )
    })
}

/// The response of a request that is not made, because the service named nothing that would end the subscription.
pub(crate) fn nothing_to_end() -> Answer {
    let outputs: Object = [("statusCode", Value::from(204))].into_iter().collect();
    Answer { status: 204, outputs: outputs.into(), after: None, of_accepted: false, learned: None }
}

/// The name of a service, as it appears in metrics and messages. A name that is derived from a secret is replaced by
/// a hash that stays the same for the life of the process and reveals nothing else.
pub(crate) fn named(from: &Value, name: String) -> Arc<str> {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    if from.contains_secret() { format!("{MASK} {:016x}", KEYS.hash_one(name)).into() } else { name.into() }
}

/// A copy of a value with one more property, at the end of a path.
fn with_member(value: &Value, path: &[&str], member: &str) -> Result<Value, Failure> {
    let Some((first, rest)) = path.split_first() else { return Ok(member.into()) };
    let mut members = match value.as_object() {
        Some(members) => members.clone(),
        None if value.is_null() => Object::new(),
        None => {
            let why = format!("The callback URL cannot be put into the body: '{first}' must be an object.");
            return Err(Failure::bad_request(why));
        }
    };
    let name = members.name_ignore_case(first).cloned().unwrap_or_else(|| Arc::from(*first));
    let inner = with_member(&members.get(&name).cloned().unwrap_or_default(), rest, member)?;
    members.insert(name, inner);
    Ok(members.into())
}

/// The operation that an OpenApiConnection or a ServiceProvider names.
fn operation(inputs: &Value) -> Option<&str> {
    let host = inputs.get("host").or_else(|| inputs.get("serviceProviderConfiguration"))?;
    host.get("operationId").and_then(Value::as_str)
}

/// A path with its parameters filled in and encoded: `template` has a `{name}` for each property of `parameters`.
fn fill(template: &Value) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::bad_request(format!("The action's 'pathTemplate' {why}."));
    let text = template.get("template").and_then(Value::as_str).ok_or_else(|| wrong("has no 'template'"))?;
    let parameters = template.get("parameters").and_then(Value::as_object);
    let mut path = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| wrong("has a '{' without '}'"))?;
        let value = parameters.and_then(|parameters| parameters.get_ignore_case(name));
        let value = value.ok_or_else(|| wrong(&format!("has no parameter '{name}'")))?;
        path.extend([before, &percent::encode(&value.text())]);
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// The request of a subscription: `subscribe`, which may take its connection from the inputs around it.
pub(crate) fn subscription(inputs: &Value) -> Value {
    let Some(subscribe) = inputs.get("subscribe").and_then(Value::as_object) else { return inputs.clone() };
    let mut request = subscribe.clone();
    if let Some(host) = inputs.get("host")
        && request.get_ignore_case("host").is_none()
    {
        request.insert("host", host.clone());
    }
    request.into()
}

/// A request to a service of the operator. The operator's credentials and headers take precedence over the author's.
pub(crate) fn through(
    service: &Service,
    path: &str,
    inputs: &Value,
    default: Method,
) -> Result<Spec, Failure> {
    let mut spec = Spec::at(service.base.below(path)?, inputs, default)?;
    if !service.authentication.is_null() {
        spec.authentication = service.authentication.clone();
    }
    spec.add_headers(&service.headers);
    spec.through_connection = true;
    Ok(spec)
}

/// A POST of a value to a path below a service, for activities and actors.
pub(crate) fn posted(service: &Service, segments: &[&str], body: Value) -> Result<Spec, Failure> {
    let path: Vec<String> = segments.iter().map(|segment| percent::encode(segment)).collect();
    let inputs = [("body", body)].into_iter().collect::<loom_expression::Object>();
    through(service, &path.join("/"), &inputs.into(), Method::POST)
}

fn behaviour(call: &Call, kind: Kind) -> Behaviour {
    let action = call.definition();
    let stateless = call.workflow.kind == WorkflowKind::Stateless;
    let polls = call.phase == Phase::Call && kind != Kind::Workflow;
    Behaviour {
        no_polling: !polls || stateless || action.options.disable_async_pattern,
        no_marks: action.options.suppress_workflow_headers,
        no_decompression: action.options.disable_decompression,
        ..Behaviour::default()
    }
    .with_runtime(&action.runtime)
}

pub(crate) fn marks(call: &Call) -> Marks {
    let state = call.trace.as_ref().and_then(|trace| trace.state.as_deref());
    Marks {
        workflow: call.workflow.name.to_string(),
        version: call.workflow.content_version.to_string(),
        run: call.run.to_string(),
        action: call.definition().name.to_string(),
        tracking_id: call.tracking_id.to_string(),
        action_tracking_id: call.action_tracking_id.to_string(),
        idempotency_key: call.idempotency_key.to_string(),
        trace_parent: call.trace.as_ref().map(ToString::to_string).unwrap_or_default(),
        trace_state: state.map(ToString::to_string).unwrap_or_default(),
    }
}

impl ActionHandler for RequestHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move { ended(self.attempt(call).await) })
    }

    /// The origin of a URL. For a connection its base URL, because a gateway serves many services from one
    /// origin.
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let inputs = subscription(inputs);
        match self.kind {
            Kind::Address => {
                let address = inputs.get("uri").or_else(|| inputs.get("url"))?;
                Some(named(address, Url::parse(address.as_str()?).ok()?.origin()))
            }
            Kind::Connection => {
                if let Some(described) = self.described(&inputs) {
                    return Some(described.ok()?.service());
                }
                let base = &self.requests.settings().connections.of_host(&host_of(&inputs)).ok()?.base;
                Some(base.shown().trim_end_matches('/').into())
            }
            Kind::Function | Kind::Workflow => {
                let from = inputs.get("function").or_else(|| inputs.get("host"));
                Some(named(from.unwrap_or(&Value::NULL), self.spec(&inputs, "").ok()?.url.origin()))
            }
            // The type is not known here; the circuit breaker is that of the action.
            Kind::Type => None,
        }
    }

    /// By the method (RFC 9110, section 9.2.2).
    fn is_idempotent(&self, inputs: &Value) -> bool {
        let inputs = subscription(inputs);
        if let Some(described) = self.described(&inputs) {
            let method = described.ok().and_then(|described| described.method(&inputs));
            return method.is_some_and(|method| Idempotency::of_method(&method).may_repeat());
        }
        match self.kind {
            Kind::Address | Kind::Connection => self
                .spec(&inputs, "")
                .is_ok_and(|spec| Idempotency::of_method(spec.method.as_str()).may_repeat()),
            Kind::Function | Kind::Workflow | Kind::Type => false,
        }
    }
}

/// Converts the result of an attempt for the engine.
pub(crate) fn ended(result: Result<Progress, Failure>) -> EffectResult {
    match result {
        Ok(Progress::Final(answer)) => {
            let hint = RetryHint {
                transient: answer.is_transient(),
                after: answer.after,
                learned: answer.learned,
                ..RetryHint::default()
            };
            EffectResult::Done { outcome: outcome(answer), hint }
        }
        Ok(Progress::Pending { answer, after, resume }) => {
            EffectResult::Pending { outcome: outcome(answer), after, resume }
        }
        Err(failure) => failed(failure),
    }
}

pub(crate) fn failed(failure: Failure) -> EffectResult {
    let hint = RetryHint {
        transient: failure.transient,
        after: failure.after,
        refused: failure.refused,
        ..RetryHint::default()
    };
    let error = ErrorInfo::new(failure.code.clone(), failure.message);
    EffectResult::Done { outcome: Outcome::failed(failure.code, error), hint }
}

fn outcome(answer: Answer) -> Outcome {
    let code = http_status::status_code(answer.status);
    let status = if answer.is_success() { Status::Succeeded } else { Status::Failed };
    let error = (!answer.is_success()).then(|| {
        let message = format!("The service responded with status {} ({code}).", answer.status);
        Arc::new(ErrorInfo::new(code.clone(), message))
    });
    Outcome { status, code, outputs: Some(answer.outputs), error }
}
