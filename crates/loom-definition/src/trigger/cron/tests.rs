//! Cron expressions: what each form means, and the errors of invalid ones.

use super::*;

/// Expects the values of each field of `text`.
fn check(text: &str, expected: &str) {
    let cron = Cron::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let days: Vec<String> = cron
        .month_days
        .iter()
        .map(|day| match day {
            CronDay::Day(day) => day.to_string(),
            CronDay::Last(back) => format!("L-{back}"),
            CronDay::Working(day) => format!("{day}W"),
            CronDay::LastWorking => "LW".to_owned(),
        })
        .collect();
    let week_days: Vec<String> = cron
        .week_days
        .iter()
        .map(|day| match day {
            CronWeekDay::Every(day) => day.to_string(),
            CronWeekDay::Nth(day, which) => format!("{day}#{which}"),
            CronWeekDay::Last(day) => format!("{day}L"),
        })
        .collect();
    let list = |values: &[u8], most: usize| match values {
        all if all.len() == most => "*".to_owned(),
        some => some.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
    };
    let shown = format!(
        "{} {} {} [{}] {} [{}]",
        list(&cron.seconds, 60),
        list(&cron.minutes, 60),
        list(&cron.hours, 24),
        days.join(","),
        list(&cron.months, 12),
        week_days.join(",")
    );
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn fields_are_values_ranges_steps_and_lists() {
    check("* * * * *", "0 * * [] * []");
    check("*/15 9-17 * * MON-FRI", "0 0,15,30,45 9,10,11,12,13,14,15,16,17 [] * [1,2,3,4,5]");
    check("30 5/10 0 1,15 * ?", "30 5,15,25,35,45,55 0 [1,15] * []");
    check("  0  0\t12 29 feb  *", "0 0 12 [29] 2 []");
    check("10-30/10,7,7 23 * jan,Dec 7", "0 7,10,20,30 23 [] 1,12 [0]");
    check("0 0 * * 5-7", "0 0 0 [] * [0,5,6]");
    check("0 0 L,L-2,15W,LW * *", "0 0 0 [L-0,L-2,15W,LW] * []");
    check("0 0 ? * fri#2,5L,0", "0 0 0 [] * [0,5#2,5L]");
}

#[test]
fn short_forms_are_abbreviations() {
    check("@hourly", "0 0 * [] * []");
    check(" @Daily ", "0 0 0 [] * []");
    check("@midnight", "0 0 0 [] * []");
    check("@weekly", "0 0 0 [] * [0]");
    check("@monthly", "0 0 0 [1] * []");
    check("@yearly", "0 0 0 [1] 1 []");
    assert_eq!(Cron::parse("@annually"), Cron::parse("@yearly"));
    assert!(Cron::is_short_form("@DAILY") && !Cron::is_short_form("@often"));
}

#[test]
fn errors_have_a_position() {
    for (text, at, part) in [
        ("", "", "(got 0)"),
        ("* * * *", "* * * *", "(got 4)"),
        ("* * * * * * *", "* * * * * * *", "(got 7)"),
        ("60 * * * *", "60", "the minute must be between 0 and 59 (got 60)"),
        ("61 0 * * * *", "61", "the second must be between 0 and 59 (got 61)"),
        ("0 24 * * *", "24", "the hour must be between 0 and 23 (got 24)"),
        ("0 0 0 * *", "0", "the day of the month must be between 1 and 31 (got 0)"),
        ("0 0 * 13 *", "13", "the month must be between 1 and 12 (got 13)"),
        ("0 0 * * 8", "8", "the day of the week must be between 0 and 7 (got 8)"),
        ("0 0 * * fun", "fun", "or a name from SUN to SAT (got `fun`)"),
        ("0 0 * fun *", "fun", "or a name from JAN to DEC"),
        ("0 17-9 * * *", "17-9", "ends before it begins"),
        ("*/0 * * * *", "0", "a step must be a positive integer"),
        ("*/x * * * *", "x", "a step must be a positive integer"),
        ("1,,2 * * * *", ",", "missing minute"),
        ("0 -5 * * *", " ", "missing hour"),
        ("0 +5 * * *", "+5", "(got `+5`)"),
        ("? * * * *", "?", "(got `?`)"),
        ("0 0 * * MON#6", "6", "the number after # must be between 1 and 5 (got 6)"),
        ("0 0 32W * *", "32", "the day of the month must be between 1 and 31 (got 32)"),
        ("0 0 L-31 * *", "31", "between 0 and 30"),
        ("0 0 30 2 *", "30", "never have such a day"),
        ("0 0 31,31W 4,6 *", "31,31W", "never have such a day"),
        ("@often", "@often", "unknown short form `@often`; use @yearly"),
        ("0 é * * *", "é", "(got `é`)"),
    ] {
        let error = Cron::parse(text).unwrap_err();
        assert_eq!(&text[error.span.clone()], at, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
    // A day of the week still matches if the day of the month never does.
    assert!(Cron::parse("0 0 30 2 MON").is_ok());
}
