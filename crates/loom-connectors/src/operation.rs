//! One operation of a connector, built from the description when it is used for the first time.

use loom_expression::{Object, Value};

use crate::{
    Error,
    bounds::Budget,
    connection::Scheme,
    context::{Context, Server},
    document::{Document, Node},
    encoding::Style,
    field::{Field, Location},
    paging::{self, Paging},
    schema,
    trigger::{self, Trigger},
};

/// An operation: its parameters, its body, and what the extensions of the description say about it.
#[derive(Debug)]
pub struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    /// The address of the service; without an address when the description has none.
    pub(crate) server: Server,
    /// Alternatives, each with the schemes that are needed together.
    pub(crate) security: Vec<Scheme>,
    /// Whether the service also accepts requests without credentials.
    pub(crate) is_security_optional: bool,
    pub(crate) produces: Vec<String>,
    pub(crate) node: Node,
    trigger: Option<Trigger>,
    paging: Option<Paging>,
    /// Why it cannot be called, each by name.
    pub(crate) unsupported: Vec<String>,
}

/// A parameter other than the body.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) required: bool,
    pub(crate) schema: Node,
    pub(crate) style: Style,
    pub(crate) encoding: PathEncoding,
    pub(crate) internal: bool,
    pub(crate) notification: bool,
    /// The content type of a part of a multipart body.
    pub(crate) part_type: Option<String>,
    node: Node,
}

/// How a value becomes a part of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathEncoding {
    Once,
    /// `x-ms-url-encoding: double`.
    Twice,
    /// `x-ms-skip-url-encoding`: the value is encoded already.
    Raw,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) schema: Node,
    pub(crate) media: String,
    node: Node,
}

impl Operation {
    /// The operation's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The method, in upper case.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path with `{name}` for its parameters, below the address of the service.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A short title; empty when there is none.
    pub fn summary(&self) -> &str {
        self.node.text("summary").or_else(|| self.node.text("x-ms-summary")).unwrap_or_default()
    }

    /// What it does; empty when the description does not say so.
    pub fn description(&self) -> &str {
        self.node.text("description").unwrap_or_default()
    }

    /// Whether the description advises against it.
    pub fn is_deprecated(&self) -> bool {
        self.node.flag("deprecated")
    }

    /// How it serves as a trigger, if it does.
    pub fn trigger(&self) -> Option<&Trigger> {
        self.trigger.as_ref()
    }

    /// How its results are divided into pages, if they are.
    pub fn paging(&self) -> Option<&Paging> {
        self.paging.as_ref()
    }

    /// Why it cannot be called: what it needs and is not supported, each by name. Empty when it can.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// The content type of the request's body, if it has one.
    pub fn content_type(&self) -> Option<&str> {
        self.body.as_ref().map(|body| body.media.as_str())
    }

    pub(crate) fn build(
        context: &Context<'_>,
        id: &str,
        method: &str,
        path: &str,
        item: &Node,
        node: Node,
    ) -> Result<Operation, Error> {
        let document = context.document;
        let mut operation = Operation {
            id: id.to_owned(),
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            parameters: Vec::new(),
            body: None,
            server: context.server(item, &node),
            security: Vec::new(),
            is_security_optional: false,
            produces: context.produces(&node),
            trigger: None,
            paging: None,
            unsupported: Vec::new(),
            node,
        };
        operation.read_parameters(context, item)?;
        if !context.is_v2 {
            operation.read_request_body(document)?;
        }
        operation.check_path();
        let (security, unknown) = context.security(&operation.node);
        operation.security = security;
        operation.is_security_optional = context.is_security_optional(&operation.node);
        operation.unsupported.extend(unknown);
        for policy in context.policies(id) {
            operation.unsupported.extend(policy.action.as_ref().err().cloned());
        }
        if context.has_script(id) {
            operation.unsupported.push("it runs a script in C#, which cannot be executed here".to_owned());
        }
        let is_webhook = operation.takes_notifications(document)?;
        operation.trigger = trigger::of_operation(context, (id, path), &operation.node, item, is_webhook);
        operation.paging = paging::of_operation(context, id, &operation.node);
        Ok(operation)
    }

