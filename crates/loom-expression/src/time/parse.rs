//! Parses timestamps in the many formats that .NET accepts.
//!
//! The text is split into tokens, and each token is interpreted by its form: ISO 8601, numeric dates in the order of the
//! culture, names of months, times with AM and PM, `Z`, `GMT` and offsets. A text without a year or a month is rejected,
//! because parsing must not depend on the current date.

use super::{DateTime, Parts, TICKS_PER_SECOND, Zone};
use crate::{
    context::same_name,
    culture::{Culture, DateOrder},
    value::fold_char,
};

/// The largest valid offset from UTC, in minutes.
pub(super) const OFFSET_MINUTES_MAX: i64 = 14 * 60;

/// The maximum length of a timestamp, in bytes.
const LENGTH_MAX: usize = 200;

/// Parses a timestamp in the invariant culture.
pub(crate) fn parse(text: &str) -> Option<DateTime> {
    let text = text.trim();
    iso(text).or_else(|| parse_with(text, Culture::INVARIANT))
}

/// Parses a timestamp in a culture.
pub(crate) fn parse_with(text: &str, culture: &Culture) -> Option<DateTime> {
    let text = text.trim();
    if text.is_empty() || text.len() > LENGTH_MAX {
        return None;
    }
    iso(text).or_else(|| Reader::new(text, culture).read())
}

/// A fast path for the most common format, `yyyy-MM-ddTHH:mm:ss.fffffffZ`, with optional fraction and `Z`.
fn iso(text: &str) -> Option<DateTime> {
    let bytes = text.as_bytes();
    let two = |at: usize| -> Option<i64> {
        let digit =
            |at: usize| bytes.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i64::from(byte - b'0'));
        Some(digit(at)? * 10 + digit(at + 1)?)
    };
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let mut parts = Parts {
        year: two(0)? * 100 + two(2)?,
        month: two(5)? as u32,
        day: two(8)? as u32,
        hour: 0,
        minute: 0,
        second: 0,
        fraction: 0,
    };
    if !is(4, b'-') || !is(7, b'-') {
        return None;
    }
    if bytes.len() == 10 {
        return DateTime::from_parts(parts, Zone::Unspecified);
    }
    if !is(10, b'T') || !is(13, b':') || !is(16, b':') {
        return None;
    }
    (parts.hour, parts.minute, parts.second) = (two(11)?, two(14)?, two(17)?);
    let mut at = 19;
    if is(at, b'.') {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 7 {
            return None;
        }
        parts.fraction = fraction(&text[at + 1..at + 1 + digits])?;
        at += 1 + digits;
    }
    match &bytes[at..] {
        [] => DateTime::from_parts(parts, Zone::Unspecified),
        [b'Z'] => DateTime::from_parts(parts, Zone::Utc),
        _ => None,
    }
}

/// The ticks of a fraction of a second. More than seven digits are rounded, possibly up to a whole second.
pub(super) fn fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seven: i64 = format!("{:0<7}", &digits[..digits.len().min(7)]).parse().ok()?;
    let up = digits.as_bytes().get(7).is_some_and(|&digit| digit >= b'5');
    Some(seven + i64::from(up))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    /// Digits as written.
    Number(&'a str),
    Word(&'a str),
    Mark(char),
    Space,
}

/// The tokens of a text with their start offsets in bytes.
fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let class = |c: char| {
            if c.is_ascii_digit() {
                0
            } else if c.is_alphabetic() {
                1
            } else if c.is_whitespace() {
                2
            } else {
                3
            }
        };
        let length = match class(first) {
            3 => first.len_utf8(),
            kind => rest.find(|c| class(c) != kind).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        let start = text.len() - rest.len();
        tokens.push(match class(first) {
            0 => (start, Token::Number(token)),
            1 => (start, Token::Word(token)),
            2 => (start, Token::Space),
            _ => (start, Token::Mark(first)),
        });
        rest = after;
    }
    tokens
}

