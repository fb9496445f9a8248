//! The policies of a connector: what its gateway would do with a request before the service sees it, and with a response
//! before the flow sees it.

mod shapes;

use loom_expression::{Object, Value};

use crate::{
    Error,
    connection::Connection,
    encoding,
    template::{Access, Scope, Source, Template, descend, path},
};

/// One instance of a policy template.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The name of the template, as written.
    pub(crate) id: String,
    /// The operations that it applies to; all when it names none.
    operations: Option<Vec<String>>,
    section: Section,
    /// What it does, or why that is not supported.
    pub(crate) action: Result<Action, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Request,
    Response,
}

/// What a policy does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    SetHeader {
        name: String,
        value: Template,
        exists: Exists,
    },
    SetQuery {
        name: String,
        value: Template,
        exists: Exists,
    },
    SetHost {
        url: Template,
    },
    Route {
        path: String,
        method: Template,
    },
    SetProperty {
        parent: Reference,
        property: Vec<Access>,
        value: Template,
    },
    Replace {
        parent: Reference,
        property: Vec<Access>,
        from: String,
        to: Template,
        target: Reference,
    },
    Encode {
        parent: Reference,
        property: Vec<Access>,
        target: Reference,
    },
    Split {
        parent: Reference,
        property: Vec<Access>,
        delimiters: String,
        child: Option<String>,
        target: Reference,
    },
    ArrayToObject {
        parent: Reference,
        property: Vec<Access>,
        key: Vec<Access>,
        keep_key: bool,
        target: Reference,
    },
    ObjectToArray {
        parent: Reference,
        property: Vec<Access>,
        key: String,
        value: String,
        target: Reference,
    },
    /// Takes a property away and writes it to another place.
    Move {
        parent: Reference,
        property: Vec<Access>,
        target_parent: Reference,
        target: Vec<Access>,
        /// Writes the members of the property, which is an object, in place of the property itself.
        members_only: bool,
    },
    SetFromUrl {
        target: Reference,
        url: String,
        value: Vec<Access>,
        method: String,
    },
    /// The link to the next page is in this property. The service's own link is followed, so it needs no rewriting.
    NextLink {
        property: String,
    },
    /// What the next poll of a trigger adds to its query, and where the response has the items.
    Poll {
        queries: Vec<(String, Template)>,
        items: Vec<Access>,
    },
    /// Changes only the status of the connection that a portal shows, and neither the request nor the response.
    ConnectionStatus,
}

/// What happens when a header or a query parameter is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exists {
    Override,
    Skip,
    Append,
}

/// What a policy reads or writes: a property of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) source: Source,
    pub(crate) path: Vec<Access>,
}

/// A request on its way through the policies.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: String,
    /// The address of the service, without the path of the operation.
    pub(crate) base: String,
    /// The path with its parameters, encoded. It may have a query.
    pub(crate) path: String,
    /// The parameters of the path, encoded.
    pub(crate) path_arguments: Vec<(String, String)>,
    /// The parameters of the query, not encoded.
    pub(crate) queries: Vec<(String, Value)>,
    pub(crate) headers: Object,
    pub(crate) body: Value,
    /// Whether the address contains something secret.
    pub(crate) is_secret: bool,
}

