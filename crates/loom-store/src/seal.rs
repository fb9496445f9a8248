//! Sealing of single records: authenticated encryption, which detects every change.
//!
//! A record is sealed under a key of its own. Its salt is a keyed hash of the context and the plaintext, and the
//! record's key is a keyed hash of the salt; the cipher is ChaCha20-Poly1305 (RFC 8439) with the number of the part
//! as its nonce. So no key is used for two plaintexts under one nonce, without any source of random numbers: equal
//! salts mean equal plaintexts. The ciphertext reveals only the length, and that the same content was stored twice in
//! the same place. A [`Sealer`] adds random bytes to the hash, so that its ciphertexts do not reveal even that.

use std::{fmt, sync::Arc};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes of the salt before the ciphertext.
pub(crate) const SALT: usize = 24;

/// Bytes that authenticate each part.
pub(crate) const TAG: usize = 16;

/// The secret that a store is sealed with: 32 bytes from a secure random source.
#[derive(Clone)]
pub struct StoreKey {
    salt: [u8; 32],
    message: [u8; 32],
}

impl StoreKey {
    /// Creates a key from 32 random bytes. Do not use a passphrase: it can be guessed.
    pub fn new(bytes: &[u8; 32]) -> StoreKey {
        StoreKey {
            salt: blake3::derive_key("loom-store 2026-11-24 salt of a sealed record", bytes),
            message: blake3::derive_key("loom-store 2026-11-24 key of a sealed record", bytes),
        }
    }

    /// Parses 64 hexadecimal digits, optionally surrounded by white space. `None` for anything else.
    pub fn from_hex(text: &str) -> Option<StoreKey> {
        let hash: crate::ContentHash = text.trim().parse().ok()?;
        Some(StoreKey::new(hash.as_bytes()))
    }

    /// The salt for a plaintext with this context.
    pub(crate) fn salt(&self, context: &[u8], text: &[u8]) -> [u8; SALT] {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&(context.len() as u64).to_le_bytes()).update(context).update(text);
        let mut salt = [0; SALT];
        salt.copy_from_slice(&hasher.finalize().as_bytes()[..SALT]);
        salt
    }

    /// The cipher for everything sealed under `salt`.
    pub(crate) fn cipher(&self, salt: &[u8; SALT]) -> Cipher {
        let key = blake3::keyed_hash(&self.message, salt);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()).expect("the hash has the key's length");
        Cipher(LessSafeKey::new(key))
    }
}

/// Seals the secret values in the payloads of a store that does not encrypt its payloads itself. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sealer(Option<Arc<StoreKey>>);

impl Sealer {
    /// A sealer with a key of 32 random bytes, which must be kept outside the data that it protects.
    pub fn new(key: &[u8; 32]) -> Sealer {
        Sealer(Some(Arc::new(StoreKey {
            salt: blake3::derive_key("loom-store 2026-11-30 salt of a sealed value", key),
            message: blake3::derive_key("loom-store 2026-11-30 key of a sealed value", key),
        })))
    }

    /// A sealer that seals nothing: for stores that encrypt all payloads, or keep nothing beyond the process.
    pub fn none() -> Sealer {
        Sealer(None)
    }

    /// Whether values are sealed.
    pub fn is_active(&self) -> bool {
        self.0.is_some()
    }

    /// Seals `text`, which can then be opened only with the same context. `None` when values are not sealed.
    pub fn seal(&self, context: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.as_deref()?;
        // Equal values must not have equal ciphertexts, or "true" could be told from "false". Without random numbers, the
        // cipher is still used safely, because the salt also depends on the value.
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).ok();
        let mut salted = Vec::with_capacity(random.len() + context.len());
        salted.extend_from_slice(&random);
        salted.extend_from_slice(context);
        let salt = key.salt(&salted, text);
        let mut sealed = Vec::with_capacity(SALT + text.len() + TAG);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(text);
        key.cipher(&salt).seal(0, context, &mut sealed, SALT);
        Some(sealed)
    }

    /// Opens what [`Sealer::seal`] returned. `None` when it was sealed with another key or context, or was changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, text) = sealed.split_first_chunk::<SALT>()?;
        let mut text = text.to_vec();
        let opened = self.0.as_deref()?.cipher(salt).open(0, context, &mut text)?.len();
        text.truncate(opened);
        Some(text)
    }
}

/// Does not show the key.
impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}

/// Encrypts the parts of one record.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    /// Encrypts `bytes[from..]` in place and appends the tag.
    pub(crate) fn seal(&self, part: u64, context: &[u8], bytes: &mut Vec<u8>, from: usize) {
        let mut text = bytes.split_off(from);
        self.0
            .seal_in_place_append_tag(nonce(part), Aad::from(context), &mut text)
            .expect("no part is near the cipher's limit of 256 GiB");
        bytes.append(&mut text);
    }

    /// Decrypts one part; `None` when it is not what was sealed here under this key.
    pub(crate) fn open<'a>(&self, part: u64, context: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        self.0.open_in_place(nonce(part), Aad::from(context), sealed).ok().map(|text| &*text)
    }
}

fn nonce(part: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&part.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