    fn read_parameters(&mut self, context: &Context<'_>, item: &Node) -> Result<(), Error> {
        let mut nodes: Vec<Node> = Vec::new();
        for node in item.items("parameters").into_iter().chain(self.node.items("parameters")) {
            let node = context.document.resolve(node)?;
            let same =
                |known: &Node| known.text("name") == node.text("name") && known.text("in") == node.text("in");
            match nodes.iter_mut().find(|known| same(known)) {
                Some(known) => *known = node,
                None => nodes.push(node),
            }
        }
        let consumes = context.consumes(&self.node);
        for node in nodes {
            let name = node.text("name").unwrap_or_default().to_owned();
            let location = match node.text("in").unwrap_or_default() {
                "path" => Location::Path,
                "query" => Location::Query,
                "header" => Location::Header,
                "formData" => Location::Form,
                "body" => {
                    let schema = node.get("schema").unwrap_or_else(|| Node::made(Value::NULL));
                    let is_binary = schema::is_binary(context.document, &schema);
                    self.body = Some(Body {
                        name: if name.is_empty() { "body".to_owned() } else { name },
                        required: node.flag("required"),
                        schema,
                        media: preferred(&consumes, is_binary),
                        node,
                    });
                    continue;
                }
                // The value of a cookie is part of a session that a browser has.
                "cookie" if !node.flag("required") => continue,
                found => {
                    return Err(Error::Shape {
                        place: format!("{}/parameters/{name}/in", self.id),
                        expected: "`path`, `query`, `header`, `formData` or `body`",
                        found: format!("`{found}`"),
                    });
                }
            };
            self.parameters.push(Parameter::from_node(context.is_v2, name, location, node));
        }
        if self.parameters.iter().any(|parameter| parameter.location == Location::Form) {
            let has_file = self.parameters.iter().any(|parameter| {
                parameter.location == Location::Form && schema::is_binary(context.document, &parameter.schema)
            });
            let takes =
                |kind: &str| consumes.iter().any(|media| loom_expression::envelope::is_type(media, kind));
            let multipart = has_file || (takes(MULTIPART) && !takes(FORM));
            let media = if multipart { MULTIPART } else { FORM };
            self.body = Some(Body {
                name: "body".to_owned(),
                required: false,
                schema: Node::made(Value::NULL),
                media: media.to_owned(),
                node: Node::made(Value::NULL),
            });
        }
        Ok(())
    }

    /// The body of OpenAPI 3. A form's fields become parameters, as they are in Swagger 2.0.
    fn read_request_body(&mut self, document: &Document) -> Result<(), Error> {
        let Some(node) = self.node.get("requestBody") else { return Ok(()) };
        let node = document.resolve(node)?;
        let content = node.get("content").unwrap_or_else(|| Node::made(Value::NULL));
        let media: Vec<String> =
            content.value.as_object().into_iter().flat_map(Object::keys).map(ToString::to_string).collect();
        let media = preferred(&media, false);
        let of_media = content.get(&media);
        let schema = of_media.as_ref().and_then(|media| media.get("schema"));
        let schema = schema.unwrap_or_else(|| Node::made(Value::NULL));
        let required = node.flag("required");
        if is_form(&media) {
            let encodings = of_media.as_ref().and_then(|media| media.get("encoding"));
            let mut budget = Budget::new();
            let needed = schema::required_names(document, &schema, &mut budget)?;
            for (name, property) in schema::properties(document, &schema, &mut budget)? {
                let encoding = encodings.as_ref().and_then(|encodings| encodings.get(&name));
                let encoding = encoding.unwrap_or_else(|| Node::made(Value::NULL));
                let explode = encoding.value.get("explode").and_then(Value::as_bool);
                self.parameters.push(Parameter {
                    required: needed.contains(&name),
                    location: Location::Form,
                    style: Style::of_style(encoding.text("style"), explode, true),
                    encoding: PathEncoding::Once,
                    internal: schema::is_internal(&property),
                    notification: property.flag("x-ms-notification-url"),
                    part_type: encoding.text("contentType").map(str::to_owned),
                    node: property.clone(),
                    schema: property,
                    name,
                });
            }
        }
        self.body = Some(Body { name: "body".to_owned(), required, schema, media, node });
        Ok(())
    }

