//! A connector: the index of a description's operations, and what applies to all of them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use loom_expression::{Object, Value, nearest};

use crate::{
    Error, Field, Operation, Problem,
    arguments::Binding,
    bounds::OPERATIONS_MAX,
    call::{self, Call},
    connection::{Connection, Scheme},
    document::{self, Document, Files, Node},
    error::kind_of,
    example,
    operation::{self, Server, object_of},
    policy::{Action, Policy},
    properties::{ConnectionParameter, Properties},
};

/// A connector, read from a description.
///
/// Cheap to clone. Reading makes an index of the operations; everything else is built when it is used.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    name: String,
    document: Document,
    is_v2: bool,
    entries: Vec<Entry>,
    by_id: BTreeMap<String, usize>,
    properties: Properties,
}

/// One operation in the index.
pub struct Entry {
    id: String,
    method: &'static str,
    path: Arc<str>,
    item: Node,
    node: Node,
    built: OnceLock<Result<Arc<Operation>, Error>>,
}

/// An operation that a method and a path lead to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Matched {
    /// The operation's name.
    pub operation: String,
    /// The values in the path, as they were written: still encoded.
    pub arguments: Vec<(String, String)>,
}

/// The parts of a connector that operations are built from.
pub(crate) struct Context<'a> {
    pub(crate) document: &'a Document,
    pub(crate) is_v2: bool,
    pub(crate) entries: &'a [Entry],
    properties: &'a Properties,
}

/// The methods of a path, in the order of the specification.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.0.name)
            .field("operations", &self.0.entries.len())
            .finish()
    }
}

