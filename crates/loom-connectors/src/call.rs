//! The request of a call, as plain data.

use loom_expression::{Object, Value, envelope};

use crate::{
    Error,
    arguments::Bound,
    connection::{Connection, Credentials},
    encoding::{self, Style},
    field::Location,
    index::Matched,
    operation::{Operation, Parameter, PathEncoding, is_multipart},
    parameter::ConnectionParameter,
    policy::{Action, Draft, Policy, value_at},
    template::Access,
};

/// A call that is ready to be made: first its lookups, if it has any, then its request.
#[derive(Clone, Debug)]
pub struct Call {
    draft: Draft,
    policies: Vec<Policy>,
    connection: Connection,
    lookups: Vec<Lookup>,
    credentials: Credentials,
}

/// A request whose response has a value that the request of the call needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lookup {
    /// The request.
    pub request: Request,
    path: Vec<Access>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// The whole address, encoded. It is secret when a part of it is.
    pub url: Value,
    /// The headers. Those that contain credentials are secret.
    pub headers: Object,
    /// The body as the language has it: JSON, a string, an envelope with `$content`, `$formdata` or `$multipart`; null for
    /// none.
    pub body: Value,
    /// The credentials that are not in the headers or in the query yet.
    pub credentials: Credentials,
}

/// The parts of a request whose path is already encoded.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The parameters of the query.
    pub queries: Object,
    /// The headers.
    pub headers: Object,
    /// The body; null for none.
    pub body: Value,
}

impl Call {
    /// The requests to make before, in order. Most calls have none.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Adds parameters to the query, in place of those with the same names: the state of a trigger, for example.
    pub fn set_queries(&mut self, queries: &Object) {
        for (name, value) in queries {
            self.draft.queries.retain(|(known, _)| **known != **name);
            self.draft.queries.push((name.to_string(), value.clone()));
        }
    }

    /// The request as the description has it, before its policies: what a test compares with the description.
    pub fn described(&self) -> Request {
        finished(self.draft.clone(), self.credentials.clone())
    }

    /// The request. `looked_up` has the value of each lookup, in order.
    ///
    /// # Errors
    /// [`Error`] when a policy cannot be applied.
    pub fn request(&self, looked_up: &[Value]) -> Result<Request, Error> {
        let mut draft = self.draft.clone();
        let mut looked_up = looked_up.iter().cloned();
        for policy in &self.policies {
            policy.apply(&mut draft, &self.connection, &mut looked_up)?;
        }
        Ok(finished(draft, self.credentials.clone()))
    }
}

impl Lookup {
    /// The value that the call needs, from the body of the response; null when it is absent.
    pub fn value(&self, body: &Value) -> Value {
        value_at(body, &self.path)
    }
}

impl Request {
    /// The inputs of an action of the type `Http` that makes this request: `method`, `uri`, `headers` and `body`.
    pub fn to_inputs(&self) -> Object {
        let mut inputs = Object::new();
        inputs.insert("method", self.method.as_str());
        inputs.insert("uri", self.url.clone());
        if !self.headers.is_empty() {
            inputs.insert("headers", self.headers.clone());
        }
        if !self.body.is_null() {
            inputs.insert("body", self.body.clone());
        }
        inputs
    }
}

/// The call of an operation with checked arguments.
pub(crate) fn prepare(
    operation: &Operation,
    bound: Bound,
    connection: &Connection,
    declared: &[ConnectionParameter],
    policies: Vec<Policy>,
) -> Result<Call, Error> {
    let mut draft = draft(operation, connection, &policies)?;
    let mut fields = Vec::new();
    for (at, value) in &bound.values {
        let Some(parameter) = operation.parameters.get(*at) else { continue };
        draft.is_secret |= value.contains_secret() && parameter.location == Location::Path;
        match parameter.location {
            Location::Path => {
                let text = path_text(parameter, value);
                draft.path_arguments.push((parameter.name.clone(), text));
            }
            Location::Query => draft.queries.extend(encoding::pairs(&parameter.name, value, parameter.style)),
            Location::Header => {
                let style = if parameter.style == Style::Json { Style::Json } else { Style::Joined(',') };
                for (name, value) in encoding::pairs(&parameter.name, value, style) {
                    draft.headers.insert(name, value);
                }
            }
            Location::Form | Location::Body => fields.push((parameter, value.clone())),
        }
    }
    draft.path = path_of(operation, &draft.path_arguments);
    if let Some(body) = &operation.body {
        draft.body = if operation.has_form() {
            form(&body.media, &fields)
        } else {
            content(bound.body.unwrap_or_default(), &body.media)
        };
        let is_multipart = is_multipart(&body.media);
        if !draft.body.is_null() && !is_multipart && draft.headers.get_ignore_case("Content-Type").is_none() {
            draft.headers.insert("Content-Type", body.media.as_str());
        }
    }
    completed(operation, draft, connection, declared, policies)
}

