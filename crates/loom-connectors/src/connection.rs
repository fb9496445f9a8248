//! A connection: the values of a connector's parameters, and the credentials that they make.

use loom_expression::{Object, Value, nearest};

use crate::{Error, document::Node, parameter::ConnectionParameter};

/// The values of the parameters of a connection.
///
/// Secret values keep their label in everything that is made from them.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    parameters: Object,
    base_url: Option<String>,
}

/// The credentials that a request needs, as data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Credentials {
    /// None, or those that are in the request's headers and query already.
    None,
    /// A bearer token that has to be fetched, and can be kept until it expires.
    Token(TokenSource),
}

/// Where a token of OAuth 2.0 comes from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenSource {
    /// The address of the token endpoint.
    pub token_url: Value,
    /// The client's id.
    pub client_id: Value,
    /// The client's secret; null when it has none.
    pub client_secret: Value,
    /// The refresh token; null for the grant of client credentials.
    pub refresh_token: Value,
    /// The scopes, separated by spaces; empty when none are asked for.
    pub scope: String,
}

/// A security scheme of a description.
#[derive(Clone, Debug)]
pub(crate) enum Scheme {
    ApiKey {
        id: String,
        name: String,
        location: KeyLocation,
    },
    Basic,
    /// A token in the `Authorization` header.
    Bearer {
        token_url: Option<String>,
        scopes: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    Header,
    Query,
    Cookie,
}

/// What a scheme adds to a request.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    pub(crate) headers: Vec<(String, Value)>,
    pub(crate) queries: Vec<(String, Value)>,
    pub(crate) credentials: Option<TokenSource>,
}

/// The parameters that hold credentials whatever a description declares.
const CREDENTIALS: [&str; 10] = [
    "apiKey",
    "api_key",
    "clientId",
    "clientSecret",
    "password",
    "refreshToken",
    "scope",
    "token",
    "tokenUrl",
    "username",
];

impl Connection {
    /// A connection with these parameters.
    pub fn new(parameters: Object) -> Connection {
        Connection { parameters, base_url: None }
    }

    /// Sends requests to another address than the one in the description, such as a proxy or a test server.
    #[must_use]
    pub fn with_base_url(mut self, base_url: impl Into<String>) -> Connection {
        self.base_url = Some(base_url.into());
        self
    }

    pub(crate) fn base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// The value of a parameter, by its name with or without the prefix `token:`; null when the connection has none.
    pub(crate) fn value(&self, name: &str) -> Value {
        let short = name.strip_prefix("token:");
        let found = self.parameters.get_ignore_case(name);
        let found = found.or_else(|| self.parameters.get_ignore_case(short?));
        found
            .or_else(|| self.parameters.get_ignore_case(&format!("token:{name}")))
            .cloned()
            .unwrap_or_default()
    }

    /// The value of a parameter that has to be there.
    pub(crate) fn required(&self, name: &str) -> Result<Value, Error> {
        let value = self.value(name);
        if value.is_null() {
            return Err(Error::Connection {
                parameter: name.to_owned(),
                reason: "is missing; add it to the connection's `parameters`".to_owned(),
            });
        }
        Ok(value)
    }

    /// The connection with the defaults that the description declares.
    pub(crate) fn with_defaults(&self, declared: &[ConnectionParameter]) -> Connection {
        let mut connection = self.clone();
        for parameter in declared {
            if let Some(default) = &parameter.default
                && connection.value(&parameter.name).is_null()
            {
                connection.parameters.insert(parameter.name.as_str(), default.clone());
            }
        }
        connection
    }

    /// What is wrong with the parameters: unknown ones, and required ones that are missing.
    pub(crate) fn check(&self, declared: &[ConnectionParameter]) -> Vec<Error> {
        let mut errors = Vec::new();
        for parameter in declared.iter().filter(|parameter| parameter.required) {
            // A token may be given as the client that fetches it.
            let has_client = parameter.is_oauth() && !self.value("clientId").is_null();
            if self.value(&parameter.name).is_null() && parameter.default.is_none() && !has_client {
                errors.extend(self.required(&parameter.name).err());
            }
        }
        for parameter in declared {
            let value = self.value(&parameter.name);
            if !value.is_null()
                && !parameter.allowed.is_empty()
                && !parameter.allowed.contains(&value)
                && !value.is_secret()
            {
                let allowed: Vec<String> = parameter.allowed.iter().map(Value::to_json_text).collect();
                let reason = format!("must be one of {}, found {}", allowed.join(", "), value.to_json_text());
                errors.push(Error::Connection { parameter: parameter.name.clone(), reason });
            }
        }
        errors
    }

