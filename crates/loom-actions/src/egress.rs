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
    /// `host:port` of every place that the map names, where the block on private addresses does not apply.
    mapped: HashSet<String>,
    /// From the origins of the first to those of the second, credentials go along.
    shares: Vec<(Pattern, Pattern)>,
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
    /// Reads `{"map": {…}, "allow": […], "blockPrivate": true, "credentials": {…}}`, or the map alone.
    ///
    /// The map's keys are `https://host`, `host`, `host:port`, `*.domain` or `*`; its values are base addresses. A key that
    /// names one host keeps the path (`https://host/a` → `base/a`); a key for many puts the host before it
    /// (`https://host/a` → `base/host/a`). The first key that fits counts; keys for one host go first. `allow` lists
    /// hosts in the same spelling; without it every host may be asked. `credentials` has lists of hosts by host; see
    /// [`Egress::share_credentials`].
    ///
    /// # Errors
    /// [`EgressError`] names the member that is wrong.
    pub fn from_json(value: &Value) -> Result<Egress, EgressError> {
        let wrong = |reason: &str| EgressError { reason: reason.to_owned() };
        let members = value.as_object().ok_or_else(|| wrong("they are not an object"))?;
        let mut egress = Egress::default();
        let is_full =
            ["map", "allow", "blockPrivate", "credentials"].iter().any(|name| value.get(name).is_some());
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
                "credentials" => {
                    let shares =
                        member.as_object().ok_or_else(|| wrong("'credentials' must be an object"))?;
                    for (from, to) in shares {
                        let to = to.as_array().ok_or_else(|| {
                            wrong(&format!("'credentials' must give an array of hosts for '{from}'"))
                        })?;
                        for host in to {
                            let host = host.as_str().ok_or_else(|| {
                                wrong(&format!("the hosts for '{from}' in 'credentials' must be strings"))
                            })?;
                            egress = egress.share_credentials(from, host)?;
                        }
                    }
                }
                _ => {
                    let known = "map, allow, blockPrivate, credentials";
                    return Err(wrong(&format!("'{name}' is not known; use {known}")));
                }
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
        self.mapped.insert(place(&target));
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
    /// address that a name resolves to. Places that the map names stay reachable, and so does a connection's own address for actions that
    /// go through the connection.
    #[must_use]
    pub fn block_private(mut self, block: bool) -> Egress {
        self.block_private = block;
        self
    }

    /// Lets the credentials of requests to `from` go along when an answer leads on to `to`. Otherwise they never leave the origin that
    /// they were meant for. Both are spelled as in the map.
    ///
    /// # Errors
    /// [`EgressError`] when one of them cannot be read.
    pub fn share_credentials(mut self, from: &str, to: &str) -> Result<Egress, EgressError> {
        self.shares.push((Pattern::parse(from)?, Pattern::parse(to)?));
        Ok(self)
    }

    /// Whether a request to `url`, to which an answer led, may have the credentials that were meant for `home`.
    pub(crate) fn may_have_credentials(&self, home: &Url, url: &Url) -> bool {
        home.origin() == url.origin()
            // A service behind the map hands out addresses of the place where it really is. It has the credentials already.
            || self.rules.iter().find(|rule| rule.pattern.fits(home)).is_some_and(|rule| rule.target.origin() == url.origin())
            || self.shares.iter().any(|(from, to)| from.fits(home) && to.fits(url))
    }

    /// Where a request for `url` goes. An address that the operator named for just this request (`named`) needs no other permission.
    ///
    /// # Errors
    /// A [`Failure`] when the host is not on the allow list.
    pub(crate) fn route(&self, url: &Url, named: bool) -> Result<Url, Failure> {
        // A service behind the map may hand out addresses of its own place; they are right as they are.
        if self.rules.iter().any(|rule| rule.target.origin() == url.origin()) {
            return Ok(url.clone());
        }
        let rule = self.rules.iter().find(|rule| rule.pattern.fits(url));
        let allowed = self.allow.as_ref().is_none_or(|list| list.iter().any(|pattern| pattern.fits(url)));
        if !allowed && !named && !self.mapped.contains(&place(url)) {
            return Err(Failure::forbidden(format!(
                "The host '{}' is not on the list of allowed hosts.",
                url.host()
            )));
        }
        Ok(match rule {
            None => url.clone(),
            Some(Rule { pattern: Pattern::One { .. }, target }) => url.moved_to(target, ""),
            Some(Rule { target, .. }) => url.moved_to(target, &url.authority()),
        })
    }

    /// Whether `address`, to which `host` resolved, may be asked. `named` as in [`Egress::route`].
    pub(crate) fn may_connect(&self, host: &str, port: u16, address: IpAddr, named: bool) -> bool {
        !self.block_private || named || is_public(address) || self.mapped.contains(&format!("{host}:{port}"))
    }
}

fn place(url: &Url) -> String {
    format!("{}:{}", url.host(), url.port())
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
        // Relays from IPv6, given up (RFC 7526).
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Ways to write an IPv4 address in IPv6 lead to the same machine: mapped (RFC 4291), and translated by NAT64 (RFC 6052), which
        // networks without IPv4 need.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 2001::/23 is for protocols: Teredo (2001::/32), benchmarks, ORCHID. 2001:db8::/32 and 3fff::/20 are for documentation. 6to4
        // (2002::/16) leads to relays that were given up (RFC 7526), or straight to an IPv4 address.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => false,
        // ISATAP (RFC 5214) holds an IPv4 address of the network that the machine is in.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] if !v4(high, low) => false,
        // Only 2000::/3 is given out. What was meant for local translation (64:ff9b:1::/48) is outside of it, and so is all else.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests;
