//! The parts of a description that apply to all its operations: servers, security, content types and policies.

use loom_expression::{Object, Value};

use crate::{
    connection::Scheme,
    document::{Document, Node},
    index::Entry,
    parameter::ConnectionParameter,
    policy::Policy,
    properties::Properties,
};

/// The parts of a connector that operations are built from.
pub(crate) struct Context<'a> {
    pub(crate) document: &'a Document,
    pub(crate) is_v2: bool,
    pub(crate) entries: &'a [Entry],
    pub(crate) properties: &'a Properties,
}

/// The address of the service.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) url: Option<String>,
    /// Connection parameters that fill `{name}` in the address, with defaults.
    pub(crate) variables: Vec<(String, Option<String>)>,
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
