//! Opens a store on PostgreSQL: the address, the password and the certificates.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_store::{Durability, Store, with_key};
use loom_store_postgres::{PostgresOptions, PostgresStore};

use crate::{
    config::{Config, Origin},
    data, files,
};

/// The environment variable with the password of a database, as all programs of PostgreSQL read it.
const PASSWORD: &str = "PGPASSWORD";

/// Where a database is, and how to use it.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    url: String,
    password: Option<String>,
    authorities: Vec<Vec<u8>>,
}

/// Whether a string is the address of a database, not of a directory.
pub(crate) fn is_address(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

impl Database {
    /// The database that the settings name; none if they name a directory.
    pub(crate) fn of(config: &Config) -> Result<Option<Database>> {
        let values = &config.values;
        let Some(url) = &values.store else {
            return Ok(None);
        };
        if matches!(config.origin("store"), Some(Origin::Flag(_))) && has_password(url) {
            bail!(
                "--store: other users of this machine can see a password on the command line; put it into a file and name the file \
                 with --store-password-file, or set {PASSWORD}"
            );
        }
        config.check_files(&["store-password-file", "store-ca"])?;
        Database::new(url, values.store_password_file.as_deref(), values.store_ca.as_deref()).map(Some)
    }

    /// A database by its address.
    pub(crate) fn new(url: &str, password_file: Option<&Path>, ca: Option<&Path>) -> Result<Database> {
        if !is_address(url) {
            bail!(
                "--store: expected the address of a PostgreSQL database, such as postgres://loom@db.example/loom, found `{}`",
                shown(url)
            );
        }
        let password = match password_file {
            Some(path) => {
                files::warn_if_others_can_read(path);
                let text = files::read_text(path)?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
            None => std::env::var(PASSWORD).ok(),
        };
        let authorities = ca.map(certificates).transpose()?.unwrap_or_default();
        Ok(Database { url: url.to_owned(), password, authorities })
    }

    /// Opens the store, and creates its tables if there are none.
    pub(crate) async fn open(
        &self,
        durability: Durability,
        key_file: Option<&Path>,
    ) -> Result<Arc<dyn Store>> {
        let key = key_file.map(data::read_key).transpose()?;
        let store = self.open_raw(durability).await?;
        with_key(store, key.as_ref()).await.with_context(|| self.cannot_use())
    }

    /// Like [`Database::open`], without regard to whether its content is encrypted.
    pub(crate) async fn open_raw(&self, durability: Durability) -> Result<Arc<dyn Store>> {
        let options = PostgresOptions {
            password: self.password.clone(),
            authorities: self.authorities.clone(),
            durability,
            ..PostgresOptions::new(&self.url)
        };
        let store = PostgresStore::open(options).await;
        Ok(Arc::new(store.map_err(|error| anyhow!(error).context(self.cannot_use()))?))
    }

    fn cannot_use(&self) -> String {
        format!("cannot use the database {}", self.shown())
    }

    /// The address without its password.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }
}

/// The end of `user:password@` in an address, and the colon in it.
fn password_in(url: &str) -> Option<(usize, usize)> {
    let start = url.find("://")? + 3;
    let authority = url[start..].find(['/', '?']).map_or(url.len(), |end| start + end);
    let at = start + url[start..authority].rfind('@')?;
    Some((start + url[start..at].find(':')?, at))
}

fn has_password(url: &str) -> bool {
    password_in(url).is_some() || url.contains("password=")
}

fn shown(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match password_in(url) {
        Some((colon, at)) => format!("{}{}", &url[..colon], &url[at..]),
        None => url.to_owned(),
    }
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found =
        found.map_err(|error| anyhow!("cannot read certificates from {}: {error}", path.display()))?;
    if found.is_empty() {
        bail!("{} holds no certificate in PEM format", path.display());
    }
    Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::{has_password, shown};

    #[test]
    fn a_password_is_found_and_never_shown() {
        for (url, has, public) in [
            ("postgres://loom@db/loom", false, "postgres://loom@db/loom"),
            ("postgres://loom:s3cret@db:5432/loom", true, "postgres://loom@db:5432/loom"),
            ("postgres://db/loom?user=a&password=s3cret", true, "postgres://db/loom"),
            ("postgres://loom@a,b/loom?target_session_attrs=any", false, "postgres://loom@a,b/loom"),
            ("postgres://loom:p@ss@db/loom", true, "postgres://loom@db/loom"),
        ] {
            assert_eq!(has_password(url), has, "{url}");
            assert_eq!(shown(url), public);
        }
    }
}
