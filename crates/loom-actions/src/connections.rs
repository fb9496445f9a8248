//! The connections file: base URLs and credentials of services, by name.
//!
//! Two formats are read, and both may occur in one file: the `connections.json` of a Logic Apps Standard project
//! (`managedApiConnections`, `functionConnections`, `apiManagementConnections`), unchanged, and a short one:
//!
//! ```json
//! {
//!   "connections": {"sharepoint": {"description": "sharepoint.swagger.json", "parameters": {"token": "@secret('sp')"}},
//!                   "crm": {"baseUrl": "https://crm.example.com/api", "headers": {"x-tenant": "7"},
//!                           "authentication": {"type": "Basic", "username": "u", "password": "p"}}},
//!   "functions":   {"pricing": {"baseUrl": "https://pricing.example.com/api/price"}},
//!   "workflows":   {"child": "https://flows.example.com/child"},
//!   "activities":  {"send-mail": "http://127.0.0.1:7001/send-mail"},
//!   "actors":      {"Counter": "http://127.0.0.1:7001/counters", "Cart": {"baseUrl": "http://127.0.0.1:7001/carts", "state": true}},
//!   "actionTypes": {"RuleExecute": "http://127.0.0.1:7001/rules"},
//!   "models":      {"fast": {"api": "openai", "model": "gpt-5-mini", "key": "@secret('openai')"}},
//!   "mcpServers":  {"docs": {"url": "https://docs.example.com/mcp"}, "files": {"command": "/usr/bin/files-server", "args": ["/srv"]}}
//! }
//! ```
//!
//! Strings may be templates with `appsetting('…')`, `parameters('…')` and `secret('…')`. They are evaluated when the
//! file is read; those of a connection that mentions a secret are evaluated whenever it is used, so that a new
//! version of the secret takes effect immediately. A template that cannot be evaluated affects only its own
//! connection, and only when that is used.

mod mcp;
mod models;
mod names;
mod section;
mod sources;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use loom_definition::{
    Workflow,
    model::{ActionKind, EffectKind},
};
use loom_expression::{Object, Value, ValueRef};

use loom_connectors::Connector;

use self::section::Section;
pub use self::sources::Sources;
pub(crate) use self::{
    mcp::{McpServer, McpWay, Program},
    models::{Model, Source, Tape, TapeMode},
};
use crate::{
    Failure,
    described::{Described, Description},
    url::Url,
};

/// The header in which API Management expects its subscription key.
pub(crate) const SUBSCRIPTION_KEY: &str = "Ocp-Apim-Subscription-Key";

/// Connections to services, by name.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    managed: Table,
    functions: Table,
    workflows: Table,
    activities: Table,
    actors: Table,
    /// Action types that a service of the operator executes.
    types: Table,
    /// Language models.
    models: BTreeMap<String, models::Written>,
    /// Servers of the Model Context Protocol.
    mcp_servers: BTreeMap<String, models::Written>,
    /// What definitions may call a connection (its id, its display name), mapped to the connection's name.
    aliases: BTreeMap<String, Arc<str>>,
    /// Connections of built-in service providers, which use protocols of their own: known by name, but not usable
    /// here.
    providers: BTreeSet<String>,
}

/// By lower-case name; the name as written is in the entry.
type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
struct Entry {
    name: Arc<str>,
    service: Result<Service, String>,
    /// How to make the service again, when the result may differ the next time.
    renewed: Option<Arc<Recipe>>,
    /// The description, and the evaluated members of the entry.
    described: Option<(Arc<Description>, Result<Value, String>)>,
}

/// The configuration that a service is made from.
#[derive(Debug)]
struct Recipe {
    section: Section,
    raw: Value,
    sources: Sources,
}

