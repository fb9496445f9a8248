//! `Culture`: how a locale writes dates and numbers: names of months and days, separators, patterns.
//!
//! The data comes from the Unicode CLDR, with .NET's choices among its variants. It covers the cultures that have
//! complete data in CLDR and use the Gregorian calendar or one that differs from it only in the number of the year.

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
    /// The sizes of digit groups, starting at the decimal point. The last size repeats; without sizes, digits are not
    /// grouped.
    pub(crate) groups: &'static [usize],
    pub(crate) minus: &'static str,
    pub(crate) currency: &'static str,
    pub(crate) currency_digits: usize,
    /// A pattern with `n` for the number and `$` for the symbol.
    pub(crate) currency_positive: &'static str,
    pub(crate) currency_negative: &'static str,
    pub(crate) percent: &'static str,
    pub(crate) months: [&'static str; 12],
    /// The names of months next to the number of a day.
    pub(crate) months_in_date: [&'static str; 12],
    pub(crate) months_short: [&'static str; 12],
    pub(crate) months_short_in_date: [&'static str; 12],
    /// The names of days, starting at Sunday.
    pub(crate) days: [&'static str; 7],
    pub(crate) days_short: [&'static str; 7],
    pub(crate) am: &'static str,
    pub(crate) pm: &'static str,
    pub(crate) date_separator: &'static str,
    pub(crate) time_separator: &'static str,
    /// The patterns of the standard formats `d`, `D`, `t`, `T`, `M`, `Y`.
    pub(crate) short_date: &'static str,
    pub(crate) long_date: &'static str,
    pub(crate) short_time: &'static str,
    pub(crate) long_time: &'static str,
    pub(crate) month_day: &'static str,
    pub(crate) year_month: &'static str,
    /// Whether a numeric date starts with the day, the month or the year.
    pub(crate) order: DateOrder,
    /// The difference between a year in the culture's calendar and in the Gregorian one.
    pub(crate) years_ahead: i64,
}

/// The order in which a culture writes day, month and year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DateOrder {
    MonthDayYear,
    DayMonthYear,
    YearMonthDay,
}

impl Culture {
    /// The culture-independent conventions, for machine-readable text.
    pub(crate) const INVARIANT: &'static Self = &table::INVARIANT;
    /// The default culture.
    pub(crate) const EN_US: &'static Self = &table::EN_US;

    /// The culture with this name, ignoring case. A language without a country (`de`) means its main culture.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        if name.is_empty() {
            return Some(Self::INVARIANT);
        }
        if name.eq_ignore_ascii_case(Self::EN_US.name) {
            return Some(Self::EN_US);
        }
        table::find(name)
    }

    /// The text after a group separator, if it starts with one. Cultures whose separator is a space or an apostrophe
    /// accept any variant of that character.
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
