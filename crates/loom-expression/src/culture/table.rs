//! The table of cultures: two that are built in as code, and those of a text file, which are parsed when they are first used.

use std::sync::{LazyLock, OnceLock};

use super::{Culture, DateOrder};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const MONTHS_SHORT: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) const EN_US: Culture = Culture {
    name: "en-US",
    decimal: ".",
    group: ",",
    currency_decimal: ".",
    currency_group: ",",
    groups: &[3],
    minus: "-",
    currency: "$",
    currency_digits: 2,
    currency_positive: "$n",
    currency_negative: "-$n",
    percent: "n$",
    months: MONTHS,
    months_in_date: MONTHS,
    months_short: MONTHS_SHORT,
    months_short_in_date: MONTHS_SHORT,
    days: ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
    days_short: ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"],
    am: "AM",
    pm: "PM",
    date_separator: "/",
    time_separator: ":",
    short_date: "M/d/yyyy",
    long_date: "dddd, MMMM d, yyyy",
    short_time: "h:mm tt",
    long_time: "h:mm:ss tt",
    month_day: "MMMM d",
    year_month: "MMMM yyyy",
    order: DateOrder::MonthDayYear,
    years_ahead: 0,
};

pub(super) const INVARIANT: Culture = Culture {
    name: "",
    currency: "¤",
    currency_negative: "($n)",
    percent: "n $",
    short_date: "MM/dd/yyyy",
    long_date: "dddd, dd MMMM yyyy",
    short_time: "HH:mm",
    long_time: "HH:mm:ss",
    month_day: "MMMM dd",
    year_month: "yyyy MMMM",
    ..EN_US
};

/// The culture of this name in the text file, ignoring case.
pub(super) fn find(name: &str) -> Option<&'static Culture> {
    let table: &'static Table = &TABLE;
    let name = name.to_ascii_lowercase();
    let at = table.names.binary_search_by(|(known, _)| known.as_str().cmp(&name)).ok()?;
    let (line, culture) = table.cultures.get(table.names[at].1)?;
    // A test reads every line, so none of them is refused here.
    culture.get_or_init(|| table.read(line)).as_ref()
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::index(include_str!("cldr.txt")));

/// Where in the text file the cultures are; its head describes a line.
struct Table {
    /// Names in lower case, sorted, and the culture of each.
    names: Vec<(String, usize)>,
    /// Lines, and what was read from them.
    cultures: Vec<(&'static str, OnceLock<Option<Culture>>)>,
    /// Lines with names of months and days.
    words: Vec<&'static str>,
}

impl Table {
    fn index(text: &'static str) -> Self {
        let (mut names, mut cultures, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("n\t") {
                words.push(line);
            } else if let Some(line) = line.strip_prefix("c\t") {
                let called = line.split('\t').next().unwrap_or_default().split(' ');
                names.extend(called.map(|name| (name.to_ascii_lowercase(), cultures.len())));
                cultures.push((line, OnceLock::new()));
            }
        }
        names.sort();
        Self { names, cultures, words }
    }

    fn read(&self, line: &'static str) -> Option<Culture> {
        let mut fields = line.split('\t');
        let mut field = || fields.next();
        let name = field()?.split(' ').next()?;
        let mut words = self.words.get(field()?.parse::<usize>().ok()?)?.split('\t');
        let mut word = || words.next();
        let months = list(word()?)?;
        let months_in_date = same_or_list(word()?, months)?;
        let months_short = list(word()?)?;
        let months_short_in_date = same_or_list(word()?, months_short)?;
        let (days, days_short) = (list(word()?)?, list(word()?)?);
        let mut culture = Culture {
            name,
            decimal: field()?,
            group: field()?,
            currency_decimal: field()?,
            currency_group: field()?,
            groups: match field()? {
                "" => &[],
                "3" => &[3],
                "3,2" => &[3, 2],
                _ => return None,
            },
            minus: field()?,
            currency: field()?,
            currency_digits: field()?.parse().ok()?,
            currency_positive: field()?,
            currency_negative: field()?,
            percent: field()?,
            months,
            months_in_date,
            months_short,
            months_short_in_date,
            days,
            days_short,
            am: field()?,
            pm: field()?,
            date_separator: field()?,
            time_separator: field()?,
            short_date: field()?,
            long_date: field()?,
            short_time: field()?,
            long_time: field()?,
            month_day: field()?,
            year_month: field()?,
            order: DateOrder::MonthDayYear,
            years_ahead: field()?.parse().ok()?,
        };
        culture.order = match culture.short_date.chars().find(|c| "dMy".contains(*c))? {
            'd' => DateOrder::DayMonthYear,
            'M' => DateOrder::MonthDayYear,
            _ => DateOrder::YearMonthDay,
        };
        Some(culture)
    }
}

fn list<const N: usize>(text: &'static str) -> Option<[&'static str; N]> {
    text.split('|').collect::<Vec<_>>().try_into().ok()
}

fn same_or_list(text: &'static str, same: [&'static str; 12]) -> Option<[&'static str; 12]> {
    if text == "=" { Some(same) } else { list(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_culture_can_be_read() {
        for (name, at) in &TABLE.names {
            let culture = TABLE.read(TABLE.cultures[*at].0).unwrap_or_else(|| panic!("{name}"));
            assert!(!culture.decimal.is_empty() && culture.short_date.contains("yyyy"), "{name}");
            assert!(culture.months.iter().chain(&culture.days).all(|name| !name.is_empty()), "{name}");
        }
        assert!(TABLE.names.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    #[test]
    fn the_built_in_cultures_equal_those_of_the_file() {
        assert_eq!(format!("{:?}", find("en-us").unwrap()), format!("{EN_US:?}"));
    }

    #[test]
    fn a_language_alone_means_its_main_culture() {
        for (language, culture) in
            [("de", "de-DE"), ("EN", "en-US"), ("zh-hant", "zh-TW"), ("sr", "sr-RS"), ("es", "es-ES")]
        {
            assert_eq!(Culture::find(language).map(|found| found.name), Some(culture));
        }
        assert!(Culture::find("xx").is_none() && Culture::find("de-").is_none());
    }
}
