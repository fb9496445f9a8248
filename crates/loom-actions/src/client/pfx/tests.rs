use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::*;

const MODERN: &[u8] = include_bytes!("../../../tests/archives/modern.pfx");
const LEGACY: &[u8] = include_bytes!("../../../tests/archives/legacy.pfx");
const TRIPLE_DES: &[u8] = include_bytes!("../../../tests/archives/triple_des_no_password.pfx");
const PLAIN_CERTIFICATE: &[u8] = include_bytes!("../../../tests/archives/plain_certificate.pfx");
const NO_MAC: &[u8] = include_bytes!("../../../tests/archives/no_mac.pfx");
const CLIENT: &[u8] = include_bytes!("../../../tests/archives/client.pem");
const AUTHORITY: &[u8] = include_bytes!("../../../tests/archives/authority.pem");

const PASSWORD: &str = "gehéim";

#[test]
fn archives_of_every_format_have_the_same_content() {
    let pem = |text| CertificateDer::from_pem_slice(text).unwrap().to_vec();
    let mut keys = Vec::new();
    for (archive, password, with_authority) in [
        (MODERN, PASSWORD, true),
        (LEGACY, PASSWORD, true),
        (TRIPLE_DES, "", false),
        (PLAIN_CERTIFICATE, PASSWORD, false),
        (NO_MAC, PASSWORD, false),
    ] {
        let opened = open(archive, password).unwrap();
        let mut chain = vec![pem(CLIENT)];
        chain.extend(with_authority.then(|| pem(AUTHORITY)));
        assert_eq!(opened.chain, chain);
        keys.push(opened.key);
    }
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() > 1_000));
}

#[test]
fn a_wrong_password_is_reported_as_such() {
    for (archive, wrong) in
        [(MODERN, "geheim"), (LEGACY, ""), (TRIPLE_DES, "x"), (PLAIN_CERTIFICATE, "GEHÉIM")]
    {
        assert_eq!(open(archive, wrong).map(|_| ()), Err(PfxError::Password));
    }
    // Without a MAC, only the padding can tell, and it is right for one wrong password in 256.
    assert!(open(NO_MAC, "geheim").is_err());
}

#[test]
fn the_keys_own_certificate_comes_first() {
    let id = |text: &str| Some(text.as_bytes().to_vec());
    let found = Found {
        keys: vec![(id("own"), b"key".to_vec())],
        certificates: vec![(None, b"a".to_vec()), (id("other"), b"b".to_vec()), (id("own"), b"c".to_vec())],
    };
    assert_eq!(found.opened().unwrap().chain, [b"c", b"a", b"b"]);
    let unmarked = Found { keys: vec![(None, Vec::new())], certificates: vec![(None, b"a".to_vec())] };
    assert_eq!(unmarked.opened().unwrap().chain, [b"a"]);
    assert_eq!(Found::default().opened().map(|_| ()), Err(PfxError::NoKey));
    let bare = Found { keys: vec![(None, Vec::new())], certificates: Vec::new() };
    assert_eq!(bare.opened().map(|_| ()), Err(PfxError::NoCertificate));
}

#[test]
fn invalid_archives_are_refused() {
    for nonsense in
        [&b""[..], b"0", b"pfxcontent", &[0x30, 0x80, 0, 0], &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]]
    {
        assert_eq!(open(nonsense, PASSWORD).map(|_| ()), Err(PfxError::Broken));
    }
    for length in (0..MODERN.len()).step_by(7) {
        assert!(open(&MODERN[..length], PASSWORD).is_err());
    }
    // Changed bits may or may not be an error, but must not panic.
    for at in (0..NO_MAC.len()).step_by(53) {
        let mut bytes = NO_MAC.to_vec();
        bytes[at] ^= 0x10;
        drop(open(&bytes, PASSWORD));
    }
}