impl Connector {
    /// Reads a description. `properties` is the `apiProperties.json` beside it, if there is one. `files` provides the other
    /// files to which references lead.
    ///
    /// # Errors
    /// [`Error`] when the document is not a description, or exceeds a limit. A single operation that cannot be used is an
    /// error only when it is used.
    pub fn read(
        name: impl Into<String>,
        document: &[u8],
        properties: Option<&[u8]>,
        files: Arc<dyn Files>,
    ) -> Result<Connector, Error> {
        let name = name.into();
        let root = document::parse(document, "the description")?;
        let version = |member: &str| root.get(member).map(|version| version.text().into_owned());
        let is_v2 = match (version("swagger"), version("openapi")) {
            (Some(version), _) if version == "2.0" || version == "2" => true,
            (_, Some(version)) if version.starts_with("3.0") || version.starts_with("3.1") => false,
            (Some(version), _) => return Err(Error::Version { found: format!("swagger {version}") }),
            (_, Some(version)) => return Err(Error::Version { found: format!("openapi {version}") }),
            _ => return Err(Error::Version { found: format!("{} without either", kind_of(&root)) }),
        };
        let properties = match properties {
            Some(bytes) => Properties::from_value(&document::parse(bytes, "the file of properties")?)?,
            None => Properties::default(),
        };
        let document = Document::new(root, files);
        let entries = index(&document)?;
        let mut by_id = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_id.entry(entry.id.to_lowercase()).or_insert(at);
        }
        Ok(Connector(Arc::new(Inner { name, document, is_v2, entries, by_id, properties })))
    }

    /// The same connector with a script in C# beside it, which runs for all operations unless the file of properties names
    /// those that it runs for.
    #[must_use]
    pub fn with_script(mut self) -> Connector {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.properties.scripts.get_or_insert_default();
        }
        self
    }

    /// The address of the service: that of the connection, or the one in the description. `None` when a policy or a variable
    /// decides.
    pub fn address(&self, connection: &Connection) -> Option<String> {
        if let Some(own) = connection.base_url() {
            return Some(own.trim_end_matches('/').to_owned());
        }
        if self.0.properties.policies.iter().any(|policy| matches!(policy.action, Ok(Action::SetHost { .. })))
        {
            return None;
        }
        let none = Node::made(Value::NULL);
        let url = self.context().server(&none, &none).url.filter(|url| !url.contains('{'))?;
        Some(url.trim_end_matches('/').to_owned())
    }

    /// The name that the connector was read with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The title of the description; empty when it has none.
    pub fn title(&self) -> String {
        let info = self.0.document.root().get("info");
        info.and_then(|info| info.text("title").map(str::to_owned)).unwrap_or_default()
    }

    /// What the service is, in the words of the description; empty when it says nothing.
    pub fn description(&self) -> String {
        let info = self.0.document.root().get("info");
        info.and_then(|info| info.text("description").map(str::to_owned)).unwrap_or_default()
    }

    /// The operations, in the order of the description.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.0.entries.iter()
    }

    /// The parameters that a connection can have.
    pub fn connection_parameters(&self) -> &[ConnectionParameter] {
        &self.0.properties.parameters
    }

    /// The operation with a name. It is built the first time.
    ///
    /// # Errors
    /// [`Error`] when there is none, or when its description is invalid.
    pub fn operation(&self, id: &str) -> Result<Arc<Operation>, Error> {
        let at = self.0.by_id.get(&id.to_lowercase()).copied().ok_or_else(|| Error::UnknownOperation {
            connector: self.0.name.clone(),
            operation: id.to_owned(),
            nearest: nearest(id, self.0.entries.iter().map(|entry| entry.id.as_str())).map(str::to_owned),
        })?;
        let entry = &self.0.entries[at];
        let build = || {
            Operation::build(
                &self.context(),
                &entry.id,
                entry.method,
                &entry.path,
                &entry.item,
                entry.node.clone(),
            )
            .map(Arc::new)
        };
        entry.built.get_or_init(build).clone()
    }

    /// The operation that a method and a path below the service's address lead to. A path without parameters takes
    /// precedence over one with.
    pub fn find(&self, method: &str, path: &str) -> Option<Matched> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let candidates = self.0.entries.iter().filter(|entry| entry.method.eq_ignore_ascii_case(method));
        candidates
            .filter_map(|entry| Some((entry, matched(&entry.path, path)?)))
            .min_by_key(|(_, arguments)| arguments.len())
            .map(|(entry, arguments)| Matched { operation: entry.id.clone(), arguments })
    }

    /// What can be given to an operation.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation, or when its description is invalid.
    pub fn fields(&self, id: &str) -> Result<Vec<Field>, Error> {
        operation::fields(&self.0.document, &*self.operation(id)?)
    }

    /// The arguments of an operation as a JSON Schema, for language models: an object with a property for each parameter,
    /// and one for the body.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation, or when its description is invalid.
    pub fn argument_schema(&self, id: &str) -> Result<Value, Error> {
        crate::schema::of_arguments(&self.0.document, &*self.operation(id)?)
    }

    /// What an operation returns: the properties of the body of a response with success, by their paths.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation, or when its description is invalid.
    pub fn results(&self, id: &str) -> Result<Vec<Field>, Error> {
        crate::response::fields(&self.0.document, &*self.operation(id)?)
    }

    /// Arguments for an operation that its description accepts: the required ones, or all with `optional`.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation, or when its description is invalid.
    pub fn example(&self, id: &str, optional: bool) -> Result<Object, Error> {
        example::arguments(&self.0.document, &*self.operation(id)?, optional)
    }

    /// Checks arguments as far as they are known: `is_known` says whether a value is one, and not an expression that is
    /// still to be evaluated.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation, or when it cannot be called.
    pub fn check(
        &self,
        id: &str,
        arguments: &Value,
        is_known: &dyn Fn(&Value) -> bool,
    ) -> Result<Vec<Problem>, Error> {
        let operation = self.operation(id)?;
        callable(&operation)?;
        let binding =
            Binding { document: &self.0.document, operation: &operation, is_known, notification_url: None };
        match binding.bind(arguments) {
            Ok(_) => Ok(Vec::new()),
            Err(Error::Arguments(problems)) => Ok(problems),
            Err(other) => Err(other),
        }
    }

    /// The call of an operation. `notification_url` is the address that the service is to call, for subscriptions.
    ///
    /// # Errors
    /// [`Error::Arguments`] when the arguments do not match the description, and other errors when the operation cannot be
    /// called with this connection.
    pub fn call(
        &self,
        id: &str,
        arguments: &Value,
        connection: &Connection,
        notification_url: Option<&str>,
    ) -> Result<Call, Error> {
        let operation = self.operation(id)?;
        callable(&operation)?;
        let binding = Binding {
            document: &self.0.document,
            operation: &operation,
            is_known: &|_| true,
            notification_url,
        };
        let bound = binding.bind(arguments)?;
        let policies = self.policies_of(&operation);
        call::prepare(&operation, bound, connection, &self.0.properties.parameters, policies)
    }

    /// The call of an operation whose path is already encoded: an action with a method, a path, a query, headers and a body.
    /// The description decides the address, the credentials and the policies; the values are not checked.
    ///
    /// # Errors
    /// [`Error`] when no operation has this method and path, or when it cannot be called with this connection.
    pub fn call_path(
        &self,
        method: &str,
        path: &str,
        parts: &call::Parts,
        connection: &Connection,
    ) -> Result<Call, Error> {
        let matched = self.find(method, path).ok_or_else(|| Error::UnknownOperation {
            connector: self.0.name.clone(),
            operation: format!("{} {path}", method.to_ascii_uppercase()),
            nearest: None,
        })?;
        let operation = self.operation(&matched.operation)?;
        callable(&operation)?;
        let policies = self.policies_of(&operation);
        call::prepare_path(
            &operation,
            matched,
            path,
            parts,
            connection,
            &self.0.properties.parameters,
            policies,
        )
    }

    /// Applies the policies for responses, and returns the body that the flow sees.
    ///
    /// # Errors
    /// [`Error`] when there is no such operation.
    pub fn receive(
        &self,
        id: &str,
        status: u16,
        headers: &mut Object,
        body: Value,
        connection: &Connection,
    ) -> Result<Value, Error> {
        let operation = self.operation(id)?;
        let connection = connection.with_defaults(&self.0.properties.parameters);
        let mut body = crate::response::by_schema(&self.0.document, &operation, status, body);
        for policy in self.policies_of(&operation) {
            policy.apply_to_response(headers, &mut body, &connection);
        }
        Ok(body)
    }

    /// What is wrong with a connection's parameters.
    pub fn check_connection(&self, connection: &Connection) -> Vec<Error> {
        connection.check(&self.0.properties.parameters)
    }

    fn policies_of(&self, operation: &Operation) -> Vec<Policy> {
        self.context().policies(&operation.id).cloned().collect()
    }

    fn context(&self) -> Context<'_> {
        Context {
            document: &self.0.document,
            is_v2: self.0.is_v2,
            entries: &self.0.entries,
            properties: &self.0.properties,
        }
    }
}

