//! Percent-encoding (RFC 3986): of URIs, their parts, and forms. The only place that knows it.

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, percent_decode_str, utf8_percent_encode,
};

/// Everything except letters, digits and `-_.~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a URI cannot contain, except the percent sign, which may start an escape.
const FORBIDDEN: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Encodes every byte other than letters, digits and `-_.~`, with upper-case hexadecimal digits: for a segment of a path, or a
/// name or value in a query.
///
/// ```
/// assert_eq!(loom_expression::percent::encode("a/b ü"), "a%2Fb%20%C3%BC");
/// ```
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes what a path or a query cannot contain: characters that are not allowed in URIs, and percent signs that do not
/// start an escape. Everything else stays as it is, escapes included.
///
/// ```
/// assert_eq!(loom_expression::percent::escape("/a b/50%/%2f"), "/a%20b/50%25/%2f");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (number, part) in text.split('%').enumerate() {
        if number > 0 {
            escaped.push_str(if starts_with_digits(part) { "%" } else { "%25" });
        }
        escaped.extend(utf8_percent_encode(part, FORBIDDEN));
    }
    escaped
}

/// As [`escape`], and normalizes the escapes so that URIs can be compared: letters, digits and `-_.~` are not escaped,
/// and escapes of non-ASCII bytes have upper-case digits.
pub(crate) fn normalize(text: &str) -> String {
    let escaped = escape(text);
    let mut plain = String::with_capacity(escaped.len());
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        // Every percent sign starts an escape, because the others were escaped above.
        let (code, after) = rest[at..].split_at(3);
        match u8::from_str_radix(&code[1..], 16).unwrap_or_default() {
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') => {
                plain.push(char::from(byte));
            }
            byte if byte.is_ascii() => plain.push_str(code),
            _ => plain.push_str(&code.to_ascii_uppercase()),
        }
        rest = after;
    }
    plain + rest
}

/// Decodes percent-encoded text to bytes. Invalid escapes stay unchanged.
pub fn decode_bytes(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// Decodes percent-encoded text. Invalid escapes stay unchanged, and invalid UTF-8 is replaced.
///
/// ```
/// assert_eq!(loom_expression::percent::decode("50%+a%20b%2"), "50%+a b%2");
/// ```
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Decodes percent-encoded text. None if it contains an invalid escape, or is not UTF-8.
pub fn decode_strictly(text: &str) -> Option<String> {
    let is_valid = text.split('%').skip(1).all(starts_with_digits);
    let decoded = percent_decode_str(text).decode_utf8().ok();
    decoded.filter(|_| is_valid).map(Into::into)
}

/// Like [`decode_bytes`], for a name or value of a form, in which a plus sign stands for a space.
pub(crate) fn decode_form_bytes(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

/// Like [`decode`], for a name or value of a form, in which a plus sign stands for a space.
///
/// ```
/// assert_eq!(loom_expression::percent::decode_form(b"a+b%2Bc"), "a b+c");
/// ```
pub fn decode_form(text: &[u8]) -> String {
    String::from_utf8_lossy(&decode_form_bytes(text)).into_owned()
}

/// Whether the text begins with the two digits of an escape.
fn starts_with_digits(text: &str) -> bool {
    text.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}
