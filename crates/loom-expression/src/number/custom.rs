//! Custom number formats: `0 # . , % ‰ E0 'text' \x ;`.
//!
//! The rules are those of .NET's custom numeric format strings. A first pass over the chosen section counts its digit
//! placeholders, a second one writes the number.

use super::{Digits, exponent, group_breaks};
use crate::culture::Culture;

/// The maximum power of ten that a format may scale by. A larger one would only waste time.
const PLACES_MAX: usize = 10_000;

/// The layout of a section.
#[derive(Debug, Default)]
struct Layout {
    /// The number of digit placeholders, in total and before the decimal point.
    places: i64,
    before_point: i64,
    /// The first and the last placeholder that is `0`, which always shows a digit.
    first_zero: Option<i64>,
    last_zero: i64,
    scientific: bool,
    grouped: bool,
    /// The power of ten that scales the number before it is written.
    shift: i64,
}

/// Formats a number with a custom format; `None` if the format exceeds the limits.
pub(super) fn format(number: Digits, format: &str, culture: &Culture) -> Option<String> {
    if format.len() > PLACES_MAX {
        return None;
    }
    let sections = sections(format);
    let wanted = match (number.is_zero(), number.negative) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let chosen = choose(&sections, wanted);
    let layout = layout(&sections[chosen]);
    let negative = number.negative && !number.is_zero();
    let mut scaled = number.shifted(layout.shift);
    let keep =
        if layout.scientific { layout.places } else { scaled.scale + layout.places - layout.before_point };
    if !scaled.is_zero() {
        scaled = scaled.keep(keep);
        if scaled.is_zero() {
            // A number that is rounded to zero uses the section for zero.
            let zero = choose(&sections, 2);
            if zero != chosen {
                return Some(write(&scaled, &sections[zero], &self::layout(&sections[zero]), false, culture));
            }
        }
    }
    // Only the first section adds the sign. A section for negative numbers has its own text for it.
    let signed = negative && chosen == 0 && !scaled.is_zero();
    Some(write(&scaled, &sections[chosen], &layout, signed, culture))
}

/// The section for positive (0), negative (1) or zero (2) numbers. A missing or empty section is replaced by the first.
fn choose(sections: &[Vec<Part>], wanted: usize) -> usize {
    match sections.get(wanted) {
        Some(section) if wanted == 0 || !section.is_empty() => wanted,
        _ => 0,
    }
}

/// A part of a section.
#[derive(Debug, PartialEq)]
enum Part {
    /// `0`.
    Zero,
    /// `#`.
    Digit,
    Point,
    Comma,
    /// `%` or `‰`.
    Scale(char, i64),
    /// `E0` or `e+00`: the letter, whether a plus sign is shown, and the minimum number of digits.
    Exponent(char, bool, usize),
    Text(char),
}

fn sections(format: &str) -> Vec<Vec<Part>> {
    let mut sections = vec![Vec::new()];
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        let part = match c {
            '0' => Part::Zero,
            '#' => Part::Digit,
            '.' => Part::Point,
            ',' => Part::Comma,
            '%' => Part::Scale('%', 2),
            '\u{2030}' => Part::Scale(c, 3),
            ';' => {
                sections.push(Vec::new());
                continue;
            }
            '\'' | '"' => {
                let section = sections.last_mut().expect("there is always a section");
                section.extend(chars.by_ref().take_while(|&inner| inner != c).map(Part::Text));
                continue;
            }
            '\\' => match chars.next() {
                Some(escaped) => Part::Text(escaped),
                None => continue,
            },
            'E' | 'e' => {
                let mut ahead = chars.clone();
                let sign = ahead.next_if(|&c| c == '+' || c == '-');
                let zeros = std::iter::from_fn(|| ahead.next_if_eq(&'0')).count();
                let section = sections.last_mut().expect("there is always a section");
                if zeros == 0 {
                    Part::Text(c)
                } else if section.iter().any(|part| matches!(part, Part::Exponent(..))) {
                    // A section has one exponent; a second one is literal text.
                    section.push(Part::Text(c));
                    section.extend(sign.map(Part::Text));
                    section.extend((1..zeros).map(|_| Part::Text('0')));
                    chars = ahead;
                    Part::Text('0')
                } else {
                    chars = ahead;
                    Part::Exponent(c, sign == Some('+'), zeros.min(10))
                }
            }
            c => Part::Text(c),
        };
        sections.last_mut().expect("there is always a section").push(part);
    }
    sections
}