impl Entry {
    /// The operation's name: its `operationId`, or the method and the path when it has none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The method, in upper case.
    pub fn method(&self) -> String {
        self.method.to_ascii_uppercase()
    }

    /// The path with `{name}` for its parameters.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A short title; empty when there is none.
    pub fn summary(&self) -> &str {
        self.node.text("summary").unwrap_or_default()
    }

    /// Whether the operation is a trigger.
    pub fn is_trigger(&self) -> bool {
        self.node.get("x-ms-trigger").is_some()
    }

    /// Whether the description hides the operation from authors.
    pub fn is_internal(&self) -> bool {
        crate::schema::is_internal(&self.node)
    }

    pub(crate) fn is_method(&self, method: &str) -> bool {
        self.method.eq_ignore_ascii_case(method)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn callable(operation: &Operation) -> Result<(), Error> {
    if operation.unsupported.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported { operation: operation.id.clone(), reasons: operation.unsupported.clone() })
}

/// Lists the operations. Only names are read.
fn index(document: &Document) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let Some(paths) = object_of(&document.root(), "paths")? else { return Ok(entries) };
    for (path, item) in paths.value.as_object().into_iter().flatten() {
        let item = paths.beside(item);
        let item = if item.value.get("$ref").is_some() { document.resolve(item)? } else { item };
        for method in METHODS {
            let Some(node) = item.get(method) else { continue };
            if entries.len() >= OPERATIONS_MAX {
                return Err(Error::TooLarge { what: "operations", limit: OPERATIONS_MAX });
            }
            let id = node.text("operationId").map(str::trim).filter(|id| !id.is_empty());
            let id = id.map_or_else(|| format!("{} {path}", method.to_ascii_uppercase()), str::to_owned);
            entries.push(Entry {
                id,
                method,
                path: Arc::clone(path),
                item: item.clone(),
                node,
                built: OnceLock::new(),
            });
        }
    }
    Ok(entries)
}

/// The values of a template's parameters, when a path matches it.
fn matched(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let template = template.split('?').next().unwrap_or_default();
    let mut arguments = Vec::new();
    let mut wanted = template.trim_matches('/').split('/');
    let mut found = path.trim_matches('/').split('/');
    loop {
        let (wanted, found) = match (wanted.next(), found.next()) {
            (None, None) => return Some(arguments),
            (Some(wanted), Some(found)) => (wanted, found),
            _ => return None,
        };
        let Some((before, rest)) = wanted.split_once('{') else {
            if wanted.eq_ignore_ascii_case(found) {
                continue;
            }
            return None;
        };
        // A segment has at most one parameter, with text around it.
        let (name, after) = rest.split_once('}')?;
        let value = found.strip_prefix(before)?;
        if after.contains('{') {
            return None;
        }
        let value = value.strip_suffix(after)?;
        if value.is_empty() {
            return None;
        }
        arguments.push((name.to_owned(), value.to_owned()));
    }
}

