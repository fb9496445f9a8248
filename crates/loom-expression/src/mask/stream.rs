//! Redacts secrets in text that arrives in pieces, such as the answer of a language model.
//!
//! A secret may be split between two pieces, so the end of the text is held back for as long as it may be the beginning of a
//! secret. Text that begins no secret passes at once.

use std::{borrow::Cow, ops::Range};

use super::{Finder, Masker};

/// A text in pieces, redacted.
///
/// ```
/// use loom_expression::{Masker, Value};
///
/// let masker = Masker::new();
/// masker.learn(&Value::from("hunter-2222").into_secret());
/// let mut stream = masker.stream();
/// assert_eq!(stream.push("the password is hun"), "the password is ");
/// assert_eq!(stream.push("ter-2222, keep it"), "*sanitized*, keep it");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Clone, Debug)]
pub struct MaskedStream {
    masker: Masker,
    /// What may be the beginning of a secret.
    held: String,
    /// The last character that has passed, which decides whether a short secret stands alone.
    before: Option<char>,
}

impl Masker {
    /// A text that will arrive in pieces.
    pub fn stream(&self) -> MaskedStream {
        MaskedStream { masker: self.clone(), held: String::new(), before: None }
    }
}

impl MaskedStream {
    /// Adds a piece. Returns what can be shown now.
    pub fn push<'t>(&mut self, piece: &'t str) -> Cow<'t, str> {
        if self.held.is_empty() && self.masker.is_empty() {
            self.before = piece.chars().next_back().or(self.before);
            return Cow::Borrowed(piece);
        }
        self.held.push_str(piece);
        let passes = match self.masker.finder() {
            Some(finder) => finder.passes(&self.held),
            None => self.held.len(),
        };
        Cow::Owned(self.release(passes))
    }

    /// Ends the text. Returns what was held back.
    pub fn finish(&mut self) -> String {
        self.release(self.held.len())
    }

    fn release(&mut self, passes: usize) -> String {
        let rest = self.held.split_off(passes);
        let text = std::mem::replace(&mut self.held, rest);
        let mut around = String::with_capacity(text.len() + 4);
        around.extend(self.before);
        let start = around.len();
        around.push_str(&text);
        self.before = text.chars().next_back().or(self.before);
        let mut masked = self.masker.mask(&around).into_owned();
        // No secret begins before the text: it would have been held back together with it.
        masked.drain(..start);
        masked
    }
}

impl Finder {
    /// The number of bytes at the start of `text` that no secret of the further text can include.
    fn passes(&self, text: &str) -> usize {
        let bytes = text.as_bytes();
        // Each begins somewhere in the text and has matched up to here: its start, and the secrets that begin like it.
        let mut begun: Vec<(usize, Range<usize>)> = Vec::new();
        for (at, byte) in bytes.iter().map(u8::to_ascii_lowercase).enumerate() {
            begun.push((at, 0..self.sorted.len()));
            begun.retain_mut(|(start, secrets)| {
                *secrets = self.narrowed(secrets, at - *start, byte);
                secrets.start < secrets.end
            });
        }
        let mut passes = begun.iter().map(|(start, _)| *start).min().unwrap_or(bytes.len());
        let found: Vec<Range<usize>> =
            self.automaton.find_overlapping_iter(text).map(|found| found.range()).collect();
        // A secret passes whole, and not before the next character shows whether it stands alone.
        while let Some(split) = found
            .iter()
            .filter(|place| place.end > passes || place.end == text.len())
            .map(|place| place.start)
            .min()
            && split < passes
        {
            passes = split;
        }
        while !text.is_char_boundary(passes) {
            passes -= 1;
        }
        passes
    }

    /// Those of `secrets`, which are equal up to `depth`, that have `byte` there.
    fn narrowed(&self, secrets: &Range<usize>, depth: usize, byte: u8) -> Range<usize> {
        let among = &self.sorted[secrets.clone()];
        let at = |secret: &[u8]| secret.get(depth).copied();
        let start = among.partition_point(|secret| at(secret).is_none_or(|found| found < byte));
        let end = among.partition_point(|secret| at(secret).is_none_or(|found| found <= byte));
        secrets.start + start..secrets.start + end
    }
}

#[cfg(test)]
mod tests {
    use crate::{MASK, Masker, Value};

    fn masker(secrets: &[&str]) -> Masker {
        let masker = Masker::new();
        for secret in secrets {
            masker.learn(&Value::from(*secret).into_secret());
        }
        masker
    }

    /// The text in pieces of `size` characters, redacted.
    fn streamed(masker: &Masker, text: &str, size: usize) -> String {
        let mut stream = masker.stream();
        let characters: Vec<char> = text.chars().collect();
        let mut shown = String::new();
        for piece in characters.chunks(size) {
            shown.push_str(&stream.push(&piece.iter().collect::<String>()));
        }
        shown.push_str(&stream.finish());
        shown
    }

    #[test]
    fn pieces_are_redacted_like_the_whole_text() {
        let masker = masker(&["hunter-2222", "hunter-2222-and-more", "größer-als-5", "7391", "aabaabaaab"]);
        let texts = [
            "it is hunter-2222-and-mole, HUNTER-2222-AND-MORE, hunter-222",
            "code 7391, not 73912 or x7391; at the end 7391",
            "größer-als-5 größer-als-4 grö",
            "aabaabaabaaabaab and aHVudGVyLTIyMjI= in base64",
            "",
        ];
        for text in texts {
            let whole = masker.mask(text).into_owned();
            for size in 1..=text.chars().count() + 1 {
                assert_eq!(streamed(&masker, text, size), whole, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_secret_is_never_shown_in_part_and_other_text_is_not_held_back() {
        let masker = masker(&["hunter-2222"]);
        let mut stream = masker.stream();
        assert_eq!(stream.push("Good day, "), "Good day, ");
        for piece in ["h", "unter", "-222"] {
            assert_eq!(stream.push(piece), "");
        }
        assert_eq!(stream.push("1"), "hunter-2221");
        assert_eq!(stream.push("hunter-2222"), "");
        assert_eq!(stream.push("!"), format!("{MASK}!"));
    }

    /// The control of the tests above: redacting each piece alone misses what is split.
    #[test]
    fn redacting_each_piece_shows_a_secret_that_is_split() {
        let masker = masker(&["hunter-2222"]);
        let shown: String = ["hunter", "-2222"].map(|piece| masker.mask(piece).into_owned()).concat();
        assert_eq!(shown, "hunter-2222");
    }

    #[test]
    fn a_secret_that_becomes_known_meanwhile_is_redacted_from_then_on() {
        let masker = Masker::new();
        let mut stream = masker.stream();
        assert_eq!(stream.push("it is sesame-open"), "it is sesame-open");
        masker.learn(&Value::from("open-sesame").into_secret());
        assert_eq!(stream.push(" and open-ses"), " and ");
        assert_eq!(stream.push("ame."), format!("{MASK}."));
    }
}