    /// A parameter of the path that is not declared cannot be filled in.
    fn check_path(&mut self) {
        let mut rest = self.path.as_str();
        while let Some((_, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            let declared =
                |parameter: &Parameter| parameter.location == Location::Path && parameter.name == name;
            if !self.parameters.iter().any(declared) {
                self.unsupported.push(format!(
                    "its path has `{{{name}}}`, which the description does not declare as a parameter"
                ));
            }
            rest = after;
        }
    }

    /// Whether a caller gives it an address to which the service sends notifications.
    fn takes_notifications(&self, document: &Document) -> Result<bool, Error> {
        if self.parameters.iter().any(|parameter| parameter.notification) {
            return Ok(true);
        }
        match &self.body {
            Some(body) => schema::has_notification(document, &body.schema),
            None => Ok(false),
        }
    }

    /// Whether the body is a form, whose fields are parameters.
    pub(crate) fn has_form(&self) -> bool {
        self.body.as_ref().is_some_and(|body| is_form(&body.media))
    }
}

impl Parameter {
    fn from_node(is_v2: bool, name: String, location: Location, node: Node) -> Parameter {
        let content = node.get("content").and_then(|content| {
            let first = content.value.as_object()?.values().next()?.clone();
            Some(content.beside(&first))
        });
        let schema = match &content {
            Some(media) => media.get("schema"),
            None => node.get("schema"),
        };
        let explode = node.value.get("explode").and_then(Value::as_bool);
        let style = match (&content, is_v2) {
            (Some(_), _) => Style::Json,
            (None, true) => Style::of_collection_format(node.text("collectionFormat")),
            (None, false) => Style::of_style(node.text("style"), explode, location == Location::Query),
        };
        let encoding = match node.text("x-ms-url-encoding") {
            Some(how) if how.eq_ignore_ascii_case("double") => PathEncoding::Twice,
            _ if node.flag("x-ms-skip-url-encoding") => PathEncoding::Raw,
            _ => PathEncoding::Once,
        };
        Parameter {
            required: node.flag("required") || location == Location::Path,
            schema: schema.unwrap_or_else(|| node.clone()),
            internal: schema::is_internal(&node),
            notification: node.flag("x-ms-notification-url"),
            part_type: None,
            name,
            location,
            style,
            encoding,
            node,
        }
    }

    pub(crate) fn default(&self, document: &Document) -> Option<Value> {
        schema::default_of(document, &self.node).or_else(|| schema::default_of(document, &self.schema))
    }

    /// Whether a field of a form is a file.
    pub(crate) fn is_file(&self) -> bool {
        let is = |node: &Node| node.text("type") == Some("file") || node.text("format") == Some("binary");
        self.location == Location::Form && (is(&self.schema) || is(&self.node))
    }

    /// The parameter's own node, which may have an example.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

impl Body {
    /// The body's own node, which may have an example.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

pub(crate) fn is_form(media: &str) -> bool {
    loom_expression::envelope::is_type(media, FORM) || is_multipart(media)
}

pub(crate) fn is_multipart(media: &str) -> bool {
    media.trim_start().to_ascii_lowercase().starts_with("multipart/")
}

/// The content type that is sent, among those that are accepted: JSON, if it is among them.
fn preferred(accepted: &[String], is_binary: bool) -> String {
    let is_json = |media: &&String| {
        let kind = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.ends_with("+json") && !kind.contains('*'))
    };
    let is_bytes = |media: &&String| !is_json(media) && !is_form(media) && !media.contains('*');
    let found = if is_binary {
        accepted.iter().find(is_bytes)
    } else {
        let exact = accepted.iter().find(|media| media.as_str() == "application/json");
        exact.or_else(|| accepted.iter().find(is_json))
    };
    let found = found.or_else(|| accepted.iter().find(|media| !media.contains('*')));
    let otherwise = if is_binary { "application/octet-stream" } else { "application/json" };
    found.map_or_else(|| otherwise.to_owned(), Clone::clone)
}

/// What can be given to an operation, in the order of the description: parameters, then properties of the body.
pub(crate) fn fields(document: &Document, operation: &Operation) -> Result<Vec<Field>, Error> {
    let mut budget = Budget::new();
    let mut fields = Vec::new();
    for parameter in &operation.parameters {
        let mut field = schema::field(document, &parameter.schema, &mut budget)?;
        field.name.clone_from(&parameter.name);
        field.location = parameter.location;
        field.required = parameter.required;
        field.internal = parameter.internal || parameter.notification;
        let own = schema::words(&parameter.node);
        if !own.is_empty() {
            field.description = own;
        }
        field.default = parameter.default(document);
        fields.push(field);
    }
    if let Some(body) = operation.body.as_ref().filter(|_| !operation.has_form()) {
        schema::body_fields(document, &body.schema, &body.name, body.required, 0, &mut budget, &mut fields)?;
    }
    Ok(fields)
}
