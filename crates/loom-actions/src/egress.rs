//! Egress control: where requests may go, and where they are sent instead.
//!
//! The map sends requests for a host to another base URL, so that a definition that names real services runs
//! unchanged against a test server. The allow list and the block on private addresses keep the author of a definition
//! from reaching what only the machine that runs Loom should reach.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use loom_expression::Value;

use crate::{Failure, url::Url};

/// Rules for outgoing requests. By default, all requests are allowed and sent unchanged.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    rules: Vec<Rule>,
    allow: Option<Vec<Pattern>>,
    block_private: bool,
    /// `host:port` of every target in the map; the block on private addresses does not apply to them.
    mapped: HashSet<String>,
    /// Credentials are passed on from origins that match the first to those that match the second.
    shares: Vec<(Pattern, Pattern)>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    target: Url,
}

/// The hosts of a rule or of an entry in the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `*`
    Any,
    /// `*.example.com`: every host below the domain, not the domain itself.
    Below(String),
    /// `example.com`, optionally with a scheme and a port.
    One { scheme: Option<&'static str>, host: String, port: Option<u16> },
}

/// Why egress rules cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("egress rules: {reason}")]
#[non_exhaustive]
pub struct EgressError {
    /// What is wrong, with the name of the property.
    pub reason: String,
}