/// The parts of the timestamp that have been read so far.
struct Reader<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    culture: &'a Culture,
    numbers: Vec<&'a str>,
    month: Option<u32>,
    /// How many numbers were read before the name of the month.
    month_at: usize,
    weekday: Option<usize>,
    time: Option<(i64, i64, i64, i64)>,
    /// The hours that AM (0) or PM (12) adds.
    half: Option<i64>,
    /// Whether a time was read last, so that a hyphen starts an offset.
    after_time: bool,
    /// Minutes east of UTC.
    offset: Option<i64>,
    utc: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, culture: &'a Culture) -> Self {
        Self {
            text,
            tokens: tokens(text),
            at: 0,
            culture,
            numbers: Vec::new(),
            month: None,
            month_at: 0,
            weekday: None,
            time: None,
            half: None,
            after_time: false,
            offset: None,
            utc: false,
        }
    }

    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|(_, token)| *token)
    }

    /// The text from a token to the end.
    fn rest(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", |(start, _)| &self.text[*start..])
    }

    /// Skips `bytes` bytes from the start of the current token.
    fn skip(&mut self, bytes: usize) {
        let end = self.tokens.get(self.at).map_or(0, |(start, _)| start + bytes);
        self.at += self.tokens[self.at..].iter().take_while(|(start, _)| *start < end).count();
    }

    fn read(mut self) -> Option<DateTime> {
        while let Some(token) = self.peek(0) {
            match token {
                Token::Number(_) if self.time.is_none() && self.at_time_separator(1) => {
                    self.start_time()?;
                    self.read_time(1)?;
                }
                Token::Number(digits) => {
                    // "2 PM" is a time without minutes.
                    let behind = if self.peek(1) == Some(Token::Space) { 2 } else { 1 };
                    let hour =
                        matches!(self.peek(behind), Some(Token::Word(_))) && self.half_at(behind).is_some();
                    if self.time.is_none() && self.half.is_none() && hour {
                        self.start_time()?;
                        self.time = Some((short(digits)?.into(), 0, 0, 0));
                    } else if digits.len() > 4 || self.numbers.len() == 3 {
                        return None;
                    } else {
                        self.numbers.push(digits);
                        self.after_time = false;
                    }
                    self.at += 1;
                }
                Token::Mark(sign @ ('+' | '-'))
                    if matches!(self.peek(1), Some(Token::Number(_)))
                        && (sign == '+' || self.after_time || self.date_parts() == 3) =>
                {
                    self.read_offset()?;
                }
                Token::Word(word) => self.read_word(word)?,
                Token::Mark('/' | '-') => {
                    self.at += 1;
                    if matches!(self.peek(0), Some(Token::Mark(_))) {
                        return None;
                    }
                }
                Token::Space | Token::Mark('.' | ',') => self.at += 1,
                Token::Mark(_) => return None,
            }
        }
        self.finish()
    }

    /// How many of the parts year, month and day were read.
    fn date_parts(&self) -> usize {
        self.numbers.len() + usize::from(self.month.is_some())
    }

    /// Starts a time, which can be before or after the date but not within it.
    fn start_time(&mut self) -> Option<()> {
        self.after_time = true;
        matches!(self.date_parts(), 0 | 3).then_some(())
    }

    /// Whether the token separates parts of a time. In some cultures, dates and times have the same separator, so the
    /// culture's own separator counts only after the date.
    fn at_time_separator(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Some(Token::Mark(':')) => true,
            Some(Token::Mark('.')) => {
                self.culture.time_separator == "."
                    && self.date_parts() == 3
                    && matches!(self.peek(ahead + 1), Some(Token::Number(_)))
            }
            _ => false,
        }
    }

    /// Reads hours, minutes and optional seconds, each of at least `digits_min` digits.
    fn read_time(&mut self, digits_min: usize) -> Option<()> {
        let mut values = [0; 3];
        let mut count = 0;
        while let Some(Token::Number(digits)) = self.peek(0) {
            if count == 3 || digits.len() < digits_min {
                return None;
            }
            values[count] = short(digits)?.into();
            count += 1;
            self.at += 1;
            if !self.at_time_separator(0) {
                break;
            }
            self.at += 1;
            if !matches!(self.peek(0), Some(Token::Number(_))) {
                return None;
            }
        }
        let mut ticks = 0;
        if count == 3
            && let (Some(Token::Mark('.')), Some(Token::Number(digits))) = (self.peek(0), self.peek(1))
        {
            ticks = fraction(digits)?;
            self.at += 2;
        }
        self.time = Some((values[0], values[1], values[2], ticks));
        (count > 1).then_some(())
    }

    /// Reads what follows the `T` of ISO 8601: a time with two digits for each part, and a zone.
    fn read_iso_time(&mut self) -> Option<()> {
        let skip_space = |reader: &mut Self| {
            if reader.peek(0) == Some(Token::Space) {
                reader.at += 1;
            }
        };
        skip_space(self);
        self.read_time(2)?;
        skip_space(self);
        match self.peek(0) {
            Some(Token::Mark('+' | '-')) => self.read_offset()?,
            Some(Token::Word("Z" | "z")) => {
                self.utc = true;
                self.at += 1;
            }
            _ => {}
        }
        (self.at == self.tokens.len()).then_some(())
    }

    fn read_offset(&mut self) -> Option<()> {
        let sign = if self.peek(0) == Some(Token::Mark('-')) { -1 } else { 1 };
        let Some(Token::Number(hours)) = self.peek(1) else {
            return None;
        };
        self.at += 2;
        let (hours, minutes): (i64, i64) = match (hours.len(), self.peek(0), self.peek(1)) {
            (1 | 2, Some(Token::Mark(':')), Some(Token::Number(minutes))) if minutes.len() == 2 => {
                self.at += 2;
                (hours.parse().ok()?, minutes.parse().ok()?)
            }
            (1 | 2, ..) => (hours.parse().ok()?, 0),
            (3 | 4, ..) => {
                let (hours, minutes) = hours.split_at(hours.len() - 2);
                (hours.parse().ok()?, minutes.parse().ok()?)
            }
            _ => return None,
        };
        if hours * 60 + minutes > OFFSET_MINUTES_MAX || minutes > 59 || self.offset.is_some() || self.utc {
            return None;
        }
        self.offset = Some(sign * (hours * 60 + minutes));
        Some(())
    }

    /// The hours that the AM or PM designator at a token adds, and the length of the designator.
    fn half_at(&self, ahead: usize) -> Option<(usize, usize)> {
        let halves = |culture: &Culture| [culture.am, culture.pm];
        let rest = self.rest(ahead);
        longest(rest, &halves(self.culture)).or_else(|| longest(rest, &halves(Culture::INVARIANT)))
    }

    fn read_word(&mut self, word: &str) -> Option<()> {
        if word.eq_ignore_ascii_case("t") && self.numbers.len() == 3 && long(self.numbers[0]) {
            self.at += 1;
            return if self.time.is_none() { self.read_iso_time() } else { None };
        }
        if word.eq_ignore_ascii_case("z") || word.eq_ignore_ascii_case("gmt") {
            self.at += 1;
            let first = !self.utc && self.offset.is_none();
            self.utc = true;
            return first.then_some(());
        }
        if self.half.is_none()
            && let Some((half, length)) = self.half_at(0)
        {
            self.half = Some(12 * half as i64);
            self.skip(length);
            return Some(());
        }
        // For example, the character 日 after the number of a day is also the abbreviation of Sunday.
        let behind_number = self.at > 0 && matches!(self.tokens[self.at - 1].1, Token::Number(_));
        if behind_number && !word.is_ascii() && is_written_in_dates(word, self.culture) {
            self.at += 1;
            return Some(());
        }
        // English names are accepted in every culture.
        for culture in [self.culture, Culture::INVARIANT] {
            let months = [
                &culture.months,
                &culture.months_in_date,
                &culture.months_short,
                &culture.months_short_in_date,
            ];
            if let Some((month, length)) = longest(self.rest(0), &months.map(<[&str; 12]>::as_slice).concat())
            {
                self.skip(length);
                self.after_time = false;
                self.month_at = self.numbers.len();
                return self.month.replace(month as u32 % 12 + 1).is_none().then_some(());
            }
            if let Some((day, length)) = longest(self.rest(0), &[culture.days, culture.days_short].concat()) {
                self.skip(length);
                return self.weekday.replace(day % 7).is_none().then_some(());
            }
        }
        self.at += 1;
        is_written_in_dates(word, self.culture).then_some(())
    }

    fn finish(self) -> Option<DateTime> {
        let (year, month, day) = self.date()?;
        let (mut hour, minute, second, fraction) = self.time.unwrap_or_default();
        if let Some(half) = self.half {
            self.time?;
            // With PM, the hour may also be on a 24-hour clock.
            if hour > 12 && half == 0 {
                return None;
            }
            if hour <= 12 {
                hour = hour % 12 + half;
            }
        }
        let zone = match (self.utc, self.offset) {
            (true, _) => Zone::Utc,
            (false, Some(_)) => Zone::Offset,
            (false, None) => Zone::Unspecified,
        };
        let parts = Parts { year, month, day, hour, minute, second, fraction };
        let local = DateTime::from_parts(parts, zone)?;
        if self.weekday.is_some_and(|weekday| weekday != local.day_of_week()) {
            return None;
        }
        DateTime::at(local.ticks - self.offset.unwrap_or(0) * 60 * TICKS_PER_SECOND, zone)
    }

    /// The year, month and day from the numbers and names that were read.
    fn date(&self) -> Option<(i64, u32, u32)> {
        let year = |digits: &str| -> Option<i64> {
            let value: i64 = digits.parse().ok()?;
            let value = if long(digits) { value - self.culture.years_ahead } else { value };
            Some(match digits.len() {
                // Two digits stand for the years 1950 to 2049.
                1 | 2 if value < 50 => 2000 + value,
                1 | 2 => 1900 + value,
                _ => value,
            })
        };
        let order = self.culture.order;
        match (self.month, self.numbers.as_slice()) {
            (Some(month), [only]) if long(only) || self.number_is_year() => Some((year(only)?, month, 1)),
            (Some(month), [first, second]) if long(first) => Some((year(first)?, month, short(second)?)),
            (Some(month), [first, second]) if long(second) => Some((year(second)?, month, short(first)?)),
            (Some(month), [first, second]) => {
                let (day, of_year) =
                    if order == DateOrder::YearMonthDay { (second, first) } else { (first, second) };
                // Day and month are swapped if the date would not exist otherwise.
                [(day, of_year), (of_year, day)].into_iter().find_map(|(day, of_year)| {
                    let (day, year) = (short(day)?, year(of_year)?);
                    (1..=super::days_in_month(year, month)).contains(&day).then_some((year, month, day))
                })
            }
            (Some(_), _) => None,
            (None, [first, second]) if long(first) => Some((year(first)?, short(second)?, 1)),
            (None, [first, second]) if long(second) => Some((year(second)?, short(first)?, 1)),
            (None, [first, second, third]) if long(first) => {
                Some((year(first)?, short(second)?, short(third)?))
            }
            (None, [first, second, third]) => match order {
                DateOrder::MonthDayYear => Some((year(third)?, short(first)?, short(second)?)),
                DateOrder::DayMonthYear => Some((year(third)?, short(second)?, short(first)?)),
                // In cultures that start with the year, a last number of four digits is still the year.
                DateOrder::YearMonthDay if long(third) => Some((year(third)?, short(first)?, short(second)?)),
                DateOrder::YearMonthDay => Some((year(first)?, short(second)?, short(third)?)),
            },
            (None, _) => None,
        }
    }

    /// Whether a number next to the name of a month is a year rather than a day, by the order in which the culture writes
    /// them.
    fn number_is_year(&self) -> bool {
        let before = |pattern: &str, part: char| {
            let mut quoted = false;
            let first = pattern.chars().find(|&c| {
                quoted ^= c == '\'';
                !quoted && (c == part || c == 'M')
            });
            first == Some(part)
        };
        let number_first = self.month_at == 1;
        before(self.culture.month_day, 'd') != number_first
            && before(self.culture.year_month, 'y') == number_first
    }
}

