use super::*;

#[test]
fn references_stay_in_the_directory() {
    let inside = |reference: &str, from: Option<&str>| beside(reference, from).ok();
    assert_eq!(inside("types.json", None).as_deref(), Some("types.json"));
    assert_eq!(inside("./types/a%20b.json", None).as_deref(), Some("types/a b.json"));
    assert_eq!(inside("b.json", Some("types/a.json")).as_deref(), Some("types/b.json"));
    for outside in [
        "../types.json",
        "types/../../x.json",
        "types/%2e%2e/x.json",
        "/etc/passwd",
        "%2Fetc/passwd",
        "file:///etc/passwd",
        "http://example.com/x.json",
        "//example.com/x.json",
        "C:/x.json",
        "types/c:x",
        "..\\x.json",
        "./",
    ] {
        assert_eq!(inside(outside, None), None, "{outside}");
    }
}

#[test]
fn pointers_are_decoded() {
    let root = Value::from_json_str(r#"{"paths": {"/a b": {"get": [7]}}, "~": 1}"#).unwrap();
    let document = Document::new(root, Arc::new(NoFiles));
    let target = |reference: &str| document.target(reference, None).map(|node| node.value.to_json_text());
    assert_eq!(target("#/paths/~1a%20b/get/0").unwrap(), "7");
    assert_eq!(target("#/~0").unwrap(), "1");
    assert_eq!(target("#").unwrap(), document.root().value.to_json_text());
    assert!(target("#/paths/x").unwrap_err().to_string().contains("leads nowhere"));
    assert!(target("#paths").unwrap_err().to_string().contains("JSON pointer"));
    assert!(target("x.json").unwrap_err().to_string().contains("none is available"));
}
