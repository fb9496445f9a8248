use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn an_authority_is_one_host_and_one_port() {
    for address in [
        "https://user:844ps:/x",
        "http://a:1:2/",
        "http://a:+80/",
        "http://a:0/",
        "http://a:65536/",
        "http://a]/",
    ] {
        assert!(Url::parse(address).is_err(), "{address}");
    }
    assert_eq!(Url::parse("http://a:/x").unwrap().origin(), "http://a");
    assert_eq!(Url::parse("http://[::1]:80/x").unwrap().origin(), "http://[::1]");
}

#[test]
fn urls_are_sent_as_written() {
    for (written, sent) in [
        ("https://api.example.com", "https://api.example.com/"),
        ("HTTPS://API.Example.com:443/A/b?q=1#part", "https://api.example.com/A/b?q=1"),
        ("http://h:8080/a%252Fb%2fc?x=%20", "http://h:8080/a%252Fb%2fc?x=%20"),
        ("http://h/a b/ü?x=\"1\"&y=|", "http://h/a%20b/%C3%BC?x=%221%22&y=%7C"),
        ("http://h/100%/x", "http://h/100%25/x"),
        ("http://h/a/../b/./c//d", "http://h/a/../b/./c//d"),
        ("http://[::1]:99/x", "http://[::1]:99/x"),
        ("http://h?x=1", "http://h/?x=1"),
        ("  http://h/x  ", "http://h/x"),
    ] {
        assert_eq!(url(written).to_string(), sent, "{written}");
    }
}

#[test]
fn invalid_urls_are_rejected_without_showing_secrets() {
    for (text, reason) in [
        ("ftp://h/x", "must begin with"),
        ("h/x", "must begin with"),
        ("/x", "must begin with"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://u:geheim@h/x", "authentication"),
        ("http://h:99999/x?sig=geheim", "port"),
        ("http://h:x/", "port"),
        ("http://[::1/x", "not closed"),
        ("https://[parameters('v')].host/x", "deployment template"),
        ("http://[v]/x", "not an IPv6 address"),
        ("http://bücher.example/x", "ASCII"),
        ("http://a b/x", "host"),
    ] {
        let error = Url::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
    assert!(Url::parse(&format!("http://h/{}", "a".repeat(URL_BYTES_MAX))).is_err());
}

#[test]
fn references_resolve_by_rfc_3986() {
    // The normal and abnormal examples of RFC 3986, section 5.4, whose base has a query.
    let base = url("http://a/b/c/d;p?q");
    for (reference, resolved) in [
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("g#s", "http://a/b/c/g"),
        (";x", "http://a/b/c/;x"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("https://x/y?z", "https://x/y?z"),
    ] {
        assert_eq!(base.join(reference).unwrap().to_string(), resolved, "{reference}");
    }
}

#[test]
fn a_path_goes_below_a_base_with_one_slash_between() {
    for base in ["https://h/apim/x/id", "https://h/apim/x/id/"] {
        for path in ["/v2/Mail", "v2/Mail"] {
            assert_eq!(url(base).below(path).unwrap().to_string(), "https://h/apim/x/id/v2/Mail");
        }
    }
    assert_eq!(url("http://h/a").below("").unwrap().to_string(), "http://h/a");
    assert_eq!(
        url("http://h").below("/files/%252Fa%252F1.xml").unwrap().to_string(),
        "http://h/files/%252Fa%252F1.xml"
    );
    assert_eq!(url("http://h/f?code=k").below("/g?x=1").unwrap().to_string(), "http://h/f/g?code=k&x=1");
}

#[test]
fn queries_are_encoded_and_arrays_repeat() {
    let queries = Value::from_json_str(
        r#"{"a": 1, "b": ["x", "y z"], "c": "ü&=", "d": null, "e": true, "f": {"g": 1}}"#,
    );
    let sent = url("http://h/x?k=v").with_queries(&queries.unwrap()).unwrap().to_string();
    assert_eq!(sent, "http://h/x?k=v&a=1&b=x&b=y%20z&c=%C3%BC%26%3D&d&e=True&f=%7B%22g%22%3A1%7D");
    assert_eq!(url("http://h/x").with_queries(&Value::NULL).unwrap().to_string(), "http://h/x");
}

#[test]
fn an_origin_omits_the_default_port() {
    assert_eq!(url("https://H:443/x").origin(), "https://h");
    assert_eq!(url("http://h:443/x").origin(), "http://h:443");
    assert_eq!(url("http://h/x?sig=1").shown(), "http://h/x");
}

mod against_another {
    use proptest::{prelude::*, string::string_regex};

    use super::super::Url;

    /// A text with its escapes decoded.
    fn plain(text: &str) -> Vec<u8> {
        let bytes = text.as_bytes();
        let (mut plain, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let escaped = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            // A sign is valid for the parser of numbers, but not in an escape.
            let escaped = escaped.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                plain.push(byte);
                at += 3;
            } else {
                plain.push(bytes[at]);
                at += 1;
            }
        }
        plain
    }

    fn drawn(pattern: &str) -> impl Strategy<Value = String> {
        string_regex(pattern).expect("the pattern is one")
    }

    proptest! {
        /// What is sent has the same meaning for others as what was written.
        #[test]
        fn the_sent_url_has_the_same_meaning(
            scheme in drawn("(http|HTTPS|https)"),
            host in drawn("[a-zA-Z]([a-zA-Z0-9-]{0,8}[a-z])?(\\.[a-z]{2,4}){0,2}"),
            port in drawn("(:[1-9][0-9]{0,3})?"),
            path in drawn("(/[a-zA-Z0-9%é<>\"`{}|^ =&+;,:@!$'()*~_-]{0,8}){0,4}"),
            query in drawn("(\\?[a-zA-Z0-9%é<>\"`{}|^ =&+;,:@!$()*~_/?-]{0,12})?"),
        ) {
            let written = format!("{scheme}://{host}{port}{path}{query}").trim().to_owned();
            let theirs = ::url::Url::parse(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let ours = Url::parse(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let sent = ::url::Url::parse(&ours.to_string()).expect("what is sent is an address");
            prop_assert_eq!(sent.host_str(), theirs.host_str());
            prop_assert_eq!(sent.port_or_known_default(), theirs.port_or_known_default());
            prop_assert_eq!(ours.port(), theirs.port_or_known_default().unwrap());
            prop_assert_eq!(plain(sent.path()), plain(theirs.path()), "{}", ours);
            prop_assert_eq!(sent.query().map(plain), theirs.query().map(plain), "{}", ours);
        }

        /// For any input: the host that is called is the one that others would call.
        #[test]
        fn no_other_host_is_called(
            start in drawn("https?:/{0,3}"),
            rest in drawn("[a-z0-9@:/\\\\?#%.\\[\\] \t\u{ad}-]{0,24}"),
        ) {
            let written = format!("{start}{rest}");
            let (Ok(ours), Ok(theirs)) = (Url::parse(&written), ::url::Url::parse(&written)) else { return Ok(()) };
            // Numbers and IPv6 addresses have several forms, which the resolver handles.
            let last = ours.host().trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let is_number = last.starts_with(|first: char| first.is_ascii_digit()) || ours.host().starts_with('[');
            prop_assert!(is_number || Some(ours.host()) == theirs.host_str(), "{written}: {ours} and {theirs}");
            prop_assert_eq!(Some(ours.port()), theirs.port_or_known_default(), "{}", written);
        }
    }
}
