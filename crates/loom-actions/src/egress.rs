//! Where requests may go, and where they really go.
//!
//! The map sends the requests for a host to another base address, so that a definition that names real services runs
//! against a test server unedited. The allow list and the block on private addresses keep a definition's author from
//! reaching what only the machine that runs Loom should reach.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use loom_expression::Value;

use crate::{Failure, url::Url};

/// Rules for outgoing requests. The default lets everything through unchanged.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    rules: Vec<Rule>,
    allow: Option<Vec<Pattern>>,
    block_private: bool,
    /// `host:port` of every place that the operator named, where the block on private addresses does not apply.
    trusted: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    target: Url,
}

/// What a rule or the allow list names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `*`
    Any,
    /// `*.example.com`: every host below it, not itself.
    Below(String),
    /// `example.com`, perhaps with a port, perhaps with a scheme.
    One { scheme: Option<&'static str>, host: String, port: Option<u16> },
}

/// Why egress rules cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("egress rules: {reason}")]
pub struct EgressError {
    /// What is wrong, naming the member.
    pub reason: String,
}

impl Egress {
    /// Reads `{"map": {…}, "allow": […], "blockPrivate": true}`, or the map alone.
    ///
    /// The map's keys are `https://host`, `host`, `host:port`, `*.domain` or `*`; its values are base addresses. A key that
    /// names one host keeps the path (`https://host/a` → `base/a`); a key for many puts the host before it
    /// (`https://host/a` → `base/host/a`). The first key that fits counts; keys for one host go first. `allow` lists
    /// hosts in the same spelling; without it every host may be asked.
    ///
    /// # Errors
    /// [`EgressError`] names the member that is wrong.
    pub fn from_json(value: &Value) -> Result<Egress, EgressError> {
        let wrong = |reason: &str| EgressError { reason: reason.to_owned() };
        let members = value.as_object().ok_or_else(|| wrong("they are not an object"))?;
        let mut egress = Egress::default();
        let is_full = ["map", "allow", "blockPrivate"].iter().any(|name| value.get(name).is_some());
        if !is_full {
            for (key, target) in members {
                egress.add_json(key, target)?;
            }
            return Ok(egress);
        }
        for (name, member) in members {
            match name.to_ascii_lowercase().as_str() {
                "map" => {
                    let map = member.as_object().ok_or_else(|| wrong("'map' is not an object"))?;
                    for (key, target) in map {
                        egress.add_json(key, target)?;
                    }
                }
                "allow" => {
                    let hosts = member.as_array().ok_or_else(|| wrong("'allow' is not an array"))?;
                    for host in hosts {
                        let host =
                            host.as_str().ok_or_else(|| wrong("'allow' holds something else than text"))?;
                        egress = egress.allow(host)?;
                    }
                    egress.allow.get_or_insert_default();
                }
                "blockprivate" => {
                    let block =
                        member.as_bool().ok_or_else(|| wrong("'blockPrivate' is not true or false"))?;
                    egress = egress.block_private(block);
                }
                _ => return Err(wrong(&format!("'{name}' is not known; use map, allow, blockPrivate"))),
            }
        }
        Ok(egress)
    }

    fn add_json(&mut self, key: &str, target: &Value) -> Result<(), EgressError> {
        let target = target
            .as_str()
            .ok_or_else(|| EgressError { reason: format!("the address for '{key}' is not text") })?;
        self.add(key, target)
    }

    /// Adds a rule to the map; see [`Egress::from_json`] for the spelling.
    ///
    /// # Errors
    /// [`EgressError`] when key or address cannot be read.
    pub fn map(mut self, key: &str, target: &str) -> Result<Egress, EgressError> {
        self.add(key, target)?;
        Ok(self)
    }

    fn add(&mut self, key: &str, target: &str) -> Result<(), EgressError> {
        let pattern = Pattern::parse(key)?;
        let target = Url::parse(target).map_err(|error| EgressError { reason: error.to_string() })?;
        self.trust(&target);
        self.rules.push(Rule { pattern, target });
        // Stable: rules of the same reach keep the order in which they were written.
        self.rules.sort_by_key(|rule| rule.pattern.reach());
        Ok(())
    }

