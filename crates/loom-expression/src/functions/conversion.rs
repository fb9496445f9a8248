//! Conversion functions: strings, numbers, booleans, base64, data URIs, percent-encoding.

use base64::{Engine, engine::general_purpose::STANDARD};
use rust_decimal::{Decimal, prelude::FromPrimitive};

use super::{Arguments, Body, Category, Function, Outcome, ex, string::culture};
use crate::{
    Value, ValueRef, envelope,
    error::Failure,
    number::{Culture, parse_decimal, parse_float, parse_int},
    percent,
    value::TextBuilder,
};

const fn conversion(
    name: &'static str,
    arity: (usize, usize),
    body: fn(&mut Arguments<'_>) -> Outcome,
) -> Function {
    Function::new(Category::Conversion, name, arity, Body::Plain(body))
}

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    conversion("int", (1, 1), int).docs(
        "int(value: integer | string | boolean) → integer",
        "Converts a string to an integer. The string may contain only an optional sign, digits, and white space around them. True and false become 1 and 0; a float is an error.",
    ).examples(&[ex("@int('10')", "10"), ex("@int(' -25 ')", "-25"), ex("@int('1.5')", "error"), ex("@int(true)", "1")]),
    conversion("float", (1, 2), float).docs(
        "float(value: number | string, locale?: string) → float",
        "Converts a string to a floating-point number in the format of the locale. Group separators are ignored wherever they are, and the sign may follow the digits.",
    ).examples(&[ex("@float('10,000.333')", "10000.333"), ex("@float('10.000,333', 'de-DE')", "10000.333"), ex("@float('5-')", "-5.0"), ex("@float('abc')", "error")]),
    conversion("decimal", (1, 1), decimal).docs(
        "decimal(value: number | string) → decimal",
        "Converts a string to an exact decimal number of up to 28 digits. Arithmetic on decimals and integers stays exact.",
    ).examples(&[ex("@decimal('1.2345678912312131')", "1.2345678912312131"), ex("@add(decimal('0.1'), decimal('0.2'))", "0.3")]),
    conversion("bool", (1, 1), bool).docs(
        "bool(value: boolean | number | string) → boolean",
        "Converts a value to a boolean: numbers other than 0 and the string 'true' become true, 0 and the string 'false' become false, ignoring case. Any other string is an error.",
    ).examples(&[ex("@bool(1)", "true"), ex("@bool('FALSE')", "false"), ex("@bool('yes')", "error")]),
    conversion("string", (1, 1), string).docs(
        "string(value: any) → string",
        "Converts a value to a string: booleans become True or False, null becomes an empty string, arrays and objects become compact JSON, and a content envelope becomes its decoded content.",
    ).examples(&[ex("@string(10)", r#""10""#), ex("@string(json('{\"a\": true}'))", r#""{\"a\":true}""#), ex("@string(null)", r#""""#)]),
    conversion("isInt", (1, 1), |arguments| Ok(Value::from(parse_int(arguments.str(0)?).is_some()))).docs(
        "isInt(text: string) → boolean",
        "Checks whether int() accepts the string.",
    ).examples(&[ex("@isInt('10')", "true"), ex("@isInt('10.5')", "false")]),
    conversion("isFloat", (1, 2), |arguments| Ok(Value::from(parse_float(arguments.str(0)?, culture(arguments, 1)?).is_some()))).docs(
        "isFloat(text: string, locale?: string) → boolean",
        "Checks whether float() accepts the string.",
    ).examples(&[ex("@isFloat('10,000.00')", "true"), ex("@isFloat('1.2.3')", "false")]),
    conversion("base64", (1, 1), base64).docs(
        "base64(value: any) → string",
        "Encodes the value in base64: the bytes of a content envelope, or any other value converted to a string.",
    ).examples(&[ex("@base64('hello')", r#""aGVsbG8=""#)]),
    conversion("base64ToString", (1, 1), base64_to_string).aliases(&["decodeBase64"]).docs(
        "base64ToString(text: string) → string",
        "Decodes a base64 string to a string, read as UTF-8.",
    ).examples(&[ex("@base64ToString('aGVsbG8=')", r#""hello""#), ex("@base64ToString('***')", "error")]),
    conversion("base64ToBinary", (1, 1), base64_to_binary).docs(
        "base64ToBinary(text: string) → object",
        "Decodes a base64 string to a content envelope with its bytes.",
    ).examples(&[ex("@base64ToBinary('aGVsbG8=')", r#"{"$content-type":"application/octet-stream","$content":"aGVsbG8="}"#)]),
    conversion("binary", (1, 1), binary).docs(
        "binary(value: any) → object",
        "Converts the value to a string and returns a content envelope with its bytes. Null is an error.",
    ).examples(&[ex("@binary(null)", "error"), ex("@binary('hello')", r#"{"$content-type":"application/octet-stream","$content":"aGVsbG8="}"#)]),
    conversion("dataUri", (1, 1), data_uri).docs(
        "dataUri(value: any) → string",
        "Creates a data URI from the bytes and content type of a content envelope, or from any other value converted to a string.",
    ).examples(&[ex("@dataUri('hello')", r#""data:text/plain;charset=utf-8;base64,aGVsbG8=""#)]),
    conversion("dataUriToString", (1, 1), data_uri_to_string).docs(
        "dataUriToString(uri: string) → string",
        "Decodes the content of a data URI to a string.",
    ).examples(&[ex("@dataUriToString('data:text/plain;charset=utf-8;base64,aGVsbG8=')", r#""hello""#)]),
    conversion("dataUriToBinary", (1, 1), data_uri_to_binary).docs(
        "dataUriToBinary(uri: string) → object",
        "Decodes a data URI to a content envelope with its content type and bytes.",
    ).examples(&[ex("@dataUriToBinary('data:image/png;base64,iVBORw0KGgo=')", r#"{"$content-type":"image/png","$content":"iVBORw0KGgo="}"#)]),
    conversion("decodeDataUri", (1, 1), decode_data_uri).docs(
        "decodeDataUri(uri: string) → any",
        "Decodes a data URI by its content type: text types to a string, JSON to its value, and all other types to a content envelope.",
    ).examples(&[ex("@decodeDataUri('data:text/csv;base64,YSxi')", r#""a,b""#), ex("@decodeDataUri('data:application/json,%5B1%5D')", "[1]"), ex("@decodeDataUri('hello')", "error")]),
    conversion("uriComponent", (1, super::ANY), uri_component).aliases(&["encodeUriComponent"]).docs(
        "uriComponent(value: string | number | boolean, more: any, …) → string",
        "Percent-encodes every character of a string other than letters, digits and `-_.~`. Several arguments are converted to strings and joined first.",
    ).examples(&[ex("@uriComponent('https://contoso.com')", r#""https%3A%2F%2Fcontoso.com""#), ex("@encodeURIComponent('a b')", r#""a%20b""#), ex("@encodeURIComponent(42)", r#""42""#), ex("@uriComponent('a b', 1, true, null)", r#""a%20b1True""#), ex("@uriComponent(null)", "error")]),
    conversion("uriComponentToString", (1, 1), uri_component_to_string).aliases(&["decodeUriComponent"]).docs(
        "uriComponentToString(text: string) → string",
        "Decodes a percent-encoded string. A plus sign becomes a space.",
    ).examples(&[ex("@uriComponentToString('a%2Fb+c')", r#""a/b c""#)]),
    conversion("uriComponentToBinary", (1, 1), uri_component_to_binary).docs(
        "uriComponentToBinary(text: string) → object",
        "Decodes a percent-encoded string to a content envelope with its bytes.",
    ).examples(&[ex("@uriComponentToBinary('a%20b')", r#"{"$content-type":"application/octet-stream","$content":"YSBi"}"#)]),
];

const OCTETS: &str = "application/octet-stream";

#[expect(clippy::unnecessary_wraps, reason = "all bodies have one signature")]
fn string(arguments: &mut Arguments<'_>) -> Outcome {
    let value = arguments.get(0);
    Ok(if value.as_str().is_some() { value.clone() } else { Value::from(envelope::text(value).as_ref()) })
}

fn int(arguments: &mut Arguments<'_>) -> Outcome {
    let value = arguments.get(0);
    match value.as_ref() {
        ValueRef::Int(_) => Ok(value.clone()),
        ValueRef::Bool(flag) => Ok(Value::from(i64::from(flag))),
        ValueRef::String(text) => parse_int(text)
            .map(Value::from)
            .ok_or_else(|| arguments.not_convertible(0, "expected a 64-bit integer")),
        _ => Err(arguments.wrong_type(0, "an integer, a string or a boolean")),
    }
}

fn float(arguments: &mut Arguments<'_>) -> Outcome {
    let culture = match arguments.opt(1) {
        None => Culture::INVARIANT,
        Some(_) => culture(arguments, 1)?,
    };
    match arguments.get(0).as_ref() {
        ValueRef::String(text) => parse_float(text, culture)
            .map(Value::from)
            .ok_or_else(|| arguments.not_convertible(0, "expected a number")),
        _ => arguments
            .get(0)
            .as_f64()
            .map(Value::from)
            .ok_or_else(|| arguments.wrong_type(0, "a number or a string")),
    }
}

fn decimal(arguments: &mut Arguments<'_>) -> Outcome {
    let converted = match arguments.get(0).as_ref() {
        ValueRef::Decimal(value) => Some(*value),
        ValueRef::Int(value) => Some(Decimal::from(value)),
        ValueRef::Float(value) => Decimal::from_f64(value),
        ValueRef::String(text) => parse_decimal(text),
        _ => return Err(arguments.wrong_type(0, "a number or a string")),
    };
    converted
        .map(Value::from)
        .ok_or_else(|| arguments.not_convertible(0, "expected a decimal number of up to 28 digits"))
}

fn bool(arguments: &mut Arguments<'_>) -> Outcome {
    let flag = match arguments.get(0).as_ref() {
        ValueRef::Bool(flag) => flag,
        ValueRef::Int(value) => value != 0,
        ValueRef::Float(value) => value != 0.0,
        ValueRef::Decimal(value) => !value.is_zero(),
        ValueRef::String(text) if text.trim().eq_ignore_ascii_case("true") => true,
        ValueRef::String(text) if text.trim().eq_ignore_ascii_case("false") => false,
        ValueRef::String(_) => return Err(arguments.not_convertible(0, "expected 'true' or 'false'")),
        _ => return Err(arguments.wrong_type(0, "a boolean, a number or a string")),
    };
    Ok(Value::from(flag))
}

fn check_base64_size(arguments: &Arguments<'_>, bytes: usize) -> Result<(), Failure> {
    arguments.check_text_bytes(bytes.div_ceil(3).saturating_mul(4))
}

/// The value's bytes in base64. The content of an envelope is base64 already and is not encoded again.
fn base64_of(arguments: &Arguments<'_>) -> Result<String, Failure> {
    let value = arguments.get(0);
    if let Some(content) = envelope::content(value) {
        return Ok(content.to_owned());
    }
    let text = envelope::text(value);
    check_base64_size(arguments, text.len())?;
    Ok(STANDARD.encode(text.as_bytes()))
}

fn base64(arguments: &mut Arguments<'_>) -> Outcome {
    base64_of(arguments).map(Value::from)
}

fn decoded(arguments: &Arguments<'_>) -> Result<Vec<u8>, Failure> {
    envelope::decode_base64(arguments.str(0)?)
        .ok_or_else(|| arguments.not_convertible(0, "expected valid base64"))
}

fn base64_to_string(arguments: &mut Arguments<'_>) -> Outcome {
    Ok(Value::from(String::from_utf8_lossy(&decoded(arguments)?).as_ref()))
}

fn base64_to_binary(arguments: &mut Arguments<'_>) -> Outcome {
    decoded(arguments)?;
    Ok(envelope::of_base64(OCTETS, arguments.str(0)?.to_owned()))
}

fn binary(arguments: &mut Arguments<'_>) -> Outcome {
    if arguments.get(0).is_null() {
        return Err(arguments.wrong_type(0, "a string, a number, a boolean, an array or an object"));
    }
    Ok(envelope::of_base64(OCTETS, base64_of(arguments)?))
}

fn data_uri(arguments: &mut Arguments<'_>) -> Outcome {
    let content = base64_of(arguments)?;
    let content_type = envelope::content_type(arguments.get(0)).unwrap_or("text/plain;charset=utf-8");
    Ok(Value::from(format!("data:{content_type};base64,{content}")))
}

/// The content type and the bytes of a data URI (RFC 2397).
fn parse_data_uri(arguments: &Arguments<'_>) -> Result<(String, Vec<u8>), Failure> {
    let text = arguments.str(0)?.trim();
    let bad = || arguments.not_convertible(0, "expected a data URI, such as data:text/plain;base64,aGVsbG8=");
    let scheme = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).ok_or_else(bad)?;
    let (kind, content) = text[scheme.len()..].split_once(',').ok_or_else(bad)?;
    let (kind, bytes) =
        match kind.len().checked_sub(7).and_then(|at| Some((kind.get(..at)?, kind.get(at..)?))) {
            Some((kind, encoding)) if encoding.eq_ignore_ascii_case(";base64") => {
                let content = percent::decode_bytes(content);
                let content = std::str::from_utf8(&content).map_err(|_| bad())?;
                (kind, envelope::decode_base64(content).ok_or_else(bad)?)
            }
            _ => (kind, percent::decode_bytes(content)),
        };
    let kind = match kind {
        "" => "text/plain".to_owned(),
        parameters if parameters.starts_with(';') => format!("text/plain{parameters}"),
        kind => kind.to_owned(),
    };
    Ok((kind, bytes))
}

fn data_uri_to_string(arguments: &mut Arguments<'_>) -> Outcome {
    let (_, bytes) = parse_data_uri(arguments)?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).as_ref()))
}

fn data_uri_to_binary(arguments: &mut Arguments<'_>) -> Outcome {
    let (kind, bytes) = parse_data_uri(arguments)?;
    Ok(envelope::encode(&kind, &bytes))
}

/// Decodes the content to what the body of a response with this content type would be.
fn decode_data_uri(arguments: &mut Arguments<'_>) -> Outcome {
    let (kind, bytes) = parse_data_uri(arguments)?;
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        let text = String::from_utf8_lossy(&bytes);
        return Value::read_json_within(&text, arguments.budget.json_values_max())
            .map_err(|error| arguments.not_convertible(0, &format!("invalid JSON: {error}")));
    }
    if essence.starts_with("text/") {
        return Ok(Value::from(String::from_utf8_lossy(&bytes).as_ref()));
    }
    let charset = kind.split(';').skip(1).any(|parameter| {
        parameter.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
    });
    // The default of RFC 2397 for a URI without a character set.
    let kind = if charset { kind } else { format!("{kind};charset=us-ascii") };
    Ok(envelope::encode(&kind, &bytes))
}

fn uri_component(arguments: &mut Arguments<'_>) -> Outcome {
    if arguments.len() > 1 {
        let mut text = TextBuilder::default();
        for at in 0..arguments.len() {
            envelope::push_text(arguments.get(at), &mut text);
            arguments.check_text_bytes(text.len())?;
        }
        return Ok(Value::from(percent::encode(text.as_string_mut())));
    }
    // Connector paths wrap it around values from responses, which are as often numbers as strings.
    let text = match arguments.get(0).as_ref() {
        ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) | ValueRef::Bool(_) => {
            arguments.get(0).text()
        }
        ValueRef::String(_) | ValueRef::Null | ValueRef::Array(_) | ValueRef::Object(_) => {
            arguments.str(0)?.into()
        }
    };
    arguments.check_text_bytes(text.len())?;
    Ok(Value::from(percent::encode(&text)))
}

fn uri_component_to_string(arguments: &mut Arguments<'_>) -> Outcome {
    let bytes = percent::decode_form_bytes(arguments.str(0)?.as_bytes());
    Ok(Value::from(String::from_utf8_lossy(&bytes).as_ref()))
}

fn uri_component_to_binary(arguments: &mut Arguments<'_>) -> Outcome {
    Ok(envelope::encode(OCTETS, &percent::decode_form_bytes(arguments.str(0)?.as_bytes())))
}
