use loom_definition::trigger::Recurrence;
use loom_expression::Value;
use proptest::prelude::*;

use super::Timetable;

/// The occurrences after `after`, counted from `anchor`, as the definition `json` has them.
fn check(json: &str, anchor: &str, after: &str, expected: &[&str]) {
    let recurrence = Recurrence::from_value(&Value::from_json_str(json).unwrap()).unwrap();
    let timetable = Timetable::new(&recurrence).unwrap();
    let anchor = timetable.start.unwrap_or_else(|| anchor.parse().unwrap());
    let mut after = after.parse().unwrap();
    for expected in expected {
        let found = timetable.next(after, anchor).map(|found| found.to_string()).unwrap_or_default();
        assert_eq!(found, *expected, "{json} after {after}");
        after = found.parse().unwrap_or(after);
    }
}

#[test]
fn intervals_are_counted_from_the_start_and_past_ones_are_dropped() {
    check(
        r#"{"frequency": "Day", "interval": 2, "startTime": "2017-09-07T14:00:00Z"}"#,
        "",
        "2017-09-08T13:00:00Z",
        &["2017-09-09T14:00:00Z", "2017-09-11T14:00:00Z", "2017-09-13T14:00:00Z"],
    );
    check(
        r#"{"frequency": "Hour", "interval": 5, "startTime": "2030-01-01T00:00:00Z"}"#,
        "",
        "2026-01-01T00:00:00Z",
        &["2030-01-01T00:00:00Z", "2030-01-01T05:00:00Z"],
    );
    check(
        r#"{"frequency": "Second", "interval": 7}"#,
        "2020-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        &["2026-01-01T00:00:01Z", "2026-01-01T00:00:08Z"],
    );
    check(
        r#"{"frequency": "Month", "startTime": "1990-01-31T08:00:00Z"}"#,
        "",
        "2024-02-01T00:00:00Z",
        &["2024-02-29T08:00:00Z", "2024-03-31T08:00:00Z", "2024-04-30T08:00:00Z"],
    );
}

#[test]
fn a_start_that_was_left_empty_is_none() {
    let text = r#"{"frequency": "Day", "startTime": "", "endTime": " ", "timeZone": ""}"#;
    let recurrence = Recurrence::from_value(&Value::from_json_str(text).unwrap()).unwrap();
    let timetable = Timetable::new(&recurrence).unwrap();
    assert!(timetable.begins_at_once() && timetable.end.is_none());
}

#[test]
fn local_times_stay_when_clocks_change() {
    let daily =
        r#"{"frequency": "Day", "startTime": "2026-03-06T09:00:00", "timeZone": "Pacific Standard Time"}"#;
    check(daily, "", "2026-03-07T12:00:00Z", &["2026-03-07T17:00:00Z", "2026-03-08T16:00:00Z"]);
    let night = r#"{"frequency": "Day", "timeZone": "Pacific Standard Time", "schedule": {"hours": [1, 2], "minutes": [30]}}"#;
    // 2:30 does not exist on the 8th of March and moves to 3:30; 1:30 happens twice on the 1st of November and runs once.
    check(
        night,
        "2026-01-01T00:00:00Z",
        "2026-03-08T08:00:00Z",
        &["2026-03-08T09:30:00Z", "2026-03-08T10:30:00Z", "2026-03-09T08:30:00Z"],
    );
    check(
        night,
        "2026-01-01T00:00:00Z",
        "2026-11-01T08:00:00Z",
        &["2026-11-01T08:30:00Z", "2026-11-01T10:30:00Z", "2026-11-02T09:30:00Z"],
    );
}

