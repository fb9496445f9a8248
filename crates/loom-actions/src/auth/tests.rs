use super::*;

fn read(text: &str) -> Result<Credentials, Failure> {
    Credentials::from_value(&Value::from_json_str(text).unwrap())
}

#[track_caller]
fn header(text: &str, expected: &str) {
    let Ok(Credentials::Header(value)) = read(text) else { panic!("{text} gives no header") };
    assert_eq!(value.to_str().unwrap(), expected);
    assert!(value.is_sensitive());
}

#[test]
fn each_type_of_authentication_builds_its_header() {
    header(
        r#"{"type":"Basic","username":"Aladdin","password":"open sesame"}"#,
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    );
    header(r#"{"type":"raw","value":"SharedKey abc"}"#, "SharedKey abc");
    header(r#"{"type":"Raw","scheme":"Key","parameter":"k"}"#, "Key k");
    for nothing in ["null", "{}", r#"{"type":"None"}"#] {
        assert!(matches!(read(nothing), Ok(Credentials::None)), "{nothing}");
    }
}

#[test]
fn errors_name_what_is_missing_and_reveal_no_secret() {
    for (text, part) in [
        (r#"{"type":"Basic","password":"geheim"}"#, "'username'"),
        (r#"{"type":"Raw"}"#, "'scheme'"),
        (r#"{"type":"Kerberos","password":"geheim"}"#, "'Kerberos' is not supported"),
        (r#"{"type":"ClientCertificate","pfx":"geheim!"}"#, "not valid base64"),
        (r#"{"type":"ClientCertificate","pem":"geheim"}"#, "no certificate"),
        (r#"{"type":"ClientCertificate"}"#, "'pfx'"),
        (r#"{"type":"ActiveDirectoryOAuth","tenant":"t","audience":"a","clientId":"c"}"#, "'secret'"),
        (r#"{"type":"ActiveDirectoryOAuth","pfx":"geheim!"}"#, "not valid base64"),
        (r#"{"type":"ActiveDirectoryOAuth","credentialType":"Certificate","secret":"geheim"}"#, "'pfx'"),
        (r#"{"type":"Raw","value":"geheim\r\nX: y"}"#, "line break"),
        (r#""geheim""#, "object"),
        (r#"{"username":"u"}"#, "'type'"),
    ] {
        let failure = read(text).unwrap_err();
        assert!(failure.message.contains(part), "{text}: {failure}");
        assert!(!failure.message.contains("geheim"), "{failure}");
        assert!(!failure.transient);
    }
    let debug = format!("{:?}", read(r#"{"type":"Raw","value":"geheim"}"#).unwrap());
    assert!(!debug.contains("geheim"));
}
