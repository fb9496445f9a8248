//! PKCS#12 archives (RFC 7292): a certificate and its private key, protected by a password, as definitions have them
//! in `pfx`.
//!
//! Reads what current tools write, PBES2 with AES (RFC 8018), and what tools of the last twenty years wrote, triple
//! DES and RC2. Archives that are protected by a public key instead of a password are not supported.

use aes::{Aes128, Aes192, Aes256};
use cbc::{
    Decryptor,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, KeyInit, KeyIvInit as _, block_padding::Pkcs7},
};
use des::TdesEde3;
use rc2::Rc2;
use ring::{digest, hmac, pbkdf2};

use super::der::{self, Der};

/// Why an archive cannot be opened. Reveals nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PfxError {
    #[error("the archive is not a valid PKCS#12 archive")]
    Broken,
    #[error("the password does not match the archive")]
    Password,
    #[error(
        "the archive uses an encryption that is not supported; \
         write it anew with a current tool (openssl pkcs12 -export)"
    )]
    Unsupported,
    #[error("the archive contains no private key")]
    NoKey,
    #[error("the archive contains no certificate")]
    NoCertificate,
}

/// The content of an archive.
pub(crate) struct Opened {
    /// DER; the key's own certificate comes first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS#8, DER.
    pub(crate) key: Vec<u8>,
}

/// The most iterations of a key derivation, so that a malicious archive cannot occupy a thread for hours.
const ROUNDS_MAX: u32 = 5_000_000;

const DATA: &[u8] = &oid([1, 7, 1]);
const ENCRYPTED_DATA: &[u8] = &oid([1, 7, 6]);
const X509_CERTIFICATE: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 22, 1];
const LOCAL_KEY_ID: &[u8] = &oid([1, 9, 21]);
const KEY_BAG: &[u8] = &bag(1);
const SHROUDED_KEY_BAG: &[u8] = &bag(2);
const CERTIFICATE_BAG: &[u8] = &bag(3);
const PBES2: &[u8] = &oid([1, 5, 13]);
const PBKDF2: &[u8] = &oid([1, 5, 12]);
/// `pkcs-12PbeIds`; the last number distinguishes them.
const PKCS12_PBE: &[u8] = &oid([1, 12, 1]);
/// The digests and ciphers of RSA; the last number distinguishes them.
const RSA_DIGEST: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 2];
const TRIPLE_DES: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 3, 7];
const NIST_AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
const NIST_SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
const SHA1: &[u8] = &[0x2B, 14, 3, 2, 26];

/// Below `1.2.840.113549`, RSA's own arc.
const fn oid(tail: [u8; 3]) -> [u8; 9] {
    [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, tail[0], tail[1], tail[2]]
}

const fn bag(kind: u8) -> [u8; 11] {
    [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 12, 10, 1, kind]
}

/// Opens an archive. Takes milliseconds by design: deriving keys from passwords is slow.
///
/// # Errors
/// [`PfxError`].
pub(crate) fn open(archive: &[u8], password: &str) -> Result<Opened, PfxError> {
    let mut pfx = Der::new(archive).enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
    let content = contents(&mut pfx).ok_or(PfxError::Broken)?;
    let passwords = Passwords::check(pfx, content, password)?;
    let mut found = Found::default();
    let mut safes = Der::new(content).enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
    while !safes.is_empty() {
        let mut info = safes.enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
        let kind = info.next(der::OBJECT_ID).ok_or(PfxError::Broken)?;
        let mut inside = info.enter(der::CONTEXT_0).ok_or(PfxError::Broken)?;
        if kind == DATA {
            let bags = inside.next(der::OCTETS).ok_or(PfxError::Broken)?;
            found.bags(bags, &passwords)?;
        } else if kind == ENCRYPTED_DATA {
            let (algorithm, sealed) = encrypted_data(inside).ok_or(PfxError::Broken)?;
            found.bags(&passwords.decrypt(algorithm, sealed)?, &passwords)?;
        } else {
            return Err(PfxError::Unsupported);
        }
    }
    found.opened()
}

/// The octets in a `ContentInfo` of plain data.
fn contents<'a>(from: &mut Der<'a>) -> Option<&'a [u8]> {
    from.number()?;
    let mut info = from.enter(der::SEQUENCE)?;
    let kind = info.next(der::OBJECT_ID)?;
    let mut inside = info.enter(der::CONTEXT_0)?;
    (kind == DATA).then(|| inside.next(der::OCTETS)).flatten()
}

/// The algorithm and the octets of an `EncryptedData`.
fn encrypted_data(mut inside: Der<'_>) -> Option<(Der<'_>, &[u8])> {
    let mut data = inside.enter(der::SEQUENCE)?;
    data.number()?;
    let mut info = data.enter(der::SEQUENCE)?;
    info.next(der::OBJECT_ID)?;
    Some((info.enter(der::SEQUENCE)?, info.next(der::CONTEXT_0_PRIMITIVE)?))
}

/// The contents of the bags, in order, each with the id that links a key to its certificate.
#[derive(Default)]
struct Found {
    keys: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    certificates: Vec<(Option<Vec<u8>>, Vec<u8>)>,
}

