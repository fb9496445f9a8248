//! Formats timestamps in .NET's standard and custom formats.

use std::fmt::Write as _;

use super::{DateTime, Zone};
use crate::culture::Culture;

/// Formats a timestamp; `None` if the format does not exist.
pub(crate) fn format(at: DateTime, format: &str, culture: &Culture) -> Option<String> {
    const ROUND_TRIP: &str = "yyyy'-'MM'-'dd'T'HH':'mm':'ss.fffffffK";
    let mut letters = format.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else {
        return if format.is_empty() { None } else { custom(at, format, culture) };
    };
    let join = |left: &str, right: &str| custom(at, &format!("{left} {right}"), culture);
    match letter {
        'd' => custom(at, culture.short_date, culture),
        'D' => custom(at, culture.long_date, culture),
        'f' => join(culture.long_date, culture.short_time),
        // A timestamp without a zone is taken as UTC, so conversion to universal time changes nothing.
        'F' | 'U' => join(culture.long_date, culture.long_time),
        'g' => join(culture.short_date, culture.short_time),
        'G' => join(culture.short_date, culture.long_time),
        'M' | 'm' => custom(at, culture.month_day, culture),
        'O' | 'o' => custom(at, ROUND_TRIP, Culture::INVARIANT),
        'R' | 'r' => custom(at, "ddd, dd MMM yyyy HH':'mm':'ss 'GMT'", Culture::INVARIANT),
        's' => custom(at, "yyyy'-'MM'-'dd'T'HH':'mm':'ss", Culture::INVARIANT),
        't' => custom(at, culture.short_time, culture),
        'T' => custom(at, culture.long_time, culture),
        'u' => custom(at, "yyyy'-'MM'-'dd HH':'mm':'ss'Z'", Culture::INVARIANT),
        'Y' | 'y' => custom(at, culture.year_month, culture),
        _ => None,
    }
}

fn custom(at: DateTime, format: &str, culture: &Culture) -> Option<String> {
    let parts = at.parts();
    let year = parts.year + culture.years_ahead;
    let mut text = String::with_capacity(format.len() + 8);
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        // The meaning of a letter depends on how often it is repeated.
        let run = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            1 + std::iter::from_fn(|| chars.next_if_eq(&c)).count()
        };
        // Writing to a `String` cannot fail, so the results of `write!` are ignored below.
        match c {
            'd' => {
                let name = at.day_of_week();
                match run(&mut chars) {
                    count @ (1 | 2) => number(&mut text, i64::from(parts.day), count),
                    3 => text.push_str(culture.days_short[name]),
                    _ => text.push_str(culture.days[name]),
                }
            }
            'M' => {
                let name = parts.month as usize - 1;
                match run(&mut chars) {
                    count @ (1 | 2) => number(&mut text, i64::from(parts.month), count),
                    3 if has_day(format) => text.push_str(culture.months_short_in_date[name]),
                    3 => text.push_str(culture.months_short[name]),
                    _ if has_day(format) => text.push_str(culture.months_in_date[name]),
                    _ => text.push_str(culture.months[name]),
                }
            }
            'y' => match run(&mut chars) {
                count @ (1 | 2) => number(&mut text, year % 100, count),
                count => number(&mut text, year, count),
            },
            'h' => number(&mut text, (parts.hour + 11) % 12 + 1, run(&mut chars).min(2)),
            'H' => number(&mut text, parts.hour, run(&mut chars).min(2)),
            'm' => number(&mut text, parts.minute, run(&mut chars).min(2)),
            's' => number(&mut text, parts.second, run(&mut chars).min(2)),
            'f' | 'F' => {
                let count = run(&mut chars);
                if count > 7 {
                    return None;
                }
                let digits = format!("{:07}", parts.fraction);
                let digits = &digits[..count];
                if c == 'f' {
                    text.push_str(digits);
                } else {
                    let digits = digits.trim_end_matches('0');
                    // If no digit remains, the decimal point before it is removed too.
                    if digits.is_empty() && text.ends_with('.') {
                        text.pop();
                    }
                    text.push_str(digits);
                }
            }
            't' => {
                let designator = if parts.hour < 12 { culture.am } else { culture.pm };
                match run(&mut chars) {
                    1 => text.extend(designator.chars().next()),
                    _ => text.push_str(designator),
                }
            }
            'z' => text.push_str(match run(&mut chars) {
                1 => "+0",
                2 => "+00",
                _ => "+00:00",
            }),
            'K' => match at.zone {
                Zone::Utc => text.push('Z'),
                Zone::Offset => text.push_str("+00:00"),
                Zone::Unspecified => {}
            },
            'g' => {
                run(&mut chars);
                text.push_str(era(culture));
            }
            ':' => text.push_str(culture.time_separator),
            '/' => text.push_str(culture.date_separator),
            '\'' | '"' => loop {
                match chars.next()? {
                    end if end == c => break,
                    '\\' => text.push(chars.next()?),
                    literal => text.push(literal),
                }
            },
            '\\' => text.push(chars.next()?),
            // `%` applies to the next letter alone, so `%MM` is the number of the month twice.
            '%' => match chars.next() {
                None | Some('%') => return None,
                Some(single) => text.push_str(&custom(at, single.encode_utf8(&mut [0; 4]), culture)?),
            },
            literal => text.push(literal),
        }
    }
    Some(text)
}

/// Whether a format contains the day of the month, next to which the names of months may have a different form.
fn has_day(format: &str) -> bool {
    let mut rest = format;
    while let Some(start) = rest.find('d') {
        let after = rest[start..].trim_start_matches('d');
        if rest.len() - start - after.len() <= 2 {
            return true;
        }
        rest = after;
    }
    false
}

/// The name of the era in a culture.
pub(super) fn era(culture: &Culture) -> &'static str {
    if culture.years_ahead == 543 { "พ.ศ." } else { "A.D." }
}

fn number(text: &mut String, value: i64, width: usize) {
    let _ = write!(text, "{value:0width$}");
}
