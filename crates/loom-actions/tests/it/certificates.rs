//! Certificates in `pfx` of definitions: in a TLS session, and as a proof for a token.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use loom_actions::{Behaviour, ClientOptions, Settings, TokenSettings, Url};
use loom_expression::Value;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::support::{attempt, body, failure, finished, json, mock, new_year, requests, secured};

const AUTHORITY: &[u8] = include_bytes!("../archives/authority.pem");
const MODERN: &[u8] = include_bytes!("../archives/modern.pfx");
const TRIPLE_DES: &[u8] = include_bytes!("../archives/triple_des_no_password.pfx");
const PUBLIC_KEY: &[u8] = include_bytes!("../archives/public_key.der");

/// The properties `pfx` and `password`, with the archive wrapped into lines as tools print it.
fn archive(bytes: &[u8], password: &str) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!(r#""pfx": "{}", "password": "{password}""#, lines.join("\\r\\n"))
}

#[tokio::test]
async fn a_client_presents_the_certificate_of_its_archive() {
    let (signed, port, _tasks) = secured(Some(AUTHORITY)).await;
    let client = ClientOptions { extra_roots_pem: vec![signed.cert.pem()], ..ClientOptions::default() };
    let requests = requests(Settings { client, ..Settings::default() });
    let base = format!("https://localhost:{port}");
    let asking = |archive: &str| {
        format!(r#"{{"uri": "{{base}}/x", "authentication": {{"type": "ClientCertificate", {archive}}}}}"#)
    };
    for archive in [archive(MODERN, "gehéim"), archive(TRIPLE_DES, ""), archive(MODERN, "gehéim")] {
        let answer = attempt(&requests, &base, &asking(&archive), &Behaviour::default()).await.unwrap();
        assert_eq!(body(&finished(answer)), "safe".into());
    }
    // Without a certificate the server refuses, and errors about an archive do not reveal its content.
    failure(&requests, &base, r#"{"uri": "{base}/x"}"#).await;
    for (wrong, part) in [
        (archive(MODERN, "geheim"), "the password does not match the archive"),
        (archive(b"pfxcontent", "x"), "not a valid PKCS#12 archive"),
    ] {
        let failed = failure(&requests, &base, &asking(&wrong)).await;
        assert!(failed.message.contains(part) && failed.code == "BadRequest", "{failed}");
        assert!(!failed.transient && !failed.message.contains("geheim"), "{failed}");
    }
}

#[tokio::test]
async fn an_application_authenticates_with_a_certificate() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/t/oauth2/token", "response": {"body": {"access_token": "t1", "expires_in": 3600}}, "calls": 1},
            {"path": "/do", "headers": {"authorization": "Bearer t1"}, "calls": 2}]"#,
    )
    .await;
    let authority = Url::parse(&mock.base_url()).unwrap();
    let tokens = TokenSettings { authority, ..TokenSettings::default() };
    let requests = requests(Settings { tokens, ..Settings::default() });
    let inputs = format!(
        r#"{{"uri": "{{base}}/do", "authentication": {{"type": "ActiveDirectoryOAuth", "tenant": "t", "audience": "a",
            "clientId": "me", "credentialType": "Certificate", {}}}}}"#,
        archive(MODERN, "gehéim")
    );
    for _ in 0..2 {
        let answer = attempt(&requests, &mock.base_url(), &inputs, &Behaviour::default()).await.unwrap();
        assert_eq!(finished(answer).status, 200);
    }
    assert_eq!(mock.problems(), Vec::<String>::new());
    let sent = loom_actions::decode_form(&mock.requests()[0].body);
    let field = |name: &str| {
        let fields = sent.as_array().unwrap().iter();
        let mut found = fields.filter(|field| field.get("key").and_then(Value::as_str) == Some(name));
        let value = found.next().and_then(|field| field.get("value")?.as_str()).map(str::to_owned);
        value.unwrap_or_else(|| panic!("no {name} in {sent:?}"))
    };
    assert_eq!((field("client_id").as_str(), field("resource").as_str()), ("me", "a"));
    assert_eq!(field("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let assertion = field("client_assertion");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, PUBLIC_KEY)
        .verify(signed.as_bytes(), &signature)
        .expect("the archive's key signed it");
    let part = |text: &str| json(&String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap());
    let (header, claims) =
        signed.split_once('.').map(|(header, claims)| (part(header), part(claims))).unwrap();
    assert_eq!(header.get("alg"), Some(&"RS256".into()));
    // `openssl x509 -in client.pem -fingerprint -sha1`
    assert_eq!(header.get("x5t"), Some(&"PpkR-Lqii2hf8IdQxArS9TU7WPk".into()));
    let now = new_year().unix_millis() / 1_000;
    for (name, expected) in [
        ("aud", Value::from(format!("{}/t/oauth2/token", mock.base_url()))),
        ("iss", "me".into()),
        ("sub", "me".into()),
        ("nbf", now.into()),
        ("exp", (now + 600).into()),
    ] {
        assert_eq!(claims.get(name), Some(&expected), "{name}");
    }
}
