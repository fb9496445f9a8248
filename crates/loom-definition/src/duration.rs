//! ISO 8601 durations, as definitions write them.

use std::{fmt, time::Duration};

use loom_expression::{Value, ValueRef};

use crate::diagnostic::json_type;

#[cfg(test)]
mod tests;

/// A duration whose calendar months are separate, because their length depends on when they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// Calendar months (a year is twelve).
    pub months: u32,
    /// Everything else: weeks, days of 24 hours, hours, minutes and seconds.
    pub exact: Duration,
}

impl Span {
    /// A span of `days` days of 24 hours.
    pub const fn from_days(days: u32) -> Span {
        Span { months: 0, exact: Duration::from_secs(days as u64 * 86_400) }
    }

    /// A span without months.
    pub const fn exact(exact: Duration) -> Span {
        Span { months: 0, exact }
    }

    /// The span as a plain duration, with 30 days for each month.
    pub fn approximate(self) -> Duration {
        self.exact.saturating_add(Duration::from_secs(u64::from(self.months) * 30 * 86_400))
    }

    /// Reads a duration from a value: an ISO 8601 string, or a non-negative number of milliseconds, which may have a
    /// fraction.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn from_value(value: &Value) -> Result<Span, String> {
        let milliseconds = match value.as_ref() {
            ValueRef::String(text) => {
                return Span::parse_iso8601(text.trim()).map_err(|invalid| invalid.to_string());
            }
            ValueRef::Int(whole) => {
                let whole = u64::try_from(whole)
                    .map_err(|_| format!("a duration must not be negative (got {whole} ms)"))?;
                return Ok(Span::exact(Duration::from_millis(whole)));
            }
            ValueRef::Float(float) => float,
            ValueRef::Decimal(_) => value.to_json_text().parse().unwrap_or(f64::NAN),
            _ => {
                return Err(format!(
                    "expected an ISO 8601 duration or milliseconds, found {}",
                    json_type(value)
                ));
            }
        };
        Duration::try_from_secs_f64(milliseconds / 1_000.0)
            .map(Span::exact)
            .map_err(|_| format!("a duration must not be negative or too long (got {milliseconds} ms)"))
    }

    /// Parses an ISO 8601 duration such as `P1DT2H30M0.5S`, `PT20S` or `P2W`, ignoring case. Only seconds may have a
    /// fraction; digits after the ninth are ignored.
    ///
    /// # Errors
    /// [`InvalidDuration`] with the reason.
    pub fn parse_iso8601(text: &str) -> Result<Span, InvalidDuration> {
        let error = |reason| InvalidDuration { text: text.to_owned(), reason };
        let rest = text.strip_prefix(['P', 'p']).ok_or_else(|| error("it must start with `P`"))?;
        if rest.is_empty() {
            return Err(error("expected a number after `P`"));
        }
        let mut span = Span::default();
        let mut in_time = false;
        let mut last_rank = 0;
        let mut any = false;
        let mut rest = rest;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix(['T', 't']) {
                if in_time {
                    return Err(error("it has more than one `T`"));
                }
                if tail.is_empty() {
                    return Err(error("expected a number after `T`"));
                }
                in_time = true;
                rest = tail;
                continue;
            }
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let unit = tail.chars().next().ok_or_else(|| error("a number has no unit"))?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
                return Err(error("a unit needs a number before it"));
            }
            let unit_upper = unit.to_ascii_uppercase();
            if number.contains('.') && !(in_time && unit_upper == 'S') {
                return Err(error("only seconds may have a fraction"));
            }
            let count: u64 = whole.parse().map_err(|_| error("a number is too large"))?;
            let (rank, seconds) = match (in_time, unit_upper) {
                (false, 'Y') => (1, None),
                (false, 'M') => (2, None),
                (false, 'W') => (3, Some(604_800)),
                (false, 'D') => (4, Some(86_400)),
                (true, 'H') => (5, Some(3_600)),
                (true, 'M') => (6, Some(60)),
                (true, 'S') => (7, Some(1)),
                (false, 'H' | 'S') => return Err(error("hours, minutes and seconds must come after a `T`")),
                _ => return Err(error("units must be Y, M, W or D, and after a `T`, H, M or S")),
            };
            if rank <= last_rank {
                return Err(error("its units are out of order"));
            }
            last_rank = rank;
            any = true;
            let overflow = || error("it is too long");
            match seconds {
                None => {
                    let months = count.checked_mul(if rank == 1 { 12 } else { 1 }).ok_or_else(overflow)?;
                    let months = u32::try_from(months).map_err(|_| overflow())?;
                    span.months = span.months.checked_add(months).ok_or_else(overflow)?;
                }
                Some(unit_seconds) => {
                    let seconds = count.checked_mul(unit_seconds).ok_or_else(overflow)?;
                    let nanos = fraction_nanos(fraction);
                    let part = Duration::new(seconds, nanos);
                    span.exact = span.exact.checked_add(part).ok_or_else(overflow)?;
                }
            }
            rest = &tail[unit.len_utf8()..];
        }
        if any { Ok(span) } else { Err(error("it has no unit")) }
    }
}

/// The first nine digits after the decimal point, as nanoseconds.
fn fraction_nanos(digits: &str) -> u32 {
    let mut nanos = 0;
    for place in 0..9 {
        let digit = digits.as_bytes().get(place).map_or(0, |byte| u32::from(byte - b'0'));
        nanos = nanos * 10 + digit;
    }
    nanos
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.months == 0 && self.exact.is_zero() {
            return f.write_str("PT0S");
        }
        f.write_str("P")?;
        if self.months > 0 {
            write!(f, "{}M", self.months)?;
        }
        let seconds = self.exact.as_secs();
        let (days, hours, minutes, rest) =
            (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        if days > 0 {
            write!(f, "{days}D")?;
        }
        let nanos = self.exact.subsec_nanos();
        if hours + minutes + rest > 0 || nanos > 0 {
            f.write_str("T")?;
        }
        if hours > 0 {
            write!(f, "{hours}H")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}M")?;
        }
        if nanos > 0 {
            let fraction = format!("{nanos:09}");
            write!(f, "{rest}.{}S", fraction.trim_end_matches('0'))?;
        } else if rest > 0 {
            write!(f, "{rest}S")?;
        }
        Ok(())
    }
}

/// A string that is not an ISO 8601 duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an ISO 8601 duration ({reason})")]
pub struct InvalidDuration {
    /// The string.
    pub text: String,
    /// Why it is invalid.
    pub reason: &'static str,
}