impl Recipe {
    fn service(&self) -> Result<Service, String> {
        Service::from_value(&self.sources.evaluate(&self.raw)?, self.section.address_members())
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The base URL; the paths of requests are below it.
    pub base: Url,
    /// Headers that are added to every request.
    pub headers: Object,
    /// An `authentication` object, or null.
    pub authentication: Value,
    /// The property of a subscription's body that takes the callback URL: a path of names, separated by `/`.
    pub notification_url: Option<String>,
    /// Of an actor: whether the requests contain its state, and the responses replace it.
    pub keeps_state: bool,
}

/// Why a connections file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connections: {reason}")]
pub struct ConnectionsError {
    /// What is wrong, with the name of the property.
    pub reason: String,
}

impl Connections {
    /// Reads the JSON of a connections file.
    ///
    /// # Errors
    /// [`ConnectionsError`] when the file has another shape. A single connection that cannot be used is not an error
    /// here.
    pub fn from_json(value: &Value, sources: &Sources) -> Result<Connections, ConnectionsError> {
        let sections = value
            .as_object()
            .ok_or_else(|| ConnectionsError { reason: "the file must contain an object".to_owned() })?;
        let mut read = Connections::default();
        for (section, members) in sections {
            let members = members
                .as_object()
                .ok_or_else(|| ConnectionsError { reason: format!("'{section}' must be an object") })?;
            let section = Section::from_name(section)?;
            for (name, raw) in members {
                section.check_members(name, raw)?;
                read.add(section, name, raw, sources);
            }
        }
        Ok(read)
    }

    fn add(&mut self, section: Section, name: &str, raw: &Value, sources: &Sources) {
        if matches!(section, Section::Models | Section::McpServers) {
            // Evaluated for the secrets that it names, which have to be at hand when the model is used. An error is reported then.
            drop(sources.evaluate(raw));
            let written = models::Written { name: name.into(), raw: raw.clone(), sources: sources.clone() };
            let all =
                if matches!(section, Section::Models) { &mut self.models } else { &mut self.mcp_servers };
            all.insert(name.to_lowercase(), written);
            return;
        }
        let evaluated = sources.evaluate(raw);
        let name: Arc<str> = name.into();
        let description = match section {
            Section::Managed | Section::Gateway | Section::Connections => {
                Description::from_value(&name, raw, sources.directory.as_deref())
            }
            Section::Providers => Description::of_provider(&name, raw),
            _ => None,
        };
        let service = match &evaluated {
            Ok(_) if description.is_some() => Err("it has a description instead of an address.".to_owned()),
            Ok(value) => Service::from_value(value, section.address_members()),
            Err(reason) => Err(reason.clone()),
        };
        let described = description.map(|description| (Arc::new(description), evaluated.clone()));
        let table = match section {
            Section::Managed | Section::Gateway | Section::Connections => &mut self.managed,
            Section::FunctionApps | Section::Functions => &mut self.functions,
            Section::Workflows => &mut self.workflows,
            Section::Activities => &mut self.activities,
            Section::Actors => &mut self.actors,
            Section::Types => &mut self.types,
            Section::Providers => {
                self.providers.insert(name.to_lowercase());
                // An entry under `connections`, by the same name, replaces this one.
                if described.is_none() || self.managed.contains_key(&name.to_lowercase()) {
                    return;
                }
                &mut self.managed
            }
            Section::Models | Section::McpServers | Section::Ignored => return,
        };
        let renewed = mentions_secret(raw)
            .then(|| Arc::new(Recipe { section, raw: raw.clone(), sources: sources.clone() }));
        table.insert(name.to_lowercase(), Entry { name: Arc::clone(&name), service, renewed, described });
        if let Ok(value) = &evaluated {
            let ids = [value.get("connection"), value.get("function"), value.get("workflow")];
            let ids = ids
                .into_iter()
                .flatten()
                .filter_map(|owner| owner.get("id"))
                .chain(["connectionId", "apiId"].into_iter().filter_map(|member| value.get(member)));
            for id in ids.filter_map(Value::as_str) {
                self.aliases.insert(id.to_lowercase(), Arc::clone(&name));
            }
        }
    }