#[test]
fn schedules_name_days_hours_and_minutes() {
    check(
        r#"{"frequency": "Week", "interval": 2, "schedule": {"weekDays": ["Monday", "Friday"], "hours": [8, 17]}}"#,
        "2026-01-07T10:15:00Z",
        "2026-01-07T10:15:00Z",
        &["2026-01-09T08:15:00Z", "2026-01-09T17:15:00Z", "2026-01-19T08:15:00Z"],
    );
    check(
        r#"{"frequency": "Day", "schedule": {"minutes": [0, 30]}}"#,
        "2026-01-07T10:15:00Z",
        "2026-01-07T10:15:00Z",
        &["2026-01-07T10:30:00Z", "2026-01-07T11:00:00Z"],
    );
    check(
        r#"{"frequency": "Month", "schedule": {"monthDays": [-1, 15], "hours": [6], "minutes": [0]}}"#,
        "2026-01-20T00:00:00Z",
        "2026-01-20T00:00:00Z",
        &["2026-01-31T06:00:00Z", "2026-02-15T06:00:00Z", "2026-02-28T06:00:00Z"],
    );
    check(
        r#"{"frequency": "Month", "schedule": {"monthlyOccurrences": [{"dayOfWeek": "Friday", "occurrence": -1}, {"dayOfWeek": "Monday", "occurrence": 1}]}}"#,
        "2026-01-01T07:00:00Z",
        "2026-01-06T00:00:00Z",
        &["2026-01-30T07:00:00Z", "2026-02-02T07:00:00Z", "2026-02-27T07:00:00Z"],
    );
}

#[test]
fn nothing_happens_after_the_end() {
    check(
        r#"{"frequency": "Day", "startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T12:00:00Z"}"#,
        "",
        "2026-01-01T00:00:00Z",
        &["2026-01-02T00:00:00Z", ""],
    );
}

