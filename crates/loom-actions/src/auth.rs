//! Authentication: what an `authentication` object asks for, and the tokens it may need.
//!
//! Nothing that is read here may reach a message or a log: types with credentials hide them from `Debug`, and
//! failures name properties, never values.

mod archives;
mod rotated;
mod signed;
mod token;

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use loom_expression::{Value, ValueRef};

pub use self::token::{ManagedIdentity, TokenSettings};
pub(crate) use self::{
    archives::Archives,
    signed::SharedKey,
    token::{Tokens, Used},
};
use crate::{Failure, client::Identity};

/// The credentials to add to a request.
pub(crate) enum Credentials {
    None,
    /// The whole `Authorization` header.
    Header(HeaderValue),
    /// A certificate for the TLS session.
    Certificate(Arc<Identity>),
    /// An archive with the certificate for the TLS session, which has to be opened first.
    Archive(Archive),
    /// A parameter of the query, as function keys are sent.
    Query {
        name: String,
        value: String,
    },
    /// A header with any name, as keys of gateways are sent.
    Named {
        name: String,
        value: String,
    },
    /// A signature of the request, with a key of the service.
    Signed(SharedKey),
    /// A bearer token, which has to be fetched first.
    Token(TokenRequest),
}

/// The token that is needed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum TokenRequest {
    /// Client credentials at an authority (OAuth 2.0, RFC 6749, section 4.4).
    ClientCredentials {
        authority: Option<String>,
        tenant: String,
        audience: String,
        client_id: String,
        proof: Proof,
    },
    /// Client credentials or a refresh token at any token endpoint (RFC 6749, sections 4.4 and 6).
    Endpoint {
        url: String,
        client_id: String,
        client_secret: Option<String>,
        refresh_token: Option<String>,
        scope: String,
    },
    /// The managed identity of the machine.
    ManagedIdentity { audience: String, identity: Option<String> },
}

/// How an application proves its identity.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Proof {
    Secret(String),
    /// By a signature with a key whose certificate the authority knows (RFC 7523).
    Certificate(Archive),
}

/// A PKCS#12 archive and its password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Archive {
    pub(crate) bytes: Vec<u8>,
    pub(crate) password: String,
}

impl Archive {
    /// Reads `pfx` and `password`; `None` when there is no `pfx`.
    fn from_value(value: &Value) -> Result<Option<Archive>, Failure> {
        let Some(text) = optional(value, "pfx") else { return Ok(None) };
        // base64 is often wrapped into lines.
        let text: String = text.split_ascii_whitespace().collect();
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| Failure::bad_request("The 'pfx' of the authentication is not valid base64."))?;
        Ok(Some(Archive { bytes, password: optional(value, "password").unwrap_or_default() }))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::Header(_) => "Header(<secret>)",
            Credentials::Certificate(_) | Credentials::Archive(_) => "Certificate(<secret>)",
            Credentials::Query { .. } => "Query(<secret>)",
            Credentials::Named { .. } => "Named(<secret>)",
            Credentials::Signed(_) => "Signed(<secret>)",
            Credentials::Token(_) => "Token(<secret>)",
        })
    }
}