/// The call of an operation whose path is already encoded.
pub(crate) fn prepare_path(
    operation: &Operation,
    matched: Matched,
    path: &str,
    parts: &Parts,
    connection: &Connection,
    declared: &[ConnectionParameter],
    policies: Vec<Policy>,
) -> Result<Call, Error> {
    let mut draft = draft(operation, connection, &policies)?;
    draft.path = encoding::leniently(&format!("/{}", path.trim_start_matches('/')));
    draft.path_arguments =
        matched.arguments.into_iter().map(|(name, value)| (name, encoding::leniently(&value))).collect();
    for (name, value) in &parts.queries {
        if !value.is_null() {
            draft.queries.extend(encoding::pairs(name, value, Style::Repeated));
        }
    }
    draft.headers = parts.headers.clone();
    draft.body = parts.body.clone();
    if let Some(body) = &operation.body
        && !draft.body.is_null()
        && draft.body.as_object().is_some()
        && !is_multipart(&body.media)
        && draft.headers.get_ignore_case("Content-Type").is_none()
        && envelope::content_type(&draft.body).is_none()
    {
        draft.headers.insert("Content-Type", body.media.as_str());
    }
    completed(operation, draft, connection, declared, policies)
}

fn draft(operation: &Operation, connection: &Connection, policies: &[Policy]) -> Result<Draft, Error> {
    let own = connection.base_url().map(str::to_owned);
    let hosts = policies.iter().any(|policy| matches!(policy.action, Ok(Action::SetHost { .. })));
    let base = match own {
        Some(base) => base,
        None => match base_of(operation, connection)? {
            Some(base) => base,
            // A policy will say where the service is.
            None if hosts => String::new(),
            None => {
                let reason =
                    "the description does not say where the service is; add `baseUrl` to the connection"
                        .to_owned();
                return Err(Error::Address { reason });
            }
        },
    };
    Ok(Draft {
        method: operation.method.clone(),
        base: base.trim_end_matches('/').to_owned(),
        path: String::new(),
        path_arguments: Vec::new(),
        queries: Vec::new(),
        headers: Object::new(),
        body: Value::NULL,
        is_secret: false,
    })
}

