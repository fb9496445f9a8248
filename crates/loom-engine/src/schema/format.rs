//! The string formats that are validated. All others are accepted, as in the language.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `text` is valid in the format `format`.
pub(super) fn accepts(format: &str, text: &str) -> bool {
    match format {
        "date-time" => is_date_time(text),
        "date" => is_date(text),
        "time" => is_time(text),
        "email" => is_email(text),
        "uri" => is_absolute(text),
        "uri-reference" => !text.contains(is_foreign) && has_whole_escapes(text),
        "ipv4" | "ip-address" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "hostname" | "host-name" => is_hostname(text),
        _ => true,
    }
}

/// Parses numbers with the given counts of digits, separated by `between`; none when `text` has a different shape.
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

/// Whether a character must be escaped in a URI.
fn is_foreign(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control() || "<>\"{}|\\^`".contains(letter)
}

/// Whether every `%` begins an escape.
fn has_whole_escapes(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
    parts.all(|part| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(is_hex)))
}

fn is_absolute(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme || rest.is_empty() || rest == "//" || rest.contains(is_foreign) || !has_whole_escapes(rest)
    {
        return false;
    }
    let (authority, after) = match rest.strip_prefix("//") {
        None => (None, rest),
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
    };
    let path = after.split(['?', '#']).next().unwrap_or_default();
    authority.is_none_or(is_authority) && !path.contains(['[', ']'])
}

/// `user@host:port`, where the host may be an IPv6 address in brackets.
fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            ("", port)
        }
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    is_port && ![user, host].iter().any(|part| part.contains(['[', ']']))
}

/// Dot-separated atoms or a quoted string; an at sign; dot-separated labels or an IP address in brackets.
fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let is_atom = |atom: &str| {
        let fits = |letter: char| {
            letter.is_ascii_alphanumeric() || !letter.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(letter)
        };
        !atom.is_empty() && atom.chars().all(fits)
    };
    let is_quoted = |name: &str| {
        let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|inner| !inner.replace("\\\\", "").replace("\\\"", "").contains('"'))
    };
    let is_literal = |host: &str| {
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        address.is_some_and(|address| match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        })
    };
    let is_domain = |host: &str| {
        host.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|letter| letter.is_alphanumeric() || letter == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
    };
    (is_quoted(name) || name.split('.').all(is_atom)) && (is_literal(host) || is_domain(host))
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
