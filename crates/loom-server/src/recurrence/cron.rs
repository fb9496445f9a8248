//! Computes the next occurrence of a cron expression in a time zone.

use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};
use loom_definition::trigger::{Cron, CronDay, CronWeekDay};

/// The maximum number of days or steps that are searched: more than any interval of the language.
pub(super) const SEARCH_MAX: usize = 60_000;

/// Hours that are searched beyond a hit. Clock changes are shorter, so no later local time is an earlier instant.
const CLOCK_CHANGE_MAX: u8 = 3;

/// The first occurrence after `after` and not before `anchor`.
pub(super) fn next(cron: &Cron, after: Timestamp, anchor: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let is_late_enough = |moment: &Timestamp| *moment > after && *moment >= anchor;
    let from = after.max(anchor).to_zoned_datetime(zone.clone()).date();
    // A day earlier, because a skipped hour may move a time past midnight.
    let mut day = from.yesterday().ok()?;
    for _ in 0..SEARCH_MAX {
        // Days that have passed completely are skipped.
        if is_day(cron, day) && last_of(day, zone).is_none_or(|last| is_late_enough(&last)) {
            let found = first_of_day(cron, day, zone, is_late_enough);
            if found.is_some() {
                return found;
            }
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// An instant later than any that a local time of the day can mean.
fn last_of(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let next = day.tomorrow().ok()?.to_datetime(Time::constant(CLOCK_CHANGE_MAX as i8, 0, 0, 0));
    next.to_zoned_datetime(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

fn first_of_day(
    cron: &Cron,
    day: Date,
    zone: &TimeZone,
    is_late_enough: impl Fn(&Timestamp) -> bool,
) -> Option<Timestamp> {
    let mut found: Option<(u8, Timestamp)> = None;
    for hour in &cron.hours {
        if found.is_some_and(|(first, _)| *hour > first + CLOCK_CHANGE_MAX) {
            break;
        }
        for minute in &cron.minutes {
            let hit = first_of_minute(cron, day, (*hour, *minute), zone, &is_late_enough);
            if let Some(hit) = hit
                && found.is_none_or(|(_, sooner)| hit < sooner)
            {
                found = Some((found.map_or(*hour, |(first, _)| first), hit));
            }
        }
    }
    found.map(|(_, hit)| hit)
}

/// The first hit within a minute of local time. Clocks are changed by whole minutes.
fn first_of_minute(
    cron: &Cron,
    day: Date,
    (hour, minute): (u8, u8),
    zone: &TimeZone,
    is_late_enough: impl Fn(&Timestamp) -> bool,
) -> Option<Timestamp> {
    let time = Time::new(hour as i8, minute as i8, 0, 0).ok()?;
    let wall = zone.to_ambiguous_timestamp(day.to_datetime(time));
    let mut begins: [Option<Timestamp>; 2] = [None, None];
    match (wall.offset(), cron.any_hour) {
        (AmbiguousOffset::Gap { .. }, true) => {}
        (AmbiguousOffset::Fold { .. }, true) => begins = [wall.earlier().ok(), wall.later().ok()],
        _ => begins[0] = wall.compatible().ok(),
    }
    let mut moments = begins.into_iter().flatten().flat_map(|begin| {
        let second =
            move |second: &u8| begin.checked_add(jiff::SignedDuration::from_secs((*second).into())).ok();
        cron.seconds.iter().filter_map(second)
    });
    moments.find(is_late_enough)
}

/// Whether a day matches. If both days of the month and of the week are given, one match is enough, unless the expression
/// requires both.
fn is_day(cron: &Cron, day: Date) -> bool {
    if !cron.months.contains(&(day.month() as u8)) {
        return false;
    }
    let in_month = || cron.month_days.iter().any(|wanted| is_month_day(*wanted, day));
    let in_week = || cron.week_days.iter().any(|wanted| is_week_day(*wanted, day));
    match (cron.month_days.is_empty(), cron.week_days.is_empty()) {
        (true, true) => true,
        (false, true) => in_month(),
        (true, false) => in_week(),
        (false, false) if cron.both_days => in_month() && in_week(),
        (false, false) => in_month() || in_week(),
    }
}

fn is_month_day(wanted: CronDay, day: Date) -> bool {
    let last = day.days_in_month();
    match wanted {
        CronDay::Day(wanted) => day.day() == wanted as i8,
        CronDay::Last(back) => day.day() == last - back as i8,
        CronDay::Working(wanted) => wanted as i8 <= last && day.day() == working(day, wanted as i8),
        CronDay::LastWorking => day.day() == working(day, last),
    }
}

/// The working day (Monday to Friday) nearest to day `wanted` of the month, without leaving the month.
fn working(day: Date, wanted: i8) -> i8 {
    let Ok(date) = Date::new(day.year(), day.month(), wanted) else { return 0 };
    match date.weekday() {
        Weekday::Saturday if wanted == 1 => 3,
        Weekday::Saturday => wanted - 1,
        Weekday::Sunday if wanted == day.days_in_month() => wanted - 2,
        Weekday::Sunday => wanted + 1,
        _ => wanted,
    }
}

fn is_week_day(wanted: CronWeekDay, day: Date) -> bool {
    let is = |week_day: u8| day.weekday().to_sunday_zero_offset() == week_day as i8;
    match wanted {
        CronWeekDay::Every(week_day) => is(week_day),
        CronWeekDay::Nth(week_day, which) => is(week_day) && (day.day() - 1) / 7 + 1 == which as i8,
        CronWeekDay::Last(week_day) => is(week_day) && day.day() + 7 > day.days_in_month(),
    }
}