/// The address in the description, with its variables filled in.
fn base_of(operation: &Operation, connection: &Connection) -> Result<Option<String>, Error> {
    let Some(url) = &operation.server.url else { return Ok(None) };
    let mut out = String::new();
    let mut rest = url.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        let own = connection.value(name);
        let default = operation.server.variables.iter().find(|(known, _)| known == name);
        let value = match (own.is_null(), default.and_then(|(_, default)| default.clone())) {
            (false, _) => own.text().into_owned(),
            (true, Some(default)) => default,
            (true, None) => connection.required(name)?.text().into_owned(),
        };
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// Adds the credentials, and finds out what has to be looked up before.
fn completed(
    operation: &Operation,
    mut draft: Draft,
    connection: &Connection,
    declared: &[ConnectionParameter],
    mut policies: Vec<Policy>,
) -> Result<Call, Error> {
    let connection = connection.with_defaults(declared);
    let accepted: Vec<&str> = operation.produces.iter().map(String::as_str).take(4).collect();
    if !accepted.is_empty() && draft.headers.get_ignore_case("Accept").is_none() {
        draft.headers.insert("Accept", accepted.join(", "));
    }
    let mut credentials = Credentials::None;
    for scheme in &operation.security {
        let secured = match scheme.secure(&connection, declared) {
            Ok(secured) => secured,
            Err(_) if operation.is_security_optional => continue,
            Err(error) => return Err(error),
        };
        for (name, value) in secured.headers {
            if let Some(written) = draft.headers.name_ignore_case(&name).cloned() {
                draft.headers.remove(&written);
            }
            draft.headers.insert(name, value);
        }
        for (name, value) in secured.queries {
            draft.queries.retain(|(known, _)| *known != name);
            draft.queries.push((name, value));
        }
        if let Some(source) = secured.credentials {
            credentials = Credentials::Token(source);
        }
    }
    if connection.base_url().is_some() {
        // The operator's address takes precedence over what a policy makes of the parameters.
        policies.retain(|policy| !matches!(policy.action, Ok(Action::SetHost { .. })));
    }
    // Lookups go to the service of the request, wherever its policies say that it is, and with the headers that policies set:
    // one of them may hold the key.
    let mut placed = draft.clone();
    let mut lookups = Vec::new();
    for policy in &policies {
        match &policy.action {
            Ok(Action::SetHost { .. } | Action::SetHeader { .. }) => {
                policy.apply(&mut placed, &connection, &mut std::iter::empty())?;
            }
            Ok(Action::SetFromUrl { url, value, method, .. }) => {
                let url = Action::lookup_url(url, &placed)?;
                let mut headers = placed.headers.clone();
                for name in ["Content-Type", "If-Match"] {
                    if let Some(written) = headers.name_ignore_case(name).cloned() {
                        headers.remove(&written);
                    }
                }
                lookups.push(Lookup {
                    request: Request {
                        method: method.clone(),
                        url: Value::from(url).secret_if(placed.is_secret),
                        headers,
                        body: Value::NULL,
                        credentials: credentials.clone(),
                    },
                    path: value.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(Call { draft, policies, connection, lookups, credentials })
}

fn finished(draft: Draft, credentials: Credentials) -> Request {
    let mut url = format!("{}{}", draft.base.trim_end_matches('/'), draft.path);
    let mut secret = draft.is_secret;
    for (name, value) in &draft.queries {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&encoding::component(name));
        url.push('=');
        url.push_str(&encoding::component(&encoding::text_of(value)));
        secret |= value.contains_secret();
    }
    Request {
        method: draft.method,
        url: Value::from(url).secret_if(secret),
        headers: draft.headers,
        body: draft.body,
        credentials,
    }
}

fn path_text(parameter: &Parameter, value: &Value) -> String {
    let style = if parameter.style == Style::Json { Style::Json } else { Style::Joined(',') };
    let texts = encoding::pairs(&parameter.name, value, style);
    let text = texts.first().map(|(_, text)| encoding::text_of(text)).unwrap_or_default();
    let once = match parameter.encoding {
        PathEncoding::Raw => return encoding::leniently(&text),
        PathEncoding::Once | PathEncoding::Twice => match text.as_str() {
            // A segment of dots alone would lead to another path.
            "." | ".." => text.replace('.', "%2E"),
            text => encoding::component(text),
        },
    };
    if parameter.encoding == PathEncoding::Twice { encoding::component(&once) } else { once }
}

fn path_of(operation: &Operation, arguments: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = operation.path.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(&encoding::leniently(before));
        let value = arguments.iter().find(|(known, _)| known == name);
        out.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    out.push_str(&encoding::leniently(rest));
    if out.starts_with('/') { out } else { format!("/{out}") }
}

/// A body in the content type of the operation.
fn content(body: Value, media: &str) -> Value {
    let is_json = {
        let kind = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind.ends_with("/json") || kind.ends_with("+json")
    };
    // The language sends a string as it is. As JSON it needs its quotes.
    if is_json && body.as_str().is_some() {
        let labels = body.labels();
        return envelope::encode(media, body.to_json_text().as_bytes()).labelled(labels);
    }
    body
}

/// The fields of a form, as the language has them.
fn form(media: &str, fields: &[(&Parameter, Value)]) -> Value {
    if fields.is_empty() {
        return Value::NULL;
    }
    if !is_multipart(media) {
        let pairs = fields.iter().flat_map(|(parameter, value)| {
            encoding::pairs(&parameter.name, value, parameter.style).into_iter().map(|(name, value)| {
                [("key", Value::from(name)), ("value", value)].into_iter().collect::<Object>()
            })
        });
        let pairs: Value = pairs.collect();
        return Object::single("$formdata".into(), pairs).into();
    }
    let mut parts = Vec::new();
    for (parameter, value) in fields {
        if envelope::content_type(value).is_some() || parameter.is_file() {
            parts.push(file_part(parameter, value));
            continue;
        }
        let style = match (&parameter.part_type, value.as_object()) {
            (Some(kind), _) if kind.contains("json") => Style::Json,
            // Objects in a multipart body are JSON (OpenAPI 3.0.3, section 4.8.14.4).
            (None, Some(_)) => Style::Json,
            _ => parameter.style,
        };
        for (name, value) in encoding::pairs(&parameter.name, value, style) {
            let mut headers = Object::new();
            headers.insert("Content-Disposition", format!("form-data; name=\"{}\"", quoted(&name)));
            if let Some(kind) = &parameter.part_type {
                headers.insert("Content-Type", kind.as_str());
            }
            parts.push(part(headers, value));
        }
    }
    let body = [("$content-type", Value::from(media)), ("$multipart", Value::from(parts))];
    body.into_iter().collect::<Object>().into()
}

fn file_part(parameter: &Parameter, value: &Value) -> Value {
    let named = ["$filename", "filename", "name"].iter().find_map(|name| value.get(name)?.as_str());
    let file = named.unwrap_or(&parameter.name);
    let mut headers = Object::new();
    let disposition =
        format!("form-data; name=\"{}\"; filename=\"{}\"", quoted(&parameter.name), quoted(file));
    headers.insert("Content-Disposition", disposition);
    let kind = envelope::content_type(value).or(parameter.part_type.as_deref());
    headers.insert("Content-Type", kind.unwrap_or("application/octet-stream"));
    part(headers, value.clone())
}

fn part(headers: Object, body: Value) -> Value {
    [("headers", Value::from(headers)), ("body", body)].into_iter().collect::<Object>().into()
}

/// A name in the header of a part (the URL standard's multipart encoding).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
