use super::*;

const SCHEMA: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:o" elementFormDefault="qualified">
  <xs:element name="order"><xs:complexType><xs:sequence>
    <xs:element name="day" type="xs:date"/>
    <xs:element name="qty" maxOccurs="2"><xs:simpleType><xs:restriction base="xs:int"><xs:maxInclusive value="9"/></xs:restriction></xs:simpleType></xs:element>
  </xs:sequence><xs:attribute name="id" type="xs:int" use="required"/></xs:complexType></xs:element>
</xs:schema>"#;

#[track_caller]
fn code_of(xml: &str) -> Option<&'static str> {
    let schema = Schema::read(SCHEMA, None).expect("the schema is valid");
    schema.validate(xml).err().map(|error| error.code)
}

#[test]
fn documents_are_validated() {
    let right = r#"<order xmlns="urn:o" id="1"><day>2026-11-30</day><qty>9</qty></order>"#;
    assert_eq!(code_of(right), None);
    for wrong in [
        right.replace("id=\"1\"", ""),
        right.replace("id=\"1\"", "id=\"x\""),
        right.replace("2026-11-30", "2026-13-30"),
        right.replace(">9<", ">10<"),
        right.replace("urn:o", "urn:p"),
        right.replace("<day>2026-11-30</day>", ""),
        right.replace("</order>", "<more/></order>"),
        right.replace("<qty>9</qty>", "<qty>1</qty><qty>1</qty><qty>1</qty>"),
    ] {
        assert_eq!(code_of(&wrong), Some("XmlValidationFailed"), "{wrong}");
    }
    assert_eq!(code_of("</dummy>"), Some("InvalidXml"));
}

#[test]
fn an_incomplete_schema_is_an_error() {
    let included = SCHEMA.replace(
        "<xs:element name=\"order\">",
        "<xs:include schemaLocation=\"types.xsd\"/><xs:element name=\"order\">",
    );
    let error = Schema::read(&included, None).err().expect("an include without a directory");
    assert!(error.message.contains("types.xsd"), "{error}");
    let outside = included.replace("types.xsd", "../../etc/passwd");
    assert!(Schema::read(&outside, Some(Path::new("."))).is_err());
    assert_eq!(Schema::read("<a/>", None).err().map(|error| error.code), Some("InvalidXmlSchema"));
    assert_eq!(Schema::read("no xml", None).err().map(|error| error.code), Some("InvalidXmlSchema"));
}

/// No file needs a certain name: the directory serves the schemas that are included, and nothing else.
#[test]
fn a_schema_reads_what_it_includes_from_its_directory() {
    let directory = std::env::temp_dir().join(format!("loom-xsd-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let types = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
      <xs:simpleType name="few"><xs:restriction base="xs:int"><xs:maxInclusive value="3"/></xs:restriction></xs:simpleType>
    </xs:schema>"#;
    std::fs::write(directory.join("types.xsd"), types).expect("a schema");
    let including = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
      <xs:include schemaLocation="types.xsd"/><xs:element name="qty" type="few"/>
    </xs:schema>"#;
    let alone = Schema::read(SCHEMA, Some(&directory)).err();
    let read = Schema::read(including, Some(&directory));
    std::fs::remove_dir_all(&directory).expect("the directory is removed");
    assert!(alone.is_none(), "a schema that includes nothing: {alone:?}");
    let read = read.unwrap_or_else(|error| panic!("a schema that includes another: {error}"));
    assert!(read.validate("<qty>3</qty>").is_ok());
    assert_eq!(read.validate("<qty>4</qty>").err().map(|error| error.code), Some("XmlValidationFailed"));
}
