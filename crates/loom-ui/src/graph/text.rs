//! Text in drawings: how wide it is, how it is shortened, and which characters may appear.
//!
//! The width is an estimate, because the font is that of the reader's system. It errs on the wide side, and the drawing
//! clips what is still too wide.

use std::borrow::Cow;

use loom_expression::visible;

/// Widths of the characters from space to `~` in a common sans-serif font, in thousandths of the font size.
const ASCII: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// How much wider than the table a font may be.
const ALLOWANCE: f64 = 1.18;

/// The estimated width of a text, in the unit of `size`.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size * ALLOWANCE
}

fn advance(character: char) -> f64 {
    let code = u32::from(character);
    match code {
        0x20..=0x7e => f64::from(ASCII[(code - 0x20) as usize]) / 1000.0,
        // Latin, Greek, Cyrillic and their neighbours.
        0x7f..=0x10ff => 0.7,
        // Everything else may be as wide as it is high.
        _ => 1.05,
    }
}

/// The text, or its beginning with an ellipsis if it is wider than `room`.
pub(crate) fn fit(text: &str, room: f64, size: f64) -> Cow<'_, str> {
    if width(text, size) <= room {
        return Cow::Borrowed(text);
    }
    let room = room - width("…", size);
    let mut used = 0.0;
    let end = text.char_indices().find(|(_, character)| {
        used += advance(*character) * size * ALLOWANCE;
        used > room
    });
    let end = end.map_or(text.len(), |(at, _)| at);
    Cow::Owned(format!("{}…", text[..end].trim_end()))
}

/// The text without characters that XML forbids or that a reader cannot see.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let shown = visible(text);
    if shown.contains(['\u{fffe}', '\u{ffff}']) {
        return Cow::Owned(shown.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_does_not_fit_ends_in_an_ellipsis_and_then_fits() {
        assert_eq!(fit("short", 100.0, 13.0), "short");
        for text in ["a_very_long_name_of_an_action_that_goes_on", "漢字漢字漢字漢字漢字", "👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧"]
        {
            let fitted = fit(text, 100.0, 13.0);
            assert!(fitted.ends_with('…') && width(&fitted, 13.0) <= 100.0, "{fitted}");
        }
        assert_eq!(fit("narrow", 1.0, 13.0), "…");
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        assert_eq!(clean("a\0b\u{ffff}\u{202e}c"), "a\\u{0}b\u{fffd}\\u{202e}c");
    }
}
