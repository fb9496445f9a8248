//! Signatures with a shared key: of requests to Azure Storage, and the tokens of Service Bus.

use std::{collections::BTreeMap, fmt::Write as _, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use loom_expression::{Timestamp, percent};
use ring::hmac;

use crate::{Failure, client::Request};

/// The lifetime of a token for Service Bus, in seconds. One is made for every request.
const TOKEN_SECONDS: i64 = 600;

/// A key that signs.
#[derive(Clone)]
pub(crate) enum SharedKey {
    /// Of a storage account.
    Storage { account: String, key: Vec<u8> },
    /// Of a Service Bus namespace, queue or topic.
    ServiceBus { name: String, key: String },
}

impl SharedKey {
    pub(crate) fn of_storage(account: &str, key: &str) -> Result<SharedKey, Failure> {
        let key = STANDARD
            .decode(key.trim())
            .map_err(|_| Failure::bad_request("The key of the storage account is not valid base64."))?;
        Ok(SharedKey::Storage { account: account.to_owned(), key })
    }

    pub(crate) fn of_service_bus(name: &str, key: &str) -> SharedKey {
        SharedKey::ServiceBus { name: name.to_owned(), key: key.to_owned() }
    }

    /// Adds the signature to a request that is complete otherwise.
    pub(crate) fn sign(&self, request: &mut Request, now: Timestamp) -> Result<(), Failure> {
        let text = match self {
            SharedKey::Storage { account, key } => {
                let date = httpdate::fmt_http_date(time(now));
                request.headers.insert(HeaderName::from_static("x-ms-date"), value(&date)?);
                format!("SharedKey {account}:{}", signature(key, &to_sign(account, request)))
            }
            SharedKey::ServiceBus { name, key } => {
                let resource = percent::encode(&format!("{}/", request.url.origin()));
                let expiry = now.unix_millis() / 1_000 + TOKEN_SECONDS;
                let signature = signature(key.as_bytes(), &format!("{resource}\n{expiry}"));
                let (signature, name) = (percent::encode(&signature), percent::encode(name));
                format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}")
            }
        };
        let mut authorization = value(&text)?;
        authorization.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, authorization);
        Ok(())
    }
}

fn time(now: Timestamp) -> SystemTime {
    let millis = u64::try_from(now.unix_millis()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis)
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text)
        .map_err(|_| Failure::bad_request("The account or the name of the key cannot be sent in a header."))
}

fn signature(key: &[u8], text: &str) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()))
}

/// What is signed of a request to Azure Storage (Authorize with Shared Key, Blob service).
fn to_sign(account: &str, request: &Request) -> String {
    let of = |name: HeaderName| {
        request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let length = if request.body.is_empty() { String::new() } else { request.body.len().to_string() };
    let mut text = format!("{}\n", request.method);
    for part in [
        of(header::CONTENT_ENCODING),
        of(header::CONTENT_LANGUAGE),
        length,
        of(HeaderName::from_static("content-md5")),
        of(header::CONTENT_TYPE),
        // The date is in `x-ms-date`.
        String::new(),
        of(header::IF_MODIFIED_SINCE),
        of(header::IF_MATCH),
        of(header::IF_NONE_MATCH),
        of(header::IF_UNMODIFIED_SINCE),
        of(header::RANGE),
    ] {
        text.push_str(&part);
        text.push('\n');
    }
    text.push_str(&canonical_headers(&request.headers));
    let _ = write!(text, "/{account}{}", request.url.path());
    let query = request.url.to_string();
    let query = query.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in query.split('&').filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        members.entry(percent::decode(name).to_lowercase()).or_default().push(percent::decode(value));
    }
    for (name, mut values) in members {
        values.sort();
        let _ = write!(text, "\n{name}:{}", values.join(","));
    }
    text
}

/// The headers that begin with `x-ms-`, each in a line, by their names.
fn canonical_headers(headers: &HeaderMap) -> String {
    let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        if let (true, Ok(value)) = (name.as_str().starts_with("x-ms-"), value.to_str()) {
            lines.entry(name.as_str()).or_default().push(value.trim());
        }
    }
    let line = |(name, values): (&str, Vec<&str>)| format!("{name}:{}\n", values.join(","));
    lines.into_iter().map(line).collect()
}
