//! Where the database is, and how the store uses it.

use std::{sync::Arc, time::Duration};

use loom_store::{Durability, Error, Sealer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The settings of a store, fixed when it is opened.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The database: `postgres://user@host:5432/database`, or words such as `host=… user=… dbname=…`. Several hosts may be
    /// given; the store uses the one that accepts writes.
    ///
    /// `sslmode=require` encrypts the connection and verifies the certificate of the server and its name; `sslmode=disable` does
    /// not. Without `sslmode`, connections over a UNIX socket or to a loopback address are not encrypted, and all others are
    /// encrypted and verified.
    pub url: String,
    /// The password, if it is not in `url`.
    pub password: Option<String>,
    /// Certificates that the server's certificate may be signed by. Those of the public authorities are used when it is empty.
    pub authorities: Vec<Vec<u8>>,
    /// The schema that holds the tables. It is created if it does not exist.
    pub schema: String,
    /// What an acknowledged commit survives. `Durable` waits for the disk of the server and for its synchronous standbys;
    /// `Relaxed` turns `synchronous_commit` off.
    pub durability: Durability,
    /// How long a commit that is not [urgent](loom_store::Urgency) waits for others.
    pub linger: Duration,
    /// The most commits in one statement.
    pub group_commits_max: usize,
    /// The most bytes of payload in one statement; a larger commit has a statement of its own.
    pub group_bytes_max: usize,
    /// The size of the queue of commits, in bytes.
    pub queue_bytes_max: usize,
    /// How many connections read.
    pub readers: usize,
    /// After the connection is lost during a statement, how long the store tries to find out whether the statement took effect
    /// before it pauses.
    pub settle_within: Duration,
    /// Seals secret values in payloads. Every node must have the same; its key is not in the database.
    pub sealer: Sealer,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
}

impl PostgresOptions {
    /// The default settings for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            authorities: Vec::new(),
            schema: "loom".into(),
            durability: Durability::Durable,
            linger: Duration::from_millis(5),
            group_commits_max: 1_000,
            group_bytes_max: 1 << 20,
            queue_bytes_max: 64 << 20,
            readers: 3,
            settle_within: Duration::from_secs(3),
            sealer: Sealer::none(),
            connect_timeout: Duration::from_secs(2),
        }
    }

    /// Reads the address. `role` tells operators of the database what a connection is for.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        let mut config: Config = self.url.parse().map_err(|source| Error::io("read the address", source))?;
        if let Some(password) = &self.password {
            config.password(password);
        }
        config
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(Duration::from_secs(3))
            .keepalives_idle(Duration::from_secs(2))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        Ok(config)
    }

    /// How connections are encrypted, if they are.
    pub(crate) fn tls(&self, config: &Config) -> Result<Option<MakeRustlsConnect>, Error> {
        let is_near = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
        match config.get_ssl_mode() {
            SslMode::Disable => return Ok(None),
            SslMode::Prefer if is_near => return Ok(None),
            _ => {}
        }
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for authority in &self.authorities {
            let added = roots.add(authority.clone().into());
            added.map_err(|source| Error::io("read the certificate of an authority", source))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::io("prepare TLS", source))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(tls)))
    }

    /// Refuses settings that cannot work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 63
                && name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !is_name(&self.schema) {
            return Err(Error::io("use the schema", InvalidSchema { name: self.schema.clone() }));
        }
        Ok(())
    }
}

/// The name of the schema is not one that needs no quotes.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{name}` is not a valid schema name: use at most 63 lower-case letters, digits and `_`, a letter first"
)]
struct InvalidSchema {
    name: String,
}