impl Found {
    fn bags(&mut self, contents: &[u8], passwords: &Passwords) -> Result<(), PfxError> {
        let mut bags = Der::new(contents).enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
        while !bags.is_empty() {
            let mut bag = bags.enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
            let kind = bag.next(der::OBJECT_ID).ok_or(PfxError::Broken)?;
            let value = bag.next(der::CONTEXT_0).ok_or(PfxError::Broken)?;
            let id = bag.enter(der::SET).and_then(local_key_id);
            match kind {
                KEY_BAG => self.keys.push((id, value.to_vec())),
                SHROUDED_KEY_BAG => {
                    let mut sealed = Der::new(value).enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
                    let algorithm = sealed.enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
                    let octets = sealed.next(der::OCTETS).ok_or(PfxError::Broken)?;
                    self.keys.push((id, passwords.decrypt(algorithm, octets)?));
                }
                CERTIFICATE_BAG => {
                    let (kind, certificate) = certificate(value).ok_or(PfxError::Broken)?;
                    if kind == X509_CERTIFICATE {
                        self.certificates.push((id, certificate.to_vec()));
                    }
                }
                // Revocation lists, secrets and nested contents are not part of the identity.
                _ => {}
            }
        }
        Ok(())
    }

    fn opened(self) -> Result<Opened, PfxError> {
        let (id, key) = self.keys.into_iter().next().ok_or(PfxError::NoKey)?;
        if self.certificates.is_empty() {
            return Err(PfxError::NoCertificate);
        }
        let own = self.certificates.iter().position(|(other, _)| id.is_some() && *other == id);
        let mut chain: Vec<Vec<u8>> = self.certificates.into_iter().map(|(_, der)| der).collect();
        chain[..=own.unwrap_or(0)].rotate_right(1);
        Ok(Opened { chain, key })
    }
}

/// The kind of certificate in a bag, and the certificate.
fn certificate(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bag = Der::new(value).enter(der::SEQUENCE)?;
    let kind = bag.next(der::OBJECT_ID)?;
    Some((kind, bag.enter(der::CONTEXT_0)?.next(der::OCTETS)?))
}

fn local_key_id(mut attributes: Der<'_>) -> Option<Vec<u8>> {
    while !attributes.is_empty() {
        let mut attribute = attributes.enter(der::SEQUENCE)?;
        let kind = attribute.next(der::OBJECT_ID)?;
        if kind == LOCAL_KEY_ID {
            return attribute.enter(der::SET)?.next(der::OCTETS).map(<[u8]>::to_vec);
        }
    }
    None
}

/// The password in the two encodings that archives use.
struct Passwords {
    /// UTF-8, for PBES2.
    plain: Vec<u8>,
    /// UTF-16 with a zero at the end, for the archive's own functions.
    wide: Vec<u8>,
}

impl Passwords {
    /// Checks the password against the archive's own MAC.
    fn check(mut rest: Der<'_>, content: &[u8], password: &str) -> Result<Passwords, PfxError> {
        let plain = password.as_bytes().to_vec();
        let wide: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
        let Some(mut check) = rest.optional(der::SEQUENCE).map(Der::new) else {
            return Ok(Passwords { plain, wide });
        };
        let (algorithm, wanted) = digest_info(&mut check).ok_or(PfxError::Broken)?;
        let (salt, rounds) = salt_and_rounds(&mut check)?;
        let digest = digest_of(algorithm).ok_or(PfxError::Unsupported)?;
        // An empty password is either the empty string or no bytes at all; tools differ.
        let forms = if password.is_empty() { vec![wide, Vec::new()] } else { vec![wide] };
        for wide in forms {
            let key = pkcs12_key(digest, 3, &wide, salt, rounds, digest.output_len());
            if hmac::verify(&hmac::Key::new(mac_of(digest), &key), content, wanted).is_ok() {
                return Ok(Passwords { plain, wide });
            }
        }
        Err(PfxError::Password)
    }

    fn decrypt(&self, mut algorithm: Der<'_>, sealed: &[u8]) -> Result<Vec<u8>, PfxError> {
        let kind = algorithm.next(der::OBJECT_ID).ok_or(PfxError::Broken)?;
        let mut parameters = algorithm.enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
        if kind == PBES2 {
            return self.decrypt_pbes2(parameters, sealed);
        }
        let Some(&[number]) = kind.strip_prefix(PKCS12_PBE) else { return Err(PfxError::Unsupported) };
        let (salt, rounds) = salt_and_rounds(&mut parameters)?;
        let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        let derive = |id, length| pkcs12_key(sha1, id, &self.wide, salt, rounds, length);
        let iv = derive(2, 8);
        match number {
            3 => cbc::<TdesEde3>(&derive(1, 24), &iv, sealed),
            5 => cbc::<Rc2>(&derive(1, 16), &iv, sealed),
            6 => cbc::<Rc2>(&derive(1, 5), &iv, sealed),
            _ => Err(PfxError::Unsupported),
        }
    }

