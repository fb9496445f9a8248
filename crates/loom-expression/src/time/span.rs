//! Parses and formats time spans: `[-][d.]hh:mm:ss[.fffffff]` and .NET's other formats.

use std::fmt::Write as _;

use super::{TICKS_PER_DAY, TICKS_PER_SECOND};
use crate::culture::Culture;

/// Formats a time span in the constant format `c`.
pub(crate) fn span_text(ticks: i64) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    let parts = Span::of(ticks);
    let days = if parts.days > 0 { format!("{}.", parts.days) } else { String::new() };
    let fraction = if parts.fraction > 0 { format!(".{:07}", parts.fraction) } else { String::new() };
    format!("{sign}{days}{:02}:{:02}:{:02}{fraction}", parts.hours, parts.minutes, parts.seconds)
}

struct Span {
    days: u64,
    hours: u64,
    minutes: u64,
    seconds: u64,
    fraction: u64,
}

impl Span {
    fn of(ticks: i64) -> Self {
        let (ticks, second, day) = (ticks.unsigned_abs(), TICKS_PER_SECOND as u64, TICKS_PER_DAY as u64);
        let seconds = ticks % day / second;
        Self {
            days: ticks / day,
            hours: seconds / 3_600,
            minutes: seconds / 60 % 60,
            seconds: seconds % 60,
            fraction: ticks % second,
        }
    }
}

/// Parses `[-][d.]hh:mm[:ss[.f]]`, or a number of days alone.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number = |digits: &str, limit: i64| -> Option<i64> {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().filter(|&value| value < limit)
    };
    let (days, clock) = match text.split_once(':') {
        None => (number(text, 10_675_200)?, None),
        Some((head, rest)) => match head.split_once('.') {
            Some((days, hours)) => (number(days, 10_675_200)?, Some((hours, rest))),
            None => (0, Some((head, rest))),
        },
    };
    let mut ticks = days.checked_mul(TICKS_PER_DAY)?;
    if let Some((hours, rest)) = clock {
        let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
        let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
        let seconds = number(hours, 24)? * 3_600 + number(minutes, 60)? * 60 + number(seconds, 60)?;
        let fraction = if fraction.len() > 7 { return None } else { super::parse::fraction(fraction)? };
        ticks = ticks.checked_add(seconds * TICKS_PER_SECOND + fraction)?;
    }
    Some(if negative { -ticks } else { ticks })
}

/// Formats a time span with a standard (`c`, `g`, `G`) or custom format; `None` if the format does not exist.
pub(crate) fn format_span(ticks: i64, format: &str, culture: &Culture) -> Option<String> {
    let sign = if ticks < 0 { "-" } else { "" };
    let parts = Span::of(ticks);
    let clock = |width: usize| format!("{:0width$}:{:02}:{:02}", parts.hours, parts.minutes, parts.seconds);
    match format {
        "" | "c" | "t" | "T" => return Some(span_text(ticks)),
        "g" => {
            let days = if parts.days > 0 { format!("{}:", parts.days) } else { String::new() };
            let digits = format!("{:07}", parts.fraction);
            let digits = digits.trim_end_matches('0');
            let point = if digits.is_empty() { "" } else { culture.decimal };
            return Some(format!("{sign}{days}{}{point}{digits}", clock(1)));
        }
        "G" => {
            return Some(format!(
                "{sign}{}:{}{}{:07}",
                parts.days,
                clock(2),
                culture.decimal,
                parts.fraction
            ));
        }
        single if single.chars().count() == 1 => return None,
        _ => {}
    }
    let mut text = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        let mut run = || 1 + std::iter::from_fn(|| chars.next_if_eq(&c)).count();
        match c {
            'd' => {
                let _ = write!(text, "{:0width$}", parts.days, width = run().min(8));
            }
            'h' | 'm' | 's' => {
                let width = run();
                let value = match c {
                    'h' => parts.hours,
                    'm' => parts.minutes,
                    _ => parts.seconds,
                };
                if width > 2 {
                    return None;
                }
                let _ = write!(text, "{value:0width$}");
            }
            'f' | 'F' => {
                let width = run();
                let digits = format!("{:07}", parts.fraction);
                let digits = digits.get(..width)?;
                text.push_str(if c == 'f' { digits } else { digits.trim_end_matches('0') });
            }
            '\'' | '"' => loop {
                match chars.next()? {
                    end if end == c => break,
                    literal => text.push(literal),
                }
            },
            '\\' => text.push(chars.next()?),
            '%' => {}
            // Unlike formats of dates, those of time spans must quote or escape literal characters.
            _ => return None,
        }
    }
    Some(text)
}