    /// Parameters whose names are not known, but nearly those of known ones.
    pub(crate) fn misspelt(&self, known: &[ConnectionParameter]) -> Vec<Error> {
        let names: Vec<&str> =
            known.iter().map(|parameter| &*parameter.name).chain(CREDENTIALS.iter().copied()).collect();
        let alike = |name: &str, other: &str| {
            let bare = |name: &str| name.strip_prefix("token:").unwrap_or(name).to_lowercase();
            bare(name) == bare(other)
        };
        let unknown = self.parameters.keys().filter(|name| !names.iter().any(|known| alike(name, known)));
        unknown
            .filter_map(|name| {
                let near = nearest(name, names.iter().copied())?;
                let reason = format!("is not known; did you mean `{near}`?");
                Some(Error::Connection { parameter: name.to_string(), reason })
            })
            .collect()
    }

    /// The token of a connection, or where to fetch it.
    fn bearer(&self, token_url: Option<&str>, scopes: &[String], parameter: &str) -> Result<Secured, Error> {
        let client_id = self.value("clientId");
        if !client_id.is_null() {
            let own = self.value("tokenUrl");
            let token_url = match (own.is_null(), token_url) {
                (false, _) => own,
                (true, Some(url)) => self.filled(url)?,
                (true, None) => self.required("tokenUrl")?,
            };
            let scope = self.value("scope");
            let scope = if scope.is_null() { scopes.join(" ") } else { scope.text().into_owned() };
            return Ok(Secured {
                credentials: Some(TokenSource {
                    token_url,
                    client_id,
                    client_secret: self.value("clientSecret"),
                    refresh_token: self.value("refreshToken"),
                    scope,
                }),
                ..Secured::default()
            });
        }
        let token = self.value(parameter);
        let token = if token.is_null() { self.value("token") } else { token };
        if token.is_null() {
            return Err(Error::Connection {
                parameter: parameter.to_owned(),
                reason: "is missing; add the token, or `clientId` and `clientSecret` to fetch one, to the connection's `parameters`"
                    .to_owned(),
            });
        }
        Ok(Secured {
            headers: vec![(
                "Authorization".to_owned(),
                Value::from(format!("Bearer {}", token.text())).into_secret(),
            )],
            ..Secured::default()
        })
    }

    /// An address with `{name}` for parameters of the connection.
    fn filled(&self, url: &str) -> Result<Value, Error> {
        let mut out = String::new();
        let mut rest = url;
        let mut secret = false;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            let value = self.required(name)?;
            secret |= value.contains_secret();
            out.push_str(before);
            out.push_str(&value.text());
            rest = after;
        }
        out.push_str(rest);
        Ok(Value::from(out).secret_if(secret))
    }

    fn key(&self, id: &str, header: &str, declared: &[ConnectionParameter]) -> Result<Value, Error> {
        let mut names = vec![id, header, "api_key", "apiKey"];
        let mut secrets = declared.iter().filter(|parameter| parameter.is_secret() && !parameter.is_oauth());
        if let (Some(only), None) = (secrets.next(), secrets.next()) {
            names.insert(0, &only.name);
        }
        let found = names.iter().map(|name| self.value(name)).find(|value| !value.is_null());
        found.map_or_else(
            || {
                let wanted =
                    names.iter().find(|name| declared.iter().any(|parameter| parameter.name == ***name));
                self.required(wanted.copied().unwrap_or("api_key"))
            },
            Ok,
        )
    }
}

