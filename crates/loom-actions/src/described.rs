//! Connections with a description: their operations become requests by what a Swagger or OpenAPI document says.
//!
//! The document, the file of properties beside it and the files that it refers to are in the directory of the connections
//! file. They are read when a connection is used for the first time. Requests go the way of every other: the rules for
//! outgoing requests apply to the address that a description names, because descriptions come from strangers. Only an address
//! that the operator wrote into the connections file is the operator's own.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use loom_connectors::{
    Call, Connection, Connector, Credentials, Error, Files, Lookup, Parts, Poll, Request, Unsubscribe,
};
use loom_definition::{
    Workflow,
    diagnostic::CallFault,
    model::{ActionKind, EffectKind},
    trigger::TriggerKind,
};
use loom_expression::{Object, Timestamp, Value};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{
    Connections, Failure,
    connections::host_of,
    handlers::subscription,
    providers::{BuiltIn, Provider},
    requests::{Answer, Behaviour, Progress, Spec},
};

/// The names of a description in a directory of its own, as the collection of public connectors has them.
const DOCUMENTS: [&str; 4] =
    ["apiDefinition.swagger.json", "apidefinition.swagger.json", "openapi.json", "swagger.json"];

/// A description that a connections file names. It is read when it is used for the first time.
#[derive(Debug)]
pub(crate) struct Description {
    name: Arc<str>,
    document: Document,
    connector: OnceLock<Result<Connector, String>>,
}

/// Where a description is.
#[derive(Debug)]
enum Document {
    /// In files of the project.
    Files { path: PathBuf, properties: Option<PathBuf> },
    /// In this program.
    BuiltIn(Provider),
}

/// A connection with a description, ready to be used.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) connector: Connector,
    pub(crate) connection: Connection,
    /// Whether the connections file says where the service is.
    has_address: bool,
    headers: Object,
    authentication: Value,
    /// The service provider, when the connection is one.
    built_in: Option<BuiltIn>,
}

/// A call of an operation.
pub(crate) struct Plan {
    described: Described,
    operation: String,
    parameters: Value,
    call: Call,
}

impl Description {
    /// Reads the members `description` and `properties` of a connection. `None` when it has no description.
    pub(crate) fn from_value(
        name: &Arc<str>,
        value: &Value,
        directory: Option<&Path>,
    ) -> Option<Description> {
        let place = |member: &str| {
            let path = Path::new(value.get(member)?.as_str()?);
            Some(directory.map_or_else(|| path.to_path_buf(), |directory| directory.join(path)))
        };
        let document = Document::Files { path: place("description")?, properties: place("properties") };
        Some(Description { name: Arc::clone(name), document, connector: OnceLock::new() })
    }

    /// The description of a service provider; `None` when it needs a protocol of its own.
    pub(crate) fn of_provider(name: &Arc<str>, value: &Value) -> Option<Description> {
        let document = Document::BuiltIn(Provider::of_entry(value)?);
        Some(Description { name: Arc::clone(name), document, connector: OnceLock::new() })
    }

    /// The connection with the evaluated members of its entry.
    pub(crate) fn described(&self, value: &Value) -> Result<Described, String> {
        let built_in = match self.document {
            Document::BuiltIn(provider) => Some(BuiltIn::new(provider, value)?),
            Document::Files { .. } => None,
        };
        Ok(Described::new(self.connector()?, value, built_in))
    }

    /// The connector, which is read the first time.
    pub(crate) fn connector(&self) -> Result<&Connector, String> {
        let read = match self.connector.get() {
            Some(read) => read,
            None => apart(|| self.connector.get_or_init(|| self.read())),
        };
        read.as_ref().map_err(Clone::clone)
    }

