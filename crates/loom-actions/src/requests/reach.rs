//! How far credentials reach: to the origin that the action, or the operator's connection, names, and no further.
//!
//! Services say where to go on: in the `Location` of accepted work, of a body in pieces, of a subscription or a poll, and in the link to
//! the next page. None of them decides who hears our credentials. Every request of an action goes through [`Requests::send`], and
//! what leads to another origin is stripped there, unless [`Egress::share_credentials`](crate::Egress::share_credentials) says that the
//! two belong together.

use hyper::header::HeaderName;

use crate::client::Request;

/// Words that mark a header as a credential, wherever they stand between the hyphens of its name. Keys travel under names that every
/// service invents for itself, so a request loses a header too many rather than a key.
const WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passwd",
    "password",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "xsrf",
];

/// Takes from a request all that proves who sends it: its client certificate, and its headers that are credentials by their name or were
/// marked as sensitive.
pub(super) fn strip(request: &mut Request) {
    request.identity = None;
    let credentials: Vec<HeaderName> = request
        .headers
        .iter()
        .filter(|(name, value)| value.is_sensitive() || is_credential(name.as_str()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in credentials {
        request.headers.remove(name);
    }
}

/// Names of headers are in lower case here.
fn is_credential(name: &str) -> bool {
    name != "idempotency-key" && name.split(['-', '_', '.']).any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "ocp-apim-subscription-key",
            "x-api-key",
            "api-key",
            "apikey",
            "x-functions-key",
            "x-auth-token",
            "x-ms-authorization-auxiliary",
            "private-token",
            "x-shopify-access-token",
            "x-hub-signature",
            "x_session",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "idempotency-key",
            "accept",
            "content-type",
            "traceparent",
            "x-ms-tracking-id",
            "x-keyboard",
            "user-agent",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
