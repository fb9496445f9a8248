//! Writes the expression language's table of cultures from the Unicode CLDR's JSON data.
//!
//! `cargo xtask cultures DIR`, where the directory (a `node_modules`) contains the npm packages `cldr-core`,
//! `cldr-dates-full` and `cldr-numbers-full`. Of the alternatives in CLDR, it takes those that .NET takes with ICU: names
//! in stand-alone and genitive form, the short date with a full year, the full date, the short and medium time, ASCII
//! digits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

const HEAD: &str = "\
# The cultures of the expression language, written by `cargo xtask cultures`. Do not edit.
#
# Names and patterns are data of the Unicode CLDR (version VERSION), which is
# Copyright © 1991-2026 Unicode, Inc., under the Unicode License v3 (https://www.unicode.org/license.txt):
# permission is granted, free of charge, to deal in the data files without restriction, provided that this
# copyright and permission notice appear with all copies; they come \"as is\", without warranty of any kind.
#
# n: months, months in a date, short months, short months in a date, days, short days; `=` stands for the same as
#    the field before.
# c: names, number of the `n` line from 0, decimal and group separator, those of currencies, group sizes, minus,
#    currency and its digits, its positive and negative pattern, percent pattern, am, pm, separators of dates and
#    times, patterns d D t T M Y, years that the calendar is ahead.
";

/// Values in the documentation of Logic Apps that differ from the current CLDR: culture, index of the field, value.
const DOCUMENTED: [(&str, usize, &str); 2] = [("is-IS", 8, "kr"), ("is-IS", 9, "2")];

/// Reads the packages in a directory and writes the table of the expression crate.
pub(crate) fn write(root: &Path, packages: &Path) -> Result<()> {
    let core = packages.join("cldr-core");
    let supplemental = |name: &str| read(&core.join(format!("supplemental/{name}.json")));
    let data = Data {
        packages,
        likely: supplemental("likelySubtags")?["supplemental"]["likelySubtags"].clone(),
        currencies: supplemental("currencyData")?["supplemental"]["currencyData"].clone(),
        calendars: supplemental("calendarPreferenceData")?["supplemental"]["calendarPreferenceData"].clone(),
    };
    let levels = read(&core.join("coverageLevels.json"))?["effectiveCoverageLevels"].clone();
    let locales: Vec<String> = levels
        .as_object()
        .context("coverage levels")?
        .iter()
        .filter(|(name, level)| *level == "modern" && *name != "und")
        .map(|(name, _)| name.clone())
        .collect();

    let mut names: Vec<String> = Vec::new();
    let mut cultures: BTreeMap<String, String> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for locale in &locales {
        let Some(tag) = data.tag(locale) else { continue };
        let Some(years_ahead) = data.years_ahead(&tag.region) else { continue };
        if !taken.insert((tag.language.clone(), tag.script.clone(), tag.region.clone())) {
            continue;
        }
        let dates = data.member(locale, "dates", "ca-gregorian", "dates")?["calendars"]["gregorian"].clone();
        let line = name_lines(&dates);
        let at = names.iter().position(|known| *known == line).unwrap_or_else(|| {
            names.push(line);
            names.len() - 1
        });
        let all = data.names(&tag, &locales);
        let mut fields = vec![all.join(" "), at.to_string()];
        fields.extend(data.numbers(locale, &tag.region)?);
        fields.extend(patterns(&dates));
        fields.push(years_ahead.to_string());
        for (culture, member, value) in DOCUMENTED {
            if all[0] == culture {
                value.clone_into(&mut fields[member]);
            }
        }
        cultures.insert(all[0].clone(), fields.join("\t"));
    }

    let version = read(&core.join("package.json"))?["version"].as_str().unwrap_or_default().to_owned();
    let mut text = HEAD.replace("VERSION", &version);
    for line in names {
        writeln!(text, "n\t{line}")?;
    }
    for line in cultures.values() {
        writeln!(text, "c\t{line}")?;
    }
    let path = root.join("crates/loom-expression/src/culture/cldr.txt");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

struct Data<'p> {
    packages: &'p Path,
    likely: Value,
    currencies: Value,
    calendars: Value,
}

/// A locale with all its subtags.
struct Tag {
    language: String,
    script: String,
    region: String,
}