impl Policy {
    pub(crate) fn from_value(value: &Value) -> Policy {
        let id = value.get("templateId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let parameters = value.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
        let members = Members(&parameters);
        let operations = parameters.get_ignore_case("x-ms-apimTemplate-operationName");
        let operations: Option<Vec<String>> = operations
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let section = parameters.get_ignore_case("x-ms-apimTemplate-policySection").and_then(Value::as_str);
        let is_response = section.is_some_and(|section| section.eq_ignore_ascii_case("response"));
        Policy {
            action: Action::from_members(&id, &members),
            id,
            operations: operations.filter(|names| !names.is_empty()),
            section: if is_response { Section::Response } else { Section::Request },
        }
    }

    pub(crate) fn applies_to(&self, operation: &str) -> bool {
        self.operations.as_ref().is_none_or(|names| names.iter().any(|name| name == operation))
    }

    /// Changes a request. `looked_up` has a value for each [`Action::SetFromUrl`], in order.
    pub(crate) fn apply(
        &self,
        draft: &mut Draft,
        connection: &Connection,
        looked_up: &mut dyn Iterator<Item = Value>,
    ) -> Result<(), Error> {
        let (Section::Request, Ok(action)) = (self.section, &self.action) else { return Ok(()) };
        let failed = |reason: String| Error::Policy { policy: self.id.clone(), reason };
        let evaluated = |template: &Template, draft: &Draft| {
            let scope = RequestScope { draft, connection };
            for name in template.required_parameters() {
                connection.required(name)?;
            }
            Ok(template.evaluate(&scope))
        };
        match action {
            Action::SetHeader { name, value, exists } => {
                let value = as_text(&evaluated(value, draft)?);
                set_header(&mut draft.headers, name, value, *exists);
            }
            Action::SetQuery { name, value, exists } => {
                let value = as_text(&evaluated(value, draft)?);
                let is_there = draft.queries.iter().any(|(known, _)| known == name);
                match exists {
                    Exists::Skip if is_there => {}
                    Exists::Append => draft.queries.push((name.clone(), value)),
                    Exists::Override | Exists::Skip => {
                        draft.queries.retain(|(known, _)| known != name);
                        draft.queries.push((name.clone(), value));
                    }
                }
            }
            Action::SetHost { url } => {
                let value = evaluated(url, draft)?;
                draft.base = host(&value.text()).map_err(failed)?;
                draft.is_secret |= value.contains_secret();
            }
            Action::Route { path, method } => {
                let method = evaluated(method, draft)?;
                if !method.text().trim().is_empty() {
                    draft.method = method.text().trim().to_ascii_uppercase();
                }
                draft.path = filled(path, &draft.path_arguments).map_err(failed)?;
            }
            Action::SetFromUrl { target, .. } => {
                let value = looked_up.next().unwrap_or_default();
                match &target.source {
                    Source::Header(name) => {
                        set_header(&mut draft.headers, name, as_text(&value), Exists::Override);
                    }
                    Source::Query(name) => {
                        draft.queries.retain(|(known, _)| known != name);
                        draft.queries.push((name.clone(), as_text(&value)));
                    }
                    _ => draft.body = shapes::set(&draft.body, &target.path, &mut |_| Some(value.clone())),
                }
            }
            Action::NextLink { .. } | Action::Poll { .. } | Action::ConnectionStatus => {}
            other => {
                let scope = RequestScope { draft, connection };
                draft.body = shapes::apply(other, &draft.body, &scope);
            }
        }
        Ok(())
    }

    /// Changes a response.
    pub(crate) fn apply_to_response(&self, headers: &mut Object, body: &mut Value, connection: &Connection) {
        let (Section::Response, Ok(action)) = (self.section, &self.action) else { return };
        let scope = ResponseScope { headers, body, connection };
        match action {
            Action::SetHeader { name, value, exists } => {
                let value = as_text(&value.evaluate(&scope));
                set_header(headers, name, value, *exists);
            }
            other => *body = shapes::apply(other, body, &scope),
        }
    }
}

impl Action {
    fn from_members(id: &str, members: &Members<'_>) -> Result<Action, String> {
        let unsupported = |reason: String| format!("policy `{id}`: {reason}");
        let reference = |name| members.reference(name).map_err(unsupported);
        let property = |name| members.path(name).map_err(unsupported);
        let template = |name| members.template(name).map_err(unsupported);
        let required = |name: &str| {
            members
                .text(name)
                .map(str::to_owned)
                .ok_or_else(|| unsupported(format!("has no parameter `{name}`")))
        };
        Ok(match id.to_ascii_lowercase().as_str() {
            "setheader" => Action::SetHeader {
                name: required("name")?,
                value: template("value")?,
                exists: members.exists().map_err(unsupported)?,
            },
            "setqueryparameter" => Action::SetQuery {
                name: required("name")?,
                value: template("value")?,
                exists: members.exists().map_err(unsupported)?,
            },
            "dynamichosturl" | "dynamicsubdomain" => Action::SetHost { url: template("urlTemplate")? },
            "routerequesttoendpoint" => {
                Action::Route { path: required("newPath")?, method: template("httpMethod")? }
            }
            "setproperty" => Action::SetProperty {
                parent: reference("newPropertyParentPathTemplate")?,
                property: property("newPropertySubPathTemplate")?,
                value: template("propertyValuePathTemplate")?,
            },
            "stringreplace" => Action::Replace {
                parent: reference("propertyParentPath")?,
                property: property("propertySubPath")?,
                from: required("sourceString")?,
                to: template("replacementString")?,
                target: reference("newPropertyPath")?,
            },
            "encodepropertyvalue" => Action::Encode {
                parent: reference("propertyParentPath")?,
                property: property("propertySubPath")?,
                target: reference("newPropertyPath")?,
            },
            "stringtoarray" => Action::Split {
                parent: reference("propertyParentPath")?,
                property: property("propertySubPath")?,
                delimiters: required("delimiterList")?,
                child: members.text("childPropertyName").filter(|name| !name.is_empty()).map(str::to_owned),
                target: reference("newPropertyPath")?,
            },
            "convertarraytoobject" => Action::ArrayToObject {
                parent: reference("propertyParentPath")?,
                property: property("propertySubPath")?,
                key: property("keyWithinCollectionPath")?,
                keep_key: members.text("retainKey").is_none_or(|keep| !keep.eq_ignore_ascii_case("false")),
                target: reference("newPropertyPath")?,
            },
            "convertobjecttoarray" => Action::ObjectToArray {
                parent: reference("propertyParentPath")?,
                property: property("propertySubPath")?,
                key: required("keyName")?,
                value: required("valueName")?,
                target: reference("newPropertyPath")?,
            },
            "moveproperties" => Action::Move {
                parent: reference("srcParentPath")?,
                property: property("srcSubPath")?,
                target_parent: reference("dstParentPath")?,
                target: property("dstSubPath")?,
                members_only: members.flag("copyOnlySubProperties").map_err(unsupported)?,
            },
            "setvaluefromurl" => Action::SetFromUrl {
                target: reference("parameterTemplate")?,
                url: required("parameterValueUrl")?,
                value: reference("parameterValuePathTemplate")?.path,
                method: members.text("httpMethod").unwrap_or("GET").to_ascii_uppercase(),
            },
            "setconnectionstatustounauthenticated" => Action::ConnectionStatus,
            "updatenextlink" => Action::NextLink { property: required("nextLinkPropertyName")? },
            "pollingtrigger" => {
                let config = members.get("triggerConfig").and_then(Value::as_object);
                let queries = config.into_iter().flatten().map(|(name, value)| {
                    let template = Template::parse(&value.text()).map_err(unsupported)?;
                    Ok((name.to_string(), template))
                });
                Action::Poll {
                    queries: queries.collect::<Result<_, String>>()?,
                    items: reference("triggerDataPath")?.path,
                }
            }
            _ => return Err(format!("policy `{id}` is not supported")),
        })
    }

