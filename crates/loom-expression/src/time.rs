//! `DateTime`: a timestamp of the language, which is a date and time with what is known about its zone.

mod exact;
mod format;
mod parse;
mod span;
mod zones;

pub use self::zones::{iana_time_zone, is_time_zone};
pub(crate) use self::{
    exact::parse_exact,
    format::format,
    parse::{parse, parse_with},
    span::{format_span, parse_span, span_text},
    zones::{from_utc, to_utc},
};
use crate::{
    Timestamp,
    context::{civil_from_days, days_from_civil},
};

pub(crate) const TICKS_PER_SECOND: i64 = Timestamp::TICKS_PER_SECOND;
pub(crate) const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;

/// What is known about the zone of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Written with `Z`.
    Utc,
    /// Written without a zone.
    Unspecified,
    /// Written with an offset and converted to UTC. It is formatted with the offset `+00:00`.
    Offset,
}

/// A date and a time of day in ticks of 100 ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateTime {
    /// Ticks since 0001-01-01T00:00:00, within the range of [`Timestamp`].
    pub(crate) ticks: i64,
    pub(crate) zone: Zone,
}

/// The parts of a date and a time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// The fraction of the second, in ticks.
    pub(crate) fraction: i64,
}

/// A unit of time that can be added to a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Ticks(i64),
    Months(i64),
}

impl Unit {
    /// The unit with this singular or plural name, ignoring case.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        Some(match lower.strip_suffix('s').unwrap_or(&lower) {
            "second" => Self::Ticks(TICKS_PER_SECOND),
            "minute" => Self::Ticks(60 * TICKS_PER_SECOND),
            "hour" => Self::Ticks(3_600 * TICKS_PER_SECOND),
            "day" => Self::Ticks(TICKS_PER_DAY),
            "week" => Self::Ticks(7 * TICKS_PER_DAY),
            "month" => Self::Months(1),
            "year" => Self::Months(12),
            _ => return None,
        })
    }
}

impl DateTime {
    pub(crate) fn utc(timestamp: Timestamp) -> Self {
        Self { ticks: timestamp.ticks(), zone: Zone::Utc }
    }

    /// From parts that are in their ranges; `None` if the month does not have the day or the time of day does not exist.
    pub(crate) fn from_parts(parts: Parts, zone: Zone) -> Option<Self> {
        let Parts { year, month, day, hour, minute, second, fraction } = parts;
        let valid = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        valid.then(|| seconds * TICKS_PER_SECOND + fraction).and_then(|ticks| Self::at(ticks, zone))
    }

    /// From ticks; `None` if they are out of range.
    pub(crate) fn at(ticks: i64, zone: Zone) -> Option<Self> {
        Timestamp::from_ticks(ticks).map(|at| Self { ticks: at.ticks(), zone })
    }

    pub(crate) fn parts(self) -> Parts {
        let (year, month, day) = civil_from_days(self.ticks / TICKS_PER_DAY);
        let in_day = self.ticks % TICKS_PER_DAY;
        let seconds = in_day / TICKS_PER_SECOND;
        Parts {
            year,
            month,
            day,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            fraction: in_day % TICKS_PER_SECOND,
        }
    }

    /// The day of the week, where Sunday is 0.
    pub(crate) fn day_of_week(self) -> usize {
        // 0001-01-01 was a Monday.
        ((self.ticks / TICKS_PER_DAY + 1) % 7) as usize
    }

    /// The day of the year, starting at 1.
    pub(crate) fn day_of_year(self) -> i64 {
        let parts = self.parts();
        days_from_civil(parts.year, parts.month, parts.day) - days_from_civil(parts.year, 1, 1) + 1
    }

    /// Adds `count` units; `None` if the result is out of range. If the month is too short for the day, the result is its
    /// last day.
    pub(crate) fn add(self, count: i64, unit: Unit) -> Option<Self> {
        match unit {
            Unit::Ticks(ticks) => Self::at(self.ticks.checked_add(count.checked_mul(ticks)?)?, self.zone),
            Unit::Months(months) => {
                let parts = self.parts();
                let months =
                    count.checked_mul(months)?.checked_add(parts.year * 12 + i64::from(parts.month) - 1)?;
                let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
                if !(1..=9999).contains(&year) {
                    return None;
                }
                let day = parts.day.min(days_in_month(year, month));
                Self::from_parts(Parts { year, month, day, ..parts }, self.zone)
            }
        }
    }
}

pub(crate) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Parses a timestamp to a point in time. A timestamp without a zone is UTC.
pub(crate) fn parse_utc(text: &str) -> Option<Timestamp> {
    Timestamp::from_ticks(parse(text)?.ticks)
}

#[cfg(test)]
mod tests;
