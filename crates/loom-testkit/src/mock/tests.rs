use super::*;

#[test]
fn invalid_scripts_are_rejected() {
    for (script, part) in [
        ("{}", "'rules'"),
        (r#"[{"method": "GET"}]"#, "rule 0: 'path' is missing"),
        (r#"[{"path": "/"}, {"path": "/", "respons": {}}]"#, "rule 1: unknown property 'respons'"),
        (r#"[{"path": "/", "response": {"status": 99}}]"#, "'status'"),
        (r#"[{"path": "/", "responses": []}]"#, "empty"),
        (r#"[{"path": "/", "response": {"times": -1}}]"#, "'times'"),
    ] {
        let error = rule::rules(&Value::from_json_str(script).unwrap()).unwrap_err().to_string();
        assert!(error.contains(part), "{script}: {error}");
    }
}

#[test]
fn rules_match_on_all_their_properties() {
    let script = Value::from_json_str(
        r#"[{"method": "put", "path": "/a/*/c%2F/**", "query": {"q": "x y", "z": null}, "headers": {"K": "v"}, "body": {"o": {"p": 1}}}]"#,
    );
    let rules = rule::rules(&script.unwrap()).unwrap();
    let fits = |method: &str, path: &str, query: &str, header: &str, body: &str| {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("k", header.parse().unwrap());
        rules[0].fits(&Received {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.to_owned().into(),
        })
    };
    let body = r#"{"o": {"p": 1.0, "more": 2}}"#;
    assert!(fits("PUT", "/a/b/c%2F/d/e", "q=x%20y&z=", "v", body));
    assert!(!fits("POST", "/a/b/c%2F/d", "q=x+y&z", "v", body));
    assert!(!fits("PUT", "/a/b/c//d", "q=x+y&z", "v", body));
    assert!(!fits("PUT", "/a/b/c%2F", "q=x+y&z", "v", body));
    assert!(!fits("PUT", "/a/b/c%2F/d", "q=x+y", "v", body));
    assert!(!fits("PUT", "/a/b/c%2F/d", "q=x+y&z", "w", body));
    assert!(!fits("PUT", "/a/b/c%2F/d", "q=x+y&z", "v", r#"{"o": 1}"#));
}
