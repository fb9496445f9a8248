//! Durations: the grammar, milliseconds, and that printing and parsing agree.

use loom_expression::Value;
use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, months: u32, seconds: f64) {
    let span = Span::parse_iso8601(text).expect("it is a duration");
    assert_eq!((span.months, span.exact.as_secs_f64()), (months, seconds), "{text}");
}

#[test]
fn iso_8601_is_read() {
    check("PT20S", 0, 20.0);
    check("P1DT2H30M0.5S", 0, 95_400.5);
    check("P2W", 0, 1_209_600.0);
    check("P1Y2M", 14, 0.0);
    check("pt1m", 0, 60.0);
    check("P1M", 1, 0.0);
    check("PT0S", 0, 0.0);
}

#[test]
fn an_invalid_duration_is_an_error_with_a_reason() {
    for (text, reason) in [
        ("", "start with `P`"),
        ("20S", "start with `P`"),
        ("P", "a number after `P`"),
        ("PT", "a number after `T`"),
        ("P1H", "come after a `T`"),
        ("PT1.5M", "only seconds"),
        ("PT1S2M", "out of order"),
        ("PT1", "no unit"),
        ("P1X", "units must be"),
        ("PTS", "needs a number"),
        ("P-1D", "needs a number"),
        ("PT99999999999999999999S", "too large"),
    ] {
        let error = Span::parse_iso8601(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn numbers_are_milliseconds() {
    assert_eq!(Span::from_value(&Value::from(1_500)), Ok(Span::exact(Duration::from_millis(1_500))));
    assert_eq!(Span::from_value(&Value::from(0.5)), Ok(Span::exact(Duration::from_micros(500))));
    assert_eq!(Span::from_value(&Value::from("PT1S")), Ok(Span::exact(Duration::from_secs(1))));
    for wrong in [Value::from(-1), Value::from(-0.5), Value::from(f64::MAX), Value::from(true), Value::NULL] {
        assert!(Span::from_value(&wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn printing_then_parsing_is_identity(months in 0u32..100_000, seconds in 0u64..10_000_000_000, nanos in 0u32..1_000_000_000) {
        let span = Span { months, exact: Duration::new(seconds, nanos) };
        prop_assert_eq!(Span::parse_iso8601(&span.to_string()), Ok(span));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        drop(Span::parse_iso8601(&text));
    }
}