impl Scheme {
    /// `None` for schemes that are not supported.
    pub(crate) fn from_node(id: &str, node: &Node) -> Option<Scheme> {
        let scopes = |flow: &Node| -> Vec<String> {
            let scopes = flow.value.get("scopes").and_then(Value::as_object);
            scopes.into_iter().flat_map(|scopes| scopes.keys().map(ToString::to_string)).collect()
        };
        Some(match node.text("type")?.to_ascii_lowercase().as_str() {
            "basic" => Scheme::Basic,
            "apikey" => Scheme::ApiKey {
                id: id.to_owned(),
                name: node.text("name")?.to_owned(),
                location: match node.text("in")? {
                    "header" => KeyLocation::Header,
                    "query" => KeyLocation::Query,
                    "cookie" => KeyLocation::Cookie,
                    _ => return None,
                },
            },
            "oauth2" => match node.get("flows") {
                None => Scheme::Bearer {
                    token_url: node.text("tokenUrl").map(str::to_owned),
                    scopes: scopes(node),
                },
                Some(flows) => {
                    let names = ["clientCredentials", "authorizationCode", "password", "implicit"];
                    let flow = names.into_iter().find_map(|name| flows.get(name));
                    Scheme::Bearer {
                        token_url: flow.as_ref().and_then(|flow| flow.text("tokenUrl")).map(str::to_owned),
                        scopes: flow.as_ref().map(scopes).unwrap_or_default(),
                    }
                }
            },
            "openidconnect" => Scheme::Bearer { token_url: None, scopes: Vec::new() },
            "http" => match node.text("scheme")?.to_ascii_lowercase().as_str() {
                "basic" => Scheme::Basic,
                "bearer" => Scheme::Bearer { token_url: None, scopes: Vec::new() },
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The parameters of a connection that the scheme needs.
    pub(crate) fn parameters(&self) -> Vec<ConnectionParameter> {
        let made = |name: &str, kind: &str, description: String| ConnectionParameter {
            name: name.to_owned(),
            kind: kind.to_owned(),
            required: true,
            description,
            default: None,
            allowed: Vec::new(),
            token_url: None,
            scopes: Vec::new(),
        };
        match self {
            Scheme::ApiKey { name, location, .. } => {
                let location = match location {
                    KeyLocation::Header => "header",
                    KeyLocation::Query => "query parameter",
                    KeyLocation::Cookie => "cookie",
                };
                vec![made("api_key", "securestring", format!("The key, sent in the {location} `{name}`"))]
            }
            Scheme::Basic => vec![
                made("username", "string", "The name of the user".to_owned()),
                made("password", "securestring", "The password of the user".to_owned()),
            ],
            Scheme::Bearer { .. } => {
                let description = "The token; or `clientId`, `clientSecret` and `tokenUrl` to fetch one";
                vec![made("token", "oauthSetting", description.to_owned())]
            }
        }
    }

    /// What the scheme adds to a request of a connection.
    pub(crate) fn secure(
        &self,
        connection: &Connection,
        declared: &[ConnectionParameter],
    ) -> Result<Secured, Error> {
        let oauth = declared.iter().find(|parameter| parameter.is_oauth());
        match self {
            Scheme::ApiKey { id, name, location } => {
                let key = connection.key(id, name, declared)?;
                let text = Value::from(key.text().as_ref()).into_secret();
                let pair = (name.clone(), text);
                Ok(match location {
                    KeyLocation::Header => Secured { headers: vec![pair], ..Secured::default() },
                    KeyLocation::Query => Secured { queries: vec![pair], ..Secured::default() },
                    KeyLocation::Cookie => {
                        let cookie = Value::from(format!("{name}={}", key.text())).into_secret();
                        Secured { headers: vec![("Cookie".to_owned(), cookie)], ..Secured::default() }
                    }
                })
            }
            Scheme::Basic => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let user = connection.required("username")?;
                let password = connection.required("password")?;
                let both = STANDARD.encode(format!("{}:{}", user.text(), password.text()));
                let header = Value::from(format!("Basic {both}")).into_secret();
                Ok(Secured { headers: vec![("Authorization".to_owned(), header)], ..Secured::default() })
            }
            Scheme::Bearer { token_url, scopes } => {
                let own = oauth.and_then(|parameter| parameter.token_url.as_deref());
                let token_url = own.or(token_url.as_deref());
                let scopes =
                    oauth.map(|parameter| &parameter.scopes).filter(|own| !own.is_empty()).unwrap_or(scopes);
                connection.bearer(token_url, scopes, oauth.map_or("token", |parameter| &parameter.name))
            }
        }
    }
}
