//! Parses numbers.

use rust_decimal::Decimal;

use crate::culture::Culture;

/// Parses an integer: an optional sign and digits, with white space around them. `None` if it does not fit in 64 bits.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Parses a float: digits with a decimal point, an exponent, a sign before or after, group separators anywhere, and
/// white space around them. `None` if it is not a finite number.
pub(crate) fn parse_float(text: &str, culture: &Culture) -> Option<f64> {
    let plain = plain(text, culture, true)?;
    plain.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Parses a decimal of up to 28 digits in the format of [`parse_float`] without an exponent. Further digits after the
/// decimal point are rounded.
pub(crate) fn parse_decimal(text: &str) -> Option<Decimal> {
    let plain = plain(text, Culture::INVARIANT, false)?;
    plain.parse().ok()
}

/// Rewrites a number as plain digits with a decimal point, for the parsers of the standard library.
fn plain(text: &str, culture: &Culture, exponents: bool) -> Option<String> {
    let mut rest = text.trim();
    let mut plain = String::with_capacity(rest.len() + 1);
    let mut signed = false;
    if let Some(after) = rest.strip_prefix(['+', '-']).or_else(|| rest.strip_prefix(culture.minus)) {
        signed = true;
        if !rest.starts_with('+') {
            plain.push('-');
        }
        rest = after;
    }
    let (mut digits, mut point) = (0, false);
    loop {
        if let Some(digit) = rest.chars().next().filter(char::is_ascii_digit) {
            plain.push(digit);
            digits += 1;
            rest = &rest[1..];
        } else if let Some(after) = rest.strip_prefix(culture.decimal).filter(|_| !point) {
            point = true;
            plain.push_str(if digits == 0 { "0." } else { "." });
            rest = after;
        } else if let Some(after) = culture.strip_group(rest).filter(|_| digits > 0 && !point) {
            rest = after;
        } else {
            break;
        }
    }
    if digits == 0 {
        return None;
    }
    // A decimal point without digits after it adds no scale to a decimal.
    if plain.ends_with('.') {
        plain.pop();
    }
    if exponents && let Some(after) = rest.strip_prefix(['e', 'E']) {
        let (sign, after) = match after.strip_prefix(['+', '-']) {
            Some(behind) => (if after.starts_with('-') { "-" } else { "" }, behind),
            None => ("", after),
        };
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length > 0 {
            plain.push('e');
            plain.push_str(sign);
            plain.push_str(&after[..length]);
            rest = &after[length..];
        }
    }
    match rest.trim() {
        "" => Some(plain),
        "+" if !signed => Some(plain),
        minus if !signed && (minus == "-" || minus == culture.minus) => Some(format!("-{plain}")),
        _ => None,
    }
}
