use super::*;
use crate::culture::Culture;

fn check_parse(text: &str, expected: Option<&str>) {
    let printed = parse(text).and_then(|at| format(at, "o", Culture::INVARIANT));
    assert_eq!(printed.as_deref(), expected, "{text}");
}

#[test]
fn many_formats_are_parsed() {
    for (text, expected) in [
        ("2018-03-15", "2018-03-15T00:00:00.0000000"),
        ("2018-03-15T13:30", "2018-03-15T13:30:00.0000000"),
        ("2018-03-15 13:30:30.5Z", "2018-03-15T13:30:30.5000000Z"),
        ("2018-03-15T01:00:00+02:00", "2018-03-14T23:00:00.0000000+00:00"),
        ("2018-03-15T01:00:00-0530", "2018-03-15T06:30:00.0000000+00:00"),
        ("3/15/2018 1:05:00 PM", "2018-03-15T13:05:00.0000000"),
        ("3/15/2018 12:05 AM", "2018-03-15T00:05:00.0000000"),
        ("15 March 2018", "2018-03-15T00:00:00.0000000"),
        ("March 15, 2018", "2018-03-15T00:00:00.0000000"),
        ("Thu, 15 Mar 2018 10:00:00 GMT", "2018-03-15T10:00:00.0000000Z"),
        ("2018-03", "2018-03-01T00:00:00.0000000"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"),
        ("2018-3-5", "2018-03-05T00:00:00.0000000"),
    ] {
        check_parse(text, Some(expected));
    }
}

#[test]
fn invalid_timestamps_are_rejected() {
    for text in [
        "",
        "x",
        "2018-02-30",
        "2018-13-01",
        "25:00",
        "2018-01-01T25:00:00",
        "2018-01-01T00:00:61",
        "10:00",
        "5",
        "Fri, 15 Mar 2018",
        "2018-01-01T",
        "2018-01-01 10:00:00 ZZ",
        "15/03/2018",
        "1 2 3 4",
        "20180315",
    ] {
        check_parse(text, None);
    }
}

#[test]
fn adding_months_is_limited_to_the_last_day() {
    let add = |text: &str, count, unit: &str| {
        let at = parse(text)?.add(count, Unit::find(unit)?)?;
        format(at, "yyyy-MM-dd", Culture::INVARIANT)
    };
    assert_eq!(add("2020-02-29", 1, "Years").as_deref(), Some("2021-02-28"));
    assert_eq!(add("2018-01-31", 13, "month").as_deref(), Some("2019-02-28"));
    assert_eq!(add("2018-01-31", -2, "Month").as_deref(), Some("2017-11-30"));
    assert_eq!(add("9999-12-31", 1, "Day"), None);
    assert_eq!(add("0001-01-01", -1, "Second"), None);
    assert_eq!(add("2018-01-01", i64::MAX, "Week"), None);
}

#[test]
fn days_and_dates_are_inverse() {
    for days in (0..3_652_059).step_by(97).chain([0, 3_652_058]) {
        let (year, month, day) = civil_from_days(days);
        assert_eq!(days_from_civil(year, month, day), days);
    }
}

#[test]
fn daylight_saving_time_changes() {
    let to = |text: &str| {
        to_utc(parse(text).unwrap(), "Eastern Standard Time").map(|at| span_text(at.ticks % TICKS_PER_DAY))
    };
    assert!(to("2024-03-10T02:30:00").is_err());
    assert_eq!(to("2024-03-10T03:30:00").as_deref(), Ok("07:30:00"));
    // This local time occurs twice: standard time is five hours behind UTC.
    assert_eq!(to("2024-11-03T01:30:00").as_deref(), Ok("06:30:00"));
}

#[test]
fn spans_round_trip() {
    for text in ["00:00:00", "-1268.00:00:00", "2.01:00:05.0000001"] {
        assert_eq!(span_text(parse_span(text).unwrap()), text);
    }
    assert_eq!(
        format_span(parse_span("1.02:03:04.5").unwrap(), "d\\.hh'h'mm", Culture::EN_US).as_deref(),
        Some("1.02h03")
    );
}
