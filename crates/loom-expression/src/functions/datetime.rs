//! Date and time functions. Timestamps are strings; the current time comes from the context.

use super::{Arguments, Body, Category, Function, Outcome, ex, ex_in, string::culture};
use crate::{
    Value,
    culture::Culture,
    error::Failure,
    time::{self, DateTime, Unit},
};

const fn time_of(
    name: &'static str,
    arity: (usize, usize),
    body: fn(&mut Arguments<'_>) -> Outcome,
) -> Function {
    Function::new(Category::DateTime, name, arity, Body::Plain(body))
}

const NOW: &str = r#"{"now": "2018-03-01T10:30:00Z"}"#;

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    time_of("utcNow", (0, 1), |arguments| now_at(arguments, 0, Unit::Ticks(0), 0)).impure().docs(
        "utcNow(format?: string) → string",
        "Returns the current time in UTC.",
    ).examples(&[ex_in(NOW, "@utcNow()", r#""2018-03-01T10:30:00.0000000Z""#), ex_in(NOW, "@utcNow('D')", r#""Thursday, March 1, 2018""#)]),
    time_of("addSeconds", (2, 3), |arguments| add(arguments, Unit::find("second"))).docs(
        "addSeconds(timestamp: string, seconds: integer, format?: string) → string",
        "Adds seconds to a timestamp. A negative number subtracts them.",
    ).examples(&[ex("@addSeconds('2018-03-15T00:00:30Z', -5)", r#""2018-03-15T00:00:25.0000000Z""#)]),
    time_of("addMinutes", (2, 3), |arguments| add(arguments, Unit::find("minute"))).docs(
        "addMinutes(timestamp: string, minutes: integer, format?: string) → string",
        "Adds minutes to a timestamp. A negative number subtracts them.",
    ).examples(&[ex("@addMinutes('2018-03-15T00:15:00Z', 15)", r#""2018-03-15T00:30:00.0000000Z""#)]),
    time_of("addHours", (2, 3), |arguments| add(arguments, Unit::find("hour"))).docs(
        "addHours(timestamp: string, hours: integer, format?: string) → string",
        "Adds hours to a timestamp. A negative number subtracts them.",
    ).examples(&[ex("@addHours('2018-03-15T15:00:00Z', -5)", r#""2018-03-15T10:00:00.0000000Z""#)]),
    time_of("addDays", (2, 3), |arguments| add(arguments, Unit::find("day"))).docs(
        "addDays(timestamp: string, days: integer, format?: string) → string",
        "Adds days to a timestamp. A negative number subtracts them.",
    ).examples(&[ex("@addDays('2018-03-15T00:00:00Z', 10, 'yyyy-MM-dd')", r#""2018-03-25""#), ex("@addDays('not a date', 1)", "error")]),
    time_of("addToTime", (3, 4), |arguments| shift(arguments, 1)).docs(
        "addToTime(timestamp: string, count: integer, unit: string, format?: string) → string",
        "Adds time units to a timestamp: Second, Minute, Hour, Day, Week, Month or Year. If the resulting month is too short for the day, the result is its last day.",
    ).examples(&[ex("@addToTime('2018-01-31T00:00:00Z', 1, 'Month')", r#""2018-02-28T00:00:00.0000000Z""#)]),
    time_of("subtractFromTime", (3, 4), |arguments| shift(arguments, -1)).docs(
        "subtractFromTime(timestamp: string, count: integer, unit: string, format?: string) → string",
        "Subtracts time units from a timestamp. See addToTime for the units.",
    ).examples(&[ex("@subtractFromTime('2018-01-02T00:00:00Z', 1, 'Day', 'D')", r#""Monday, January 1, 2018""#)]),
    time_of("getFutureTime", (2, 3), |arguments| from_now(arguments, 1)).impure().docs(
        "getFutureTime(count: integer, unit: string, format?: string) → string",
        "Returns the current time plus the given number of time units. See addToTime for the units.",
    ).examples(&[ex_in(NOW, "@getFutureTime(5, 'Day')", r#""2018-03-06T10:30:00.0000000Z""#)]),
    time_of("getPastTime", (2, 3), |arguments| from_now(arguments, -1)).impure().docs(
        "getPastTime(count: integer, unit: string, format?: string) → string",
        "Returns the current time minus the given number of time units. See addToTime for the units.",
    ).examples(&[ex_in(NOW, "@getPastTime(1, 'Month', 'yyyy-MM-dd')", r#""2018-02-01""#)]),
    time_of("startOfHour", (1, 2), |arguments| start_of(arguments, 3_600 * time::TICKS_PER_SECOND)).docs(
        "startOfHour(timestamp: string, format?: string) → string",
        "Returns the start of the hour of a timestamp.",
    ).examples(&[ex("@startOfHour('2018-03-15T13:30:30Z')", r#""2018-03-15T13:00:00.0000000Z""#)]),
    time_of("startOfDay", (1, 2), |arguments| start_of(arguments, time::TICKS_PER_DAY)).docs(
        "startOfDay(timestamp: string, format?: string) → string",
        "Returns the start of the day of a timestamp.",
    ).examples(&[ex("@startOfDay('2018-03-15T13:30:30Z')", r#""2018-03-15T00:00:00.0000000Z""#)]),
    time_of("startOfMonth", (1, 2), start_of_month).docs(
        "startOfMonth(timestamp: string, format?: string) → string",
        "Returns the start of the month of a timestamp.",
    ).examples(&[ex("@startOfMonth('2018-03-15T13:30:30Z')", r#""2018-03-01T00:00:00.0000000Z""#)]),
    time_of("dayOfWeek", (1, 1), |arguments| Ok(Value::from(timestamp(arguments, 0)?.day_of_week() as i64))).docs(
        "dayOfWeek(timestamp: string) → integer",
        "Returns the day of the week of a timestamp, where Sunday is 0.",
    ).examples(&[ex("@dayOfWeek('2018-03-15T13:27:36Z')", "4")]),
    time_of("dayOfMonth", (1, 1), |arguments| Ok(Value::from(timestamp(arguments, 0)?.parts().day))).docs(
        "dayOfMonth(timestamp: string) → integer",
        "Returns the day of the month of a timestamp, starting at 1.",
    ).examples(&[ex("@dayOfMonth('2018-03-15T13:27:36Z')", "15")]),
    time_of("dayOfYear", (1, 1), |arguments| Ok(Value::from(timestamp(arguments, 0)?.day_of_year()))).docs(
        "dayOfYear(timestamp: string) → integer",
        "Returns the day of the year of a timestamp, starting at 1.",
    ).examples(&[ex("@dayOfYear('2018-03-15T13:27:36Z')", "74")]),
    time_of("ticks", (1, 1), |arguments| Ok(Value::from(timestamp(arguments, 0)?.ticks))).docs(
        "ticks(timestamp: string) → integer",
        "Returns the number of 100-nanosecond ticks between January 1, 0001 00:00:00 and a timestamp.",
    ).examples(&[ex("@ticks('0001-01-01T00:00:01Z')", "10000000")]),
    time_of("dateDifference", (2, 2), date_difference).docs(
        "dateDifference(start: string, end: string) → string",
        "Returns the difference between two timestamps as a time span: `[-][days.]hours:minutes:seconds[.fraction]`.",
    ).examples(&[ex("@dateDifference('2015-02-08', '2018-07-30')", r#""1268.00:00:00""#), ex("@dateDifference('2018-01-01T01:00:00Z', '2018-01-01T00:00:00Z')", r#""-01:00:00""#)]),
    time_of("convertFromUtc", (2, 3), convert_from_utc).docs(
        "convertFromUtc(timestamp: string, zone: string, format?: string) → string",
        "Converts a UTC timestamp to the local time of a time zone, given by its Windows name, such as 'Pacific Standard Time'. Daylight saving time is applied.",
    ).examples(&[ex("@convertFromUtc('2018-07-01T08:00:00Z', 'W. Europe Standard Time', 'HH:mm')", r#""10:00""#), ex("@convertFromUtc('2018-07-01T08:00:00Z', 'Pacific Standard Time')", r#""2018-07-01T01:00:00.0000000""#)]),
    time_of("convertToUtc", (2, 3), convert_to_utc).docs(
        "convertToUtc(timestamp: string, zone: string, format?: string) → string",
        "Converts a local time in a time zone to UTC. A time that is skipped when clocks go forward is an error; a time that occurs twice when clocks go back is read as standard time.",
    ).examples(&[ex("@convertToUtc('01/01/2018 00:00:00', 'Pacific Standard Time')", r#""2018-01-01T08:00:00.0000000Z""#)]),
    time_of("convertTimeZone", (3, 4), convert_time_zone).docs(
        "convertTimeZone(timestamp: string, from: string, to: string, format?: string) → string",
        "Converts a local time from one time zone to another.",
    ).examples(&[ex("@convertTimeZone('2018-01-01T08:00:00.0000000Z', 'UTC', 'Pacific Standard Time')", r#""2018-01-01T00:00:00.0000000""#)]),
    time_of("formatDateTime", (1, 3), format_date_time).docs(
        "formatDateTime(timestamp: string, format?: string, locale?: string) → string",
        "Formats a timestamp with a standard format (one letter, such as D) or a custom format (such as yyyy-MM-dd), using the names of days and months of the locale.",
    ).examples(&[ex("@formatDateTime('2018-03-15', '')", "error"), ex("@formatDateTime('01/31/2016', 'dddd MMMM d', 'fr-fr')", r#""dimanche janvier 31""#), ex("@formatDateTime('03/15/2018')", r#""2018-03-15T00:00:00.0000000""#)]),
    time_of("parseDateTime", (1, 3), parse_date_time).docs(
        "parseDateTime(text: string, locale?: string, format?: string) → string",
        "Parses a timestamp written in the locale's formats or, if a format is given, in exactly that format.",
    ).examples(&[ex("@parseDateTime('20 octobre 2010', 'fr-FR')", r#""2010-10-20T00:00:00.0000000""#), ex("@parseDateTime('20190521', 'fr-fr', 'yyyyMMdd')", r#""2019-05-21T00:00:00.0000000""#)]),
    time_of("formatTimeSpan", (1, 3), format_time_span).docs(
        "formatTimeSpan(span: string, format?: string, locale?: string) → string",
        "Formats a time span, such as one returned by dateDifference, with the format c, g or G or a custom format.",
    ).examples(&[ex("@formatTimeSpan('1.02:03:04', 'G')", r#""1:02:03:04.0000000""#), ex("@formatTimeSpan('02:03:04', 'hh\\:mm')", r#""02:03""#)]),
];

fn timestamp(arguments: &Arguments<'_>, at: usize) -> Result<DateTime, Failure> {
    time::parse(arguments.str(at)?)
        .ok_or_else(|| arguments.not_convertible(at, "expected a timestamp, such as 2026-11-24T17:00:00Z"))
}

/// Formats the timestamp with the format argument, if there is one.
fn print(arguments: &Arguments<'_>, stamp: DateTime, at: usize) -> Outcome {
    print_in(arguments, stamp, at, Culture::EN_US)
}

fn print_in(arguments: &Arguments<'_>, stamp: DateTime, at: usize, culture: &Culture) -> Outcome {
    let format = arguments.opt_str(at)?.unwrap_or("o");
    arguments.check_text_bytes(format.len().saturating_mul(8))?;
    time::format(stamp, format, culture).map(Value::from).ok_or_else(|| {
        arguments.bad(
            at,
            "unknown date format; use a standard format such as 'D' or a custom one such as 'yyyy-MM-dd'",
        )
    })
}

fn add(arguments: &mut Arguments<'_>, unit: Option<Unit>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    shifted(arguments, stamp, arguments.int(1)?, unit.unwrap_or(Unit::Ticks(0)), 1, 2)
}

/// Shifts a timestamp and formats it. `count_at` and `format_at` are the indexes of these arguments.
fn shifted(
    arguments: &Arguments<'_>,
    stamp: DateTime,
    count: i64,
    unit: Unit,
    count_at: usize,
    format_at: usize,
) -> Outcome {
    let late = stamp
        .add(count, unit)
        .ok_or_else(|| arguments.bad(count_at, "the result must be between the years 1 and 9999"))?;
    print(arguments, late, format_at)
}

fn unit(arguments: &Arguments<'_>, at: usize) -> Result<Unit, Failure> {
    Unit::find(arguments.str(at)?).ok_or_else(|| {
        arguments.bad(at, "unknown time unit; use Second, Minute, Hour, Day, Week, Month or Year")
    })
}

fn count(arguments: &Arguments<'_>, at: usize, sign: i64) -> Result<i64, Failure> {
    arguments.int(at)?.checked_mul(sign).ok_or_else(|| arguments.bad(at, "the number is too large"))
}

fn shift(arguments: &mut Arguments<'_>, sign: i64) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    shifted(arguments, stamp, count(arguments, 1, sign)?, unit(arguments, 2)?, 1, 3)
}

fn from_now(arguments: &mut Arguments<'_>, sign: i64) -> Outcome {
    now_at(arguments, count(arguments, 0, sign)?, unit(arguments, 1)?, 2)
}

fn now_at(arguments: &mut Arguments<'_>, count: i64, unit: Unit, format_at: usize) -> Outcome {
    let now = DateTime::utc(arguments.context.now());
    shifted(arguments, now, count, unit, 0, format_at)
}

fn start_of(arguments: &mut Arguments<'_>, ticks: i64) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    print(arguments, DateTime { ticks: stamp.ticks - stamp.ticks % ticks, ..stamp }, 1)
}

fn start_of_month(arguments: &mut Arguments<'_>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    let into = i64::from(stamp.parts().day - 1) * time::TICKS_PER_DAY + stamp.ticks % time::TICKS_PER_DAY;
    print(arguments, DateTime { ticks: stamp.ticks - into, ..stamp }, 1)
}

fn date_difference(arguments: &mut Arguments<'_>) -> Outcome {
    let (start, end) = (timestamp(arguments, 0)?, timestamp(arguments, 1)?);
    Ok(Value::from(time::span_text(end.ticks - start.ticks)))
}

fn into_zone(arguments: &Arguments<'_>, stamp: DateTime, at: usize) -> Result<DateTime, Failure> {
    time::from_utc(stamp, arguments.str(at)?).map_err(|why| arguments.bad(at, &why))
}

fn convert_from_utc(arguments: &mut Arguments<'_>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    print(arguments, into_zone(arguments, stamp, 1)?, 2)
}

fn convert_to_utc(arguments: &mut Arguments<'_>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    let utc = time::to_utc(stamp, arguments.str(1)?).map_err(|why| arguments.bad(1, &why))?;
    print(arguments, utc, 2)
}

fn convert_time_zone(arguments: &mut Arguments<'_>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    let utc = time::to_utc(stamp, arguments.str(1)?).map_err(|why| arguments.bad(1, &why))?;
    print(arguments, into_zone(arguments, utc, 2)?, 3)
}

fn format_date_time(arguments: &mut Arguments<'_>) -> Outcome {
    let stamp = timestamp(arguments, 0)?;
    print_in(arguments, stamp, 1, culture(arguments, 2)?)
}

fn parse_date_time(arguments: &mut Arguments<'_>) -> Outcome {
    let culture = culture(arguments, 1)?;
    let text = arguments.str(0)?;
    let stamp = match arguments.opt_str(2)? {
        Some(format) => time::parse_exact(text, format, culture).ok_or_else(|| {
            arguments.not_convertible(0, &format!("expected a timestamp in the format '{format}'"))
        })?,
        None => time::parse_with(text, culture).ok_or_else(|| {
            arguments.not_convertible(
                0,
                &format!("expected a timestamp in a format of the locale {}", culture.name),
            )
        })?,
    };
    print(arguments, stamp, arguments.len())
}

fn format_time_span(arguments: &mut Arguments<'_>) -> Outcome {
    let culture = culture(arguments, 2)?;
    let span = time::parse_span(arguments.str(0)?)
        .ok_or_else(|| arguments.not_convertible(0, "expected a time span, such as 1.02:03:04"))?;
    let format = arguments.opt_str(1)?.unwrap_or_default();
    time::format_span(span, format, culture)
        .map(Value::from)
        .ok_or_else(|| arguments.bad(1, "unknown time span format; use c, g, G or a custom format"))
}