impl<'a> Context<'a> {
    pub(crate) fn policies(&self, id: &str) -> impl Iterator<Item = &'a Policy> {
        self.properties.policies.iter().filter(move |policy| policy.applies_to(id))
    }

    pub(crate) fn has_script(&self, id: &str) -> bool {
        self.properties
            .scripts
            .as_ref()
            .is_some_and(|names| names.is_empty() || names.iter().any(|name| name == id))
    }

    /// The content types of the body, as Swagger 2.0 declares them.
    pub(crate) fn consumes(&self, node: &Node) -> Vec<String> {
        self.inherited(node, "consumes")
    }

    /// The content types of responses.
    pub(crate) fn produces(&self, node: &Node) -> Vec<String> {
        if self.is_v2 { self.inherited(node, "produces") } else { Vec::new() }
    }

    fn inherited(&self, node: &Node, name: &str) -> Vec<String> {
        match node.get(name) {
            Some(_) => node.texts(name),
            None => self.document.root().texts(name),
        }
    }

    /// The address of the service for an operation.
    pub(crate) fn server(&self, item: &Node, node: &Node) -> Server {
        let root = self.document.root();
        if self.is_v2 {
            let schemes =
                if node.get("schemes").is_some() { node.texts("schemes") } else { root.texts("schemes") };
            let scheme = match schemes.iter().find(|scheme| *scheme == "https") {
                Some(_) => "https",
                None if schemes.iter().any(|scheme| scheme == "http") => "http",
                None => "https",
            };
            let host = root.text("host").map(str::trim).filter(|host| !host.is_empty());
            let base = root.text("basePath").unwrap_or_default().trim_matches('/');
            let url = host.map(|host| format!("{scheme}://{}/{base}", host.trim_end_matches('/')));
            return Server { url, variables: Vec::new() };
        }
        let servers =
            [node, item, &root].into_iter().find_map(|node| node.items("servers").into_iter().next());
        let Some(server) = servers else { return Server { url: None, variables: Vec::new() } };
        let variables = server.value.get("variables").and_then(Value::as_object);
        let variables = variables.into_iter().flatten().map(|(name, variable)| {
            let default = variable.get("default").map(|default| default.text().into_owned());
            (name.to_string(), default)
        });
        let url = server.text("url").filter(|url| url.contains("://") || url.starts_with('{'));
        Server { url: url.map(str::to_owned), variables: variables.collect() }
    }

    /// Whether one alternative of `security` is empty.
    pub(crate) fn is_security_optional(&self, node: &Node) -> bool {
        self.required(node).iter().any(is_empty)
    }

    fn required(&self, node: &Node) -> Vec<Node> {
        if node.get("security").is_some() {
            node.items("security")
        } else {
            self.document.root().items("security")
        }
    }

    /// The schemes of an operation, and the names of those that are not supported.
    ///
    /// A gateway takes the scheme from the definitions, whatever `security` says, and published descriptions rely on that:
    /// some have an empty `security`, others one that names no definition. Where there is a file of properties with
    /// parameters for credentials, the definitions therefore apply to every operation.
    pub(crate) fn security(&self, node: &Node) -> (Vec<Scheme>, Vec<String>) {
        let root = self.document.root();
        let definitions = if self.is_v2 {
            root.get("securityDefinitions")
        } else {
            root.get("components").and_then(|components| components.get("securitySchemes"))
        };
        let mut unknown = Vec::new();
        let mut read = |id: &str, definition: Node| {
            let scheme = self.document.resolve(definition).ok().and_then(|node| Scheme::from_node(id, &node));
            if scheme.is_none() {
                unknown.push(format!("the security scheme `{id}` is not supported"));
            }
            scheme
        };
        let required = self.required(node);
        let mut schemes: Vec<Scheme> = Vec::new();
        // The first alternative whose schemes are all defined.
        for alternative in required.iter().filter(|alternative| !is_empty(alternative)) {
            let names = alternative.value.as_object().into_iter().flat_map(Object::keys);
            let found: Option<Vec<(String, Node)>> =
                names.map(|name| Some((name.to_string(), definitions.as_ref()?.get(name)?))).collect();
            if let Some(found) = found {
                schemes = found.into_iter().filter_map(|(id, definition)| read(&id, definition)).collect();
                break;
            }
        }
        let has_parameters = self.properties.parameters.iter().any(ConnectionParameter::is_secret);
        let is_open = required.is_empty() && !has_parameters;
        if schemes.is_empty() && !is_open {
            let all = definitions.as_ref().and_then(|definitions| definitions.value.as_object());
            if let Some((id, definition)) = all.and_then(|all| all.iter().next())
                && let Some(definitions) = &definitions
            {
                schemes.extend(read(id, definitions.beside(definition)));
            } else if self.properties.parameters.iter().any(ConnectionParameter::is_oauth) {
                schemes.push(Scheme::Bearer { token_url: None, scopes: Vec::new() });
            }
        }
        (schemes, unknown)
    }
}

fn is_empty(alternative: &Node) -> bool {
    alternative.value.as_object().is_some_and(Object::is_empty)
}