    /// Adds a connection.
    #[must_use]
    pub fn with(mut self, name: &str, service: Service) -> Connections {
        self.managed.insert(
            name.to_lowercase(),
            Entry { name: name.into(), service: Ok(service), renewed: None, described: None },
        );
        self
    }

    /// Learns what a definition's own `$connections` value calls its connections: their ids and names.
    pub fn learn(&mut self, parameter: &Value) {
        let parameter = parameter.get("value").unwrap_or(parameter);
        for (name, entry) in parameter.as_object().into_iter().flatten() {
            for member in ["connectionId", "connectionName"] {
                if let Some(id) = entry.get(member).and_then(Value::as_str) {
                    self.aliases.entry(id.to_lowercase()).or_insert_with(|| Arc::clone(name));
                }
            }
        }
    }

    /// A value for the parameter `$connections` that lists every connection of the file, for definitions that read
    /// it.
    pub fn parameter_value(&self) -> Value {
        let entries = self.managed.values().map(|entry| {
            let name = &entry.name;
            let value: Object = [
                ("connectionId", Value::from(format!("/connections/{name}"))),
                ("connectionName", Value::from(Arc::clone(name))),
                ("id", Value::from(format!("/managedApis/{name}"))),
            ]
            .into_iter()
            .collect();
            (Arc::clone(name), value)
        });
        entries.collect::<Object>().into()
    }

    /// The connection that the `host` of an ApiConnection names: `connection.referenceName`, or `connection.name`,
    /// which is the id of a connection.
    ///
    /// # Errors
    /// [`Failure`] when no connection is named, or when it cannot be used.
    pub fn of_host(&self, host: &Value) -> Result<Cow<'_, Service>, Failure> {
        let named = self
            .named(host)
            .ok_or_else(|| Failure::bad_request("The action's 'host' does not name a connection."))?;
        if self.is_provider(named) && entry(&self.managed, &self.aliases, named).is_none() {
            let message = format!(
                "'{named}' is a connection of a built-in service provider, which uses a protocol of its own. Add it under \
                 'connections', with the 'baseUrl' of a service that accepts its operations by POST; \
                 `loom explain connections` shows how."
            );
            return Err(Failure::lasting("ConnectionNotFound", message));
        }
        find(&self.managed, &self.aliases, named, "connection")
    }

    /// The connection with a description that a `host` names; `None` when it names another, or none.
    pub(crate) fn described(&self, host: &Value) -> Option<Result<Described, Failure>> {
        let entry = entry(&self.managed, &self.aliases, self.named(host)?)?;
        let (description, evaluated) = entry.described.as_ref()?;
        let value = match &entry.renewed {
            Some(recipe) => recipe.sources.evaluate(&recipe.raw),
            None => evaluated.clone(),
        };
        let described = value.and_then(|value| description.described(&value));
        Some(described.map_err(|reason| {
            let message = format!("The connection '{}' cannot be used: {reason}", entry.name);
            Failure::lasting("ConnectionNotFound", message)
        }))
    }

    /// The connector of the connection with a description that a `host` of a definition names, which may be an expression over
    /// the parameter `$connections`.
    pub(crate) fn connector_of(&self, host: &Value) -> Option<Result<Connector, String>> {
        let written = name_in(host).and_then(in_connections);
        let name = written.or_else(|| self.named(host))?;
        self.connector(name)
    }

