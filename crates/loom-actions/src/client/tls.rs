//! TLS: trusted authorities, and client certificates.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::pfx;

/// Why certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// An extra root is not a certificate.
    #[error("an extra certificate authority is not a PEM certificate")]
    Root,
    /// A client certificate cannot be used.
    #[error("{reason}")]
    Identity {
        /// What is wrong; never the key.
        reason: String,
    },
}

/// A client's certificate chain and private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    fingerprint: [u8; 32],
}

impl Identity {
    /// Reads a chain and an unencrypted key (PKCS#8, PKCS#1 or SEC1) from one PEM text, in any order.
    ///
    /// # Errors
    /// [`TlsError::Identity`] when either is missing.
    pub fn from_pem(pem: &str) -> Result<Identity, TlsError> {
        let missing = |reason: &str| TlsError::Identity { reason: reason.to_owned() };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| missing("the PEM text cannot be read"))?;
        if chain.is_empty() {
            return Err(missing("the PEM text contains no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| missing("the PEM text contains no unencrypted private key"))?;
        Ok(Identity { chain, key, fingerprint: *blake3::hash(pem.as_bytes()).as_bytes() })
    }

    /// Opens a PKCS#12 archive. Takes milliseconds of processor time, or more if the archive requires it.
    ///
    /// # Errors
    /// [`TlsError::Identity`] when the archive cannot be read or lacks either of the two.
    pub fn from_pfx(archive: &[u8], password: &str) -> Result<Identity, TlsError> {
        let opened =
            pfx::open(archive, password).map_err(|why| TlsError::Identity { reason: why.to_string() })?;
        let mut hasher = blake3::Hasher::new();
        for part in opened.chain.iter().chain([&opened.key]) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Ok(Identity {
            fingerprint: *hasher.finalize().as_bytes(),
            chain: opened.chain.into_iter().map(CertificateDer::from).collect(),
            key: PrivateKeyDer::Pkcs8(opened.key.into()),
        })
    }

    /// The certificate itself, without those of its authorities.
    pub(crate) fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |certificate| certificate)
    }

    /// Signs with the private key, which must be RSA: PKCS#1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// [`TlsError::Identity`] when the key is not an RSA key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TlsError> {
        let key = any_supported_type(&self.key).ok();
        let signer = key.and_then(|key| key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]));
        let signature = signer.and_then(|signer| signer.sign(message).ok());
        signature.ok_or_else(|| TlsError::Identity { reason: "the private key is not RSA".to_owned() })
    }

    /// A hash that distinguishes identities and reveals nothing about them.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// Hides the chain and the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The TLS settings of a pool. `ring` does the cryptography because, unlike the default, it builds without further
/// tools.
pub(super) fn config(
    extra_roots: &[String],
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for pem in extra_roots {
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|_| TlsError::Root)?).map_err(|_| TlsError::Root)?;
            any = true;
        }
        if !any {
            return Err(TlsError::Root);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).map_err(|_| {
                TlsError::Identity { reason: "the private key does not match the certificate".to_owned() }
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