    /// The request that [`Action::SetFromUrl`] needs: its method, and its address below the service of the draft.
    pub(crate) fn lookup_url(url: &str, draft: &Draft) -> Result<String, Error> {
        let failed = |reason| Error::Policy { policy: "setvaluefromurl".to_owned(), reason };
        let path = filled(url, &draft.path_arguments).map_err(failed)?;
        Ok(format!("{}{path}", draft.base.trim_end_matches('/')))
    }
}

/// The parameters of a policy, without their prefix.
struct Members<'a>(&'a Object);

impl Members<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get_ignore_case(&format!("x-ms-apimTemplateParameter.{name}"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A member that is true or false, also as text; false when it is absent.
    fn flag(&self, name: &str) -> Result<bool, String> {
        let Some(value) = self.get(name) else { return Ok(false) };
        match value.text().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            other => Err(format!("`{name}` must be `true` or `false`, found `{other}`")),
        }
    }

    fn template(&self, name: &str) -> Result<Template, String> {
        Template::parse(&self.get(name).map(Value::text).unwrap_or_default())
    }

    fn path(&self, name: &str) -> Result<Vec<Access>, String> {
        path(self.text(name).unwrap_or_default())
    }

    fn reference(&self, name: &str) -> Result<Reference, String> {
        let text = self.text(name).ok_or_else(|| format!("has no parameter `{name}`"))?;
        // Some published policies write the reference without its `@`.
        let text = if text.starts_with('@') { text.to_owned() } else { format!("@{text}") };
        let template = Template::parse(&text)?;
        match template.as_reference() {
            Some((source @ (Source::Header(_) | Source::Query(_)), [])) if name == "parameterTemplate" => {
                Ok(Reference { source: source.clone(), path: Vec::new() })
            }
            Some((source @ (Source::Body | Source::Item | Source::TriggerBody), path)) => {
                Ok(Reference { source: source.clone(), path: path.to_vec() })
            }
            _ => Err(format!("`{name}` must be a reference such as `@body().items`, found `{text}`")),
        }
    }

    fn exists(&self) -> Result<Exists, String> {
        match self.text("existsAction").unwrap_or("override").to_ascii_lowercase().as_str() {
            "override" | "" => Ok(Exists::Override),
            "skip" => Ok(Exists::Skip),
            "append" => Ok(Exists::Append),
            other => Err(format!("`existsAction` must be `override`, `skip` or `append`, found `{other}`")),
        }
    }
}

