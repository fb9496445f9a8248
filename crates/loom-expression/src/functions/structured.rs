//! JSON and XML functions: parsing, conversion between objects and XML, XPath.

use super::{Arguments, Body, Category, Function, Outcome, ex};
use crate::{
    Code, Error, Value, ValueRef, envelope,
    error::Failure,
    value::float_text,
    xml::{self, Evaluated, XPathError},
};

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(Category::Conversion, "json", (1, 1), Body::Plain(json)).docs(
        "json(value: any) → any",
        "Parses a JSON string or a content envelope with JSON, or converts an XML envelope to an object with its elements. Other values are returned unchanged; null is an error.",
    ).examples(&[ex("@json('[1, 2, 3]')", "[1,2,3]"), ex("@json(xml('<a><b>1</b><b>2</b></a>'))", r#"{"a":{"b":["1","2"]}}"#), ex("@json('{')", "error"), ex("@json(null)", "error")]),
    Function::new(Category::Conversion, "xml", (1, 1), Body::Plain(to_xml)).docs(
        "xml(value: string | object) → object",
        "Creates an XML envelope from an XML string, or from an object with one root property in which `@name` stands for an attribute, `#text` for text, and an array for repeated elements.",
    ).examples(&[ex("@string(xml(json('{\"name\": \"Sophia Owen\"}')))", r#""<name>Sophia Owen</name>""#), ex("@xml('<a><b></a>')", "error")]),
    Function::new(Category::Manipulation, "xpath", (2, 2), Body::Plain(xpath)).docs(
        "xpath(xml: object | string, path: string) → any",
        "Evaluates an XPath 1.0 expression on an XML document. Returns a number, a string, a boolean, or an array of nodes, in which elements are XML envelopes and text nodes and attributes are strings.",
    ).examples(&[ex("@xpath(xml('<r><n>1.5</n><n>2</n></r>'), 'sum(/r/n)')", "3.5"), ex("@xpath(xml('<r><n>a</n></r>'), '/r/n/text()')", r#"["a"]"#), ex("@xpath(xml('<a/>'), '///')", "error")]),
    Function::new(Category::Conversion, "encodeXmlValue", (1, 1), Body::Plain(|arguments| Ok(Value::from(xml::escaped(arguments.str(0)?, true))))).docs(
        "encodeXmlValue(text: string) → string",
        "Escapes the reserved characters of XML in a string as entities.",
    ).examples(&[ex("@encodeXmlValue('a < b')", r#""a &lt; b""#)]),
    Function::new(Category::Conversion, "decodeXmlValue", (1, 1), Body::Plain(decode_xml_value)).docs(
        "decodeXmlValue(text: string) → string",
        "Replaces XML entities and character references in a string with their characters.",
    ).examples(&[ex("@decodeXmlValue('a &lt; b')", r#""a < b""#)]),
    Function::new(Category::Conversion, "encodeXmlName", (1, 1), Body::Plain(|arguments| Ok(Value::from(xml::encoded_name(arguments.str(0)?))))).docs(
        "encodeXmlName(text: string) → string",
        "Encodes a string as an XML name. Characters that a name cannot contain become `_xHHHH_`.",
    ).examples(&[ex("@encodeXmlName('first name')", r#""first_x0020_name""#)]),
    Function::new(Category::Conversion, "decodeXmlName", (1, 1), Body::Plain(|arguments| Ok(Value::from(xml::decoded_name(arguments.str(0)?))))).docs(
        "decodeXmlName(text: string) → string",
        "Decodes an XML name by replacing each `_xHHHH_` with its character.",
    ).examples(&[ex("@decodeXmlName('first_x0020_name')", r#""first name""#)]),
];

fn json(arguments: &mut Arguments<'_>) -> Outcome {
    let value = arguments.get(0);
    if let Some(content_type) = envelope::content_type(value) {
        let text = content(arguments)?;
        if is_xml(content_type) {
            return from_xml(arguments, &text);
        }
        return from_json(arguments, &text);
    }
    match value.as_str() {
        Some(text) => from_json(arguments, text),
        None if value.is_null() => Err(arguments.wrong_type(0, "a string or an XML")),
        None => Ok(arguments.take(0)),
    }
}

fn from_json(arguments: &Arguments<'_>, text: &str) -> Outcome {
    // Parsing costs more than scanning the text, and the result is larger than the text.
    arguments.budget.pay_text(text.len().saturating_mul(4))?;
    Value::read_json_within(text, arguments.budget.json_values_max())
        .map_err(|error| arguments.not_convertible(0, &format!("invalid JSON: {error}")))
}

fn from_xml(arguments: &Arguments<'_>, text: &str) -> Outcome {
    arguments.budget.pay_text(text.len().saturating_mul(8))?;
    let document = xml::parse(text).map_err(|why| not_xml(arguments, &why))?;
    Ok(xml::to_object(&document))
}

fn not_xml(arguments: &Arguments<'_>, why: &str) -> Failure {
    arguments.not_convertible(0, &format!("invalid XML: {why}"))
}

/// Whether the type is `application/xml`, `text/xml`, or has the suffix `+xml`, as `image/svg+xml` does.
fn is_xml(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/xml") || essence.ends_with("+xml")
}

/// The decoded content of the envelope in the first argument, without a byte order mark.
fn content(arguments: &Arguments<'_>) -> Result<String, Failure> {
    let (_, bytes) = envelope::decode(arguments.get(0))
        .ok_or_else(|| arguments.not_convertible(0, "the content of the envelope is not valid base64"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// The XML text in the first argument, which is a string or an envelope.
fn xml_text(arguments: &Arguments<'_>) -> Result<String, Failure> {
    match arguments.get(0).as_str() {
        Some(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        None => content(arguments),
    }
}

fn to_xml(arguments: &mut Arguments<'_>) -> Outcome {
    let value = arguments.get(0);
    let text = match value.as_ref() {
        ValueRef::Object(object) if envelope::content_type(value).is_none() => {
            let text = xml::from_object(object).map_err(|why| {
                arguments.not_convertible(0, &format!("it cannot be converted to XML: {why}"))
            })?;
            arguments.check_text_bytes(text.len())?;
            text
        }
        ValueRef::Object(_) | ValueRef::String(_) => xml_text(arguments)?.trim_start().to_owned(),
        _ => return Err(arguments.wrong_type(0, "a string or an object")),
    };
    arguments.budget.pay_text(text.len().saturating_mul(8))?;
    xml::parse(&text).map_err(|why| not_xml(arguments, &why))?;
    Ok(envelope::encode(xml::CONTENT_TYPE, text.as_bytes()))
}

fn xpath(arguments: &mut Arguments<'_>) -> Outcome {
    if arguments.get(0).as_str().is_none() && envelope::content_type(arguments.get(0)).is_none() {
        return Err(arguments.wrong_type(0, "XML, as returned by xml()"));
    }
    let text = xml_text(arguments)?;
    arguments.budget.pay_text(text.len().saturating_mul(8))?;
    let document = xml::parse(text.trim_start()).map_err(|why| not_xml(arguments, &why))?;
    let steps_max = arguments.limits.xpath_steps_max.min(arguments.budget.left());
    let (found, steps) = xml::evaluate(&document, arguments.str(1)?, steps_max);
    arguments.budget.pay(steps)?;
    let found = found.map_err(|error| match error {
        XPathError::Invalid(why) => arguments.bad(1, &format!("invalid XPath expression: {why}")),
        XPathError::TooCostly => Error::new(
            Code::LimitExceeded,
            format!(
                "The template language function 'xpath' cannot be evaluated: the path visits more than {steps_max} nodes."
            ),
        ),
    })?;
    Ok(match found {
        Evaluated::Number(number) => number_value(number),
        Evaluated::Text(text) => Value::from(text),
        Evaluated::Boolean(flag) => Value::from(flag),
        Evaluated::Nodes(nodes) => {
            arguments.check_items(nodes.len())?;
            let nodes = nodes.into_iter().map(|node| match node {
                xml::Found::Text(text) => Value::from(text),
                xml::Found::Xml(text) => envelope::encode(xml::CONTENT_TYPE, text.as_bytes()),
            });
            nodes.collect()
        }
    })
}

/// Whole numbers become integers. NaN and the infinities, which JSON does not have, become strings.
fn number_value(number: f64) -> Value {
    // 2^63. Every whole double below it converts exactly to a 64-bit integer.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if !number.is_finite() {
        Value::from(float_text(number))
    } else if number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number) {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

fn decode_xml_value(arguments: &mut Arguments<'_>) -> Outcome {
    xml::unescaped(arguments.str(0)?).map(Value::from).ok_or_else(|| {
        arguments.not_convertible(0, "unknown entity; XML defines &amp;, &lt;, &gt;, &quot; and &apos;")
    })
}
