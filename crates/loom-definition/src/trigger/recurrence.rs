//! Reads recurrences from values, with the ranges of WDL.

use std::{ops::Range, sync::Arc};

use loom_expression::{Object, Value};

use super::{Cron, Frequency, Recurrence, RecurrenceRule, RecurrenceSchedule};
use crate::diagnostic::json_type;

const WEEK_DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

impl Frequency {
    /// All frequencies, each with its longest interval.
    const ALL: [(&'static str, Frequency, u32); 7] = [
        ("Second", Frequency::Second, 43_200_000),
        ("Minute", Frequency::Minute, 720_000),
        ("Hour", Frequency::Hour, 12_000),
        ("Day", Frequency::Day, 500),
        ("Week", Frequency::Week, 71),
        ("Month", Frequency::Month, 16),
        ("Year", Frequency::Year, 1),
    ];

    /// Parses a frequency, ignoring case.
    pub fn parse(text: &str) -> Option<Frequency> {
        Frequency::ALL
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(text.trim()))
            .map(|(_, found, _)| *found)
    }

    fn interval_max(self) -> u32 {
        Frequency::ALL.iter().find(|(_, found, _)| *found == self).map_or(1, |(.., max)| *max)
    }
}

/// A problem in a recurrence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RecurrenceError {
    /// The property it is about; empty for the recurrence as a whole.
    pub member: &'static str,
    /// The invalid bytes of the property's string, if they are known.
    pub span: Option<Range<usize>>,
    /// What is wrong with it.
    pub message: String,
}

impl Recurrence {
    /// The properties that may contain a cron expression, in order of precedence. `schedule` may also be an object.
    pub const CRON_MEMBERS: [&str; 3] = ["cron", "expression", "schedule"];

    /// Reads a `recurrence` object: `frequency`, `interval` and `schedule`, or a cron expression instead.
    ///
    /// # Errors
    /// [`RecurrenceError`] with the first problem.
    pub fn from_value(value: &Value) -> Result<Recurrence, RecurrenceError> {
        let wrong = |(member, message)| RecurrenceError { member, span: None, message };
        let Some(object) = value.as_object() else {
            return Err(wrong(("", format!("`recurrence` must be an object, found {}", json_type(value)))));
        };
        let rule = match cron(object) {
            Some((member, text)) => {
                if present(object, "frequency").is_some() || present(object, "interval").is_some() {
                    let message = format!("`{member}` cannot be combined with `frequency` and `interval`");
                    return Err(wrong((member, message)));
                }
                let cron = Cron::parse(text).map_err(|error| RecurrenceError {
                    member,
                    span: Some(error.span),
                    message: error.message,
                })?;
                RecurrenceRule::Cron(cron)
            }
            None => every(object).map_err(wrong)?,
        };
        let count = integer(object, "count", 1, i64::from(u32::MAX)).map_err(wrong)?;
        // A parameter without a value often is an empty string, which counts as absent.
        let text = |name: &'static str| -> Result<Option<Arc<str>>, RecurrenceError> {
            let text = text(object, name).map_err(wrong)?.map(str::trim);
            Ok(text.filter(|text| !text.is_empty()).map(Arc::from))
        };
        let timestamp = |name: &'static str| match text(name)? {
            Some(text) if !is_timestamp(&text) => Err(wrong((
                name,
                format!("`{text}` is not a valid timestamp; expected the form 2017-09-18T14:00:00"),
            ))),
            timestamp => Ok(timestamp),
        };
        let time_zone: Option<Arc<str>> = text("timeZone")?;
        if let Some(zone) = time_zone.as_deref().filter(|zone| !loom_expression::is_time_zone(zone)) {
            return Err(wrong(("timeZone", format!("unknown time zone `{zone}`"))));
        }
        Ok(Recurrence {
            rule,
            start_time: timestamp("startTime")?,
            end_time: timestamp("endTime")?,
            count: count.map(|count| count as u32),
            time_zone,
            source: value.clone(),
        })
    }
}

/// Whether a string is an ISO 8601 timestamp, with or without an offset.
fn is_timestamp(text: &str) -> bool {
    let year = text.split_once('-').map_or("", |(year, _)| year);
    year.len() == 4 && text.parse::<loom_expression::Timestamp>().is_ok()
}

/// The cron expression of a recurrence, if it has one, and the property that contains it.
fn cron(object: &Object) -> Option<(&'static str, &str)> {
    let text = |name: &'static str| Some((name, present(object, name)?.as_str()?));
    Recurrence::CRON_MEMBERS.into_iter().find_map(text)
}

