//! URLs, as people write them and as requests use them.
//!
//! A path that is already percent-encoded is sent exactly as it was written, including `%252F`: connectors take paths
//! that were encoded twice, and a URL that is normalized on the way reaches another resource. Only characters
//! that must not occur in a URL are encoded.

use std::fmt;

use hyper::Uri;
use loom_expression::{Value, ValueRef, envelope, percent};

/// The longest URL that is sent, in bytes.
pub const URL_BYTES_MAX: usize = 16_384;

/// An absolute `http` or `https` URL, without user information and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// Lower case; an IPv6 address keeps its brackets.
    host: String,
    port: Option<u16>,
    /// Starts with `/`.
    path: String,
    /// Without the `?`.
    query: Option<String>,
}

/// Why a string is not a valid URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The URL '{address}' is not valid: {reason}")]
pub struct UrlError {
    /// The URL, without its query and user information, which may hold secrets.
    pub address: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Url {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// [`UrlError`] when the scheme is not `http` or `https`, the host is missing or not ASCII, the port is not
    /// valid, the URL has user information, or it is longer than [`URL_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let refuse = |reason| UrlError { address: without_secrets(text), reason };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| refuse("it must begin with http:// or https://"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("it must begin with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            return Err(refuse("put the user name and password into 'authentication', not into the URL"));
        }
        let (host, port) = split_port(authority).map_err(refuse)?;
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (tail, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { percent::escape(path) };
        let url = Url { https, host, port, path, query: query.map(percent::escape) };
        url.checked().map_err(refuse)
    }

    fn checked(self) -> Result<Url, &'static str> {
        if self.to_string().len() > URL_BYTES_MAX {
            return Err("it is longer than 16,384 bytes");
        }
        self.try_uri().map(|_| self).ok_or("it contains characters that are not allowed in a URL")
    }

    /// Resolves a reference from a `Location` or a `nextLink` (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// The same as [`Url::parse`].
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let reference = reference.trim();
        let reference = reference.split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return Url::parse(reference);
        }
        let scheme = self.scheme();
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, None),
        };
        let mut url = self.clone();
        if path.is_empty() {
            if let Some(query) = query {
                url.query = Some(percent::escape(query));
            }
        } else {
            let base = if path.starts_with('/') {
                ""
            } else {
                &self.path[..=self.path.rfind('/').unwrap_or_default()]
            };
            url.path = without_dots(&percent::escape(&format!("{base}{path}")));
            url.query = query.map(percent::escape);
        }
        url.checked().map_err(|reason| UrlError { address: without_secrets(reference), reason })
    }

    /// Appends a path, already encoded, to this URL, with exactly one slash in between; a query in `path` is kept
    /// before the query of this URL.
    ///
    /// # Errors
    /// The same as [`Url::parse`].
    pub fn below(&self, path: &str) -> Result<Url, UrlError> {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut url = self.clone();
        let path = path.trim_start_matches('/');
        if !path.is_empty() {
            url.path = format!("{}/{}", self.path.trim_end_matches('/'), percent::escape(path));
        }
        if let Some(query) = query {
            url.push_query(&percent::escape(query));
        }
        url.checked().map_err(|reason| UrlError { address: without_secrets(path), reason })
    }

    /// The same resource at another location: `base`, then `prefix`, then this path. The query stays.
    pub(crate) fn moved_to(&self, base: &Url, prefix: &str) -> Url {
        let mut path = base.path.trim_end_matches('/').to_owned();
        if !prefix.is_empty() {
            path.push('/');
            path.push_str(prefix);
        }
        path.push_str(&self.path);
        Url { https: base.https, host: base.host.clone(), port: base.port, path, query: self.query.clone() }
    }

    /// The URL without its query.
    #[must_use]
    pub fn without_query(mut self) -> Url {
        self.query = None;
        self
    }

    /// Adds the properties of an object to the query, encoded. An array repeats its name; null adds the name alone.
    ///
    /// # Errors
    /// [`UrlError`] when the URL becomes too long.
    pub fn with_queries(&self, queries: &Value) -> Result<Url, UrlError> {
        let Some(members) = queries.as_object() else { return Ok(self.clone()) };
        let mut url = self.clone();
        for (name, value) in members {
            match value.as_array() {
                Some(items) => items.iter().for_each(|item| url.push_member(name, item)),
                None => url.push_member(name, value),
            }
        }
        url.checked().map_err(|reason| UrlError { address: self.shown(), reason })
    }

    fn push_member(&mut self, name: &str, value: &Value) {
        let mut member = percent::encode(name);
        if !value.is_null() {
            member.push('=');
            member.push_str(&percent::encode(&query_text(value)));
        }
        self.push_query(&member);
    }

    fn push_query(&mut self, member: &str) {
        match &mut self.query {
            Some(query) if !query.is_empty() => {
                query.push('&');
                query.push_str(member);
            }
            other => *other = Some(member.to_owned()),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Whether the URL uses TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; that of the scheme when the URL has none.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// The path as it is sent, starting with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host, with the port unless it is that of the scheme.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) if port != (if self.https { 443 } else { 80 }) => format!("{}:{port}", self.host),
            _ => self.host.clone(),
        }
    }

    /// Scheme, host and port (RFC 6454): `https://api.example.com`, `http://127.0.0.1:8080`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    /// The URL for messages: without its query, which may contain a signature.
    pub fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    fn try_uri(&self) -> Option<Uri> {
        self.to_string().parse().ok()
    }

    pub(crate) fn to_uri(&self) -> Uri {
        self.try_uri().expect("every URL was checked when it was made")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Hides the query.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// The text of a query value: plain values by the rules for strings, objects as JSON.
fn query_text(value: &Value) -> String {
    match value.as_ref() {
        ValueRef::Object(_) if envelope::content_type(value).is_none() => value.to_json_text(),
        _ => envelope::text(value).into_owned(),
    }
}

fn has_scheme(reference: &str) -> bool {
    reference.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (inner, after) = rest.split_once(']').ok_or("its IPv6 address is not closed")?;
        if inner.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(if inner.contains('(') {
                "its host is an expression of a deployment template that no deployment has filled in"
            } else {
                "the host in brackets is not an IPv6 address"
            });
        }
        (format!("[{inner}]"), after.strip_prefix(':').or((after.is_empty()).then_some("")))
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (authority.to_owned(), Some("")),
        }
    };
    let port = match port {
        Some("") => None,
        Some(port) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let number = port.parse().ok().filter(|number| digits && *number > 0);
            Some(number.ok_or("its port is not a number from 1 to 65,535")?)
        }
        None => return Err("its IPv6 address is not closed"),
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if !host.is_ascii() {
        return Err("its host is not written in ASCII (use the xn-- form)");
    }
    // Brackets and colons belong to an IPv6 address, which was parsed above.
    let allowed: &[u8] = if authority.starts_with('[') { b".[]:" } else { b"-._" };
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || allowed.contains(&byte)) {
        return Err("its host contains characters that are not allowed in a host");
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// Removes `.` and `..` segments (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// A URL for a message: without query, fragment and user information.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..end].rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{}", &rest[end..])
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
