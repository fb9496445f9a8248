use super::*;

struct Fixed;

impl Scope for Fixed {
    fn value(&self, source: &Source) -> Value {
        match source {
            Source::ConnectionParameter(name) if name == "key" => Value::from("k").into_secret(),
            Source::Header(name) if name == "test" => "foo".into(),
            Source::Query(name) if name == "domain" => "pqr".into(),
            Source::Body => Value::from_json_str(r#"{"a": [{"b c": 7}], "@odata.type": "t"}"#).unwrap(),
            Source::Method => "PATCH".into(),
            _ => Value::NULL,
        }
    }
}

fn check(text: &str, expected: &str) {
    let value = Template::parse(text).map(|template| template.evaluate(&Fixed));
    assert_eq!(value.map(|value| value.to_json_text()), Ok(expected.to_owned()), "{text}");
}

#[test]
fn expressions_have_values() {
    check("plain", r#""plain""#);
    check("a@b.example", r#""a@b.example""#);
    check("@@headers", r#""@headers""#);
    check("https://@header('test').abc.@queryParameters('domain')/x", r#""https://foo.abc.pqr/x""#);
    check("https://@headers('none', 'default').abc", r#""https://default.abc""#);
    check("@connectionParameters('key','');@connectionParameters('other','')", r#""k;""#);
    check("@body().a[0]['b c']", "7");
    check("gt @{body()?.a[0]['b c']}!", r#""gt 7!""#);
    check("@body()['@odata.type']", r#""t""#);
    check("@body().none.deep", "null");
    check("@Request.OriginalHTTPMethod", r#""PATCH""#);
    check("@headers('it''s')", "null");
}

#[test]
fn what_is_taken_from_a_secret_is_secret() {
    let template = Template::parse("Key @connectionParameters('key')").unwrap();
    assert!(template.evaluate(&Fixed).is_secret());
    assert!(!Template::parse("Key @headers('test')").unwrap().evaluate(&Fixed).is_secret());
}

#[test]
fn unknown_functions_are_named() {
    let error = |text: &str| Template::parse(text).unwrap_err();
    assert!(error("@concat('a', 'b')").contains("`concat` is not supported"));
    assert!(error("@headers()").contains("needs a name"));
    assert!(error("@headers('a'").contains("expected `,` or `)`"));
    assert!(error("@{body()").contains("expected `}`"));
    assert!(error("@body()[x]").contains("expected `['name']`"));
}

#[test]
fn paths_have_steps() {
    let name = |name: &str| Access::Name(name.to_owned());
    assert_eq!(path("a.b"), Ok(vec![name("a"), name("b")]));
    assert_eq!(path("['@odata.type']"), Ok(vec![name("@odata.type")]));
    assert_eq!(path("null"), Ok(Vec::new()));
    assert!(path("a b").is_err());
}
