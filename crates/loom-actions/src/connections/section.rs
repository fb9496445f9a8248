//! The sections of the connections file.

use loom_expression::{Object, Value, nearest};

use super::ConnectionsError;

/// The members of an entry in the sections with short names.
const MEMBERS: [&str; 15] = [
    "api",
    "apiId",
    "authentication",
    "baseUrl",
    "connectionId",
    "connectionName",
    "connectionRuntimeUrl",
    "description",
    "headers",
    "notificationUrl",
    "parameters",
    "properties",
    "subscriptionKey",
    "triggerUrl",
    "url",
];

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section {
    Managed,
    Gateway,
    Connections,
    FunctionApps,
    Functions,
    Workflows,
    Activities,
    Actors,
    /// Action types.
    Types,
    /// Language models.
    Models,
    /// Servers of the Model Context Protocol.
    McpServers,
    /// Built-in service providers.
    Providers,
    /// The section is valid, but nothing here can use it.
    Ignored,
}

impl Section {
    pub(super) fn from_name(name: &str) -> Result<Section, ConnectionsError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "managedapiconnections" => Section::Managed,
            "apimanagementconnections" => Section::Gateway,
            "connections" => Section::Connections,
            "functionconnections" => Section::FunctionApps,
            "functions" => Section::Functions,
            "workflows" => Section::Workflows,
            "activities" => Section::Activities,
            "actors" => Section::Actors,
            "actiontypes" => Section::Types,
            "models" => Section::Models,
            "mcpservers" | "agentmcpconnections" => Section::McpServers,
            "serviceproviderconnections" => Section::Providers,
            "agentconnections" => Section::Ignored,
            _ => {
                return Err(ConnectionsError {
                    reason: format!(
                        "unknown section '{name}'; use connections, functions, workflows, activities, actors, actionTypes, models, mcpServers or the \
                         sections of a Standard connections.json"
                    ),
                });
            }
        })
    }

    /// Refuses a property that is a misspelt known one: it would otherwise have no effect, or make every use of the entry fail.
    pub(super) fn check_members(self, entry: &str, raw: &Value) -> Result<(), ConnectionsError> {
        let known: &[&str] = match self {
            Section::Connections
            | Section::Functions
            | Section::Workflows
            | Section::Activities
            | Section::Types => &MEMBERS,
            Section::Models => &super::models::PROPERTIES,
            Section::McpServers => &super::mcp::PROPERTIES,
            _ => return Ok(()),
        };
        for name in raw.as_object().into_iter().flat_map(Object::keys) {
            let is_known = known.iter().any(|known| known.eq_ignore_ascii_case(name));
            if let Some(meant) = nearest(name, known.iter().copied()).filter(|_| !is_known) {
                let reason = format!("'{entry}' has the unknown property '{name}'; did you mean '{meant}'?");
                return Err(ConnectionsError { reason });
            }
        }
        Ok(())
    }

    /// The properties that may contain the URL of an entry in this section.
    pub(super) fn address_members(self) -> &'static [&'static str] {
        match self {
            Section::Managed => &["connectionRuntimeUrl"],
            Section::Gateway => &["baseUrl"],
            Section::FunctionApps => &["triggerUrl"],
            _ => &["baseUrl", "url", "connectionRuntimeUrl", "triggerUrl"],
        }
    }
}
