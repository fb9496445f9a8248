//! Percent-encoding (RFC 3986) of URIs and forms.

/// Encodes every byte other than letters, digits and `-_.~`, with upper-case hexadecimal digits.
pub(crate) fn encode(text: &str) -> String {
    encode_but(text, |_, byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
}

/// Encodes what a path or a query cannot contain: characters that are not allowed in URIs, and percent signs that do not
/// start an escape.
pub(crate) fn escape(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    encode_but(text, |at, byte| match byte {
        b'%' => digit(at + 1) && digit(at + 2),
        b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
        byte => byte.is_ascii_graphic(),
    })
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

fn encode_but(text: &str, kept: impl Fn(usize, u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len() + text.len() / 4);
    for (at, byte) in text.bytes().enumerate() {
        if kept(at, byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 0xF)]));
        }
    }
    encoded
}

/// Decodes percent-encoded text. Invalid escapes stay unchanged. In forms, a plus sign stands for a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) if plus_is_space => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}
