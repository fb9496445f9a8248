//! Computes the occurrences of a recurrence: a pure function of its definition, its anchor and a timestamp.
//!
//! Days, weeks and months are counted in the calendar of the recurrence's time zone, so that a daily run keeps its local time
//! when clocks change. A local time that is skipped in spring moves forward by the gap; one that is repeated in autumn occurs
//! once, at the first of the two times. A cron expression whose hours begin with `*` follows elapsed time instead: it occurs
//! twice in the repeated hour and not at all in the skipped one.

use std::str::FromStr;

use jiff::{
    SignedDuration, Timestamp, ToSpan, ZonedDateTime,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use loom_definition::trigger::{Frequency, Recurrence, RecurrenceRule, RecurrenceSchedule};
use loom_expression::iana_time_zone;

mod cron;

use cron::SEARCH_MAX;

/// Adds a number of calendar units to a time.
type Step = fn(&ZonedDateTime, i64) -> Result<ZonedDateTime, jiff::Error>;

/// A recurrence with parsed times and time zone.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    rule: RecurrenceRule,
    zone: TimeZone,
    /// The start time, if the definition has one.
    pub(crate) start: Option<Timestamp>,
    /// The time after which there are no occurrences.
    pub(crate) end: Option<Timestamp>,
    /// The maximum number of occurrences.
    pub(crate) count: Option<u32>,
}

impl Timetable {
    /// Parses times and time zone.
    ///
    /// # Errors
    /// What is invalid, as a message.
    pub(crate) fn new(recurrence: &Recurrence) -> Result<Timetable, String> {
        let zone = match recurrence.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(iana_time_zone(name).unwrap_or(name))
                .map_err(|_| format!("`{name}` is not a known time zone"))?,
        };
        let moment = |text: Option<&str>| text.map(|text| moment(text, &zone)).transpose();
        Ok(Timetable {
            rule: recurrence.rule.clone(),
            start: moment(recurrence.start_time.as_deref())?,
            end: moment(recurrence.end_time.as_deref())?,
            count: recurrence.count,
            zone,
        })
    }

    /// The first occurrence after `after`, counted from `anchor`: the start time, or the time of deployment. Without a schedule
    /// the anchor itself is the first occurrence; with one, or with a cron expression, it is only the earliest possible time.
    /// None if there are no more.
    pub(crate) fn next(&self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let found = match &self.rule {
            RecurrenceRule::Every { frequency, interval, schedule } => {
                let every = Every { frequency: *frequency, interval: i64::from((*interval).max(1)) };
                match schedule {
                    None => every.next(after, anchor, &self.zone),
                    Some(schedule) => every.next_scheduled(schedule, after, anchor, &self.zone),
                }
            }
            RecurrenceRule::Cron(cron) => cron::next(cron, after, anchor, &self.zone),
        };
        found.filter(|found| self.end.is_none_or(|end| *found <= end))
    }

    /// The last occurrence after `from` and not after `until`. Enumerates all occurrences between the two, so the interval must be
    /// short.
    pub(crate) fn last_within(
        &self,
        from: Timestamp,
        until: Timestamp,
        anchor: Timestamp,
    ) -> Option<Timestamp> {
        let next = |after: &Timestamp| self.next(*after, anchor).filter(|found| *found <= until);
        std::iter::successors(next(&from), next).last()
    }

    /// The last occurrence not after `until`, looked for within the time that a few of them take.
    pub(crate) fn last_until(&self, until: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let first = self.next(until, anchor)?;
        let second = self.next(first, anchor).unwrap_or(first);
        let apart = second.duration_since(first).max(SignedDuration::from_secs(1));
        [2, 64].into_iter().find_map(|times| {
            let from = until.checked_sub(apart.checked_mul(times)?).ok()?;
            self.last_within(from, until, anchor)
        })
    }

    /// Whether it can occur more than once a minute.
    pub(crate) fn is_under_a_minute(&self) -> bool {
        match &self.rule {
            RecurrenceRule::Every { frequency, interval, schedule } => {
                schedule.is_none() && *frequency == Frequency::Second && *interval < 60
            }
            RecurrenceRule::Cron(cron) => cron.seconds.len() > 1,
        }
    }

    /// Whether the recurrence is a cron expression.
    pub(crate) fn is_cron(&self) -> bool {
        matches!(self.rule, RecurrenceRule::Cron(_))
    }

    /// Whether its first occurrence is the deployment itself.
    pub(crate) fn begins_at_once(&self) -> bool {
        self.start.is_none() && matches!(self.rule, RecurrenceRule::Every { .. })
    }
}

/// A number of units of time.
#[derive(Clone, Copy, Debug)]
struct Every {
    frequency: Frequency,
    interval: i64,
}

