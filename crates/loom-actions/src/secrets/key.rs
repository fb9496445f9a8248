//! Keys: the master key of the host, and the data keys, encrypted with it, that values are sealed with.
//!
//! Two layers, so that a new master key requires encrypting a few keys instead of every value. The cipher is
//! ChaCha20-Poly1305 (RFC 8439) with random nonces of 96 bits, which is safe for about 2^32 values under one key.
//! What is sealed is bound to its place: a value that is moved to another name or version does not open.

use std::fmt;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY: usize = 32;

/// The key that protects everything in a vault: 32 bytes from a secure random source.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY]>);

impl MasterKey {
    /// Generates a key from the system's random source.
    pub fn generate() -> MasterKey {
        MasterKey(random())
    }

    /// Parses 64 hexadecimal digits, optionally surrounded by white space. `None` for anything else.
    pub fn from_hex(text: &str) -> Option<MasterKey> {
        let text = text.trim().as_bytes();
        let mut key = Zeroizing::new([0; KEY]);
        if text.len() != 2 * KEY {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(MasterKey(key))
    }

    /// The digits that [`MasterKey::from_hex`] parses.
    pub fn to_hex(&self) -> Zeroizing<String> {
        use std::fmt::Write as _;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY));
        for byte in self.0.iter() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Encrypts a data key for the file.
    pub(super) fn wrap(&self, key: &DataKey) -> Vec<u8> {
        seal(&self.0, &wrapping(key.id), key.bytes.as_slice())
    }

    /// Decrypts a data key; `None` when it was encrypted with a different master key.
    pub(super) fn unwrap_key(&self, id: u32, wrapped: &[u8]) -> Option<DataKey> {
        let opened = open(&self.0, &wrapping(id), wrapped)?;
        let bytes = <[u8; KEY]>::try_from(opened.as_slice()).ok()?;
        Some(DataKey { id, bytes: Zeroizing::new(bytes) })
    }
}

/// Does not show the key.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

/// A key that values are sealed with.
#[derive(Clone)]
pub(super) struct DataKey {
    pub(super) id: u32,
    bytes: Zeroizing<[u8; KEY]>,
}

impl DataKey {
    pub(super) fn generate(id: u32) -> DataKey {
        DataKey { id, bytes: random() }
    }

    /// Encrypts the value of a version of a secret for the file.
    pub(super) fn seal(&self, name: &str, version: u32, value: &str) -> Vec<u8> {
        seal(&self.bytes, &place(name, version, self.id), value.as_bytes())
    }

    /// Decrypts a value; `None` when it was not sealed for this place with this key.
    pub(super) fn open(&self, name: &str, version: u32, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let opened = open(&self.bytes, &place(name, version, self.id), sealed)?;
        std::str::from_utf8(&opened).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

/// Does not show the key.
impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

fn wrapping(id: u32) -> String {
    format!("loom-secrets/1 key {id}")
}

/// Names contain no spaces, so different places have different texts.
fn place(name: &str, version: u32, key: u32) -> String {
    format!("loom-secrets/1 value {name} {version} {key}")
}

fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).expect("the system gives random numbers");
    bytes
}

fn cipher(key: &[u8; KEY]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's length"))
}

/// The nonce, the ciphertext and the tag.
fn seal(key: &[u8; KEY], context: &str, text: &[u8]) -> Vec<u8> {
    let nonce = *random::<NONCE_LEN>();
    let mut sealed = text.to_vec();
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context.as_bytes()),
            &mut sealed,
        )
        .expect("no value is near the cipher's limit of 256 GiB");
    [nonce.as_slice(), &sealed].concat()
}

fn open(key: &[u8; KEY], context: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key).open_in_place(nonce, Aad::from(context.as_bytes()), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}
