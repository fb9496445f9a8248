use super::*;

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

#[track_caller]
fn sent(body: &str, declared: Option<&str>, bytes: &str, kind: &str) {
    let body = encode(&json(body), declared).unwrap().unwrap();
    assert_eq!((String::from_utf8_lossy(&body.bytes).as_ref(), body.content_type.as_str()), (bytes, kind));
}

#[test]
fn bodies_are_sent_by_their_kind() {
    sent(r#""as is""#, None, "as is", "text/plain; charset=utf-8");
    sent(r#"{"a":[1,null]}"#, None, r#"{"a":[1,null]}"#, "application/json; charset=utf-8");
    sent("[1]", Some("application/vnd.x+json"), "[1]", "application/json; charset=utf-8");
    sent("1.5", None, "1.5", "application/json; charset=utf-8");
    sent(r#"{"$content-type":"image/x","$content":"AGE="}"#, None, "\0a", "image/x");
    sent(
        r#"{"a":"b c","d":[1,"&"],"e":null}"#,
        Some("application/x-www-form-urlencoded; charset=utf-8"),
        "a=b+c&d=1&d=%26&e=",
        "application/x-www-form-urlencoded",
    );
    sent(
        r#"{"$formdata":[{"key":"k","value":"v=1"}]}"#,
        None,
        "k=v%3D1",
        "application/x-www-form-urlencoded",
    );
    assert_eq!(encode(&Value::NULL, None), Ok(None));
    let broken = json(r#"{"$content-type":"a/b","$content":"?"}"#);
    assert_eq!(encode(&broken, None), Err(EncodeError::Base64));
}

#[track_caller]
fn received(bytes: &[u8], kind: Option<&str>, value: &str) {
    assert_eq!(decode(bytes, kind).unwrap(), Some(json(value)));
}

#[test]
fn bodies_are_received_by_their_type() {
    received(br#"{"a":1}"#, Some("application/json; charset=utf-8"), r#"{"a":1}"#);
    received(b"\xef\xbb\xbf[1]", Some("application/problem+json"), "[1]");
    received(b"hi", Some("text/plain"), r#""hi""#);
    received(b"a,b", Some("TEXT/CSV"), r#""a,b""#);
    received(b"{\"a\":1}", None, r#""{\"a\":1}""#);
    received(b"\xff", None, r#"{"$content-type":"application/octet-stream","$content":"/w=="}"#);
    received(b"<a/>", Some("text/xml"), r#""<a/>""#);
    received(
        b"<a/>",
        Some("application/xml"),
        r#"{"$content-type":"application/xml","$content":"PGEvPg=="}"#,
    );
    received(b"caf\xe9", Some("text/plain; charset=\"ISO-8859-1\""), r#""café""#);
    received(b"h\0i\0", Some("text/plain; charset=utf-16"), r#""hi""#);
    assert_eq!(decode(b"", Some("application/json")), Ok(None));
    let error = decode(b"<html>", Some("application/json")).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
    assert_eq!(decode_leniently(b"<html>", Some("application/json")), Some("<html>".into()));
}

#[test]
fn a_form_keeps_every_field_as_in_recorded_runs() {
    let bytes = b"test&x=y=z&&&===&fn main() {    println!(\"Hello, world!\");}";
    let value = decode(bytes, Some("application/x-www-form-urlencoded")).unwrap().unwrap();
    let fields = json(
        r#"[{"key":"test","value":""},{"key":"x","value":"y=z"},{"key":"","value":""},{"key":"","value":""},
            {"key":"","value":"=="},{"key":"fn main() {    println!(\"Hello, world!\");}","value":""}]"#,
    );
    assert_eq!(value.get("$formdata"), Some(&fields));
    assert_eq!(envelope::decode(&value).unwrap().1, bytes);
    assert_eq!(decode_form(b"a=%C3%BC+1&b=%zz").get("x"), None);
    assert_eq!(decode_form(b"a=%C3%BC+1").index(0).unwrap().get("value"), Some(&"ü 1".into()));
    assert_eq!(decode_form(b"b=%zz%4").index(0).unwrap().get("value"), Some(&"%zz%4".into()));
}

#[test]
fn multipart_is_read_as_in_recorded_runs() {
    let text = "preamble\r\n--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny=z\r\n--Bx is no boundary\r\n--B  \r\n\
                Content-Disposition: form-data; name=\"r\"; filename=\"t.rs\"\r\nContent-Type: text/rust\r\n\r\nfn main() {\n}\n\r\n--B--\r\nepilogue";
    let value = decode(text.as_bytes(), Some("multipart/form-data; boundary=B")).unwrap().unwrap();
    let parts = json(
        r#"[{"headers":{"Content-Disposition":"form-data; name=\"x\"","Content-Length":"24"},
             "body":{"$content-type":"application/octet-stream","$content":"eT16DQotLUJ4IGlzIG5vIGJvdW5kYXJ5"}},
            {"headers":{"Content-Disposition":"form-data; name=\"r\"; filename=\"t.rs\"","Content-Type":"text/rust","Content-Length":"14"},
             "body":"fn main() {\n}\n"}]"#,
    );
    assert_eq!(value.get("$multipart"), Some(&parts));
    assert_eq!(boundary_of("multipart/form-data; boundary=\"a;b\"; x=1").as_deref(), Some("a;b"));
    assert_eq!(boundary_of("multipart/form-data"), None);
}

#[test]
fn multipart_round_trips() {
    let body = json(
        r#"{"$content-type":"multipart/form-data","$multipart":[
             {"headers":{"Content-Disposition":"form-data; name=\"t\""},"body":"plain\r\n--loom"},
             {"headers":{"Content-Disposition":"form-data; name=\"j\""},"body":{"a":1}},
             {"headers":{"Content-Disposition":"form-data; name=\"b\"","X\r\nEvil":"1"},"body":{"$content-type":"image/x","$content":"AP8="}}]}"#,
    );
    let sent = encode(&body, None).unwrap().unwrap();
    assert!(sent.forced);
    assert_eq!(encode(&body, None).unwrap().unwrap(), sent, "the boundary is a function of the content");
    let parts = decode(&sent.bytes, Some(&sent.content_type)).unwrap().unwrap();
    let parts = parts.get("$multipart").unwrap();
    let text = |index: usize| envelope::text(parts.index(index).unwrap().get("body").unwrap()).into_owned();
    assert_eq!(parts.as_array().unwrap().len(), 3);
    assert_eq!(text(0), "plain\r\n--loom");
    // The JSON of a part stays bytes.
    assert_eq!(envelope::decode(parts.index(1).unwrap().get("body").unwrap()).unwrap().1, br#"{"a":1}"#);
    assert_eq!(text(1), r#"{"a":1}"#);
    assert_eq!(envelope::decode(parts.index(2).unwrap().get("body").unwrap()).unwrap().1, [0, 255]);
    let broken = json(r#"{"$multipart":[{"headers":{}}]}"#);
    assert_eq!(encode(&broken, None), Err(EncodeError::Part { index: 0 }));
}

#[test]
fn json_that_is_not_utf8_is_refused_with_the_byte() {
    let error = decode(b"{\"a\": \"\xff\"}", Some("application/json")).unwrap_err();
    assert!(error.to_string().ends_with("the body is not JSON: byte 8 is not UTF-8"), "{error}");
    received(b"{\"a\": \"\xe4\"}", Some("application/json; charset=iso-8859-1"), r#"{"a": "\u00e4"}"#);
}

#[test]
fn deeply_nested_parts_stay_bytes() {
    let mut body = b"innermost".to_vec();
    let mut kind = "text/plain".to_owned();
    for level in 0..2_000 {
        let boundary = format!("b{level}");
        let mut outer = format!("--{boundary}\r\nContent-Type: {kind}\r\n\r\n").into_bytes();
        outer.extend_from_slice(&body);
        outer.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        (body, kind) = (outer, format!("multipart/mixed; boundary={boundary}"));
    }
    let read = move || {
        let mut value = decode(&body, Some(&kind)).unwrap().unwrap();
        let mut depth = 0;
        while let Some(parts) = value.get("$multipart") {
            depth += 1;
            value = parts.index(0).unwrap().get("body").unwrap().clone();
        }
        assert_eq!(depth, 3);
        assert!(value.get("$content").is_some());
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(read).unwrap().join().unwrap();
}

#[test]
fn bodies_with_too_many_values_are_refused() {
    let fits = |bytes: &str, kind: &str, values_max: usize| match decode_within(
        bytes.as_bytes(),
        Some(kind),
        values_max,
    ) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_too_large && error.to_string().contains("json-values-max"), "{error}");
            false
        }
    };
    for (bytes, kind, values) in [
        ("[1,2,3]", "application/json", 4),
        ("a=1&b=2&c", "application/x-www-form-urlencoded", 9),
        ("--b\r\nA: 1\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--", "multipart/form-data; boundary=b", 9),
    ] {
        assert!(fits(bytes, kind, values), "{kind}");
        assert!(!fits(bytes, kind, values - 1), "{kind}");
    }
}