    /// The names of the connections, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.managed.values().map(|entry| &*entry.name)
    }

    /// The names of the connections with a description, in alphabetical order.
    pub fn described_names(&self) -> impl Iterator<Item = &str> {
        self.managed.values().filter(|entry| entry.described.is_some()).map(|entry| &*entry.name)
    }

    /// The connector of a connection with a description; `None` when there is no such connection.
    ///
    /// # Errors
    /// Why its description cannot be read.
    pub fn connector(&self, name: &str) -> Option<Result<Connector, String>> {
        let (description, _) = entry(&self.managed, &self.aliases, name)?.described.as_ref()?;
        Some(description.connector().cloned())
    }

    /// What is wrong with a connection with a description: its description cannot be read, or its parameters are not those
    /// that the description declares.
    pub fn check_described(&self, name: &str) -> Vec<String> {
        let host: Object = [("connectionName", name)].into_iter().collect();
        match self.described(&host.into()) {
            None => Vec::new(),
            Some(Err(failure)) => vec![failure.message.clone()],
            Some(Ok(described)) => {
                let errors = described.connector.check_connection(&described.connection);
                errors.iter().map(ToString::to_string).collect()
            }
        }
    }

    /// The name in a `host` that the file knows: that of its connection, or of its API, as exported flows have it.
    fn named<'a>(&self, host: &'a Value) -> Option<&'a str> {
        let known = |name: &str| entry(&self.managed, &self.aliases, name).is_some();
        let name = name_in(host);
        if name.is_some_and(known) {
            return name;
        }
        host.get("apiId").and_then(Value::as_str).filter(|id| known(id)).or(name)
    }

    /// Whether the file lists a connection with this name under `serviceProviderConnections`, which have no URL.
    pub fn is_provider(&self, name: &str) -> bool {
        self.providers.contains(&name.to_lowercase())
    }

    /// The connections that a workflow's actions need and this file lacks, by their names in the definition and in
    /// the order of the actions. `parameter` is the value of its `$connections`.
    pub fn missing(&self, workflow: &Workflow, parameter: &Value) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for action in &workflow.actions {
            let ActionKind::Effect { effect, inputs, .. } = &action.kind else { continue };
            if !matches!(effect, EffectKind::ApiConnection | EffectKind::ApiConnectionWebhook) {
                continue;
            }
            let inputs = inputs.source_value();
            let host = host_of(inputs);
            let Some(written) = name_in(&host) else { continue };
            let name = match in_connections(written) {
                Some(name) => name,
                // Other expressions are known only when they are evaluated.
                None if written.starts_with('@') || written.contains("@{") => continue,
                None => written,
            };
            let own = parameter.get("value").unwrap_or(parameter).get(name);
            let ids = ["connectionId", "connectionName"].into_iter().filter_map(|id| own?.get(id)?.as_str());
            let api = host.get("apiId").and_then(Value::as_str);
            let found =
                ids.chain([name]).chain(api).any(|id| entry(&self.managed, &self.aliases, id).is_some());
            if !found && !missing.iter().any(|known| known == name) {
                missing.push(name.to_owned());
            }
        }
        missing
    }

    /// The function with an id or a name.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub fn function(&self, id: &str) -> Result<Cow<'_, Service>, Failure> {
        find(&self.functions, &self.aliases, id, "function")
    }

    /// The workflow with an id or a name, when it is called over HTTP.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub fn workflow(&self, id: &str) -> Result<Cow<'_, Service>, Failure> {
        find(&self.workflows, &self.aliases, id, "workflow")
    }

    /// Whether a workflow with this id or name is called over HTTP.
    pub fn has_workflow(&self, id: &str) -> bool {
        entry(&self.workflows, &self.aliases, id).is_some()
    }

    /// The endpoint of an activity.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub fn activity(&self, name: &str) -> Result<Cow<'_, Service>, Failure> {
        find(&self.activities, &self.aliases, name, "activity")
    }

    /// The endpoint of a type of actors.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub fn actor(&self, name: &str) -> Result<Cow<'_, Service>, Failure> {
        find(&self.actors, &self.aliases, name, "actor")
    }

    /// The service that executes an action type.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub(crate) fn action_type(&self, name: &str) -> Result<Cow<'_, Service>, Failure> {
        find(&self.types, &self.aliases, name, "action type")
    }

    /// The language model of a name. The only one needs no name.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Model, Failure> {
        let found = match name {
            Some(name) => self.models.get(&name.trim().to_lowercase()),
            None if self.models.len() == 1 => self.models.values().next(),
            None => None,
        };
        if let Some(written) = found {
            return written.model();
        }
        let known: Vec<&str> = self.models.values().map(|written| &*written.name).collect();
        let known = if known.is_empty() { "it defines none".to_owned() } else { known.join(", ") };
        let message = match name {
            Some(name) => format!(
                "The connections file has no model '{name}' ({known}); `loom explain connections` shows how to define one."
            ),
            None => format!("The action's 'model' is missing. The connections file defines: {known}."),
        };
        Err(Failure::lasting("ConnectionNotFound", message))
    }

    /// The MCP server of a name. The only one needs no name.
    ///
    /// # Errors
    /// [`Failure`] when it does not exist or cannot be used.
    pub(crate) fn mcp_server(&self, name: Option<&str>) -> Result<McpServer, Failure> {
        let found = match name {
            Some(name) => self.mcp_servers.get(&name.trim().to_lowercase()),
            None if self.mcp_servers.len() == 1 => self.mcp_servers.values().next(),
            None => None,
        };
        if let Some(written) = found {
            return written.mcp_server();
        }
        let known: Vec<&str> = self.mcp_servers.values().map(|written| &*written.name).collect();
        let known = if known.is_empty() { "it defines none".to_owned() } else { known.join(", ") };
        let message = match name {
            Some(name) => format!(
                "The connections file has no MCP server '{name}' ({known}); `loom explain connections` shows how to define one."
            ),
            None => format!(
                "The action names no MCP server ('server', or 'Connection.McpServerUrl'). The connections file defines: {known}."
            ),
        };
        Err(Failure::lasting("ConnectionNotFound", message))
    }

    /// The action types that services execute, as written.
    pub(crate) fn action_types(&self) -> impl Iterator<Item = &Arc<str>> {
        self.types.values().map(|entry| &entry.name)
    }
}

