use super::*;

fn egress(text: &str) -> Egress {
    Egress::from_json(&Value::from_json_str(text).unwrap()).unwrap()
}

#[track_caller]
fn goes(egress: &Egress, from: &str, to: &str) {
    assert_eq!(egress.route(&Url::parse(from).unwrap(), false).unwrap().to_string(), to);
}

#[test]
fn narrow_rules_win_and_wide_rules_prepend_the_host() {
    let egress = egress(
        r#"{"*": "http://127.0.0.1:9/", "*.azure.com": "http://127.0.0.1:8/az", "https://api.github.com": "http://127.0.0.1:7/gh", "plain.example": "http://127.0.0.1:6"}"#,
    );
    goes(&egress, "https://ip-api.com/json/1?x=%20y", "http://127.0.0.1:9/ip-api.com/json/1?x=%20y");
    goes(&egress, "https://h.example:8443/", "http://127.0.0.1:9/h.example:8443/");
    goes(&egress, "https://management.azure.com/a", "http://127.0.0.1:8/az/management.azure.com/a");
    goes(&egress, "https://api.github.com/gists", "http://127.0.0.1:7/gh/gists");
    goes(&egress, "http://api.github.com/gists", "http://127.0.0.1:9/api.github.com/gists");
    goes(&egress, "http://plain.example:81/p%252F", "http://127.0.0.1:6/p%252F");
    // An address that the test server returns as its own is not mapped again.
    goes(&egress, "http://127.0.0.1:9/o", "http://127.0.0.1:9/o");
}

#[test]
fn only_allowed_hosts_are_called() {
    let egress = egress(
        r#"{"allow": ["api.example.com", "*.good.example", "local:8080"], "map": {"https://api.example.com": "http://127.0.0.1:5"}}"#,
    );
    goes(&egress, "https://api.example.com/x", "http://127.0.0.1:5/x");
    goes(&egress, "https://a.good.example/", "https://a.good.example/");
    goes(&egress, "http://local:8080/", "http://local:8080/");
    for bad in
        ["https://good.example/", "https://evil.example/", "http://local:81/", "https://xapi.example.com/"]
    {
        let failure = egress.route(&Url::parse(bad).unwrap(), false).unwrap_err();
        assert_eq!((failure.code.as_ref(), failure.transient), ("EgressForbidden", false), "{bad}");
    }
    let nothing = Egress::from_json(&Value::from_json_str(r#"{"allow": []}"#).unwrap()).unwrap();
    assert!(nothing.route(&Url::parse("http://h/").unwrap(), false).is_err());
}

#[test]
fn private_and_public_addresses_are_distinguished() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        // Teredo, with an arbitrary server and client.
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff::1",
        "3fff::1",
        "3fff:fff::1",
        // 6to4, including a public address.
        "2002:808:808::1",
        // NAT64 of private addresses, and with a local prefix.
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "::ffff:0:127.0.0.1",
        "::8.8.8.8",
        // ISATAP.
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1",
        "fec0::1",
        "100::1",
        "5f00::1",
        "192.88.99.1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    for public in [
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "192.169.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2001:200::1",
        "2001:4860:4860::8888",
        "3fff:1000::1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    let egress = egress(r#"{"blockPrivate": true, "map": {"https://h": "http://127.0.0.1:5"}}"#);
    let loopback = "127.0.0.1".parse().unwrap();
    assert!(egress.may_connect("127.0.0.1", 5, loopback, false), "the operator named the address");
    assert!(!egress.may_connect("127.0.0.1", 6, loopback, false));
    assert!(!egress.may_connect("innocent.example", 443, loopback, false));
    assert!(Egress::default().may_connect("127.0.0.1", 6, loopback, false));
}

#[test]
fn invalid_rules_are_refused() {
    for (text, part) in [
        ("[]", "must be an object"),
        (r#"{"https://h/x": "http://b"}"#, "path"),
        (r#"{"https://h": 1}"#, "must be a string"),
        (r#"{"https://h": "b"}"#, "begin with"),
        (r#"{"map": {}, "alow": []}"#, "unknown property 'alow'"),
        (r#"{"allow": "x"}"#, "must be an array"),
        (r#"{"credentials": []}"#, "must be an object"),
        (r#"{"credentials": {"h": "x"}}"#, "array of hosts for 'h'"),
        (r#"{"credentials": {"h": [1]}}"#, "must be strings"),
        (r#"{"credentials": {"h": ["x/y"]}}"#, "path"),
    ] {
        let error = Egress::from_json(&Value::from_json_str(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn credentials_stay_with_their_origin_unless_shared() {
    let egress = egress(
        r#"{"map": {"https://played.example": "http://127.0.0.1:5"}, "credentials": {"https://api.example": ["*.files.example", "https://login.example:8443"]}}"#,
    );
    let go = |home: &str, to: &str| {
        egress.may_have_credentials(&Url::parse(home).unwrap(), &Url::parse(to).unwrap())
    };
    for (home, to) in [
        ("https://api.example/a", "https://api.example:443/b"),
        ("https://api.example/", "https://eu.files.example/x"),
        ("https://api.example/", "https://login.example:8443/"),
        ("https://played.example/", "http://127.0.0.1:5/operations/1"),
    ] {
        assert!(go(home, to), "{home} to {to}");
    }
    for (home, to) in [
        ("https://api.example/", "http://api.example/"),
        ("https://api.example/", "https://api.example:8443/"),
        ("https://api.example/", "https://login.example/"),
        ("https://eu.files.example/", "https://api.example/"),
        ("https://other.example/", "https://eu.files.example/"),
        ("https://other.example/", "http://127.0.0.1:5/"),
        ("https://played.example/", "http://127.0.0.1:6/"),
    ] {
        assert!(!go(home, to), "{home} to {to}");
    }
}