struct RequestScope<'a> {
    draft: &'a Draft,
    connection: &'a Connection,
}

impl Scope for RequestScope<'_> {
    fn value(&self, source: &Source) -> Value {
        match source {
            Source::ConnectionParameter(name) => self.connection.value(name),
            Source::Header(name) => self.draft.headers.get_ignore_case(name).cloned().unwrap_or_default(),
            Source::Query(name) => {
                let found = self.draft.queries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            }
            Source::Body => self.draft.body.clone(),
            Source::Method => self.draft.method.as_str().into(),
            Source::Item | Source::TriggerBody => Value::NULL,
        }
    }
}

struct ResponseScope<'a> {
    headers: &'a Object,
    body: &'a Value,
    connection: &'a Connection,
}

impl Scope for ResponseScope<'_> {
    fn value(&self, source: &Source) -> Value {
        match source {
            Source::ConnectionParameter(name) => self.connection.value(name),
            Source::Header(name) => self.headers.get_ignore_case(name).cloned().unwrap_or_default(),
            Source::Body | Source::TriggerBody => self.body.clone(),
            Source::Query(_) | Source::Item | Source::Method => Value::NULL,
        }
    }
}

fn as_text(value: &Value) -> Value {
    Value::from(encoding::text_of(value)).labelled(value.labels_within())
}

fn set_header(headers: &mut Object, name: &str, value: Value, exists: Exists) {
    let Some(written) = headers.name_ignore_case(name).cloned() else {
        headers.insert(name, value);
        return;
    };
    match exists {
        Exists::Skip => {}
        Exists::Override => {
            headers.remove(&written);
            headers.insert(name, value);
        }
        Exists::Append => {
            let before = headers.get(&written).cloned().unwrap_or_default();
            let both = format!("{},{}", before.text(), value.text());
            let labels = before.labels_within() | value.labels_within();
            headers.insert(written, Value::from(both).labelled(labels));
        }
    }
}

/// The address of a service that a template gives. A connection's parameter may have the scheme that the template also has.
fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let text = text.strip_prefix("https://").filter(|rest| rest.contains("://")).unwrap_or(text);
    let is_address =
        |scheme| text.strip_prefix(scheme).is_some_and(|rest: &str| !rest.trim_matches('/').is_empty());
    if is_address("https://") || is_address("http://") {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    if text.is_empty() || text.contains("://") || text.contains(char::is_whitespace) {
        return Err(format!("its address must begin with `https://`, found `{text}`"));
    }
    Ok(format!("https://{}", text.trim_end_matches('/')))
}

/// A path with the parameters of another, already encoded.
fn filled(path: &str, arguments: &[(String, String)]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(&encoding::leniently(before));
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("`{path}` has a `{{` without `}}`"))?;
        let found = arguments.iter().find(|(known, _)| known == name);
        let (_, value) = found.ok_or_else(|| {
            format!("`{path}` has the parameter `{name}`, which the operation's path has not")
        })?;
        out.push_str(value);
        rest = after;
    }
    out.push_str(&encoding::leniently(rest));
    Ok(if out.starts_with('/') { out } else { format!("/{out}") })
}

/// The value at a place of a response.
pub(crate) fn value_at(body: &Value, path: &[Access]) -> Value {
    descend(body, path).cloned().unwrap_or_default().labelled(body.labels())
}
