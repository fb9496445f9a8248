//! Formats numbers in standard and custom formats, and parses numbers, by the rules of a culture.

mod custom;
mod digits;
mod parse;

use self::digits::Digits;
pub(crate) use self::parse::{parse_decimal, parse_float, parse_int};
pub(crate) use crate::culture::Culture;
use crate::{
    Value, ValueRef,
    value::{FLOAT_EXPONENT_MIN, float_text},
};

/// The maximum precision of a standard format. A higher one would only fill memory with zeros.
const PRECISION_MAX: usize = 1_000;

/// Formats a number with a standard or custom format; `None` if this type of number does not have the format.
pub(crate) fn format_number(value: &Value, format: &str, culture: &Culture) -> Option<String> {
    if let ValueRef::Float(float) = value.as_ref()
        && !float.is_finite()
    {
        return Some(float_text(float));
    }
    let mut chars = format.chars();
    match (chars.next(), chars.as_str()) {
        (None, _) => standard(value, 'G', None, culture),
        (Some(letter), precision)
            if letter.is_ascii_alphabetic() && precision.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            let precision = match precision {
                "" => None,
                digits => Some(digits.parse().ok().filter(|&precision| precision <= PRECISION_MAX)?),
            };
            standard(value, letter, precision, culture)
        }
        _ => custom::format(Digits::for_custom(value)?, format, culture),
    }
}

fn standard(value: &Value, letter: char, precision: Option<usize>, culture: &Culture) -> Option<String> {
    let integer = value.as_i64();
    match letter.to_ascii_uppercase() {
        'C' => {
            let precision = precision.unwrap_or(culture.currency_digits);
            let number = Digits::rounded(value, precision, 0)?;
            let digits =
                grouped(&number, precision, culture, culture.currency_group, culture.currency_decimal);
            Some(if number.negative {
                filled(culture.currency_negative, &digits, culture.currency).replacen('-', culture.minus, 1)
            } else {
                filled(culture.currency_positive, &digits, culture.currency)
            })
        }
        'D' => {
            let digits = integer?.unsigned_abs().to_string();
            let sign = if integer? < 0 { culture.minus } else { "" };
            Some(format!("{sign}{digits:0>width$}", width = precision.unwrap_or(0)))
        }
        'E' => {
            let precision = precision.unwrap_or(6);
            let number = Digits::significant(value, precision + 1)?;
            Some(scientific(&number, letter, precision, 3, culture))
        }
        'F' => {
            let precision = precision.unwrap_or(2);
            let number = Digits::rounded(value, precision, 0)?;
            Some(format!("{}{}", sign(&number, culture), plain(&number, precision, culture)))
        }
        'G' => general(value, letter, precision.filter(|&precision| precision > 0), culture),
        'N' => {
            let precision = precision.unwrap_or(2);
            let number = Digits::rounded(value, precision, 0)?;
            let digits = grouped(&number, precision, culture, culture.group, culture.decimal);
            Some(format!("{}{digits}", sign(&number, culture)))
        }
        'P' => {
            let precision = precision.unwrap_or(2);
            let number = Digits::rounded(value, precision, 2)?;
            let digits = grouped(&number, precision, culture, culture.group, culture.decimal);
            Some(format!("{}{}", sign(&number, culture), filled(culture.percent, &digits, "%")))
        }
        // The round-trip format, which only floats have.
        'R' if matches!(value.as_ref(), ValueRef::Float(_)) => {
            general(value, if letter == 'r' { 'g' } else { 'G' }, None, culture)
        }
        'X' => {
            let bits = integer?;
            let width = precision.unwrap_or(0);
            Some(if letter == 'X' { format!("{bits:0>width$X}") } else { format!("{bits:0>width$x}") })
        }
        'B' => Some(format!("{:0>width$b}", integer?, width = precision.unwrap_or(0))),
        _ => None,
    }
}

fn sign<'c>(number: &Digits, culture: &'c Culture) -> &'c str {
    if number.negative { culture.minus } else { "" }
}

fn filled(pattern: &str, number: &str, symbol: &str) -> String {
    pattern.replace('n', "\u{0}").replace('$', symbol).replace('\u{0}', number)
}

/// Digits with a decimal point and `precision` digits after it.
fn plain(number: &Digits, precision: usize, culture: &Culture) -> String {
    let mut text: String = number.integer_digits().collect();
    if precision > 0 {
        text.push_str(culture.decimal);
        text.extend(number.fraction_digits(precision));
    }
    text
}

fn grouped(number: &Digits, precision: usize, culture: &Culture, group: &str, decimal: &str) -> String {
    let digits: Vec<char> = number.integer_digits().collect();
    let breaks = group_breaks(culture, digits.len());
    let mut text = String::new();
    for (at, digit) in digits.iter().enumerate() {
        let left = digits.len() - at;
        if at > 0 && breaks.contains(&left) {
            text.push_str(group);
        }
        text.push(*digit);
    }
    if precision > 0 {
        text.push_str(decimal);
        text.extend(number.fraction_digits(precision));
    }
    text
}

/// The positions of group separators, as numbers of digits that follow them.
fn group_breaks(culture: &Culture, digits: usize) -> Vec<usize> {
    let mut breaks = Vec::new();
    let Some(&first) = culture.groups.first() else {
        return breaks;
    };
    let mut total = first;
    let mut at = 0;
    while total < digits {
        breaks.push(total);
        at = (at + 1).min(culture.groups.len() - 1);
        total += culture.groups[at];
    }
    breaks
}

fn exponent(exponent: i64, letter: char, width: usize, culture: &Culture) -> String {
    let sign = if exponent < 0 { culture.minus } else { "+" };
    format!("{letter}{sign}{:0>width$}", exponent.unsigned_abs())
}

fn scientific(number: &Digits, letter: char, precision: usize, width: usize, culture: &Culture) -> String {
    let power = if number.is_zero() { 0 } else { number.scale - 1 };
    let mut text = format!("{}{}", sign(number, culture), number.digit(0));
    if precision > 0 {
        text.push_str(culture.decimal);
        text.extend((1..=precision).map(|at| number.digit(at)));
    }
    text + &exponent(power, letter, width, culture)
}

fn general(value: &Value, letter: char, precision: Option<usize>, culture: &Culture) -> Option<String> {
    let (number, limit) = match (precision, value.as_ref()) {
        (Some(precision), _) => (Digits::significant(value, precision)?, precision as i64),
        (None, ValueRef::Float(_)) => (Digits::of(value)?, FLOAT_EXPONENT_MIN),
        // Integers and decimals are never written with an exponent.
        (None, _) => (Digits::of(value)?, i64::MAX),
    };
    let power = number.scale - 1;
    if !number.is_zero() && (power >= limit || power < -4) {
        let digits = number.places.len();
        let letter = if letter.is_ascii_lowercase() { 'e' } else { 'E' };
        return Some(scientific(&number, letter, digits - 1, 2, culture));
    }
    let fraction = usize::try_from(number.places.len() as i64 - number.scale).unwrap_or(0);
    let fraction = if number.is_zero() { 0 } else { fraction };
    Some(format!("{}{}", sign(&number, culture), plain(&number, fraction, culture)))
}

#[cfg(test)]
mod tests;
