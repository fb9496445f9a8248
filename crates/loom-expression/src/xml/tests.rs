use super::*;
use crate::Value;

const LIBRARY: &str = r#"<?xml version="1.0"?>
<lib xmlns:m="urn:m" lang="en"><!-- note -->
  <book id="1" m:kind="a"><title>One</title><price>10</price></book>
  <book id="2"><title>Two</title><price>20.5</price></book>
  <m:extra><m:deep>x</m:deep></m:extra><?go now?>
</lib>"#;

fn check(expression: &str, expected: &str) {
    let document = parse(LIBRARY).unwrap();
    let shown = match evaluate(&document, expression, 100_000).0.unwrap() {
        Evaluated::Number(number) => format!("{number}"),
        Evaluated::Text(text) => format!("'{text}'"),
        Evaluated::Boolean(flag) => format!("{flag}"),
        Evaluated::Nodes(nodes) => {
            let texts = nodes.iter().map(|node| match node {
                xpath::Found::Text(text) | xpath::Found::Xml(text) => text.clone(),
            });
            texts.collect::<Vec<_>>().join("|")
        }
    };
    assert_eq!(shown, expected, "{expression}");
}

#[test]
fn xpath_supports_all_axes() {
    check("//title/text()", "One|Two");
    check("//book[last()]/@id", "2");
    check("//book[2]/preceding-sibling::book/title/text()", "One");
    check("//price[. > 15]/../title", "<title>Two</title>");
    check("count(//title/ancestor::*)", "3");
    check("count(/descendant-or-self::node()/child::book)", "2");
    check("name(//*[local-name()='deep'])", "'m:deep'");
    check("name(//book/@*[namespace-uri()='urn:m'])", "'m:kind'");
    check("count(//book[1]/following::*)", "5");
    check("count(//book[2]/preceding::*)", "3");
    check("string(//processing-instruction('go'))", "'now'");
    check("//comment()", " note ");
    check("(//title)[2]", "<title>Two</title>");
    check("//title | //book/@id | //title", "1|<title>One</title>|2|<title>Two</title>");
    check("//*[local-name()='deep']", "<m:deep xmlns:m=\"urn:m\">x</m:deep>");
}

#[test]
fn xpath_computes() {
    check("1 + 2 * 3 - 4 div 2", "5");
    check("-(3) mod 2", "-1");
    check("sum(//price) * 2", "61");
    check("2 = '2' and not(1 > 2) or false()", "true");
    check("//price = 20.5", "true");
    check("//price != 20.5", "true");
    check("substring('12345', 1.5, 2.6)", "'234'");
    check("translate('bar', 'abc', 'AB')", "'BAr'");
    check("normalize-space('  a  b ')", "'a b'");
    check("substring-after('1999/04/01', '/')", "'04/01'");
    check("round(-2.5)", "-2");
    check("string(1 div 0)", "'Infinity'");
    check("concat(1.0, '-', true())", "'1-true'");
    check("* * 2 = 'x'", "false");
}

#[test]
fn xpath_rejects_invalid_expressions() {
    let document = parse(LIBRARY).unwrap();
    for wrong in [
        "",
        "///",
        "//book[",
        "foo(1)",
        "m:extra",
        "1 +",
        "'open",
        "count(1)",
        "$x",
        "a b",
        "//@",
        "string(1, 2)",
    ] {
        assert!(matches!(evaluate(&document, wrong, 1_000).0, Err(XPathError::Invalid(_))), "{wrong}");
    }
    let costly = "count(//*[count(//*[count(//*) > 0]) > 0])";
    assert!(matches!(evaluate(&document, costly, 500).0, Err(XPathError::TooCostly)));
    let deep = format!("{}1{}", "(".repeat(1_000), ")".repeat(1_000));
    assert!(matches!(evaluate(&document, &deep, 500).0, Err(XPathError::Invalid(_))));
}

#[test]
fn objects_and_xml_round_trip() {
    for (xml, json) in [
        ("<a />", r#"{"a":null}"#),
        ("<a>1</a>", r#"{"a":"1"}"#),
        ("<a x=\"1 &amp; &quot;2&quot;\">t &lt; u</a>", r##"{"a":{"@x":"1 & \"2\"","#text":"t < u"}}"##),
        ("<a><b>1</b><b>2</b><c /></a>", r#"{"a":{"b":["1","2"],"c":null}}"#),
        ("<n:a xmlns:n=\"urn:n\"><n:b>1</n:b></n:a>", r#"{"n:a":{"@xmlns:n":"urn:n","n:b":"1"}}"#),
        ("<?xml version=\"1.0\"?><a_x0020_b>x</a_x0020_b>", r#"{"?xml":{"@version":"1.0"},"a b":"x"}"#),
    ] {
        let object = to_object(&parse(xml).unwrap());
        assert_eq!(object.to_json_text(), json);
        assert_eq!(from_object(object.as_object().unwrap()).unwrap(), xml);
    }
}

#[test]
fn hostile_documents_are_rejected() {
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert!(parse(&deep).is_err());
    let laughs = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;\"><!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;\"><!ENTITY f \"&e;&e;&e;&e;&e;&e;&e;&e;\">]><l>&f;</l>";
    assert!(parse(laughs).is_err());
    let two = Value::from_json_str(r#"{"a":1,"b":2}"#).unwrap();
    assert!(from_object(two.as_object().unwrap()).is_err());
}