impl Data<'_> {
    fn member(&self, locale: &str, package: &str, file: &str, member: &str) -> Result<Value> {
        let path = self.packages.join(format!("cldr-{package}-full/main/{locale}/{file}.json"));
        Ok(read(&path)?["main"][locale][member].clone())
    }

    /// The subtags of a locale, with likely subtags for those that are absent; `None` for variants.
    fn tag(&self, locale: &str) -> Option<Tag> {
        let (mut script, mut region) = (None, None);
        let mut parts = locale.split('-');
        let language = parts.next()?.to_owned();
        for part in parts {
            match part.len() {
                4 => script = Some(part.to_owned()),
                2 | 3 => region = Some(part.to_owned()),
                _ => return None,
            }
        }
        let keys = [
            region.as_ref().map(|region| format!("{language}-{region}")),
            script.as_ref().map(|script| format!("{language}-{script}")),
            Some(language.clone()),
        ];
        let likely = keys.into_iter().flatten().find_map(|key| self.likely[&key].as_str())?;
        let mut likely = likely.split('-').skip(1);
        let (likely_script, likely_region) = (likely.next()?, likely.next()?);
        Some(Tag {
            language,
            script: script.unwrap_or_else(|| likely_script.to_owned()),
            region: region.unwrap_or_else(|| likely_region.to_owned()),
        })
    }

    /// How many years the calendar of a region is ahead of the Gregorian one; `None` if it differs in other ways, too.
    fn years_ahead(&self, region: &str) -> Option<i64> {
        match (region, self.calendars[region][0].as_str()) {
            // In .NET, the calendar of Saudi Arabia is the Islamic one.
            ("SA", _) => None,
            (_, None | Some("gregorian")) => Some(0),
            (_, Some("buddhist")) => Some(543),
            _ => None,
        }
    }

    /// The names of a culture; the preferred one is first.
    fn names(&self, tag: &Tag, locales: &[String]) -> Vec<String> {
        let Tag { language, script, region } = tag;
        let same = |locale: &str| {
            self.tag(locale).is_some_and(|other| other.script == *script && other.region == *region)
        };
        let with_region = format!("{language}-{region}");
        let full = format!("{language}-{script}-{region}");
        let scripted = locales.iter().any(|locale| {
            let mut parts = locale.split('-');
            parts.next() == Some(language) && parts.next().is_some_and(|part| part.len() == 4)
        });
        let mut names = Vec::new();
        if same(&with_region) {
            names.push(with_region);
        }
        if scripted {
            names.push(full);
            let with_script = format!("{language}-{script}");
            if same(&with_script) {
                names.push(with_script);
            }
        }
        if same(language) {
            names.push(language.clone());
        }
        if names.is_empty() {
            names.push(format!("{language}-{script}-{region}"));
        }
        names
    }

    fn numbers(&self, locale: &str, region: &str) -> Result<Vec<String>> {
        let numbers = self.member(locale, "numbers", "numbers", "numbers")?;
        let symbols = &numbers["symbols-numberSystem-latn"];
        let symbol = |name: &str| symbols[name].as_str().map(plain);
        let decimal = symbol("decimal").unwrap_or_default();
        let group = symbol("group").unwrap_or_default();
        let pattern = |member: &str| {
            plain(
                numbers[format!("{member}Formats-numberSystem-latn")]["standard"]
                    .as_str()
                    .unwrap_or_default(),
            )
        };
        let sizes = pattern("decimal");
        let sizes =
            sizes.split('.').next().unwrap_or_default().rsplit(',').map(|group| group.len().to_string());
        let mut sizes: Vec<String> = sizes.collect();
        // The digits before the first comma are not a group.
        sizes.pop();

        let currency = self.currency(region);
        let digits = self.currencies["fractions"][&currency]["_digits"].as_str().unwrap_or("2").to_owned();
        let currencies = self.member(locale, "numbers", "currencies", "numbers")?;
        let sign = currencies["currencies"][&currency]["symbol"].as_str().map_or(currency.clone(), plain);
        let (positive, negative) = currency_patterns(&pattern("currency"));
        let percent = number_to_n(&pattern("percent")).replace('%', "$");
        Ok(vec![
            decimal.clone(),
            group.clone(),
            symbol("currencyDecimal").unwrap_or(decimal),
            symbol("currencyGroup").unwrap_or(group),
            sizes.join(","),
            symbol("minusSign").unwrap_or_default(),
            sign,
            digits,
            positive,
            negative,
            percent,
        ])
    }

    /// The current currency of a region.
    fn currency(&self, region: &str) -> String {
        let entries = self.currencies["region"][region].as_array().into_iter().flatten();
        let in_use = |(_, entry): &(&String, &Value)| entry["_to"].is_null() && entry["_tender"] != "false";
        let mut current = entries
            .filter_map(Value::as_object)
            .flat_map(serde_json::Map::iter)
            .filter(in_use)
            .collect::<Vec<_>>();
        current.sort_by_key(|(_, entry)| entry["_from"].as_str());
        current.last().map_or_else(|| "XDR".to_owned(), |(code, _)| (*code).clone())
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Removes marks of the writing direction.
fn plain(text: &str) -> String {
    text.replace(['\u{200e}', '\u{200f}', '\u{61c}'], "")
}

fn name_lines(dates: &Value) -> String {
    let list = |what: &str, context: &str, width: &str, keys: &[&str]| -> String {
        let values = &dates[what][context][width];
        keys.iter().map(|key| values[key].as_str().unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    let months = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
    let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let pair = |width: &str| {
        let (alone, in_date) =
            (list("months", "stand-alone", width, &months), list("months", "format", width, &months));
        let in_date = if in_date == alone { "=".to_owned() } else { in_date };
        format!("{alone}\t{in_date}")
    };
    [
        pair("wide"),
        pair("abbreviated"),
        list("days", "stand-alone", "wide", &days),
        list("days", "stand-alone", "abbreviated", &days),
    ]
    .join("\t")
}

/// The fields for am, pm, separators and patterns.
fn patterns(dates: &Value) -> Vec<String> {
    let text = |path: &[&str]| {
        let value = path.iter().fold(dates, |value, key| &value[*key]);
        value.as_str().or_else(|| value["_value"].as_str()).map(plain).unwrap_or_default()
    };
    let half = |half: &str| text(&["dayPeriods", "format", "abbreviated", half]);
    let skeleton = |name: &str| date_pattern(&text(&["dateTimeFormats", "availableFormats", name]));
    let time = |width: &str| time_pattern(&text(&["timeFormats", width]));
    let short_date = date_pattern(&text(&["dateFormats", "short"]));
    let long_time = time("medium");
    vec![
        half("am"),
        half("pm"),
        separator(&short_date, "dyM"),
        separator(&long_time, "Hhms"),
        short_date,
        date_pattern(&text(&["dateFormats", "full"])),
        time("short"),
        long_time,
        skeleton("MMMMd"),
        skeleton("yMMMM"),
    ]
}

/// Converts a date pattern of CLDR to one of .NET; years always have four digits.
fn date_pattern(pattern: &str) -> String {
    letters(pattern, |letter, count| match letter {
        'y' => "yyyy".to_owned(),
        'E' | 'c' | 'e' => if count == 4 { "dddd" } else { "ddd" }.to_owned(),
        'L' => "M".repeat(count),
        'G' => "g".to_owned(),
        other => other.to_string().repeat(count),
    })
}

fn time_pattern(pattern: &str) -> String {
    letters(pattern, |letter, count| match letter {
        'a' | 'b' | 'B' => "tt".to_owned(),
        'K' => "h".repeat(count),
        'k' => "H".repeat(count),
        other => other.to_string().repeat(count),
    })
    .replace('\u{202f}', " ")
    .trim()
    .to_owned()
}

/// Applies `change` to each run of equal letters outside quotes.
fn letters(pattern: &str, change: impl Fn(char, usize) -> String) -> String {
    let (mut text, mut quoted) = (String::new(), false);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        quoted ^= c == '\'';
        if quoted || !c.is_ascii_alphabetic() {
            text.push(c);
        } else {
            let count = 1 + std::iter::from_fn(|| chars.next_if_eq(&c)).count();
            text.push_str(&change(c, count));
        }
    }
    text
}

/// The separator between the first two parts of a pattern.
fn separator(pattern: &str, parts: &str) -> String {
    let Some(start) = pattern.find(|c| parts.contains(c)) else {
        return String::new();
    };
    let rest = &pattern[start..];
    let first = rest.chars().next().unwrap_or_default();
    let rest = rest.trim_start_matches(first);
    let (mut text, mut quoted) = (String::new(), false);
    for c in rest.chars() {
        if !quoted && parts.contains(c) {
            break;
        }
        quoted ^= c == '\'';
        if c != '\'' {
            text.push(c);
        }
    }
    text
}

/// Replaces the digits of a pattern by one `n`, and every white space by a plain space, as in .NET's patterns.
fn number_to_n(pattern: &str) -> String {
    let mut text = String::new();
    for c in pattern.chars() {
        match c {
            '#' | '0' | ',' | '.' if text.ends_with('n') => {}
            '#' | '0' | ',' | '.' => text.push('n'),
            c if c.is_whitespace() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

fn currency_patterns(pattern: &str) -> (String, String) {
    let (positive, negative) = pattern.split_once(';').unwrap_or((pattern, ""));
    let positive = number_to_n(positive).replace('¤', "$");
    let negative = match number_to_n(negative).replace('¤', "$") {
        none if none.is_empty() => format!("-{positive}"),
        negative => negative,
    };
    (positive, negative)
}
