//! Protection against requests by web pages: cross-site requests, and DNS rebinding.
//!
//! A browser sends requests on behalf of any page, also to this machine. `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin`
//! (RFC 6454) identify them; pages cannot set these headers themselves. A page whose own host name resolves to this machine (DNS
//! rebinding) is same-origin to its browser; it is recognized by the name in `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, Version, header, uri::Authority},
};
use hyper::body::Body as _;

use crate::response::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How callers reach the server.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    /// Whether callers must send a token.
    guarded: bool,
    /// The authority of the public URL.
    public: Option<Authority>,
}

impl Callers {
    pub(crate) fn new(guarded: bool, public_url: Option<&str>) -> Callers {
        let public = public_url.and_then(|url| url.parse::<axum::http::Uri>().ok());
        Callers { guarded, public: public.and_then(|url| url.authority().cloned()) }
    }

    /// Checks the `Host` header.
    ///
    /// # Errors
    /// `400` if `Host` is missing, repeated or malformed (RFC 9112, section 3.2); `421` if it names a host that this server does not
    /// serve. With a token every name is accepted, because no page knows the token.
    pub(crate) fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let malformed = |message: &str| Problem::new(StatusCode::BAD_REQUEST, "InvalidHost", message);
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(malformed("The request has more than one 'Host' header."));
        }
        let Some(host) = first else {
            if request.version() >= Version::HTTP_11 {
                return Err(malformed("The request has no 'Host' header."));
            }
            return Ok(());
        };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let host = host
            .filter(|host| !host.as_str().contains('@'))
            .ok_or_else(|| malformed("The 'Host' header does not name a host."))?;
        // A target in absolute form replaces the header.
        let host = request.uri().authority().unwrap_or(&host);
        if self.guarded || is_loopback(host.host()) || self.is_public(host.host()) {
            return Ok(());
        }
        let message = format!(
            "This server does not serve the host '{}'. Without a token it serves only loopback addresses, 'localhost' and the host \
             of '--public-url'.",
            host.host()
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "UnknownHost", message))
    }

    fn is_public(&self, host: &str) -> bool {
        self.public.as_ref().is_some_and(|public| public.host().eq_ignore_ascii_case(host))
    }

    /// Rejects requests by pages of other sites.
    ///
    /// # Errors
    /// `403`.
    pub(crate) fn check_site(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.is_from_elsewhere(headers) {
            return Ok(());
        }
        let message = "Cross-site requests by web pages are not allowed.";
        Err(Problem::new(StatusCode::FORBIDDEN, "CrossSiteRequest", message))
    }

    /// Like [`Callers::check_site`], for signed URLs. `proven` tells whether the signature is valid.
    ///
    /// A server for this machine alone accepts no requests by pages of other sites. A server with a token or a public URL gives signed
    /// URLs out, and their recipients may use them from a page: a page can know the URL only from one of them.
    ///
    /// # Errors
    /// `403`.
    pub(crate) fn check_site_of_address(&self, headers: &HeaderMap, proven: bool) -> Result<(), Problem> {
        if proven && (self.guarded || self.public.is_some()) {
            return Ok(());
        }
        self.check_site(headers)
    }

    fn is_from_elsewhere(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(SEC_FETCH_SITE) {
            let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
            // `same-site` is not enough: another port of this machine is another origin.
            return !sites.all(|site| site == "same-origin" || site == "none");
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        headers.get_all(header::ORIGIN).iter().any(|origin| {
            // `null` and malformed origins never match.
            let authority =
                origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
            let Some(authority) = authority else { return true };
            let is_public =
                || self.public.as_ref().is_some_and(|public| public.as_str().eq_ignore_ascii_case(authority));
            !(host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || is_public())
        })
    }
}

/// Checks that the body of an API request is declared as JSON. Pages of other sites can send some types without a CORS preflight,
/// but not JSON.
///
/// # Errors
/// `415`.
pub(crate) fn check_kind(request: &Request) -> Result<(), Problem> {
    if request.method().is_safe() || request.body().is_end_stream() {
        return Ok(());
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let message = "The body must be sent as 'Content-Type: application/json'.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
}

/// Whether a host can only mean this machine: `localhost` or a loopback address. Other names resolve to whatever their owner
/// chooses.
fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    if let Some(bare) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return bare.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
