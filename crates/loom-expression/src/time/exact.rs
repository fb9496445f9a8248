//! Parses timestamps in an exact custom format.

use super::{
    DateTime, Parts, TICKS_PER_SECOND, Zone,
    format::era,
    parse::{OFFSET_MINUTES_MAX, fraction},
};
use crate::culture::Culture;

/// Parses a timestamp in exactly the given format. A standard format stands for its pattern.
pub(crate) fn parse_exact(text: &str, format: &str, culture: &Culture) -> Option<DateTime> {
    let joined = |left: &str, right: &str| format!("{left} {right}");
    let pattern = match format {
        "d" => culture.short_date.to_owned(),
        "D" => culture.long_date.to_owned(),
        "f" => joined(culture.long_date, culture.short_time),
        "F" | "U" => joined(culture.long_date, culture.long_time),
        "g" => joined(culture.short_date, culture.short_time),
        "G" => joined(culture.short_date, culture.long_time),
        "M" | "m" => culture.month_day.to_owned(),
        "O" | "o" => "yyyy-MM-ddTHH:mm:ss.fffffffK".to_owned(),
        "R" | "r" => "ddd, dd MMM yyyy HH:mm:ss 'GMT'".to_owned(),
        "s" => "yyyy-MM-ddTHH:mm:ss".to_owned(),
        "t" => culture.short_time.to_owned(),
        "T" => culture.long_time.to_owned(),
        "u" => "yyyy-MM-dd HH:mm:ss'Z'".to_owned(),
        "Y" | "y" => culture.year_month.to_owned(),
        custom if custom.chars().count() > 1 => custom.to_owned(),
        _ => return None,
    };
    let of_machines = matches!(format, "O" | "o" | "R" | "r" | "s" | "u");
    let culture = if of_machines { Culture::INVARIANT } else { culture };
    let mut found = Found::default();
    found.read(text, &pattern, culture)?;
    if format == "U" {
        found.zone = Some(Zone::Utc);
    }
    found.finish(culture.years_ahead)
}

#[derive(Default)]
struct Found {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    weekday: Option<usize>,
    hour: i64,
    /// Whether the hour is on a 12-hour clock.
    of_twelve: bool,
    half: Option<i64>,
    minute: i64,
    second: i64,
    fraction: i64,
    zone: Option<Zone>,
    offset_minutes: i64,
}

/// Removes `min` to `max` digits from the start of the text and returns their number.
fn digits(rest: &mut &str, min: usize, max: usize) -> Option<i64> {
    let count = rest.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if count < min {
        return None;
    }
    let (number, after) = rest.split_at(count);
    *rest = after;
    number.parse().ok()
}

/// Removes the longest matching name from the start of the text, ignoring case, and returns its index.
fn name(rest: &mut &str, names: &[&str]) -> Option<usize> {
    let starts = |name: &&str| {
        let mut left = rest.chars();
        name.chars().all(|c| {
            left.next().is_some_and(|other| crate::value::fold_char(other) == crate::value::fold_char(c))
        })
    };
    let (at, name) = names
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty() && starts(name))
        .max_by_key(|(_, name)| name.len())?;
    let length: usize = rest.chars().take(name.chars().count()).map(char::len_utf8).sum();
    *rest = &rest[length..];
    Some(at)
}

/// Removes the name of a month, in either form of the culture or in English, from the start of the text, and returns the
/// number of the month.
fn month(rest: &mut &str, alone: &[&str; 12], in_date: &[&str; 12], english: &[&str; 12]) -> Option<i64> {
    let all: Vec<&str> = alone.iter().chain(in_date).chain(english).copied().collect();
    Some(name(rest, &all)? as i64 % 12 + 1)
}

fn literal(rest: &mut &str, text: &str) -> Option<()> {
    *rest = rest.strip_prefix(text)?;
    Some(())
}