#[test]
fn cron_expressions_match_times() {
    let check = |cron: &str, after: &str, expected: &[&str]| {
        check(&format!(r#"{{"cron": "{cron}"}}"#), "2020-01-01T00:00:00Z", after, expected);
    };
    check(
        "*/15 9-10 * * MON-FRI",
        "2026-01-02T10:40:00Z",
        &["2026-01-02T10:45:00Z", "2026-01-05T09:00:00Z", "2026-01-05T09:15:00Z"],
    );
    check("0 0 29 2 *", "2024-02-29T00:00:00Z", &["2028-02-29T00:00:00Z"]);
    check("15,45 30 8 * * *", "2026-05-01T08:30:15Z", &["2026-05-01T08:30:45Z", "2026-05-02T08:30:15Z"]);
    // Either day is enough when both are named.
    check(
        "0 0 13 * 5",
        "2026-02-01T00:00:00Z",
        &["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"],
    );
    check("0 0 L * *", "2026-02-01T00:00:00Z", &["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]);
    check("0 0 L-2 * *", "2026-02-01T00:00:00Z", &["2026-02-26T00:00:00Z", "2026-03-29T00:00:00Z"]);
    // The 15th of August 2026 is a Saturday, the 1st too; the 31st of May a Sunday.
    check("0 0 15W 8 *", "2026-01-01T00:00:00Z", &["2026-08-14T00:00:00Z"]);
    check("0 0 1W 8 *", "2026-01-01T00:00:00Z", &["2026-08-03T00:00:00Z"]);
    check("0 0 31W 4,5 *", "2026-01-01T00:00:00Z", &["2026-05-29T00:00:00Z"]);
    check("0 0 LW 5 *", "2026-01-01T00:00:00Z", &["2026-05-29T00:00:00Z"]);
    check("0 0 * * MON#2", "2026-01-01T00:00:00Z", &["2026-01-12T00:00:00Z", "2026-02-09T00:00:00Z"]);
    check("0 0 * * 5L", "2026-01-01T00:00:00Z", &["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"]);
    check("@weekly", "2026-01-01T00:00:00Z", &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]);
}

#[test]
fn cron_expressions_follow_clocks_that_change() {
    let check = |cron: &str, after: &str, expected: &[&str]| {
        let cron = format!(r#"{{"cron": "{cron}", "timeZone": "Pacific Standard Time"}}"#);
        check(&cron, "2020-01-01T00:00:00Z", after, expected);
    };
    // An hour that is named happens once: 2:30 is skipped in March and moves to 3:30, 1:30 comes twice in November.
    check("30 2 * * *", "2026-03-08T00:00:00Z", &["2026-03-08T10:30:00Z", "2026-03-09T09:30:00Z"]);
    check("30 1 * * *", "2026-11-01T00:00:00Z", &["2026-11-01T08:30:00Z", "2026-11-02T09:30:00Z"]);
    // Every hour means every hour that passes.
    check("30 * * * *", "2026-03-08T09:00:00Z", &["2026-03-08T09:30:00Z", "2026-03-08T10:30:00Z"]);
    check(
        "*/30 * * * *",
        "2026-11-01T08:15:00Z",
        &["2026-11-01T08:30:00Z", "2026-11-01T09:00:00Z", "2026-11-01T09:30:00Z", "2026-11-01T10:00:00Z"],
    );
    check("0 22 * * *", "2026-07-01T06:00:00Z", &["2026-07-02T05:00:00Z"]);
}

#[test]
fn cron_expressions_respect_start_time_end_time_and_count() {
    check(
        r#"{"cron": "0 9 * * *", "startTime": "2026-04-01T09:00:00Z", "endTime": "2026-04-02T12:00:00Z"}"#,
        "",
        "2026-01-01T00:00:00Z",
        &["2026-04-01T09:00:00Z", "2026-04-02T09:00:00Z", ""],
    );
}

proptest::proptest! {
    /// What comes next is found by walking second by second, too.
    #[test]
    fn the_next_time_of_a_cron_expression_is_the_first_match(
        minutes in proptest::collection::vec(0u8..60, 1..4),
        hours in proptest::option::of(proptest::collection::vec(0u8..24, 1..4)),
        start in 0i64..3_600 * 48,
        autumn: bool,
    ) {
        let list = |values: &[u8]| values.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let hours = hours.map_or_else(|| "*".to_owned(), |hours| list(&hours));
        let text = format!("{} {hours} * * *", list(&minutes));
        let cron = loom_definition::trigger::Cron::parse(&text).unwrap();
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        // Around the change of clocks: the 29th of March and the 25th of October 2026, at one o'clock UTC.
        let change = if autumn { "2026-10-25T01:00:00Z" } else { "2026-03-29T01:00:00Z" };
        let change: jiff::Timestamp = change.parse().unwrap();
        let after = change + jiff::SignedDuration::from_secs(start - 3_600 * 24);
        let found = super::cron::next(&cron, after, jiff::Timestamp::UNIX_EPOCH, &zone).unwrap();
        let fits = |moment: jiff::Timestamp| {
            let wall = moment.to_zoned_datetime(zone.clone());
            let (hour, minute) = (wall.hour() as u8, wall.minute() as u8);
            let named = cron.hours.contains(&hour) && cron.minutes.contains(&minute);
            // The second time that a named hour comes does not count, and a skipped one counts an hour later.
            let earlier = (moment - jiff::SignedDuration::from_hours(1)).to_zoned_datetime(zone.clone());
            let repeated = earlier.hour() == wall.hour();
            let skipped = earlier.hour() + 2 == wall.hour()
                && cron.hours.contains(&(hour - 1)) && cron.minutes.contains(&minute);
            if cron.any_hour { named } else { (named && !repeated) || skipped }
        };
        let minute = jiff::SignedDuration::from_mins(1);
        let mut walked = jiff::Timestamp::from_second((after.as_second() / 60 + 1) * 60).unwrap();
        while !fits(walked) {
            walked += minute;
        }
        proptest::prop_assert_eq!(found, walked, "{}", text);
    }
}

#[test]
fn a_star_in_a_day_field_asks_for_both_days() {
    // The 13th, and Fridays.
    check(
        r#"{"cron": "0 0 13 * FRI"}"#,
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        &["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"],
    );
    // Mondays that are odd days of the month.
    check(
        r#"{"cron": "0 0 */2 * MON"}"#,
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        &["2026-02-09T00:00:00Z", "2026-02-23T00:00:00Z"],
    );
    // The 15th when it is a Sunday, Tuesday, Thursday or Saturday.
    check(
        r#"{"cron": "0 0 15 * */2"}"#,
        "2026-01-01T00:00:00Z",
        "2026-03-01T00:00:00Z",
        &["2026-03-15T00:00:00Z", "2026-08-15T00:00:00Z", "2026-09-15T00:00:00Z"],
    );
}

/// Cron fields whose meaning the language shares with others.
mod drawn {
    use proptest::{prelude::*, sample::select};

    /// Values of a field from `low` to `high`: alone, in ranges, with steps, in lists, or all of them.
    pub(super) fn numbers(low: u8, high: u8) -> impl Strategy<Value = String> {
        let range =
            move || (low..=high, low..=high).prop_map(|(one, other)| (one.min(other), one.max(other)));
        let part = prop_oneof![
            3 => (low..=high).prop_map(|value| value.to_string()),
            2 => range().prop_map(|(from, until)| format!("{from}-{until}")),
            1 => (range(), 1..=7u8).prop_map(|((from, until), step)| format!("{from}-{until}/{step}")),
        ];
        prop_oneof![
            2 => Just("*".to_owned()),
            1 => (2..=9u8).prop_map(|step| format!("*/{step}")),
            4 => prop::collection::vec(part, 1..=3).prop_map(|parts| parts.join(",")),
        ]
    }

    pub(super) fn month_days() -> impl Strategy<Value = String> {
        let special = (1..=28u8).prop_map(|day| format!("{day}W"));
        prop_oneof![6 => numbers(1, 28), 1 => Just("L".to_owned()), 1 => special]
    }

    pub(super) fn week_days() -> impl Strategy<Value = String> {
        let name = || select(vec!["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]);
        prop_oneof![
            6 => numbers(0, 6),
            1 => name().prop_map(str::to_owned),
            1 => (name(), 1..=4u8).prop_map(|(name, which)| format!("{name}#{which}")),
            1 => (0..=6u8).prop_map(|day| format!("{day}L")),
        ]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Another implementation of cron finds the same moments. The test tells it whether both day fields count, for there it
    /// has a rule of its own.
    #[test]
    fn cron_agrees_with_another_implementation(
        minute in drawn::numbers(0, 59),
        hour in drawn::numbers(0, 23),
        day in drawn::month_days(),
        month in drawn::numbers(1, 12),
        week_day in drawn::week_days(),
        after in 1_500_000_000i64..1_900_000_000,
    ) {
        let expression = format!("{minute} {hour} {day} {month} {week_day}");
        let both = [&day, &week_day].iter().any(|field| field.starts_with('*'));
        let other = croner::parser::CronParser::builder().dom_and_dow(both).build().parse(&expression);
        let other = other.map_err(|error| TestCaseError::reject(error.to_string()))?;
        let recurrence = format!(r#"{{"cron": "{expression}"}}"#);
        let recurrence = Recurrence::from_value(&Value::from_json_str(&recurrence).unwrap());
        let recurrence = recurrence.map_err(|error| TestCaseError::fail(format!("{expression}: {error}")))?;
        let timetable = Timetable::new(&recurrence).unwrap();
        let mut ours = jiff::Timestamp::from_second(after).unwrap();
        let mut theirs = chrono::DateTime::<chrono::Utc>::from_timestamp(after, 0).unwrap();
        for _ in 0..5 {
            let Ok(next) = other.find_next_occurrence(&theirs, false) else { break };
            theirs = next;
            let Some(next) = timetable.next(ours, jiff::Timestamp::UNIX_EPOCH) else {
                // Ours looks so far ahead, and no further.
                prop_assert!(theirs.timestamp() > after + 5 * 365 * 86_400, "{expression}: none after {ours}");
                break;
            };
            ours = next;
            prop_assert_eq!(ours.as_second(), theirs.timestamp(), "{}", expression);
        }
    }
}