    fn read(&self) -> Result<Connector, String> {
        let (path, own_properties) = match &self.document {
            Document::BuiltIn(provider) => {
                return provider.connector(&self.name).map_err(|error| error.to_string());
            }
            Document::Files { path, properties } => (path, properties),
        };
        let is_directory = path.is_dir();
        let document = if is_directory {
            let found = DOCUMENTS.iter().map(|name| path.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| format!("the directory '{}' has no {}", path.display(), DOCUMENTS[0]))?
        } else {
            path.clone()
        };
        let directory = document.parent().map(Path::to_path_buf).unwrap_or_default();
        let properties = own_properties.clone().or_else(|| beside(&document)).filter(|path| {
            // A file that was named has to be there.
            own_properties.is_some() || path.is_file()
        });
        let bytes = |path: &Path| {
            let bytes = read_within(path, loom_connectors::DOCUMENT_BYTES_MAX);
            bytes.map_err(|reason| format!("'{}' {reason}", path.display()))
        };
        let has_script = is_directory && directory.join("script.csx").is_file();
        let properties = properties.map(|path| bytes(&path)).transpose()?;
        let connector = Connector::read(
            &*self.name,
            &bytes(&document)?,
            properties.as_deref(),
            Arc::new(Beside { directory }),
        )
        .map_err(|error| format!("'{}' cannot be used: {error}", document.display()))?;
        Ok(if has_script { connector.with_script() } else { connector })
    }
}

/// Does work that waits for a disk, so that other tasks do not wait too.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    let flavour = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavour {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Without a runtime there is nobody to wait; with a single thread there is nowhere else to go.
        _ => work(),
    }
}

/// The file of properties beside a document: `apiProperties.json`, or `NAME.properties.json` beside `NAME.swagger.json`.
fn beside(document: &Path) -> Option<PathBuf> {
    let name = document.file_name()?.to_str()?;
    if DOCUMENTS.contains(&name) {
        return Some(document.with_file_name("apiProperties.json"));
    }
    let ends = [".swagger.json", ".openapi.json", ".json"];
    let base = ends.iter().find_map(|end| name.strip_suffix(end))?;
    Some(document.with_file_name(format!("{base}.properties.json")))
}

fn read_within(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| format!("cannot be read: {error}");
    let file = fs::File::open(path).map_err(broken)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() > bytes_max {
        return Err(format!("has more than {bytes_max} bytes"));
    }
    Ok(bytes)
}

/// The files in the directory of a document.
struct Beside {
    directory: PathBuf,
}

impl Files for Beside {
    fn read(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let broken = |error: std::io::Error| format!("cannot be read: {error}");
        let directory = if self.directory.as_os_str().is_empty() { Path::new(".") } else { &self.directory };
        let directory = fs::canonicalize(directory).map_err(broken)?;
        let path = fs::canonicalize(directory.join(name)).map_err(broken)?;
        // A link may lead anywhere.
        if !path.starts_with(&directory) {
            return Err("leads out of the document's directory".to_owned());
        }
        if !path.is_file() {
            return Err("is not a file".to_owned());
        }
        read_within(&path, bytes_max)
    }
}

impl Described {
    /// A connection with the evaluated members of its entry in the connections file.
    fn new(connector: &Connector, value: &Value, built_in: Option<BuiltIn>) -> Described {
        let object = |name: &str| value.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let parameters = if built_in.is_some() { "parameterValues" } else { "parameters" };
        let mut connection = Connection::new(object(parameters));
        let address = match &built_in {
            Some(built_in) => Some(built_in.address().to_string()),
            None => value.get("baseUrl").and_then(Value::as_str).map(str::to_owned),
        };
        if let Some(address) = &address {
            connection = connection.with_base_url(address.as_str());
        }
        Described {
            connector: connector.clone(),
            connection,
            has_address: address.is_some(),
            headers: object("headers"),
            authentication: value.get("authentication").cloned().unwrap_or_default(),
            built_in,
        }
    }

    /// What the service is called in policies and metrics: its address in the connections file or in the description, or the
    /// name of the connection when policies of the description decide.
    pub(crate) fn service(&self) -> Arc<str> {
        let address = self.connector.address(&self.connection);
        address.unwrap_or_else(|| self.connector.name().to_owned()).into()
    }