fn layout(section: &[Part]) -> Layout {
    let mut layout = Layout { before_point: -1, ..Layout::default() };
    // The position and the length of the last run of commas.
    let mut commas: Option<(i64, i64)> = None;
    for part in section {
        match part {
            Part::Digit => layout.places += 1,
            Part::Zero => {
                layout.first_zero.get_or_insert(layout.places);
                layout.places += 1;
                layout.last_zero = layout.places;
            }
            Part::Point if layout.before_point < 0 => layout.before_point = layout.places,
            Part::Comma if layout.places > 0 && layout.before_point < 0 => {
                commas = Some(match commas {
                    Some((at, count)) if at == layout.places => (at, count + 1),
                    Some(_) => {
                        layout.grouped = true;
                        (layout.places, 1)
                    }
                    None => (layout.places, 1),
                });
            }
            Part::Scale(_, powers) => layout.shift += powers,
            Part::Exponent(..) => layout.scientific = true,
            Part::Point | Part::Comma | Part::Text(_) => {}
        }
    }
    if layout.before_point < 0 {
        layout.before_point = layout.places;
    }
    match commas {
        // Each comma directly before the decimal point divides by a thousand.
        Some((at, count)) if at == layout.before_point => layout.shift -= 3 * count,
        Some(_) => layout.grouped = true,
        None => {}
    }
    layout
}

fn write(number: &Digits, section: &[Part], layout: &Layout, signed: bool, culture: &Culture) -> String {
    let before_point = layout.before_point;
    // Counted from the decimal point: positions from 1 up are before it, 0 and below after it.
    let first = layout.first_zero.map_or(0, |at| (before_point - at).max(0));
    let last = if layout.last_zero > before_point { before_point - layout.last_zero } else { 0 };
    let scale = if number.is_zero() { 0 } else { number.scale };
    let (mut place, mut adjust) =
        if layout.scientific { (before_point, 0) } else { (scale.max(before_point), scale - before_point) };
    let shown = first.max(place + adjust.min(0));
    let breaks =
        if layout.grouped { group_breaks(culture, usize::try_from(shown).unwrap_or(0)) } else { Vec::new() };
    let breaks_before =
        |place: i64| place > 1 && usize::try_from(place - 1).is_ok_and(|left| breaks.contains(&left));

    let mut text = String::new();
    if signed {
        text.push_str(culture.minus);
    }
    let mut digits = number.places.iter().map(|&digit| char::from(b'0' + digit)).peekable();
    let mut point_written = false;
    for part in section {
        if matches!(part, Part::Zero | Part::Digit | Part::Point) {
            while adjust > 0 {
                text.push(digits.next().unwrap_or('0'));
                if breaks_before(place) {
                    text.push_str(culture.group);
                }
                place -= 1;
                adjust -= 1;
            }
        }
        match part {
            Part::Zero | Part::Digit => {
                let digit = if adjust < 0 {
                    adjust += 1;
                    (place <= first).then_some('0')
                } else {
                    digits.next().or((place > last).then_some('0'))
                };
                if let Some(digit) = digit {
                    text.push(digit);
                    if breaks_before(place) {
                        text.push_str(culture.group);
                    }
                }
                place -= 1;
            }
            Part::Point => {
                if place == 0
                    && !point_written
                    && (last < 0 || (before_point < layout.places && digits.peek().is_some()))
                {
                    text.push_str(culture.decimal);
                    point_written = true;
                }
            }
            Part::Comma => {}
            Part::Scale(symbol, _) => text.push(*symbol),
            Part::Exponent(letter, plus, width) => {
                let power = if number.is_zero() { 0 } else { number.scale - before_point };
                let written = exponent(power, *letter, *width, culture);
                text.push_str(&if *plus || power < 0 { written } else { written.replacen('+', "", 1) });
            }
            Part::Text(c) => text.push(*c),
        }
    }
    text
}