impl Egress {
    /// Reads `{"map": {…}, "allow": […], "blockPrivate": true, "credentials": {…}}`, or the map alone.
    ///
    /// The keys of the map are `https://host`, `host`, `host:port`, `*.domain` or `*`; its values are base URLs.
    /// A key for one host keeps the path (`https://host/a` → `base/a`); a key for many hosts puts the host before it
    /// (`https://host/a` → `base/host/a`). The first matching key wins; keys for one host come first. `allow` lists
    /// hosts in the same form; without it every host is allowed. `credentials` has lists of hosts by host; see
    /// [`Egress::share_credentials`].
    ///
    /// # Errors
    /// [`EgressError`], which names the wrong property.
    pub fn from_json(value: &Value) -> Result<Egress, EgressError> {
        let wrong = |reason: &str| EgressError { reason: reason.to_owned() };
        let members = value.as_object().ok_or_else(|| wrong("the rules must be an object"))?;
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
                    let map = member.as_object().ok_or_else(|| wrong("'map' must be an object"))?;
                    for (key, target) in map {
                        egress.add_json(key, target)?;
                    }
                }
                "allow" => {
                    let hosts = member.as_array().ok_or_else(|| wrong("'allow' must be an array"))?;
                    for host in hosts {
                        let host = host.as_str().ok_or_else(|| wrong("'allow' must contain only strings"))?;
                        egress = egress.allow(host)?;
                    }
                    egress.allow.get_or_insert_default();
                }
                "blockprivate" => {
                    let block =
                        member.as_bool().ok_or_else(|| wrong("'blockPrivate' must be true or false"))?;
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
                    return Err(wrong(&format!("unknown property '{name}'; use {known}")));
                }
            }
        }
        Ok(egress)
    }

    fn add_json(&mut self, key: &str, target: &Value) -> Result<(), EgressError> {
        let target = target
            .as_str()
            .ok_or_else(|| EgressError { reason: format!("the URL for '{key}' must be a string") })?;
        self.add(key, target)
    }

    /// Adds a rule to the map; see [`Egress::from_json`] for the format.
    ///
    /// # Errors
    /// [`EgressError`] when the key or the URL cannot be parsed.
    pub fn map(mut self, key: &str, target: &str) -> Result<Egress, EgressError> {
        self.add(key, target)?;
        Ok(self)
    }

    fn add(&mut self, key: &str, target: &str) -> Result<(), EgressError> {
        let pattern = Pattern::parse(key)?;
        let target = Url::parse(target).map_err(|error| EgressError { reason: error.to_string() })?;
        self.mapped.insert(place(&target));
        self.rules.push(Rule { pattern, target });
        // A stable sort: rules of the same scope keep the order in which they were written.
        self.rules.sort_by_key(|rule| rule.pattern.reach());
        Ok(())
    }

    /// Allows a host. Once one host is allowed, all others are forbidden.
    ///
    /// # Errors
    /// [`EgressError`] when the host cannot be parsed.
    pub fn allow(mut self, host: &str) -> Result<Egress, EgressError> {
        let pattern = Pattern::parse(host)?;
        self.allow.get_or_insert_default().push(pattern);
        Ok(self)
    }

    /// Forbids loopback, private, link-local and other addresses outside the public Internet. The address that a name
    /// resolves to is checked. Targets of the map stay reachable, and so does the address of a connection for actions
    /// that use the connection.
    #[must_use]
    pub fn block_private(mut self, block: bool) -> Egress {
        self.block_private = block;
        self
    }

    /// Passes the credentials of requests to `from` on when a response leads to `to`. Otherwise credentials never
    /// leave the origin that they are for. Both have the format of keys in the map.
    ///
    /// # Errors
    /// [`EgressError`] when one of them cannot be parsed.
    pub fn share_credentials(mut self, from: &str, to: &str) -> Result<Egress, EgressError> {
        self.shares.push((Pattern::parse(from)?, Pattern::parse(to)?));
        Ok(self)
    }

    /// Whether a request to `url`, to which a response led, may have the credentials that are for `home`.
    pub(crate) fn may_have_credentials(&self, home: &Url, url: &Url) -> bool {
        home.origin() == url.origin()
            // A service behind the map returns URLs of its real location, which already has the credentials.
            || self.rules.iter().find(|rule| rule.pattern.fits(home)).is_some_and(|rule| rule.target.origin() == url.origin())
            || self.shares.iter().any(|(from, to)| from.fits(home) && to.fits(url))
    }

    /// Returns the URL to which a request for `url` is sent. A URL that the operator named for this very
    /// request (`named`) needs no other permission.
    ///
    /// # Errors
    /// A [`Failure`] when the host is not on the allow list.
    pub(crate) fn route(&self, url: &Url, named: bool) -> Result<Url, Failure> {
        // A service behind the map may return URLs of its real location; they are used as they are.
        if self.rules.iter().any(|rule| rule.target.origin() == url.origin()) {
            return Ok(url.clone());
        }
        let rule = self.rules.iter().find(|rule| rule.pattern.fits(url));
        let allowed = self.allow.as_ref().is_none_or(|list| list.iter().any(|pattern| pattern.fits(url)));
        if !allowed && !named && !self.mapped.contains(&place(url)) {
            return Err(Failure::forbidden(format!(
                "The host '{}' is not on the list of allowed hosts (setting allow-host).",
                url.host()
            )));
        }
        Ok(match rule {
            None => url.clone(),
            Some(Rule { pattern: Pattern::One { .. }, target }) => url.moved_to(target, ""),
            Some(Rule { target, .. }) => url.moved_to(target, &url.authority()),
        })
    }

    /// Whether a connection to `address`, to which `host` resolved, is allowed. `named` as in [`Egress::route`].
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
            return Err(EgressError { reason: format!("'{text}' must be a host without a path") });
        }
        let written_port =
            full.rsplit_once(':').is_some_and(|(_, port)| port.trim_end_matches('/').parse::<u16>().is_ok());
        Ok(Pattern::One {
            scheme: has_scheme.then_some(url.scheme()),
            host: url.host().to_owned(),
            port: (has_scheme || written_port).then_some(url.port()),
        })
    }

    /// How many hosts the rule covers: narrow rules come first.
    fn reach(&self) -> usize {
        match self {
            Pattern::One { scheme: Some(_), .. } => 0,
            Pattern::One { port: Some(_), .. } => 1,
            Pattern::One { .. } => 2,
            // A longer domain is narrower.
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
        // Deprecated relays from IPv6 (RFC 7526).
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
        // IPv4 addresses in IPv6 form lead to the same machine: mapped (RFC 4291), and translated by NAT64 (RFC
        // 6052), which networks without IPv4 need.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 2001::/23 is for protocols: Teredo (2001::/32), benchmarks, ORCHID. 2001:db8::/32 and 3fff::/20 are for
        // documentation. 6to4 (2002::/16) leads to deprecated relays (RFC 7526), or directly to an IPv4 address.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => false,
        // ISATAP (RFC 5214) contains an IPv4 address of the machine's own network.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] if !v4(high, low) => false,
        // Only 2000::/3 is allocated. Local translation (64:ff9b:1::/48) is outside of it, and so is everything else.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests;
