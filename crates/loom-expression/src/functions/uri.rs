//! URI functions: the parts of an absolute URI.

use super::{Arguments, Body, Category, Function, Outcome, ex};
use crate::{Value, error::Failure, percent};

const fn uri(name: &'static str, body: fn(&mut Arguments<'_>) -> Outcome) -> Function {
    Function::new(Category::Uri, name, (1, 1), Body::Plain(body))
}

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    uri("uriHost", |arguments| Ok(Value::from(Uri::of(arguments)?.host.to_lowercase()))).docs(
        "uriHost(uri: string) → string",
        "Returns the host of an absolute URI in lower case, without the port.",
    ).examples(&[ex("@uriHost('https://www.localhost.com:8080')", r#""www.localhost.com""#), ex("@uriHost('/a')", "error")]),
    uri("uriPath", |arguments| Ok(Value::from(Uri::of(arguments)?.path()))).docs(
        "uriPath(uri: string) → string",
        "Returns the path of an absolute URI, or / if it has none. Existing escapes are kept, characters that a URI cannot contain are percent-encoded, and the segments . and .. are resolved.",
    ).examples(&[ex("@uriPath('https://www.contoso.com/catalog/shownew.htm?date=today')", r#""/catalog/shownew.htm""#), ex("@uriPath('https://h')", r#""/""#)]),
    uri("uriPathAndQuery", |arguments| {
        let uri = Uri::of(arguments)?;
        Ok(Value::from(format!("{}{}", uri.path(), uri.query())))
    }).docs(
        "uriPathAndQuery(uri: string) → string",
        "Returns the path and the query of an absolute URI.",
    ).examples(&[ex("@uriPathAndQuery('https://contoso.com/a?b=c#frag')", r#""/a?b=c""#)]),
    uri("uriPort", |arguments| Ok(Value::from(Uri::of(arguments)?.port()))).docs(
        "uriPort(uri: string) → integer",
        "Returns the port of an absolute URI. Without a port in the URI, returns the default port of its scheme, or -1 if there is none.",
    ).examples(&[ex("@uriPort('https://www.localhost:8080')", "8080"), ex("@uriPort('https://contoso.com')", "443")]),
    uri("uriQuery", |arguments| Ok(Value::from(Uri::of(arguments)?.query()))).docs(
        "uriQuery(uri: string) → string",
        "Returns the query of an absolute URI with its question mark, or an empty string if it has none.",
    ).examples(&[ex("@uriQuery('https://contoso.com/a?b=1#f')", r#""?b=1""#), ex("@uriQuery('https://contoso.com/a')", r#""""#)]),
    uri("uriScheme", |arguments| Ok(Value::from(Uri::of(arguments)?.scheme.to_ascii_lowercase()))).docs(
        "uriScheme(uri: string) → string",
        "Returns the scheme of an absolute URI in lower case.",
    ).examples(&[ex("@uriScheme('https://contoso.com')", r#""https""#), ex("@uriScheme('contoso.com/x')", "error")]),
];

/// The parts of an absolute URI (RFC 3986).
struct Uri<'a> {
    scheme: &'a str,
    /// Whether it has an authority, so that its path starts with a slash.
    hierarchical: bool,
    host: &'a str,
    port: Option<i64>,
    path: &'a str,
    /// The query with its question mark, or empty.
    query: &'a str,
}

impl<'a> Uri<'a> {
    fn of(arguments: &'a Arguments<'_>) -> Result<Self, Failure> {
        Self::parse(arguments.str(0)?.trim())
            .ok_or_else(|| arguments.bad(0, "expected an absolute URI, such as https://contoso.com/path"))
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let mut letters = scheme.chars();
        if !letters.next()?.is_ascii_alphabetic()
            || !letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        {
            return None;
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = match rest.find('?') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let Some(rest) = rest.strip_prefix("//") else {
            // HTTP and WebSocket URIs must have a host.
            if is_web(scheme) {
                return None;
            }
            return Some(Self { scheme, hierarchical: false, host: "", port: None, path: rest, query });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = match address.rfind(':') {
            // A colon inside the brackets of an IPv6 address does not start a port.
            Some(at) if !address[at..].contains(']') => {
                let digits = &address[at + 1..];
                let port = match digits {
                    "" => None,
                    digits => Some(digits.parse().ok().filter(|port| (0..=65_535).contains(port))?),
                };
                (&address[..at], port)
            }
            _ => (address, None),
        };
        let broken = |c: char| {
            c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}' | '%')
        };
        if host.contains(broken) || (host.is_empty() && is_web(scheme)) {
            return None;
        }
        Some(Self { scheme, hierarchical: true, host, port, path, query })
    }

    fn path(&self) -> String {
        if !self.hierarchical {
            return percent::escape(self.path);
        }
        let path = percent::normalize(&self.path.replace('\\', "/"));
        match path.as_str() {
            "" => "/".to_owned(),
            dotted if dotted.contains("/.") => without_dots(dotted),
            _ => path,
        }
    }

    fn query(&self) -> String {
        percent::normalize(self.query)
    }

    fn port(&self) -> i64 {
        self.port.unwrap_or_else(|| match self.scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            "ftp" => 21,
            "ssh" | "sftp" => 22,
            "telnet" => 23,
            "mailto" => 25,
            "gopher" => 70,
            "nntp" => 119,
            "ldap" => 389,
            "net.tcp" => 808,
            _ => -1,
        })
    }
}

/// Resolves the segments `.` and `..` of a path (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // At the end of the path, they leave a slash.
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn is_web(scheme: &str) -> bool {
    ["http", "https", "ws", "wss", "ftp"].iter().any(|web| web.eq_ignore_ascii_case(scheme))
}