/// The `host` in the inputs of a connector's action, or its equivalent for service providers and API Management; null
/// when there is none.
pub(crate) fn host_of(inputs: &Value) -> Value {
    let host = inputs.get("host").or_else(|| inputs.get("serviceProviderConfiguration"));
    let gateway = || {
        let managed = inputs.get("apiManagement").and_then(|gateway| gateway.get("connection"));
        let named = managed.or_else(|| inputs.get("api").and_then(|api| api.get("id")))?;
        Some([("connection", named.clone())].into_iter().collect::<Object>().into())
    };
    host.cloned().or_else(gateway).unwrap_or_default()
}

/// The name of the connection in a `host`.
fn name_in(host: &Value) -> Option<&str> {
    let connection = host.get("connection");
    let named = connection.and_then(|connection| {
        let member = connection.get("referenceName").or_else(|| connection.get("name"));
        member.or(Some(connection))?.as_str()
    });
    named
        .or_else(|| host.get("connectionReferenceName").and_then(Value::as_str))
        .or_else(|| host.get("connectionName").and_then(Value::as_str))
}

/// `NAME` of `@parameters('$connections')['NAME']…`.
fn in_connections(expression: &str) -> Option<&str> {
    let (_, rest) = expression.split_once("parameters('$connections')")?;
    let rest = rest.strip_prefix('?').unwrap_or(rest).strip_prefix("['")?;
    rest.split_once("']").map(|(name, _)| name)
}

/// Whether some string in a value may call `secret()`.
fn mentions_secret(value: &Value) -> bool {
    match value.as_ref() {
        ValueRef::String(text) => text.contains('@') && text.to_ascii_lowercase().contains("secret"),
        ValueRef::Array(items) => items.iter().any(mentions_secret),
        ValueRef::Object(members) => members.values().any(mentions_secret),
        _ => false,
    }
}

