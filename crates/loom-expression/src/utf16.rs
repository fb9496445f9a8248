//! Text by UTF-16 code units, in which the language counts lengths and places.
//!
//! Half a surrogate pair has no place in UTF-8, so a cut through a character leaves U+FFFD on both sides.

/// How many code units the text has.
pub(crate) fn length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() }
}

/// The code units from `start` up to `end`; both are within the text and in order.
pub(crate) fn slice(text: &str, start: usize, end: usize) -> String {
    if text.is_ascii() {
        return text[start..end].to_owned();
    }
    let mut slice = String::new();
    let mut at = 0;
    for c in text.chars() {
        let next = at + c.len_utf16();
        if at >= end {
            break;
        }
        if at >= start && next <= end {
            slice.push(c);
        } else if next > start && at < end {
            slice.push('\u{fffd}');
        }
        at = next;
    }
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_through_a_character_leaves_its_mark() {
        assert_eq!(length("a🌍b"), 4);
        assert_eq!(slice("a🌍b", 0, 3), "a🌍");
        assert_eq!(slice("a🌍b", 0, 2), "a\u{fffd}");
        assert_eq!(slice("a🌍b", 2, 4), "\u{fffd}b");
        assert_eq!(slice("a🌍b", 1, 1), "");
    }
}
