//! Limits credentials to the origin that the action, or the operator's connection, names.
//!
//! Services say where to continue: in the `Location` of accepted work, of a body in chunks, of a subscription or a
//! poll, and in the link to the next page. None of these may decide who receives credentials. Every request of an
//! action goes through [`Requests::send`], which removes the credentials of requests to another origin, unless
//! [`Egress::share_credentials`](crate::Egress::share_credentials) says that the two origins belong together.

use hyper::header::HeaderName;

use crate::client::Request;

/// Words that mark a header as a credential when they occur between the hyphens of its name. Every service invents
/// its own header names for keys, so it is better to remove a header too many than to leak a key.
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

/// Removes everything from a request that proves who sends it: its client certificate, and the headers that are
/// credentials by their names or were marked as sensitive.
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

/// Header names are in lower case here.
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
