//! Custom number formats: `0 # . , % ‰ E0 'text' \x ;`.
//!
//! The rules are those of .NET's custom numeric format strings: a first pass over the chosen section counts its
//! places, a second one writes.

use super::{Digits, exponent, group_breaks};
use crate::culture::Culture;

/// Exponents of ten that a format may shift by; beyond it a format only wastes time.
const PLACES_MAX: usize = 10_000;

/// What a section asks for.
#[derive(Debug, Default)]
struct Layout {
    /// Digit places in all, and before the point.
    places: i64,
    before_point: i64,
    /// The first and the last place that must show a digit.
    first_zero: Option<i64>,
    last_zero: i64,
    scientific: bool,
    grouped: bool,
    /// Powers of ten by which the number is shifted first.
    shift: i64,
}

/// The number in a custom format; `None` when the format is absurdly long.
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
            // What is rounded to nothing is written by the section for zero.
            let zero = choose(&sections, 2);
            if zero != chosen {
                return Some(write(&scaled, &sections[zero], &self::layout(&sections[zero]), false, culture));
            }
        }
    }
    // Only the first section writes the sign itself; a section of its own for negative numbers shows it as it likes.
    let signed = negative && chosen == 0 && !scaled.is_zero();
    Some(write(&scaled, &sections[chosen], &layout, signed, culture))
}

/// The section for 0 positive, 1 negative, 2 zero; a missing or empty one is replaced by the first.
fn choose(sections: &[Vec<Part>], wanted: usize) -> usize {
    match sections.get(wanted) {
        Some(section) if wanted == 0 || !section.is_empty() => wanted,
        _ => 0,
    }
}

/// One piece of a section.
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
    /// `E0`, `e+00`: letter, whether a plus is shown, digits at least.
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
                    // A section shows its exponent once; what looks like a second one is text.
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
    // Where the last run of commas stands, and how many there are in it.
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
        // Commas right before the point divide by a thousand each.
        Some((at, count)) if at == layout.before_point => layout.shift -= 3 * count,
        Some(_) => layout.grouped = true,
        None => {}
    }
    layout
}

fn write(number: &Digits, section: &[Part], layout: &Layout, signed: bool, culture: &Culture) -> String {
    let before_point = layout.before_point;
    // Counted from the point: places down to 1 are before it, 0 and below behind it.
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
