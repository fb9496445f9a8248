//! Strings by UTF-16 code units, in which the language counts lengths and indexes.
//!
//! Cutting through a character leaves an unpaired surrogate on each side. If both are joined again, they become the
//! character again.

use crate::{Value, value::TextBuilder};

/// The number of code units. The U+FFFD that represents an unpaired surrogate counts as one unit.
pub(crate) fn length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() }
}

/// The code units of a string value from `start` up to `end`, which must be in order and within the string.
pub(crate) fn slice(value: &Value, start: usize, end: usize) -> Value {
    let text = value.as_str().unwrap_or_default();
    if text.is_ascii() {
        return Value::from(&text[start..end]);
    }
    let mut slice = TextBuilder::default();
    let mut at = 0;
    for (place, c) in text.char_indices() {
        let next = at + c.len_utf16();
        if at >= end {
            break;
        }
        if at >= start && next <= end {
            slice.push_part(value, place..place + c.len_utf8());
        } else if next > start && at < end {
            let mut units = [0; 2];
            c.encode_utf16(&mut units);
            slice.push_half(if at < start { units[1] } else { units[0] });
        }
        at = next;
    }
    slice.finish()
}

/// Splits a string value into chunks of `size` code units, in one pass over the text.
pub(crate) fn chunks(value: &Value, size: usize) -> Vec<Value> {
    let text = value.as_str().unwrap_or_default();
    let mut pieces = Vec::new();
    let (mut piece, mut filled) = (TextBuilder::default(), 0);
    let mut full = |piece: &mut TextBuilder, filled: &mut usize| {
        if *filled == size {
            pieces.push(std::mem::take(piece).finish());
            *filled = 0;
        }
    };
    for (place, c) in text.char_indices() {
        if filled + c.len_utf16() > size {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                piece.push_half(*unit);
                filled += 1;
                full(&mut piece, &mut filled);
            }
        } else {
            piece.push_part(value, place..place + c.len_utf8());
            filled += c.len_utf16();
            full(&mut piece, &mut filled);
        }
    }
    if filled > 0 {
        pieces.push(piece.finish());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value, expected: &[u16]) {
        assert_eq!(value, &Value::from_utf16(expected));
    }

    #[test]
    fn a_cut_through_a_character_leaves_its_halves() {
        let text = Value::from("a🌍b");
        assert_eq!(length("a🌍b"), 4);
        check(&slice(&text, 0, 3), &[0x61, 0xD83C, 0xDF0D]);
        check(&slice(&text, 0, 2), &[0x61, 0xD83C]);
        check(&slice(&text, 2, 4), &[0xDF0D, 0x62]);
        check(&slice(&text, 1, 1), &[]);
        assert_eq!(slice(&text, 0, 2).as_str(), Some("a\u{fffd}"));
        // An unpaired surrogate is one unit, which stays unpaired.
        let half = slice(&text, 0, 2);
        check(&slice(&half, 1, 2), &[0xD83C]);
        assert_ne!(slice(&half, 1, 2), Value::from("\u{fffd}"));
        assert_ne!(slice(&half, 1, 2), slice(&text, 2, 3));
    }

    #[test]
    fn pieces_join_again() {
        let text = Value::from("ab🌍🌍c");
        for size in 1..8 {
            let pieces = chunks(&text, size);
            let lengths: Vec<usize> = pieces.iter().map(|piece| length(piece.as_str().unwrap())).collect();
            assert_eq!(lengths.iter().sum::<usize>(), 7);
            assert!(lengths.iter().rev().skip(1).all(|&length| length == size), "{size}: {lengths:?}");
            let mut joined = TextBuilder::default();
            for piece in &pieces {
                joined.push_value(piece);
            }
            assert_eq!(joined.finish(), text, "{size}");
        }
    }
}