impl Credentials {
    /// Reads an `authentication` object. Null and an empty object ask for nothing.
    pub(crate) fn from_value(value: &Value) -> Result<Credentials, Failure> {
        let kind = match value.as_ref() {
            ValueRef::Null => return Ok(Credentials::None),
            ValueRef::Object(object) if object.is_empty() => return Ok(Credentials::None),
            ValueRef::Object(_) => text(value, "type")?,
            _ => {
                return Err(Failure::bad_request(format!(
                    "'authentication' must be an object, found {}.",
                    value.kind()
                )));
            }
        };
        match kind.to_ascii_lowercase().as_str() {
            "none" => Ok(Credentials::None),
            "basic" => {
                let pair = format!(
                    "{}:{}",
                    text(value, "username")?,
                    optional(value, "password").unwrap_or_default()
                );
                authorization(&format!("Basic {}", STANDARD.encode(pair)))
            }
            "raw" => match optional(value, "value") {
                Some(whole) => authorization(&whole),
                // The connections files of Azure split the header in two.
                None => authorization(&format!("{} {}", text(value, "scheme")?, text(value, "parameter")?)),
            },
            "bearer" => authorization(&format!("Bearer {}", text(value, "token")?)),
            "querystring" => {
                Ok(Credentials::Query { name: text(value, "name")?, value: text(value, "value")? })
            }
            "header" | "apikey" => {
                Ok(Credentials::Named { name: text(value, "name")?, value: text(value, "value")? })
            }
            "clientcertificate" => certificate(value),
            "activedirectoryoauth" => {
                // Leftovers of the other form must not interfere.
                let by_certificate = optional(value, "credentialType")
                    .is_some_and(|kind| kind.eq_ignore_ascii_case("certificate"));
                let proof = match optional(value, "secret").filter(|_| !by_certificate) {
                    Some(secret) => Proof::Secret(secret),
                    None => Proof::Certificate(
                        Archive::from_value(value)?
                            .ok_or_else(|| missing(if by_certificate { "pfx" } else { "secret" }))?,
                    ),
                };
                Ok(Credentials::Token(TokenRequest::ClientCredentials {
                    authority: optional(value, "authority"),
                    tenant: text(value, "tenant")?,
                    audience: text(value, "audience")?,
                    client_id: text(value, "clientId")?,
                    proof,
                }))
            }
            // Of connections of service providers.
            "azuresharedkey" => {
                SharedKey::of_storage(&text(value, "account")?, &text(value, "key")?).map(Credentials::Signed)
            }
            "servicebussharedkey" => Ok(Credentials::Signed(SharedKey::of_service_bus(
                &text(value, "keyName")?,
                &text(value, "key")?,
            ))),
            // Of connections with a description.
            "oauth" => Ok(Credentials::Token(TokenRequest::Endpoint {
                url: text(value, "tokenUrl")?,
                client_id: text(value, "clientId")?,
                client_secret: optional(value, "clientSecret"),
                refresh_token: optional(value, "refreshToken"),
                scope: optional(value, "scope").unwrap_or_default(),
            })),
            "managedserviceidentity" => Ok(Credentials::Token(TokenRequest::ManagedIdentity {
                audience: optional(value, "audience")
                    .unwrap_or_else(|| "https://management.azure.com/".to_owned()),
                identity: optional(value, "identity")
                    .filter(|identity| !identity.eq_ignore_ascii_case("SystemAssigned")),
            })),
            _ => Err(Failure::bad_request(format!(
                "The authentication type '{kind}' is not supported; use None, Basic, Raw, ClientCertificate, \
                 ActiveDirectoryOAuth or ManagedServiceIdentity."
            ))),
        }
    }
}

/// Reads `pfx`, as the language has it, or `pem` with the chain and the unencrypted key.
fn certificate(value: &Value) -> Result<Credentials, Failure> {
    if let Some(archive) = Archive::from_value(value)? {
        return Ok(Credentials::Archive(archive));
    }
    let pem = optional(value, "pem").ok_or_else(|| missing("pfx"))?;
    let identity = Identity::from_pem(&pem)
        .map_err(|error| Failure::bad_request(format!("The client certificate cannot be used: {error}.")))?;
    Ok(Credentials::Certificate(Arc::new(identity)))
}

fn authorization(text: &str) -> Result<Credentials, Failure> {
    let mut value = HeaderValue::from_bytes(text.trim().as_bytes()).map_err(|_| {
        Failure::bad_request("The authentication contains a line break or a control character.")
    })?;
    value.set_sensitive(true);
    Ok(Credentials::Header(value))
}

fn optional(value: &Value, member: &str) -> Option<String> {
    value.get(member).filter(|value| !value.is_null()).map(|value| value.text().into_owned())
}

fn text(value: &Value, member: &str) -> Result<String, Failure> {
    optional(value, member).ok_or_else(|| missing(member))
}

fn missing(member: &str) -> Failure {
    Failure::bad_request(format!("'authentication' needs '{member}'."))
}

#[cfg(test)]
mod tests;