    /// Allows a host. Once one is allowed, all others are forbidden.
    ///
    /// # Errors
    /// [`EgressError`] when it cannot be read.
    pub fn allow(mut self, host: &str) -> Result<Egress, EgressError> {
        let pattern = Pattern::parse(host)?;
        self.allow.get_or_insert_default().push(pattern);
        Ok(self)
    }

    /// Forbids loopback, private, link-local and other addresses that are not of the public Internet, checked on the
    /// address that a name resolves to. Places that the map or a connection names stay reachable.
    #[must_use]
    pub fn block_private(mut self, block: bool) -> Egress {
        self.block_private = block;
        self
    }

    /// Excepts a place from the block on private addresses, because whoever runs Loom named it.
    pub(crate) fn trust(&mut self, place: &Url) {
        self.trusted.insert(format!("{}:{}", place.host(), place.port()));
    }

    /// Where a request for `url` goes.
    ///
    /// # Errors
    /// A [`Failure`] when the host is not on the allow list.
    pub(crate) fn route(&self, url: &Url) -> Result<Url, Failure> {
        // A service behind the map may hand out addresses of its own place; they are right as they are.
        if self.rules.iter().any(|rule| rule.target.origin() == url.origin()) {
            return Ok(url.clone());
        }
        let rule = self.rules.iter().find(|rule| rule.pattern.fits(url));
        if rule.is_none() || self.allow.is_some() {
            let trusted = self.trusted.contains(&format!("{}:{}", url.host(), url.port()));
            let allowed = self.allow.as_ref().is_none_or(|list| list.iter().any(|pattern| pattern.fits(url)));
            if !allowed && !trusted {
                return Err(Failure::forbidden(format!(
                    "The host '{}' is not on the list of allowed hosts.",
                    url.host()
                )));
            }
        }
        Ok(match rule {
            None => url.clone(),
            Some(Rule { pattern: Pattern::One { .. }, target }) => url.moved_to(target, ""),
            Some(Rule { target, .. }) => url.moved_to(target, &url.authority()),
        })
    }

    /// Whether `address`, to which `host` resolved, may be asked.
    pub(crate) fn may_connect(&self, host: &str, port: u16, address: IpAddr) -> bool {
        !self.block_private || is_public(address) || self.trusted.contains(&format!("{host}:{port}"))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, EgressError> {
        let text = text.trim();
        if text == "*" {
            return Ok(Pattern::Any);
        }
        if let Some(domain) = text.strip_prefix("*.") {
            return Ok(Pattern::Below(format!(".{}", domain.to_ascii_lowercase())));
        }
        let (full, has_scheme) =
            if text.contains("://") { (text.to_owned(), true) } else { (format!("https://{text}"), false) };
        let url = Url::parse(&full).map_err(|error| EgressError { reason: error.to_string() })?;
        if url.path() != "/" {
            return Err(EgressError { reason: format!("'{text}' names a path; only hosts can be named") });
        }
        let written_port =
            full.rsplit_once(':').is_some_and(|(_, port)| port.trim_end_matches('/').parse::<u16>().is_ok());
        Ok(Pattern::One {
            scheme: has_scheme.then_some(url.scheme()),
            host: url.host().to_owned(),
            port: (has_scheme || written_port).then_some(url.port()),
        })
    }

    /// How much it covers: narrow rules are asked first.
    fn reach(&self) -> usize {
        match self {
            Pattern::One { scheme: Some(_), .. } => 0,
            Pattern::One { port: Some(_), .. } => 1,
            Pattern::One { .. } => 2,
            // A longer domain is a narrower one.
            Pattern::Below(domain) => usize::MAX - 1 - domain.len(),
            Pattern::Any => usize::MAX,
        }
    }

    fn fits(&self, url: &Url) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Below(domain) => url.host().ends_with(domain.as_str()),
            Pattern::One { scheme, host, port } => {
                url.host() == host
                    && scheme.is_none_or(|scheme| scheme == url.scheme())
                    && port.is_none_or(|port| port == url.port())
            }
        }
    }
}

/// Whether an address belongs to the public Internet, by the IANA registries of special-purpose addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Ways to write an IPv4 address in IPv6 lead to the same machine.
    let inner = match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = inner {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Only 2000::/3 is given out; 2001:db8::/32 is for documentation.
    segments[0] & 0xe000 == 0x2000 && !(segments[0] == 0x2001 && segments[1] == 0xdb8)
}

#[cfg(test)]
mod tests;
