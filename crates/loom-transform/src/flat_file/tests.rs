use super::*;

fn schema(root: &str) -> String {
    format!(
        r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:b="http://schemas.microsoft.com/BizTalk/2003" targetNamespace="urn:f">
        <xs:annotation><xs:appinfo><b:schemaInfo standard="Flat File" root_reference="Orders" default_pad_char=" " pad_char_type="char"/></xs:appinfo></xs:annotation>
        {root}</xs:schema>"#
    )
}

/// A schema with a header line, tagged and delimited lines, and a trailer.
fn delimited() -> String {
    schema(
        r#"<xs:element name="Orders"><xs:annotation><xs:appinfo><b:recordInfo structure="delimited" child_delimiter_type="hex" child_delimiter="0x0D 0x0A" child_order="postfix"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
        <xs:element name="Head"><xs:annotation><xs:appinfo><b:recordInfo tag_name="H" structure="delimited" child_delimiter_type="char" child_delimiter="|" child_order="prefix"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence><xs:element name="Day" type="xs:string"/></xs:sequence></xs:complexType></xs:element>
        <xs:element name="Line" minOccurs="0" maxOccurs="unbounded"><xs:annotation><xs:appinfo><b:recordInfo tag_name="L" structure="delimited" child_delimiter_type="char" child_delimiter="|" child_order="prefix"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
          <xs:element name="Sku" type="xs:string"/>
          <xs:element name="Text" type="xs:string"><xs:annotation><xs:appinfo><b:fieldInfo wrap_char_type="char" wrap_char="&quot;"/></xs:appinfo></xs:annotation></xs:element>
          <xs:element name="Qty" type="xs:int" minOccurs="0"/></xs:sequence></xs:complexType></xs:element>
        <xs:element name="Tail"><xs:annotation><xs:appinfo><b:recordInfo tag_name="T" structure="delimited" child_delimiter_type="char" child_delimiter="|" child_order="prefix"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence><xs:element name="Count" type="xs:int"/></xs:sequence></xs:complexType></xs:element>
        </xs:sequence></xs:complexType></xs:element>"#,
    )
}

fn positional() -> String {
    schema(
        r#"<xs:element name="Orders"><xs:annotation><xs:appinfo><b:recordInfo structure="delimited" child_delimiter_type="hex" child_delimiter="0x0A" child_order="infix"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
        <xs:element name="Row" maxOccurs="unbounded"><xs:annotation><xs:appinfo><b:recordInfo structure="positional"/></xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
          <xs:element name="Name" type="xs:string"><xs:annotation><xs:appinfo><b:fieldInfo justification="left" pos_offset="0" pos_length="6"/></xs:appinfo></xs:annotation></xs:element>
          <xs:element name="Amount" type="xs:int"><xs:annotation><xs:appinfo><b:fieldInfo justification="right" pad_char_type="char" pad_char="0" pos_offset="1" pos_length="4"/></xs:appinfo></xs:annotation></xs:element>
        </xs:sequence></xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element>"#,
    )
}

const TEXT: &str = "H|2026-11-30\r\nL|A-1|\"red|\"\"big\"\"\"|2\r\nL|B-2|plain|\r\nT|2\r\n";
const XML: &str = "<Orders xmlns=\"urn:f\"><Head xmlns=\"\"><Day>2026-11-30</Day></Head><Line xmlns=\"\"><Sku>A-1</Sku>\
    <Text>red|&quot;big&quot;</Text><Qty>2</Qty></Line><Line xmlns=\"\"><Sku>B-2</Sku><Text>plain</Text><Qty></Qty></Line>\
    <Tail xmlns=\"\"><Count>2</Count></Tail></Orders>";

#[test]
fn delimited_records_are_read_and_written_back() {
    let file = FlatFile::read(&delimited()).expect("the schema is valid");
    assert_eq!(file.decode(TEXT).as_deref(), Ok(XML));
    assert_eq!(file.encode(XML).as_deref(), Ok(TEXT));
    // Line ends of another system, and none after the last line.
    assert_eq!(file.decode(TEXT.replace("\r\n", "\n").trim_end()).as_deref(), Ok(XML));
}

#[test]
fn positional_records_are_read_and_written_back() {
    let file = FlatFile::read(&positional()).expect("the schema is valid");
    let text = "Ann    0042\nÖzlem  0007";
    let xml = "<Orders xmlns=\"urn:f\"><Row xmlns=\"\"><Name>Ann</Name><Amount>42</Amount></Row><Row xmlns=\"\">\
        <Name>Özlem</Name><Amount>7</Amount></Row></Orders>";
    assert_eq!(file.decode(text).as_deref(), Ok(xml));
    assert_eq!(file.encode(xml).as_deref(), Ok(text));
}

#[test]
fn errors_name_the_record_or_field() {
    let file = FlatFile::read(&delimited()).expect("the schema is valid");
    for (text, part) in [
        ("X|1\r\nT|0\r\n", "expected 'Head'"),
        ("H|1\r\n", "expected 'Tail'"),
        ("H|1\r\nT|1\r\nL|A|B|1\r\n", "unexpected data at the end of 'Orders'"),
        ("H|1\r\nL|only\r\nT|1\r\n", "expected 'Text' in 'Line'"),
        ("H|1|2\r\nT|1\r\n", "unexpected data at the end of 'Head'"),
    ] {
        let error = file.decode(text).expect_err(text);
        assert_eq!(error.code, "FlatFileDecodingFailed");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
    let error = file.encode(&XML.replace("<Sku>A-1</Sku>", "")).expect_err("a field is missing");
    assert!(error.message.contains("expected the element 'Sku' in 'Line'"), "{error}");
    let error = file.encode(&XML.replace("A-1", "A|1")).expect_err("a delimiter in a field");
    assert!(error.message.contains("set a wrap_char"), "{error}");
    let long = FlatFile::read(&positional()).expect("the schema is valid");
    let xml =
        "<Orders xmlns=\"urn:f\"><Row xmlns=\"\"><Name>Bartholomew</Name><Amount>1</Amount></Row></Orders>";
    assert!(long.encode(xml).expect_err("too long").message.contains("(got 11)"));
    assert!(long.decode("Ann").expect_err("too short").message.contains("ends before its field 'Amount'"));
    assert_eq!(FlatFile::read("<a/>").err().map(|error| error.code), Some("InvalidXmlSchema"));
}
