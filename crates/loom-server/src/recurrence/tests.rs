use loom_definition::trigger::Recurrence;
use loom_expression::Value;

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