impl Found {
    fn read(&mut self, text: &str, pattern: &str, culture: &Culture) -> Option<()> {
        let mut rest = text;
        let english = Culture::EN_US;
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let mut run = || 1 + std::iter::from_fn(|| chars.next_if_eq(&c)).count();
            match c {
                'y' => {
                    let count = run();
                    let value = if count <= 2 {
                        digits(&mut rest, count, 2)?
                    } else {
                        digits(&mut rest, count, count.max(4))?
                    };
                    let century = if value < 50 { 2000 } else { 1900 };
                    self.year = Some(if count <= 2 { century + value } else { value });
                }
                'M' => {
                    self.month = Some(match run() {
                        count @ (1 | 2) => digits(&mut rest, count, 2)?,
                        3 => month(
                            &mut rest,
                            &culture.months_short,
                            &culture.months_short_in_date,
                            &english.months_short,
                        )?,
                        _ => month(&mut rest, &culture.months, &culture.months_in_date, &english.months)?,
                    });
                }
                'd' => match run() {
                    count @ (1 | 2) => self.day = Some(digits(&mut rest, count, 2)?),
                    3 => self.weekday = Some(name(&mut rest, &culture.days_short)?),
                    _ => self.weekday = Some(name(&mut rest, &culture.days)?),
                },
                'H' => self.hour = digits(&mut rest, run().min(2), 2)?,
                'h' => {
                    self.of_twelve = true;
                    self.hour = digits(&mut rest, run().min(2), 2).filter(|hour| (0..=12).contains(hour))?;
                }
                'm' => self.minute = digits(&mut rest, run().min(2), 2)?,
                's' => self.second = digits(&mut rest, run().min(2), 2)?,
                'f' | 'F' => {
                    let count = run();
                    let length = rest.bytes().take(count).take_while(u8::is_ascii_digit).count();
                    if count > 7 || (c == 'f' && length < count) {
                        return None;
                    }
                    if length > 0 {
                        self.fraction = fraction(&rest[..length])?;
                        rest = &rest[length..];
                    }
                }
                't' => {
                    let short = run() == 1;
                    let cut = |designator: &'static str| {
                        let end = designator.char_indices().nth(1).map_or(designator.len(), |(at, _)| at);
                        if short { &designator[..end] } else { designator }
                    };
                    self.half = Some(12 * name(&mut rest, &[cut(culture.am), cut(culture.pm)])? as i64);
                }
                'z' => {
                    let count = run();
                    self.read_offset(&mut rest, count)?;
                }
                'K' => {
                    run();
                    if let Some(after) = rest.strip_prefix('Z') {
                        rest = after;
                        self.zone = Some(Zone::Utc);
                    } else if rest.starts_with(['+', '-']) {
                        self.read_offset(&mut rest, 3)?;
                    }
                }
                // Besides the culture's separators, `:` and `/` are accepted as written in the format.
                ':' => literal(&mut rest, ":").or_else(|| literal(&mut rest, culture.time_separator))?,
                '/' => literal(&mut rest, "/").or_else(|| literal(&mut rest, culture.date_separator))?,
                '\'' | '"' => loop {
                    match chars.next()? {
                        end if end == c => break,
                        quoted => literal(&mut rest, quoted.encode_utf8(&mut [0; 4]))?,
                    }
                },
                '\\' => literal(&mut rest, chars.next()?.encode_utf8(&mut [0; 4]))?,
                '%' => {}
                'g' => {
                    run();
                    literal(&mut rest, era(culture))?;
                }
                other => literal(&mut rest, other.encode_utf8(&mut [0; 4]))?,
            }
        }
        rest.is_empty().then_some(())
    }

    fn read_offset(&mut self, rest: &mut &str, count: usize) -> Option<()> {
        let sign = if rest.starts_with('-') { -1 } else { 1 };
        *rest = rest.strip_prefix(['+', '-'])?;
        let hours = digits(rest, 1, 2)?;
        let minutes = if count >= 3 {
            *rest = rest.strip_prefix(':').unwrap_or(rest);
            digits(rest, 2, 2)?
        } else {
            0
        };
        if hours * 60 + minutes > OFFSET_MINUTES_MAX || minutes > 59 {
            return None;
        }
        self.zone = Some(Zone::Offset);
        self.offset_minutes = sign * (hours * 60 + minutes);
        Some(())
    }

    fn finish(self, years_ahead: i64) -> Option<DateTime> {
        let hour = match self.half {
            half if self.of_twelve => self.hour % 12 + half.unwrap_or(0),
            // An hour on a 24-hour clock must agree with AM or PM.
            Some(half) if (self.hour >= 12) != (half == 12) => return None,
            _ => self.hour,
        };
        let parts = Parts {
            // .NET would assume the current year, but parsing must not depend on a clock.
            year: self.year? - years_ahead,
            month: u32::try_from(self.month.unwrap_or(1)).ok()?,
            day: u32::try_from(self.day.unwrap_or(1)).ok()?,
            hour,
            minute: self.minute,
            second: self.second,
            fraction: self.fraction,
        };
        let zone = self.zone.unwrap_or(Zone::Unspecified);
        let local = DateTime::from_parts(parts, zone)?;
        if self.weekday.is_some_and(|weekday| weekday != local.day_of_week()) {
            return None;
        }
        DateTime::at(local.ticks - self.offset_minutes * 60 * TICKS_PER_SECOND, zone)
    }
}
