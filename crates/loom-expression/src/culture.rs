//! Cultures: names of months and days, separators, patterns.
//!
//! The data is the Unicode CLDR's with .NET's choices among it, for all cultures that CLDR knows well and whose
//! calendar is ours or only counts other years. A name that is not in it is an error, as an invalid locale is.

mod table;

/// How a culture writes numbers, dates and times.
#[derive(Debug)]
pub(crate) struct Culture {
    /// The name, such as `de-DE`.
    pub(crate) name: &'static str,
    pub(crate) decimal: &'static str,
    pub(crate) group: &'static str,
    pub(crate) currency_decimal: &'static str,
    pub(crate) currency_group: &'static str,
    /// Sizes of groups from the point on; the last repeats. None of them: nothing is grouped.
    pub(crate) groups: &'static [usize],
    pub(crate) minus: &'static str,
    pub(crate) currency: &'static str,
    pub(crate) currency_digits: usize,
    /// Patterns with `n` for the number and `$` for the symbol.
    pub(crate) currency_positive: &'static str,
    pub(crate) currency_negative: &'static str,
    pub(crate) percent: &'static str,
    pub(crate) months: [&'static str; 12],
    /// The months beside the number of a day.
    pub(crate) months_in_date: [&'static str; 12],
    pub(crate) months_short: [&'static str; 12],
    pub(crate) months_short_in_date: [&'static str; 12],
    /// From Sunday on.
    pub(crate) days: [&'static str; 7],
    pub(crate) days_short: [&'static str; 7],
    pub(crate) am: &'static str,
    pub(crate) pm: &'static str,
    pub(crate) date_separator: &'static str,
    pub(crate) time_separator: &'static str,
    /// Standard formats `d`, `D`, `t`, `T`, `M`, `Y`.
    pub(crate) short_date: &'static str,
    pub(crate) long_date: &'static str,
    pub(crate) short_time: &'static str,
    pub(crate) long_time: &'static str,
    pub(crate) month_day: &'static str,
    pub(crate) year_month: &'static str,
    /// Whether a date in numbers starts with the day, the month or the year.
    pub(crate) order: DateOrder,
    /// How many years the culture's calendar is ahead of ours.
    pub(crate) years_ahead: i64,
}

/// In which order a culture writes day, month and year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DateOrder {
    MonthDayYear,
    DayMonthYear,
    YearMonthDay,
}

impl Culture {
    /// The culture of no country, for what machines read.
    pub(crate) const INVARIANT: &'static Self = &table::INVARIANT;
    /// The default.
    pub(crate) const EN_US: &'static Self = &table::EN_US;

    /// The culture of this name, ignoring case; a language alone (`de`) means its main culture.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        if name.is_empty() {
            return Some(Self::INVARIANT);
        }
        if name.eq_ignore_ascii_case(Self::EN_US.name) {
            return Some(Self::EN_US);
        }
        table::find(name)
    }

    /// The text behind a group separator, if one starts it. Cultures that group by a space or an apostrophe accept
    /// any kind of it.
    pub(crate) fn strip_group<'t>(&self, text: &'t str) -> Option<&'t str> {
        if self.group.trim().is_empty() && !self.group.is_empty() {
            return text.strip_prefix([' ', '\u{a0}', '\u{202f}']);
        }
        if matches!(self.group, "’" | "'") {
            return text.strip_prefix(['’', '\'']);
        }
        text.strip_prefix(self.group).filter(|_| !self.group.is_empty())
    }
}
