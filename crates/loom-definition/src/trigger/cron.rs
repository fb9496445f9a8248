//! Cron expressions: five fields, or six with the seconds first.
//!
//! | field | values | also |
//! |---|---|---|
//! | second | 0–59 | |
//! | minute | 0–59 | |
//! | hour | 0–23 | |
//! | day of the month | 1–31 | `?`, `L` (the last), `L-3` (three days before the last), `15W` (the weekday nearest to the 15th), `LW` (the last weekday) |
//! | month | 1–12 | `JAN`–`DEC` |
//! | day of the week | 0–7, Sunday is 0 and 7 | `?`, `SUN`–`SAT`, `5L` (the last Friday), `MON#2` (the second Monday) |
//!
//! A field is `*`, a value, a range such as `1-5`, any of these with a step (`*/15`, `10-30/5`, or `5/15` for every 15 from
//! 5 on), or a comma-separated list of them. A day field of `*` or `?` does not restrict the day. If both day fields
//! restrict it, a day matches if either field does; but if one of the fields begins with `*` or `?`, as in `*/2`, both must
//! match. This is the rule of crontab(5), whose short forms are supported as well: `@hourly`, `@daily`, `@midnight`,
//! `@weekly`, `@monthly`, `@yearly` and `@annually`. Names are case-insensitive.

use std::ops::{Range, RangeInclusive};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEK_DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const SHORT_FORMS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A parsed cron expression. Lists are sorted and contain no duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// The seconds, 0–59.
    pub seconds: Vec<u8>,
    /// The minutes, 0–59.
    pub minutes: Vec<u8>,
    /// The hours, 0–23.
    pub hours: Vec<u8>,
    /// Whether the hour field begins with `*`. When the clocks change, such an expression follows elapsed time, any other
    /// follows local time.
    pub any_hour: bool,
    /// The months, 1–12.
    pub months: Vec<u8>,
    /// The days of the month; empty if they are not restricted.
    pub month_days: Vec<CronDay>,
    /// The days of the week; Sunday is 0; empty if they are not restricted.
    pub week_days: Vec<CronWeekDay>,
    /// Whether a day must match both lists if neither is empty, because one of the fields begins with `*` or `?`.
    pub both_days: bool,
}

/// A day of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CronDay {
    /// A day, 1–31.
    Day(u8),
    /// This many days before the last day of the month, 0–30.
    Last(u8),
    /// The weekday (Monday to Friday) nearest to this day in the same month, 1–31.
    Working(u8),
    /// The last weekday (Monday to Friday) of the month.
    LastWorking,
}

/// A day of the week; Sunday is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CronWeekDay {
    /// Every such day.
    Every(u8),
    /// The first to fifth such day of the month.
    Nth(u8, u8),
    /// The last such day of the month.
    Last(u8),
}

/// A problem in a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// The invalid bytes of the expression.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub message: String,
}

type Reading<T> = Result<T, CronError>;

impl Cron {
    /// Whether a string is one of the short forms, such as `@daily`.
    pub fn is_short_form(text: &str) -> bool {
        SHORT_FORMS.iter().any(|(name, _)| name.eq_ignore_ascii_case(text.trim()))
    }

    /// Parses a cron expression.
    ///
    /// # Errors
    /// The first problem, with its position.
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        let short = SHORT_FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        if let Some((_, long)) = short {
            return Cron::parse(long);
        }
        let mut fields = fields(text);
        if let [first, ..] = fields[..]
            && first.text.starts_with('@')
        {
            let known = SHORT_FORMS.map(|(name, _)| name).join(", ");
            return Err(first.wrong(format!("unknown short form `{}`; use {known}", first.text)));
        }
        if fields.len() == 5 {
            fields.insert(0, Field { text: "0", start: 0 });
        }
        let [second, minute, hour, day, month, week_day] = fields[..] else {
            let message = format!(
                "a cron expression must have five fields (minute, hour, day, month, day of the week), or six with the \
                 seconds first (got {})",
                fields.len()
            );
            return Err(CronError { span: 0..text.len(), message });
        };
        let cron = Cron {
            seconds: second.numbers("second", &(0..=59), &[])?,
            minutes: minute.numbers("minute", &(0..=59), &[])?,
            hours: hour.numbers("hour", &(0..=23), &[])?,
            any_hour: hour.text.starts_with('*'),
            months: month.numbers("month", &(1..=12), &MONTHS)?,
            month_days: day.list(Field::month_days)?,
            week_days: week_day.list(Field::week_days)?,
            both_days: [day, week_day].iter().any(|field| field.text.starts_with(['*', '?'])),
        };
        if cron.matches_no_date() {
            return Err(day.wrong("these months never have such a day".to_owned()));
        }
        Ok(cron)
    }

    /// Whether all of the months are too short for all of the days.
    fn matches_no_date(&self) -> bool {
        let longest = |month: &u8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let most = self.months.iter().map(longest).max().unwrap_or(31);
        let too_late = |day: &CronDay| match day {
            CronDay::Day(day) | CronDay::Working(day) => *day > most,
            CronDay::Last(back) => *back >= most,
            CronDay::LastWorking => false,
        };
        (self.week_days.is_empty() || self.both_days)
            && !self.month_days.is_empty()
            && self.month_days.iter().all(too_late)
    }
}

/// A part of the expression, and its offset.
#[derive(Clone, Copy)]
struct Field<'t> {
    text: &'t str,
    start: usize,
}

fn fields(text: &str) -> Vec<Field<'_>> {
    let start = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    text.split_ascii_whitespace().map(|part| Field { text: part, start: start(part) }).collect()
}