    /// The method of an operation.
    pub(crate) fn method(&self, inputs: &Value) -> Option<String> {
        match operation_of(inputs) {
            Some(id) => self.connector.operation(id).ok().map(|operation| operation.method().to_owned()),
            None => inputs.get("method").and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// The call that the inputs of an action describe: an operation with `parameters`, or a method and a path. `callback` is
    /// the address for notifications, for subscriptions.
    pub(crate) fn plan(&self, inputs: &Value, callback: Option<&str>) -> Result<Plan, Failure> {
        let parameters = parameters_of(inputs);
        let (operation, call) = match operation_of(inputs) {
            Some(id) => {
                if callback.is_some() && !self.is_webhook(id)? {
                    return Err(Failure::bad_request(format!(
                        "The operation '{id}' has no place for the address of notifications (x-ms-notification-url), so it cannot be \
                         subscribed to."
                    )));
                }
                let call = self.connector.call(id, &parameters, &self.connection, callback);
                (id.to_owned(), call.map_err(|error| refused(&error))?)
            }
            None => self.plan_path(inputs, callback)?,
        };
        Ok(Plan { described: self.clone(), operation, parameters, call })
    }

    fn is_webhook(&self, id: &str) -> Result<bool, Failure> {
        let operation = self.connector.operation(id).map_err(|error| refused(&error))?;
        Ok(operation.trigger().is_some_and(|trigger| trigger.is_webhook))
    }

    fn plan_path(&self, inputs: &Value, callback: Option<&str>) -> Result<(String, Call), Failure> {
        let text = |name: &str| inputs.get(name).and_then(Value::as_str);
        let path = text("path").ok_or_else(|| {
            Failure::bad_request("The action names neither an operation ('host.operationId') nor a 'path'.")
        })?;
        let method = text("method").unwrap_or(if callback.is_some() { "POST" } else { "GET" });
        let object = |name: &str| inputs.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let parts = Parts {
            queries: object("queries"),
            headers: object("headers"),
            body: inputs.get("body").cloned().unwrap_or_default(),
        };
        let matched = self.connector.find(method, path);
        let call = self.connector.call_path(method, path, &parts, &self.connection);
        let call = call.map_err(|error| refused(&error))?;
        Ok((matched.map(|matched| matched.operation).unwrap_or_default(), call))
    }

    /// The request that ends a subscription: a `DELETE` of the `Location` in the response to the subscription, or the operation
    /// that the description pairs with it. `None` when the service named neither.
    pub(crate) fn unsubscription(&self, inputs: &Value, subscribed: &Value) -> Result<Option<Spec>, Failure> {
        let headers = subscribed.get("headers").and_then(Value::as_object);
        let location =
            headers.and_then(|headers| headers.get_ignore_case("Location")).and_then(Value::as_str);
        let Some(id) = operation_of(inputs) else { return Ok(None) };
        if let Some(location) = location {
            let subscribe = self.plan(inputs, Some("https://unused.invalid/"))?.spec(&[])?;
            let mut spec = Spec::at(subscribe.url.join(location)?, &Value::NULL, hyper::Method::DELETE)?;
            // Credentials are those of the subscription's address.
            spec.led_to = Some(std::mem::replace(&mut spec.url, subscribe.url));
            spec.headers = without_content_type(&subscribe.headers);
            spec.authentication = subscribe.authentication;
            spec.through_connection = subscribe.through_connection;
            return Ok(Some(spec));
        }
        let operation = self.connector.operation(id).map_err(|error| refused(&error))?;
        let unsubscribe = operation.trigger().and_then(|trigger| trigger.unsubscribe.clone());
        let Some(Unsubscribe::Operation { id, parameter }) = unsubscribe else { return Ok(None) };
        let body = subscribed.get("body").and_then(Value::as_object);
        let Some(value) =
            body.and_then(|body| body.get_ignore_case(&parameter).or_else(|| body.get_ignore_case("id")))
        else {
            return Ok(None);
        };
        let arguments = Object::single(
            parameter.as_str().into(),
            Value::from(value.text().as_ref()).labelled(value.labels()),
        );
        let call = self.connector.call(&id, &arguments.into(), &self.connection, None);
        let call = call.map_err(|error| refused(&error))?;
        let plan = Plan { described: self.clone(), operation: id, parameters: Value::NULL, call };
        plan.spec(&[]).map(Some)
    }
}

fn without_content_type(headers: &Value) -> Value {
    let mut headers = headers.as_object().cloned().unwrap_or_default();
    if let Some(name) = headers.name_ignore_case("Content-Type").cloned() {
        headers.remove(&name);
    }
    headers.into()
}

/// The parameters of an operation: those of the definition, and before them the `arguments` that a model wrote, if the action is a
/// tool of an agent.
fn parameters_of(inputs: &Value) -> Value {
    let given = inputs.get("parameters").cloned().unwrap_or_default();
    let Some(written) = inputs.get("arguments").and_then(Value::as_object) else { return given };
    let mut all = written.clone();
    for (name, value) in given.as_object().into_iter().flatten() {
        if let Some(same) = all.name_ignore_case(name).cloned() {
            all.remove(&same);
        }
        all.insert(Arc::clone(name), value.clone());
    }
    all.into()
}

impl Plan {
    /// The requests to make before.
    pub(crate) fn lookups(&self) -> &[Lookup] {
        self.call.lookups()
    }

    /// Adds parameters to the query.
    pub(crate) fn set_queries(&mut self, queries: &Object) {
        self.call.set_queries(queries);
    }

    /// The request of a lookup.
    pub(crate) fn lookup(&self, lookup: &Lookup) -> Result<Spec, Failure> {
        self.spec_of(&lookup.request)
    }

    /// The request, with the values that were looked up.
    pub(crate) fn spec(&self, looked_up: &[Value]) -> Result<Spec, Failure> {
        self.spec_of(&self.call.request(looked_up).map_err(|error| refused(&error))?)
    }

    fn spec_of(&self, request: &Request) -> Result<Spec, Failure> {
        let mut spec = Spec::from_inputs(&request.to_inputs().into())?;
        if let Credentials::Token(source) = &request.credentials {
            let members = [
                ("type", Value::from("OAuth")),
                ("tokenUrl", source.token_url.clone()),
                ("clientId", source.client_id.clone()),
                ("clientSecret", source.client_secret.clone()),
                ("refreshToken", source.refresh_token.clone()),
                ("scope", source.scope.as_str().into()),
            ];
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            spec.authentication = members.collect::<Object>().into();
        }
        if !self.described.authentication.is_null() {
            spec.authentication = self.described.authentication.clone();
        }
        spec.add_headers(&self.described.headers);
        spec.through_connection = self.described.has_address;
        Ok(spec)
    }

    /// Makes the request of a service provider the one that its service expects.
    pub(crate) fn complete(&self, spec: &mut Spec, now: Timestamp) -> Result<(), Failure> {
        match &self.described.built_in {
            Some(built_in) => built_in.complete(&self.operation, &self.parameters, spec, now),
            None => Ok(()),
        }
    }

    /// Adapts how the request is made to the service.
    pub(crate) fn adapt(&self, behaviour: &mut Behaviour) {
        behaviour.paging = self.paging();
        if let Some(built_in) = &self.described.built_in {
            built_in.adapt(&self.operation, &self.parameters, behaviour);
        }
    }

    /// How the state of a polled trigger moves on.
    pub(crate) fn poll(&self) -> Option<Poll> {
        let operation = self.described.connector.operation(&self.operation).ok()?;
        operation.trigger()?.poll.clone()
    }

    /// The properties of a page with the items, and with the address of the next page.
    pub(crate) fn paging(&self) -> Option<(String, String)> {
        let operation = self.described.connector.operation(&self.operation).ok()?;
        operation.paging().map(|paging| (paging.items.clone(), paging.next_link.clone()))
    }

    /// The response as the flow sees it: after the policies of the description.
    pub(crate) fn received(&self, progress: Progress) -> Progress {
        match progress {
            Progress::Final(answer) => Progress::Final(self.received_answer(answer)),
            pending @ Progress::Pending { .. } => pending,
        }
    }

    fn received_answer(&self, mut answer: Answer) -> Answer {
        if let Some(built_in) = &self.described.built_in {
            return built_in.received(&self.operation, &self.parameters, answer);
        }
        let Some(mut outputs) = answer.outputs.as_object().cloned() else { return answer };
        let mut headers = outputs.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        let body = outputs.get("body").cloned().unwrap_or_default();
        let Described { connector, connection, .. } = &self.described;
        let received = connector.receive(&self.operation, answer.status, &mut headers, body, connection);
        let Ok(body) = received else { return answer };
        outputs.insert("headers", headers);
        if !body.is_null() || outputs.contains_key("body") {
            outputs.insert("body", body);
        }
        answer.outputs = outputs.into();
        answer
    }
}

/// The operation that the inputs name.
pub(crate) fn operation_of(inputs: &Value) -> Option<&str> {
    let host = inputs.get("host").or_else(|| inputs.get("serviceProviderConfiguration"))?;
    host.get("operationId").and_then(Value::as_str)
}

/// Whether the inputs of a request to end a subscription have the subscription itself, instead of a request.
pub(crate) fn subscribed(inputs: &Value) -> Option<(&Value, &Value)> {
    let subscribed = inputs.get(SUBSCRIBED)?;
    (!host_of(inputs).is_null()).then_some((inputs, subscribed))
}

/// The property with the response to a subscription, in the request that ends it.
pub(crate) const SUBSCRIBED: &str = "$subscribed";

/// A failure with the code that the service has for it.
pub(crate) fn refused(error: &Error) -> Failure {
    let sentence = |text: String| {
        let mut text = text;
        if let Some(first) = text.get(..1).map(str::to_uppercase) {
            text.replace_range(..1, &first);
        }
        if text.ends_with('.') { text } else { format!("{text}.") }
    };
    match error {
        Error::Arguments(_) => Failure::lasting(
            "OpenApiOperationParameterValidationFailed",
            format!("The 'parameters' of the action are not valid: {error}."),
        ),
        Error::UnknownOperation { .. } => {
            Failure::lasting("OpenApiOperationNotFound", sentence(error.to_string()))
        }
        Error::Connection { .. } => Failure::lasting("ConnectionNotFound", sentence(error.to_string())),
        Error::Unsupported { .. } => Failure::lasting("OperationNotSupported", sentence(error.to_string())),
        _ => Failure::lasting("BadRequest", sentence(error.to_string())),
    }
}

/// What is wrong with the call of a described operation, found before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallProblem {
    /// JSON pointer to the place in the file of the definition.
    pub pointer: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What kind of problem it is.
    pub fault: CallFault,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Connections {
    /// Checks the calls of described operations, of language models and of MCP servers, as far as they are known before
    /// expressions are evaluated, in the order of the definition.
    pub fn check_calls(&self, workflow: &Workflow) -> Vec<CallProblem> {
        let mut problems = Vec::new();
        for trigger in &workflow.triggers {
            if let TriggerKind::ApiConnection { inputs } | TriggerKind::ApiConnectionWebhook { inputs } =
                &trigger.kind
            {
                self.check_call(inputs.source_value(), &trigger.pointer, &is_literal, &mut problems);
            }
        }
        for action in &workflow.actions {
            if let ActionKind::Effect { effect, inputs, .. } = &action.kind
                && matches!(effect, EffectKind::ApiConnection | EffectKind::ApiConnectionWebhook)
            {
                self.check_call(inputs.source_value(), &action.pointer, &is_literal, &mut problems);
            }
            self.check_names(action, &mut problems);
        }
        problems
    }

    /// What is wrong with the call of a described operation whose inputs have been evaluated; nothing for other calls.
    pub fn check_inputs(&self, inputs: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        self.check_call(&subscription(inputs), "", &|_| true, &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    fn check_call(
        &self,
        inputs: &Value,
        pointer: &str,
        is_known: &dyn Fn(&Value) -> bool,
        problems: &mut Vec<CallProblem>,
    ) {
        let host = host_of(inputs);
        let Some(connector) = self.connector_of(&host) else { return };
        let mut add = |rest: &str, message: String, is_unusable| {
            let fault = if is_unusable { CallFault::Unusable } else { CallFault::Mismatch };
            problems.push(CallProblem {
                pointer: format!("{pointer}/inputs{rest}"),
                message,
                fault,
                hint: None,
            });
        };
        let connector = match connector {
            Ok(connector) => connector,
            Err(reason) => return add("/host", reason, true),
        };
        let Some(id) = operation_of(inputs) else {
            let text =
                |name: &str| inputs.get(name).and_then(Value::as_str).filter(|text| !text.contains('@'));
            if let (Some(path), Some(method)) = (text("path"), text("method"))
                && connector.find(method, path).is_none()
            {
                let message = format!(
                    "connector `{}` has no operation `{} {path}`",
                    connector.name(),
                    method.to_ascii_uppercase()
                );
                add("/path", message, true);
            }
            return;
        };
        if !is_known(&id.into()) {
            return;
        }
        let parameters = inputs.get("parameters").cloned().unwrap_or_default();
        match connector.check(id, &parameters, is_known) {
            Err(error) => add("/host/operationId", error.to_string(), true),
            Ok(found) => {
                for problem in found {
                    let steps = problem
                        .path
                        .iter()
                        .map(|step| format!("/{}", step.to_string().replace('~', "~0").replace('/', "~1")));
                    add(&format!("/parameters{}", steps.collect::<String>()), problem.message, false);
                }
            }
        }
    }
}

/// Whether a value of a definition is itself, and not an expression that is still to be evaluated.
pub(crate) fn is_literal(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return true };
    !text.contains("@{") && (!text.starts_with('@') || text.starts_with("@@"))
}