    /// RFC 8018, section 6.2.
    fn decrypt_pbes2(&self, mut parameters: Der<'_>, sealed: &[u8]) -> Result<Vec<u8>, PfxError> {
        let (mut derivation, mut cipher) =
            parameters.enter(der::SEQUENCE).zip(parameters.enter(der::SEQUENCE)).ok_or(PfxError::Broken)?;
        if derivation.next(der::OBJECT_ID) != Some(PBKDF2) {
            return Err(PfxError::Unsupported);
        }
        let mut derivation = derivation.enter(der::SEQUENCE).ok_or(PfxError::Broken)?;
        let (salt, rounds) = salt_and_rounds(&mut derivation)?;
        derivation.optional(der::INTEGER);
        let function = match derivation.optional(der::SEQUENCE) {
            None => None,
            Some(inside) => Some(Der::new(inside).next(der::OBJECT_ID).ok_or(PfxError::Broken)?),
        };
        let function = match function.map(|oid| oid.strip_prefix(RSA_DIGEST)) {
            None | Some(Some([7])) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(Some([9])) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some(Some([10])) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some(Some([11])) => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(PfxError::Unsupported),
        };
        let kind = cipher.next(der::OBJECT_ID).ok_or(PfxError::Broken)?;
        let iv = cipher.next(der::OCTETS).ok_or(PfxError::Broken)?;
        let rounds = std::num::NonZeroU32::new(rounds).ok_or(PfxError::Broken)?;
        let derive = |length| {
            let mut key = vec![0; length];
            pbkdf2::derive(function, rounds, salt, &self.plain, &mut key);
            key
        };
        match kind.strip_prefix(NIST_AES) {
            Some([2]) => cbc::<Aes128>(&derive(16), iv, sealed),
            Some([22]) => cbc::<Aes192>(&derive(24), iv, sealed),
            Some([42]) => cbc::<Aes256>(&derive(32), iv, sealed),
            None if kind == TRIPLE_DES => cbc::<TdesEde3>(&derive(24), iv, sealed),
            _ => Err(PfxError::Unsupported),
        }
    }
}

/// In an archive without a MAC, a wrong password is detected only here, by wrong padding.
fn cbc<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, PfxError> {
    let decryptor = Decryptor::<C>::new_from_slices(key, iv).map_err(|_| PfxError::Broken)?;
    decryptor.decrypt_padded_vec::<Pkcs7>(sealed).map_err(|_| PfxError::Password)
}

fn digest_info<'a>(from: &mut Der<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let mut info = from.enter(der::SEQUENCE)?;
    let algorithm = info.enter(der::SEQUENCE)?.next(der::OBJECT_ID)?;
    Some((algorithm, info.next(der::OCTETS)?))
}

fn salt_and_rounds<'a>(from: &mut Der<'a>) -> Result<(&'a [u8], u32), PfxError> {
    let salt = from.next(der::OCTETS).ok_or(PfxError::Broken)?;
    let rounds = if from.is_empty() { 1 } else { from.number().ok_or(PfxError::Broken)? };
    if rounds > ROUNDS_MAX { Err(PfxError::Unsupported) } else { Ok((salt, rounds)) }
}

fn digest_of(oid: &[u8]) -> Option<&'static digest::Algorithm> {
    if oid == SHA1 {
        return Some(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    }
    match oid.strip_prefix(NIST_SHA2)? {
        [1] => Some(&digest::SHA256),
        [2] => Some(&digest::SHA384),
        [3] => Some(&digest::SHA512),
        _ => None,
    }
}

fn mac_of(digest: &digest::Algorithm) -> hmac::Algorithm {
    [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512]
        .into_iter()
        .find(|mac| mac.digest_algorithm() == digest)
        .unwrap_or(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)
}

/// RFC 7292, appendix B.2: `id` is 1 for a key, 2 for an initial vector, 3 for a check.
fn pkcs12_key(
    algorithm: &'static digest::Algorithm,
    id: u8,
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    length: usize,
) -> Vec<u8> {
    let block = algorithm.block_len();
    let filled = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().cycle().take(text.len().div_ceil(block) * block).collect()
    };
    let mut state = filled(salt);
    state.extend(filled(password));
    let mut key = Vec::with_capacity(length + algorithm.output_len());
    while key.len() < length {
        let mut context = digest::Context::new(algorithm);
        context.update(&vec![id; block]);
        context.update(&state);
        let mut hash = context.finish();
        for _ in 1..rounds {
            hash = digest::digest(algorithm, hash.as_ref());
        }
        key.extend_from_slice(hash.as_ref());
        // Each block of the state is increased by the hash, repeated, plus one.
        for part in state.chunks_exact_mut(block) {
            let mut carry = 1;
            let hash = hash.as_ref();
            for at in (0..block).rev() {
                let sum = u16::from(part[at]) + u16::from(hash[at % hash.len()]) + carry;
                [_, part[at]] = sum.to_be_bytes();
                carry = sum >> 8;
            }
        }
    }
    key.truncate(length);
    key
}

#[cfg(test)]
mod tests;