/// The longest name that the text starts with and that ends at a word boundary, ignoring case, the kind of space and the
/// full stop of an abbreviation. Returns the index of the name and its length in the text.
fn longest(text: &str, names: &[&str]) -> Option<(usize, usize)> {
    let length = |name: &str| {
        let mut chars = text.char_indices();
        let same = name.trim_end_matches('.').chars().all(|c| {
            chars.next().is_some_and(|(_, other)| {
                fold_char(other) == fold_char(c) || (c.is_whitespace() && other.is_whitespace())
            })
        });
        let end = chars.next();
        let whole = same && end.is_none_or(|(_, next)| !next.is_alphabetic());
        whole.then(|| end.map_or(text.len(), |(at, _)| at)).filter(|&length| length > 0)
    };
    let found = names.iter().enumerate().filter_map(|(at, name)| Some((at, length(name)?)));
    // Among names of equal length, the first one is chosen.
    found.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Whether the word is literal text in the culture's date patterns, or follows the number in the name of a month.
fn is_written_in_dates(word: &str, culture: &Culture) -> bool {
    let patterns = [culture.short_date, culture.long_date, culture.month_day, culture.year_month];
    let in_pattern = |pattern: &str| {
        let mut quoted = false;
        let text: String = pattern
            .chars()
            .map(|c| {
                quoted ^= c == '\'';
                if c.is_alphabetic() && (quoted || !c.is_ascii()) { c } else { ' ' }
            })
            .collect();
        text.split(' ').any(|literal| same_name(literal, word))
    };
    let behind_number = |month: &str| {
        let name = month.trim_start_matches(|c: char| c.is_ascii_digit());
        name.len() < month.len() && name == word
    };
    patterns.into_iter().any(in_pattern) || culture.months.into_iter().any(behind_number)
}

/// Whether the number can only be a year.
fn long(digits: &str) -> bool {
    digits.len() > 2
}

fn short(digits: &str) -> Option<u32> {
    if long(digits) { None } else { digits.parse().ok() }
}