impl Every {
    fn next(self, after: Timestamp, anchor: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if after < anchor {
            return Some(anchor);
        }
        let zoned = anchor.to_zoned_datetime(zone.clone());
        let passed = after.as_second() - anchor.as_second();
        // The maximum length of each unit, so that the estimate is never too late.
        let (unit, at): (i64, Step) = match self.frequency {
            Frequency::Second => (1, |from, count| from.checked_add(count.seconds())),
            Frequency::Minute => (60, |from, count| from.checked_add(count.minutes())),
            Frequency::Hour => (3_600, |from, count| from.checked_add(count.hours())),
            Frequency::Day => (90_000, |from, count| from.checked_add(count.days())),
            Frequency::Week => (608_400, |from, count| from.checked_add(count.weeks())),
            Frequency::Month => (2_682_000, |from, count| from.checked_add(count.months())),
            Frequency::Year => (31_626_000, |from, count| from.checked_add(count.years())),
        };
        let first = (passed / (unit * self.interval) - 1).max(0);
        (first..).take(SEARCH_MAX).find_map(|step| match at(&zoned, step.checked_mul(self.interval)?) {
            Ok(moment) if moment.timestamp() > after => Some(Some(moment.timestamp())),
            Ok(_) => None,
            Err(_) => Some(None),
        })?
    }

    fn next_scheduled(
        self,
        schedule: &RecurrenceSchedule,
        after: Timestamp,
        anchor: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        let base = anchor.to_zoned_datetime(zone.clone());
        let times = times(schedule, base.time());
        // Starts a day earlier, because a skipped hour may move a time past midnight.
        let mut day = after.max(anchor).to_zoned_datetime(zone.clone()).date().yesterday().ok()?;
        for _ in 0..SEARCH_MAX {
            if self.is_day(schedule, day, base.date()) {
                // Within a day, a later local time may be an earlier instant, so all are compared.
                let found = times
                    .iter()
                    .filter_map(|time| day.to_datetime(*time).to_zoned_datetime(zone.clone()).ok())
                    .map(|zoned| zoned.timestamp())
                    .filter(|moment| *moment > after && *moment >= anchor)
                    .min();
                if found.is_some() {
                    return found;
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn is_day(self, schedule: &RecurrenceSchedule, day: Date, base: Date) -> bool {
        match self.frequency {
            Frequency::Week => {
                let monday = |date: Date| days(date) - i64::from(date.weekday().to_monday_zero_offset());
                let weeks = (monday(day) - monday(base)) / 7;
                let wanted = match schedule.week_days.as_slice() {
                    [] => day.weekday() == base.weekday(),
                    wanted => wanted.contains(&(day.weekday().to_sunday_zero_offset() as u8)),
                };
                weeks % self.interval == 0 && wanted
            }
            Frequency::Month | Frequency::Year => {
                let month = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
                let step = self.interval * if self.frequency == Frequency::Year { 12 } else { 1 };
                (month(day) - month(base)) % step == 0 && is_month_day(schedule, day, base)
            }
            Frequency::Day => (days(day) - days(base)) % self.interval == 0,
            Frequency::Second | Frequency::Minute | Frequency::Hour => true,
        }
    }
}

fn is_month_day(schedule: &RecurrenceSchedule, day: Date, base: Date) -> bool {
    let from_end = day.day() - day.days_in_month() - 1;
    if schedule.month_days.is_empty() && schedule.monthly_occurrences.is_empty() {
        return day.day() == base.day();
    }
    schedule.month_days.iter().any(|wanted| *wanted == day.day() || *wanted == from_end)
        || schedule.monthly_occurrences.iter().any(|(weekday, occurrence)| {
            Weekday::from_sunday_zero_offset(*weekday as i8).is_ok_and(|weekday| weekday == day.weekday())
                && (*occurrence == (day.day() - 1) / 7 + 1 || *occurrence == (from_end + 1) / 7 - 1)
        })
}

/// The times of day of the schedule. Missing parts come from the anchor; minutes alone mean every hour.
fn times(schedule: &RecurrenceSchedule, base: Time) -> Vec<Time> {
    let hours: Vec<i8> = match (schedule.hours.as_slice(), schedule.minutes.as_slice()) {
        ([], []) => vec![base.hour()],
        ([], _) => (0..24).collect(),
        (hours, _) => hours.iter().map(|hour| *hour as i8).collect(),
    };
    let minutes: Vec<i8> = match schedule.minutes.as_slice() {
        [] => vec![base.minute()],
        minutes => minutes.iter().map(|minute| *minute as i8).collect(),
    };
    let at = |hour: i8| minutes.iter().filter_map(move |minute| Time::new(hour, *minute, 0, 0).ok());
    hours.iter().flat_map(|hour| at(*hour)).collect()
}

fn days(date: Date) -> i64 {
    let epoch = Date::constant(1970, 1, 1);
    epoch.until(date).map_or(0, |span| i64::from(span.get_days()))
}

/// Parses a timestamp; without `Z` or an offset it is a local time.
fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(moment) = Timestamp::from_str(text) {
        return Ok(moment);
    }
    let local = DateTime::from_str(text).and_then(|local| local.to_zoned_datetime(zone.clone()));
    local.map(|zoned| zoned.timestamp()).map_err(|_| format!("`{text}` is not a valid timestamp"))
}

#[cfg(test)]
mod tests;
