//! A connector: the index of a description's operations, and what applies to all of them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use loom_expression::{Object, Value, nearest};

use crate::{
    Error, Problem,
    arguments::Binding,
    call::{self, Call},
    connection::{Connection, Scheme},
    context::Context,
    document::{self, Document, Files, Node},
    error::kind_of,
    example,
    field::Field,
    index::{self, Entry, Matched},
    operation::{self, Operation},
    parameter::ConnectionParameter,
    policy::{Action, Policy},
    properties::Properties,
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
    /// Those that have been used, by their places in the index.
    built: Vec<OnceLock<Result<Arc<Operation>, Error>>>,
    by_id: BTreeMap<String, usize>,
    properties: Properties,
}

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
        let entries = index::index(&document)?;
        let built = entries.iter().map(|_| OnceLock::new()).collect();
        let mut by_id = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_id.entry(entry.id().to_lowercase()).or_insert(at);
        }
        Ok(Connector(Arc::new(Inner { name, document, is_v2, entries, built, by_id, properties })))
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

    /// The parameters that a connection can have: those that the file of properties declares. Without one, those that the security
    /// scheme of the first operation that has one needs.
    pub fn connection_parameters(&self) -> Vec<ConnectionParameter> {
        let declared = &self.0.properties.parameters;
        if !declared.is_empty() {
            return declared.clone();
        }
        self.schemes().iter().flat_map(Scheme::parameters).collect()
    }

    /// The security schemes of the first operation that cannot be called without credentials.
    fn schemes(&self) -> Vec<Scheme> {
        let context = self.context();
        let needed = self.0.entries.iter().filter(|entry| !context.is_security_optional(&entry.node));
        needed
            .map(|entry| context.security(&entry.node).0)
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// The operation with a name. It is built the first time.
    ///
    /// # Errors
    /// [`Error`] when there is none, or when its description is invalid.
    pub fn operation(&self, id: &str) -> Result<Arc<Operation>, Error> {
        let at = self.0.by_id.get(&id.to_lowercase()).copied().ok_or_else(|| Error::UnknownOperation {
            connector: self.0.name.clone(),
            operation: id.to_owned(),
            nearest: nearest(id, self.0.entries.iter().map(Entry::id)).map(str::to_owned),
        })?;
        let entry = &self.0.entries[at];
        let build = || {
            Operation::build(
                &self.context(),
                entry.id(),
                &entry.method(),
                entry.path(),
                &entry.item,
                entry.node.clone(),
            )
            .map(Arc::new)
        };
        self.0.built[at].get_or_init(build).clone()
    }

    /// The operation that a method and a path below the service's address lead to. A path without parameters takes
    /// precedence over one with.
    pub fn find(&self, method: &str, path: &str) -> Option<Matched> {
        index::find(&self.0.entries, method, path)
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
        let declared = &self.0.properties.parameters;
        let mut errors = connection.check(declared);
        if declared.is_empty() {
            let with_defaults = connection.with_defaults(declared);
            errors.extend(
                self.schemes().iter().filter_map(|scheme| scheme.secure(&with_defaults, declared).err()),
            );
        }
        errors.extend(connection.misspelt(&self.connection_parameters()));
        errors
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

fn callable(operation: &Operation) -> Result<(), Error> {
    if operation.unsupported.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported { operation: operation.id.clone(), reasons: operation.unsupported.clone() })
}
