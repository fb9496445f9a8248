use super::*;

/// What each field of `text` means, as the sets print.
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
fn short_forms_stand_for_expressions() {
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
fn mistakes_are_told_with_their_place() {
    for (text, at, part) in [
        ("", "", "this one has 0"),
        ("* * * *", "* * * *", "this one has 4"),
        ("* * * * * * *", "* * * * * * *", "this one has 7"),
        ("60 * * * *", "60", "the minute is 60; it is from 0 to 59"),
        ("61 0 * * * *", "61", "the second is 61"),
        ("0 24 * * *", "24", "the hour is 24; it is from 0 to 23"),
        ("0 0 0 * *", "0", "the day of the month is 0; it is from 1 to 31"),
        ("0 0 * 13 *", "13", "the month is 13"),
        ("0 0 * * 8", "8", "the day of the week is 8"),
        ("0 0 * * fun", "fun", "or a name from SUN to SAT; `fun` is none"),
        ("0 0 * fun *", "fun", "or a name from JAN to DEC"),
        ("0 17-9 * * *", "17-9", "goes backwards"),
        ("*/0 * * * *", "0", "a step is a whole number from 1"),
        ("*/x * * * *", "x", "a step is a whole number from 1"),
        ("1,,2 * * * *", ",", "the minute is missing here"),
        ("0 -5 * * *", " ", "the hour is missing here"),
        ("0 +5 * * *", "+5", "`+5` is none"),
        ("? * * * *", "?", "`?` is none"),
        ("0 0 * * MON#6", "6", "the number after # is 6"),
        ("0 0 32W * *", "32", "the day of the month is 32"),
        ("0 0 L-31 * *", "31", "from 0 to 30"),
        ("0 0 30 2 *", "30", "there is no such day"),
        ("0 0 31,31W 4,6 *", "31,31W", "there is no such day"),
        ("@often", "@often", "the short forms are @yearly"),
        ("0 é * * *", "é", "`é` is none"),
    ] {
        let error = Cron::parse(text).unwrap_err();
        assert_eq!(&text[error.span.clone()], at, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
    // A weekday still comes when the day of the month never does.
    assert!(Cron::parse("0 0 30 2 MON").is_ok());
}