impl<'t> Field<'t> {
    fn wrong(&self, message: String) -> CronError {
        CronError { span: self.start..self.start + self.text.len(), message }
    }

    /// The part `text` of this field, which begins at its byte `from`.
    fn part(&self, from: usize, text: &'t str) -> Field<'t> {
        Field { text, start: self.start + from }
    }

    /// The parts between commas.
    fn parts(self) -> impl Iterator<Item = Field<'t>> {
        let mut from = 0;
        self.text.split(',').map(move |text| {
            let part = self.part(from, text);
            from += text.len() + 1;
            part
        })
    }

    /// The days of all parts; empty if the field does not restrict the day.
    fn list<T: Ord>(&self, read: impl Fn(&Field<'t>) -> Reading<Vec<T>>) -> Reading<Vec<T>> {
        if matches!(self.text, "*" | "?") {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for part in self.parts() {
            found.extend(read(&part)?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The values of a field that contains only numbers and names.
    fn numbers(&self, what: &str, range: &RangeInclusive<u8>, names: &[&str]) -> Reading<Vec<u8>> {
        let mut found = Vec::new();
        for part in self.parts() {
            found.extend(part.values(what, range, names)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The values of `*`, a single value or a range, each optionally with a step.
    fn values(&self, what: &str, range: &RangeInclusive<u8>, names: &[&str]) -> Reading<Vec<u8>> {
        let (base, step) = match self.text.split_once('/') {
            None => (*self, None),
            Some((base, step)) => (self.part(0, base), Some(self.part(base.len() + 1, step))),
        };
        let (first, last) = match base.text.split_once('-') {
            _ if base.text == "*" => (*range.start(), *range.end()),
            Some((first, last)) => {
                let from = base.part(0, first).value(what, range, names)?;
                let until = base.part(first.len() + 1, last).value(what, range, names)?;
                if from > until {
                    return Err(base.wrong(format!("the {what} range ends before it begins")));
                }
                (from, until)
            }
            None => {
                let from = base.value(what, range, names)?;
                (from, if step.is_some() { *range.end() } else { from })
            }
        };
        let step = match step {
            None => 1,
            Some(step) => match step.text.parse::<u8>() {
                Ok(by) if by > 0 => by,
                _ => {
                    return Err(
                        step.wrong(format!("a step must be a positive integer (got `{}`)", step.text))
                    );
                }
            },
        };
        Ok((first..=last).step_by(step.into()).collect())
    }

    /// One number or name.
    fn value(&self, what: &str, range: &RangeInclusive<u8>, names: &[&str]) -> Reading<u8> {
        if let Some(place) = names.iter().position(|name| name.eq_ignore_ascii_case(self.text)) {
            return Ok(*range.start() + place as u8);
        }
        let digits = !self.text.is_empty() && self.text.bytes().all(|byte| byte.is_ascii_digit());
        match self.text.parse::<u32>().ok().filter(|_| digits) {
            Some(found) if (u32::from(*range.start())..=u32::from(*range.end())).contains(&found) => {
                Ok(found as u8)
            }
            Some(found) => Err(self.wrong(format!(
                "the {what} must be between {} and {} (got {found})",
                range.start(),
                range.end()
            ))),
            None if self.text.is_empty() => {
                // There is nothing to mark, so mark the byte before it.
                let start = self.start.saturating_sub(1);
                Err(CronError { span: start..self.start, message: format!("missing {what}") })
            }
            None => {
                let or_names = match (names.first(), names.last()) {
                    (Some(first), Some(last)) => format!(" or a name from {first} to {last}"),
                    _ => String::new(),
                };
                let message = format!(
                    "the {what} must be a number between {} and {}{or_names} (got `{}`)",
                    range.start(),
                    range.end(),
                    self.text
                );
                Err(self.wrong(message))
            }
        }
    }

    fn month_days(&self) -> Reading<Vec<CronDay>> {
        const WHAT: &str = "day of the month";
        let text = self.text.to_ascii_uppercase();
        match text.as_str() {
            "L" => return Ok(vec![CronDay::Last(0)]),
            "LW" => return Ok(vec![CronDay::LastWorking]),
            _ => {}
        }
        if text.starts_with("L-") {
            let back =
                self.part(2, &self.text[2..]).value("number of days before the last", &(0..=30), &[])?;
            return Ok(vec![CronDay::Last(back)]);
        }
        if text.ends_with('W') {
            let day = self.part(0, &self.text[..self.text.len() - 1]).value(WHAT, &(1..=31), &[])?;
            return Ok(vec![CronDay::Working(day)]);
        }
        Ok(self.values(WHAT, &(1..=31), &[])?.into_iter().map(CronDay::Day).collect())
    }

    fn week_days(&self) -> Reading<Vec<CronWeekDay>> {
        const WHAT: &str = "day of the week";
        let day = |field: Field<'_>| Ok(field.value(WHAT, &(0..=7), &WEEK_DAYS)? % 7);
        if let Some((name, which)) = self.text.split_once('#') {
            let which = self.part(name.len() + 1, which).value("number after #", &(1..=5), &[])?;
            return Ok(vec![CronWeekDay::Nth(day(self.part(0, name))?, which)]);
        }
        if self.text.len() > 1 && self.text.ends_with(['L', 'l']) {
            return Ok(vec![CronWeekDay::Last(day(self.part(0, &self.text[..self.text.len() - 1]))?)]);
        }
        let all = self.values(WHAT, &(0..=7), &WEEK_DAYS)?;
        Ok(all.into_iter().map(|day| CronWeekDay::Every(day % 7)).collect())
    }
}

#[cfg(test)]
mod tests;
