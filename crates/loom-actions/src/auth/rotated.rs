//! Refresh tokens that endpoints returned in place of those they were given.
//!
//! Many endpoints accept a refresh token once. The next one is stored before the access token that came with it is used, so
//! that a restart continues with it. It is found by a digest of the token in the connections file, and encrypted with a key
//! that is derived from it: the store alone reveals neither, and another token in the file starts again.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use loom_store::{Commit, KeyWrite, Store};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

/// The namespace of the named values.
const NAMESPACE: &str = "refresh-token";
/// The most tokens that are kept without a store.
const TOKENS_MAX: usize = 1_024;

/// What a refresh token in a connections file is good for.
#[derive(Clone, Copy)]
pub(super) struct Grant<'a> {
    pub(super) url: &'a str,
    pub(super) client_id: &'a str,
    /// The token in the connections file.
    pub(super) given: &'a str,
}

/// The tokens in use instead of those in the connections file.
pub(super) enum Rotated {
    /// For as long as the process lives.
    Memory(Mutex<HashMap<[u8; 32], String>>),
    Store(Arc<dyn Store>),
}

impl Rotated {
    pub(super) fn new(store: Option<Arc<dyn Store>>) -> Rotated {
        store.map_or_else(|| Rotated::Memory(Mutex::default()), Rotated::Store)
    }

    /// The token to send.
    ///
    /// # Errors
    /// The store cannot be read. Sending the token in the file could end the grant.
    pub(super) async fn latest(&self, grant: Grant<'_>) -> Result<String, String> {
        let found = match self {
            Rotated::Memory(kept) => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).get(&grant.digest()).cloned()
            }
            Rotated::Store(store) => {
                let kept = store.key(NAMESPACE, &grant.name()).await.map_err(lost)?;
                kept.map(|kept| grant.open(&kept.value)).transpose()?
            }
        };
        Ok(found.unwrap_or_else(|| grant.given.to_owned()))
    }

    /// Keeps the token that came in place of the last one.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) async fn replace(&self, grant: Grant<'_>, next: &str) -> Result<(), String> {
        match self {
            Rotated::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < TOKENS_MAX || kept.contains_key(&grant.digest()) {
                    kept.insert(grant.digest(), next.to_owned());
                }
            }
            Rotated::Store(store) => {
                let mut commit = Commit::new();
                commit.keys.push(KeyWrite {
                    namespace: NAMESPACE.into(),
                    key: grant.name().into(),
                    value: Some(Bytes::from(grant.seal(next)?)),
                    ..KeyWrite::default()
                });
                store.commit(commit).await.map_err(lost)?;
            }
        }
        Ok(())
    }
}

fn lost(why: impl Display) -> String {
    format!("the store of refresh tokens fails: {why}")
}

impl Grant<'_> {
    /// What the grant is known by.
    fn digest(&self) -> [u8; 32] {
        self.derived("loom 2026-11 refresh token: name")
    }

    fn name(&self) -> String {
        STANDARD.encode(self.digest())
    }

    fn derived(&self, context: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in [self.url, self.client_id, self.given] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    fn key(&self) -> Result<LessSafeKey, String> {
        let key = self.derived("loom 2026-11 refresh token: key");
        UnboundKey::new(&CHACHA20_POLY1305, &key).map(LessSafeKey::new).map_err(|_| lost("no key"))
    }

    /// The nonce, and the encrypted token after it.
    fn seal(&self, token: &str) -> Result<Vec<u8>, String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| lost("the system gives no random bytes"))?;
        let mut sealed = token.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key()?
            .seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)
            .map_err(|_| lost("the token cannot be encrypted"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, kept: &[u8]) -> Result<String, String> {
        let broken = || lost("a token cannot be decrypted");
        let (nonce, sealed) = kept.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut sealed = sealed.to_vec();
        let token = self.key()?.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| broken())?;
        String::from_utf8(token.to_vec()).map_err(|_| broken())
    }
}
