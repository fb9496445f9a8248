//! The section `mcpServers` of the connections file: servers of the Model Context Protocol, by the names that definitions use.

use std::{path::PathBuf, sync::Arc};

use loom_expression::{Object, Value};

use super::{
    Service,
    models::{Written, text_in},
};
use crate::{Failure, url::Url};

/// The properties of an entry.
pub(super) const PROPERTIES: [&str; 10] = [
    "url",
    "mcpServerUrl",
    "headers",
    "authentication",
    "command",
    "args",
    "env",
    "directory",
    "type",
    "displayName",
];

/// A server that offers tools.
#[derive(Clone, Debug)]
pub(crate) struct McpServer {
    /// The name of the entry, or the URL in a definition.
    pub(crate) name: Arc<str>,
    /// How to reach it.
    pub(crate) way: McpWay,
}

/// How an MCP server is reached.
#[derive(Clone, Debug)]
pub(crate) enum McpWay {
    /// Over HTTP. `is_named` says whether the operator named the URL, so that the egress rules have no say.
    Http { service: Box<Service>, is_named: bool },
    /// A program of this host, which the operator named.
    Program(Program),
}

/// A program that speaks the protocol on its standard input and output.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) command: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
}

impl McpServer {
    /// The server at a URL in a definition.
    pub(crate) fn at(url: &str, authentication: &Value) -> Result<McpServer, Failure> {
        let mut service = Service::new(Url::parse(url)?);
        // The designer writes `None` for no credentials.
        let none = authentication.as_str().is_some_and(|word| word.eq_ignore_ascii_case("none"));
        if !none {
            service.authentication = authentication.clone();
        }
        let name = service.base.shown().into();
        Ok(McpServer { name, way: McpWay::Http { service: Box::new(service), is_named: false } })
    }

    /// The service whose limits apply.
    pub(crate) fn service(&self) -> Arc<str> {
        match &self.way {
            McpWay::Http { service, .. } => service.base.shown().trim_end_matches('/').into(),
            McpWay::Program(_) => format!("mcp:{}", self.name).into(),
        }
    }
}

impl Written {
    pub(super) fn mcp_server(&self) -> Result<McpServer, Failure> {
        self.read_mcp_server().map_err(|reason| {
            let message = format!("The MCP server '{}' cannot be used: {reason}", self.name);
            Failure::lasting("ConnectionNotFound", message)
        })
    }

    fn read_mcp_server(&self) -> Result<McpServer, String> {
        let value = self.evaluated("'url' or 'command'", &PROPERTIES)?;
        let text = |name: &str| text_in(&value, name);
        let object = |name: &str| match value.get(name).filter(|value| !value.is_null()) {
            None => Ok(Object::new()),
            Some(found) => match found.as_object() {
                Some(object) => Ok(object.clone()),
                None => Err(format!("'{name}' must be an object, found {}.", found.kind())),
            },
        };
        let url = text("url")?.or(text("mcpServerUrl")?);
        let way = match (url, text("command")?) {
            (Some(url), None) => {
                let mut service = Service::new(Url::parse(url).map_err(|error| format!("{error}."))?);
                service.headers = object("headers")?;
                service.authentication = value.get("authentication").cloned().unwrap_or_default();
                McpWay::Http { service: Box::new(service), is_named: true }
            }
            (None, Some(command)) => {
                let command = PathBuf::from(command);
                // A search would need the environment of this process, and could find another program tomorrow.
                if !command.is_absolute() {
                    return Err(format!(
                        "'command' must be an absolute path (got {}); `command -v {}` prints it.",
                        command.display(),
                        command.display()
                    ));
                }
                let arguments = match value.get("args").filter(|value| !value.is_null()) {
                    None => Vec::new(),
                    Some(found) => found
                        .as_array()
                        .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect())
                        .ok_or_else(|| "'args' must be an array of strings.".to_owned())?,
                };
                let environment = object("env")?
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.text().into_owned()))
                    .collect();
                let directory = match text("directory")? {
                    Some(directory) => {
                        let base = self.sources.directory.clone().unwrap_or_default();
                        Some(base.join(directory))
                    }
                    None => self.sources.directory.clone().filter(|path| !path.as_os_str().is_empty()),
                };
                McpWay::Program(Program { command, arguments, environment, directory })
            }
            (Some(_), Some(_)) => return Err("'url' and 'command' exclude each other.".to_owned()),
            (None, None) => return Err("it has neither 'url' nor 'command'.".to_owned()),
        };
        Ok(McpServer { name: Arc::clone(&self.name), way })
    }
}