/// Looks up an entry by name, by a known id, and by the last segment of an id; finally with `-` and `_` treated as
/// equal, because deployments write `filesystem-1` for what a definition calls `filesystem_1`.
fn entry<'a>(table: &'a Table, aliases: &BTreeMap<String, Arc<str>>, named: &str) -> Option<&'a Entry> {
    let named = named.trim().to_lowercase();
    let direct = |name: &str| table.get(name);
    let alias = aliases.get(&named).and_then(|name| direct(&name.to_lowercase()));
    let segment = named.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    direct(&named).or(alias).or_else(|| direct(segment)).or_else(|| {
        // Flows call an API `shared_sharepointonline`, and their connections to it `shared_sharepointonline_1`.
        let alike = |name: &str| name.replace('-', "_");
        let bare = |name: &str| {
            let name = alike(name);
            let name = name.strip_prefix("shared_").unwrap_or(&name);
            let end = name.rsplit_once('_').filter(|(_, number)| number.parse::<u32>().is_ok());
            end.map_or(name, |(name, _)| name).to_owned()
        };
        let exact = table.iter().find(|(name, _)| alike(name) == alike(segment));
        let by_api =
            || table.iter().find(|(name, entry)| entry.described.is_some() && bare(name) == bare(segment));
        exact.or_else(by_api).map(|(_, entry)| entry)
    })
}

fn find<'a>(
    table: &'a Table,
    aliases: &BTreeMap<String, Arc<str>>,
    named: &str,
    what: &str,
) -> Result<Cow<'a, Service>, Failure> {
    let Some(entry) = entry(table, aliases, named) else {
        let known: Vec<&str> = table.values().map(|entry| &*entry.name).collect();
        // Ids are paths; leftovers of a deployment template are not.
        let short = if named.starts_with('[') { named } else { named.rsplit('/').next().unwrap_or_default() };
        let message = if known.is_empty() {
            format!(
                "The {what} '{short}' cannot be found: no connections file was read, or it defines no {what}. It is connections.json \
                 of the project, or the file of --connections."
            )
        } else {
            format!("The connections file has no {what} '{short}' (it defines: {}).", known.join(", "))
        };
        return Err(Failure::lasting("ConnectionNotFound", message));
    };
    let service = match &entry.renewed {
        None => entry.service.as_ref().map(Cow::Borrowed).map_err(Clone::clone),
        Some(recipe) => recipe.service().map(Cow::Owned),
    };
    service.map_err(|reason| {
        Failure::lasting(
            "ConnectionNotFound",
            format!("The {what} '{}' cannot be used: {reason}", entry.name),
        )
    })
}

impl Service {
    /// A service without headers and credentials.
    pub fn new(base: Url) -> Service {
        Service {
            base,
            headers: Object::new(),
            authentication: Value::NULL,
            notification_url: None,
            keeps_state: false,
        }
    }

    fn from_value(value: &Value, members: &[&str]) -> Result<Service, String> {
        let address = match value.as_str() {
            Some(address) => Some(address),
            None => members.iter().find_map(|member| value.get(member)?.as_str()),
        };
        let address = address.ok_or_else(|| format!("it has no '{}'.", members[0]))?;
        let base = Url::parse(address).map_err(|error| format!("{error}."))?;
        let mut headers = value.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        // API Management expects its key in a header.
        if let Some(key) = value.get("subscriptionKey").filter(|key| !key.is_null()) {
            headers.insert(SUBSCRIPTION_KEY, key.clone());
        }
        let keeps_state = match value.get("state").filter(|state| !state.is_null()) {
            None => false,
            Some(state) => state
                .as_bool()
                .ok_or_else(|| format!("'state' must be true or false (got {}).", state.kind()))?,
        };
        Ok(Service {
            base,
            headers,
            authentication: value.get("authentication").cloned().unwrap_or_default(),
            notification_url: value.get("notificationUrl").and_then(Value::as_str).map(str::to_owned),
            keeps_state,
        })
    }
}

#[cfg(test)]
mod tests;
