//! The escapes of JSON strings. The readers of values and of definitions share them.

/// What an escape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A character, also one that is written as a pair of surrogates.
    Char(char),
    /// Half of a pair of surrogates, without the other half.
    Half(u16),
}

/// Reads the escape at the start of `bytes`: what it stands for, and its length in bytes. None if there is no valid escape.
///
/// ```
/// use loom_expression::json_escape::{Escape, read};
///
/// assert_eq!(read(br"\u00e9t\u00e9"), Some((Escape::Char('é'), 6)));
/// assert_eq!(read(br"\ud83d\ude00"), Some((Escape::Char('😀'), 12)));
/// assert_eq!(read(br"\ud83d!"), Some((Escape::Half(0xd83d), 6)));
/// assert_eq!(read(br"\x"), None);
/// ```
pub fn read(bytes: &[u8]) -> Option<(Escape, usize)> {
    let [b'\\', kind, ..] = bytes else { return None };
    let character = match kind {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(bytes)?;
            // Only the first half begins a pair.
            let pair = unit(&bytes[6..]).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
            return Some(match (char::from_u32(u32::from(first)), pair) {
                (Some(character), _) => (Escape::Char(character), 6),
                (None, Some(character)) => (Escape::Char(character), 12),
                (None, None) => (Escape::Half(first), 6),
            });
        }
        _ => return None,
    };
    Some((Escape::Char(character), 2))
}

/// The UTF-16 code unit of the escape at the start of `bytes`: `\u` and four hexadecimal digits.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_a_character_or_a_half() {
        for unit in 0..=u16::MAX {
            let text = format!("\\u{unit:04X}rest");
            let expected = char::from_u32(u32::from(unit)).map_or(Escape::Half(unit), Escape::Char);
            assert_eq!(read(text.as_bytes()), Some((expected, 6)), "{text}");
        }
    }

    #[test]
    fn pairs_are_joined_and_other_sequences_are_not() {
        let last = (Escape::Char(char::MAX), 12);
        assert_eq!(read(b"\\uDBFF\\uDFFF"), Some(last));
        for halves in ["\\ude00\\ud83d", "\\ud83d\\ud83d", "\\ud83d\\u0041", "\\ud83d\\n", "\\ud83d\\u"] {
            assert!(matches!(read(halves.as_bytes()), Some((Escape::Half(_), 6))), "{halves}");
        }
        for invalid in ["", "\\", "a", "\\u", "\\u12", "\\u12g4", "\\u+123", "\\é", "\\0"] {
            assert_eq!(read(invalid.as_bytes()), None, "{invalid}");
        }
    }
}
