//! From a host name to a byte stream: resolve, check the address, connect, TLS. Each stage has a failure of its own.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::{Failure, egress::Egress, url::Url};

/// Resolves host names.
pub trait Resolve: Send + Sync {
    /// All addresses, in the order in which to try them.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why a connection could not be established.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the name does not resolve")]
    Resolve(#[source] io::Error),
    #[error("the address is private")]
    Private,
    #[error("no connection")]
    Refused(#[source] io::Error),
    #[error("connecting took longer than {0:?}")]
    TimedOut(Duration),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

impl ConnectError {
    pub(super) fn to_failure(&self, url: &Url) -> Failure {
        let (host, origin) = (url.host(), url.origin());
        match self {
            ConnectError::Resolve(_) => Failure::transient(
                "UnresolvableHostName",
                format!("The host name '{host}' could not be resolved."),
            ),
            ConnectError::Private => Failure::forbidden(format!(
                "The host '{host}' has a private address, and requests to private addresses are blocked (setting \
                 deny-private)."
            )),
            ConnectError::Refused(error) => {
                let why = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    kind => kind.to_string(),
                };
                Failure::transient(
                    "ServiceTemporarilyUnavailable",
                    format!("Cannot connect to '{origin}': {why}."),
                )
            }
            ConnectError::TimedOut(limit) => Failure::transient(
                "ServerTimeout",
                format!("Could not connect to '{origin}' within {} ms.", limit.as_millis()),
            ),
            ConnectError::Tls(error) => tls_failure(&origin, error),
        }
    }
}

fn tls_failure(origin: &str, error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = match why {
                rustls::CertificateError::UnknownIssuer => "it is signed by an unknown authority".to_owned(),
                rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. } => {
                    "it has expired".to_owned()
                }
                rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. } => {
                    "it is for another host".to_owned()
                }
                other => format!("{other:?}"),
            };
            Failure::lasting("TrustFailure", format!("The certificate of '{origin}' is not accepted: {why}."))
        }
        Some(rustls::Error::InvalidMessage(_)) => Failure::lasting(
            "SecureChannelFailure",
            format!("'{origin}' does not speak TLS; did you mean http:// instead of https://?"),
        ),
        Some(rustls::Error::AlertReceived(alert)) => Failure::lasting(
            "SecureChannelFailure",
            format!("'{origin}' rejected the TLS handshake: {alert:?}."),
        ),
        Some(other) => Failure::lasting(
            "SecureChannelFailure",
            format!("The TLS handshake with '{origin}' failed: {other}."),
        ),
        None => Failure::transient(
            "ServiceTemporarilyUnavailable",
            format!("The connection to '{origin}' was lost during the TLS handshake."),
        ),
    }
}

/// Establishes the connections of a pool.
#[derive(Clone)]
pub(super) struct Connector {
    egress: Arc<Egress>,
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    timeout: Duration,
    /// Whether all connections go to addresses that the operator named for them.
    named: bool,
}

impl Connector {
    pub(super) fn new(
        egress: Arc<Egress>,
        resolver: Arc<dyn Resolve>,
        tls: Arc<ClientConfig>,
        timeout: Duration,
        named: bool,
    ) -> Connector {
        Connector { egress, resolver, tls: TlsConnector::from(tls), timeout, named }
    }

    async fn connect(self, uri: Uri) -> Result<Wire, ConnectError> {
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = if let Ok(address) = bare.parse::<IpAddr>() {
            vec![address]
        } else {
            let asked = tokio::time::timeout(self.timeout, self.resolver.resolve(bare)).await;
            asked.map_err(|_| ConnectError::TimedOut(self.timeout))?.map_err(ConnectError::Resolve)?
        };
        if addresses.is_empty() {
            return Err(ConnectError::Resolve(io::ErrorKind::NotFound.into()));
        }
        let mut last = ConnectError::Private;
        for address in addresses {
            // Checked here, on the very address that is connected to, so that a name cannot resolve to one address
            // for the check and to another for the connection.
            if !self.egress.may_connect(host, port, address, self.named) {
                continue;
            }
            match tokio::time::timeout(self.timeout, self.open(SocketAddr::new(address, port), https, bare))
                .await
            {
                Ok(Ok(wire)) => return Ok(wire),
                // A server that was reached and fails the TLS handshake has responded; its other addresses would not
                // differ.
                Ok(Err(error @ ConnectError::Tls(_))) => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => last = ConnectError::TimedOut(self.timeout),
            }
        }
        Err(last)
    }

    async fn open(&self, address: SocketAddr, https: bool, host: &str) -> Result<Wire, ConnectError> {
        let stream = TcpStream::connect(address).await.map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        if !https {
            return Ok(Wire { io: TokioIo::new(Box::new(stream)), http2: false });
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Wire { io: TokioIo::new(Box::new(stream)), http2 })
    }
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A byte stream in both directions, with or without TLS.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub(super) struct Wire {
    io: TokioIo<Box<dyn Duplex>>,
    http2: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        if self.http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
