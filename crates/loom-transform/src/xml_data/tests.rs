use super::*;

const SCHEMA: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:o="urn:o" targetNamespace="urn:o" elementFormDefault="qualified">
  <xs:simpleType name="Count"><xs:restriction base="xs:int"/></xs:simpleType>
  <xs:complexType name="Line"><xs:sequence><xs:element name="price" type="xs:decimal"/><xs:element name="gift" type="xs:boolean" minOccurs="0"/></xs:sequence><xs:attribute name="qty" type="o:Count"/></xs:complexType>
  <xs:element name="order"><xs:complexType><xs:sequence>
    <xs:element name="zip" type="xs:string"/>
    <xs:element name="line" type="o:Line" maxOccurs="unbounded"/>
  </xs:sequence><xs:attribute name="id" type="xs:string"/></xs:complexType></xs:element>
</xs:schema>"#;

const XML: &str = r#"<order xmlns="urn:o" id="007"><zip>01067</zip><line qty="2"><price>10.5</price><gift>true</gift></line></order>"#;

#[test]
fn values_have_the_schemas_types_and_repeatable_elements_are_arrays() {
    let expected = r#"{"order": {"@xmlns": "urn:o", "@id": "007", "zip": "01067",
        "line": [{"@qty": 2, "price": 10.5, "gift": true}]}}"#;
    assert_eq!(parse(XML, SCHEMA, None), Ok(Value::from_json_str(expected).expect("JSON")));
    assert_eq!(
        parse(&XML.replace("10.5", "ten"), SCHEMA, None).expect_err("not a decimal").code,
        "XmlValidationFailed"
    );
}

#[test]
fn composing_orders_elements_and_reverses_parsing() {
    let shuffled =
        r#"{"order": {"line": [{"price": 10.5, "@qty": 2, "gift": true}], "@id": "007", "zip": "01067"}}"#;
    let shuffled = Value::from_json_str(shuffled).expect("JSON");
    assert_eq!(compose(&shuffled, SCHEMA, None).as_deref(), Ok(XML));
    // The root may be omitted if the schema declares only one.
    assert_eq!(compose(shuffled.get("order").expect("there"), SCHEMA, None).as_deref(), Ok(XML));
    let parsed = parse(XML, SCHEMA, None).expect("valid");
    assert_eq!(compose(&parsed, SCHEMA, None).as_deref(), Ok(XML));
}

#[test]
fn content_that_does_not_match_the_schema_is_an_error() {
    let code =
        |json: &str| compose(&Value::from_json_str(json).expect("JSON"), SCHEMA, None).expect_err(json).code;
    assert_eq!(code(r#"{"order": {"zap": 1, "zip": "1", "line": [{"price": 1}]}}"#), "XmlComposeFailed");
    assert_eq!(code(r#"{"order": {"zip": "1"}}"#), "XmlValidationFailed");
    assert_eq!(code("[1]"), "XmlComposeFailed");
}