fn every(object: &Object) -> Reading<RecurrenceRule> {
    if let Some(other) = present(object, "cron") {
        return Err((
            "cron",
            format!("`cron` must be a string such as \"0 9 * * MON-FRI\", found {}", json_type(other)),
        ));
    }
    let Some(frequency) = text(object, "frequency")? else {
        return Err(("", "a recurrence needs a `frequency`, or a `cron` expression".to_owned()));
    };
    let Some(frequency) = Frequency::parse(frequency) else {
        let message = format!(
            "`frequency` must be `Second`, `Minute`, `Hour`, `Day`, `Week`, `Month` or `Year` (got `{frequency}`)"
        );
        return Err(("frequency", message));
    };
    let interval = integer(object, "interval", 1, i64::from(frequency.interval_max()))?.unwrap_or(1) as u32;
    let schedule = match present(object, "schedule") {
        None => None,
        Some(value) => schedule(value, frequency)?,
    };
    Ok(RecurrenceRule::Every { frequency, interval, schedule })
}

type Reading<T> = Result<T, (&'static str, String)>;

fn schedule(value: &Value, frequency: Frequency) -> Reading<Option<RecurrenceSchedule>> {
    let Some(object) = value.as_object() else {
        return Err(("schedule", format!("`schedule` must be an object, found {}", json_type(value))));
    };
    let daily = matches!(frequency, Frequency::Day | Frequency::Week);
    for (name, fits, units) in [
        ("hours", daily, "`Day` or `Week`"),
        ("minutes", daily, "`Day` or `Week`"),
        ("weekDays", frequency == Frequency::Week, "`Week`"),
        ("monthDays", frequency == Frequency::Month, "`Month`"),
        ("monthlyOccurrences", frequency == Frequency::Month, "`Month`"),
    ] {
        // The hosted service also accepts hours and minutes with the frequency `Month`.
        let fits = fits || (frequency == Frequency::Month && matches!(name, "hours" | "minutes"));
        if present(object, name).is_some() && !fits {
            return Err((
                "schedule",
                format!("`schedule.{name}` is only allowed with the frequency {units}"),
            ));
        }
    }
    let mut found = RecurrenceSchedule {
        hours: numbers(object, "hours", 0, 23)?.into_iter().map(|hour| hour as u8).collect(),
        minutes: numbers(object, "minutes", 0, 59)?.into_iter().map(|minute| minute as u8).collect(),
        ..RecurrenceSchedule::default()
    };
    for day in list(object, "weekDays") {
        found.week_days.push(week_day(&day)?);
    }
    for day in numbers(object, "monthDays", -31, 31)? {
        if day == 0 {
            return Err((
                "schedule",
                "`schedule.monthDays` must be between 1 and 31, or -1 and -31 from the end (got 0)"
                    .to_owned(),
            ));
        }
        found.month_days.push(day as i8);
    }
    for occurrence in list(object, "monthlyOccurrences") {
        let Some(object) = occurrence.as_object() else {
            return Err(("schedule", "`schedule.monthlyOccurrences` must be an array of objects".to_owned()));
        };
        let Some(day) = present(object, "dayOfWeek").or_else(|| present(object, "day")) else {
            return Err((
                "schedule",
                "an entry of `schedule.monthlyOccurrences` needs `dayOfWeek`".to_owned(),
            ));
        };
        let day = week_day(day)?;
        let which = integer(object, "occurrence", -5, 5)?.unwrap_or(1);
        if which == 0 {
            return Err((
                "schedule",
                "`occurrence` must be between 1 and 5, or -1 and -5 from the end (got 0)".to_owned(),
            ));
        }
        found.monthly_occurrences.push((day, which as i8));
    }
    Ok((found != RecurrenceSchedule::default()).then_some(found))
}

fn week_day(value: &Value) -> Reading<u8> {
    value
        .as_str()
        .and_then(|text| WEEK_DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim())))
        .map(|day| day as u8)
        .ok_or_else(|| ("schedule", format!("`{}` is not a day of the week", value.text())))
}

fn present<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get_ignore_case(name).filter(|value| !value.is_null())
}

fn text<'a>(object: &'a Object, name: &'static str) -> Reading<Option<&'a str>> {
    match present(object, name) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err((name, format!("`{name}` must be a string, found {}", json_type(value)))),
        },
    }
}

fn integer(object: &Object, name: &'static str, low: i64, high: i64) -> Reading<Option<i64>> {
    match present(object, name) {
        None => Ok(None),
        Some(value) => whole(name, value, low, high).map(Some),
    }
}

/// An integer, or a string of digits, which the designer writes in schedules.
fn whole(name: &'static str, value: &Value, low: i64, high: i64) -> Reading<i64> {
    match value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok())) {
        Some(found) if (low..=high).contains(&found) => Ok(found),
        Some(found) => Err((name, format!("`{name}` must be between {low} and {high} (got {found})"))),
        None => Err((name, format!("`{name}` must be an integer, found {}", json_type(value)))),
    }
}

/// One value, or an array of them.
fn list(object: &Object, name: &str) -> Vec<Value> {
    match present(object, name) {
        None => Vec::new(),
        Some(value) => match value.as_array() {
            Some(items) => items.to_vec(),
            None => vec![value.clone()],
        },
    }
}

fn numbers(object: &Object, name: &'static str, low: i64, high: i64) -> Reading<Vec<i64>> {
    list(object, name)
        .iter()
        .map(|value| whole(name, value, low, high).map_err(|(_, message)| ("schedule", message)))
        .collect()
}
