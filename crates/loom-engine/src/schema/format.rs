//! The formats of texts that are looked at. All others are taken on trust, as the language takes them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `text` is in the format of this name.
pub(super) fn accepts(format: &str, text: &str) -> bool {
    match format {
        "date-time" => is_date_time(text),
        "date" => is_date(text),
        "time" => is_time(text),
        "email" => text.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace)
        }),
        "uri" => is_absolute(text),
        "uri-reference" => !text.contains(is_foreign),
        "ipv4" | "ip-address" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "hostname" | "host-name" => is_hostname(text),
        _ => true,
    }
}

/// Cuts `text` into digits of the given lengths, with what stands between them; none when it has another shape.
fn digits<const N: usize>(text: &str, lengths: [usize; N], between: &str) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut rest = text;
    for (index, length) in lengths.into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(between)?;
        }
        let part = rest.get(..length).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        numbers[index] = part.parse().ok()?;
        rest = &rest[length..];
    }
    rest.is_empty().then_some(numbers)
}

fn is_date(text: &str) -> bool {
    let Some([year, month, day]) = digits(text, [4, 2, 2], "-") else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    year > 0 && (1..=days).contains(&day)
}

fn is_time(text: &str) -> bool {
    digits(text, [2, 2, 2], ":").is_some_and(|[hour, minute, second]| hour < 24 && minute < 60 && second < 60)
}

fn is_date_time(text: &str) -> bool {
    let Some((date, rest)) = text.split_once('T') else { return false };
    let Some(time) = rest.get(..8) else { return false };
    let rest = &rest[8..];
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=7).contains(&length) {
                return false;
            }
            &fraction[length..]
        }
    };
    let offset = |zone: &str| {
        let offset = zone.strip_prefix(['+', '-']).and_then(|rest| digits(rest, [2, 2], ":"));
        offset.is_some_and(|[hours, minutes]| hours <= 14 && minutes < 60)
    };
    is_date(date) && is_time(time) && (zone.is_empty() || zone == "Z" || offset(zone))
}

/// What no address holds unless it is escaped.
fn is_foreign(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control() || "<>\"{}|\\^`".contains(letter)
}

fn is_absolute(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
        && rest != "//"
        && !rest.contains(is_foreign)
}

fn is_hostname(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 255
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
