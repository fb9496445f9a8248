//! Sealing of single records: authenticated encryption, which detects every change.
//!
//! A record is sealed under a key of its own. Its salt is a keyed hash of the context and the plaintext, and the
//! record's key is a keyed hash of the salt; the cipher is ChaCha20-Poly1305 (RFC 8439) with the number of the part
//! as its nonce. So no key is used for two plaintexts under one nonce, without any source of random numbers: equal
//! salts mean equal plaintexts. The ciphertext reveals only the length, and that the same content was stored twice in
//! the same place.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Bytes of the salt before the ciphertext.
pub(super) const SALT: usize = 24;

/// Bytes that authenticate each part.
pub(super) const TAG: usize = 16;

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
    pub(super) fn salt(&self, context: &[u8], text: &[u8]) -> [u8; SALT] {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&(context.len() as u64).to_le_bytes()).update(context).update(text);
        let mut salt = [0; SALT];
        salt.copy_from_slice(&hasher.finalize().as_bytes()[..SALT]);
        salt
    }

    /// The cipher for everything sealed under `salt`.
    pub(super) fn cipher(&self, salt: &[u8; SALT]) -> Cipher {
        let key = blake3::keyed_hash(&self.message, salt);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()).expect("the hash has the key's length");
        Cipher(LessSafeKey::new(key))
    }
}

/// Does not show the key.
impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}

/// Encrypts the parts of one record.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    /// Encrypts `bytes[from..]` in place and appends the tag.
    pub(super) fn seal(&self, part: u64, context: &[u8], bytes: &mut Vec<u8>, from: usize) {
        let mut text = bytes.split_off(from);
        self.0
            .seal_in_place_append_tag(nonce(part), Aad::from(context), &mut text)
            .expect("no part is near the cipher's limit of 256 GiB");
        bytes.append(&mut text);
    }

    /// Decrypts one part; `None` when it is not what was sealed here under this key.
    pub(super) fn open<'a>(&self, part: u64, context: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        self.0.open_in_place(nonce(part), Aad::from(context), sealed).ok().map(|text| &*text)
    }
}

fn nonce(part: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&part.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
