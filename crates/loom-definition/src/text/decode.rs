//! Decodes the bytes of a file: UTF-8 with or without a byte order mark, UTF-16 in both byte orders.

use std::borrow::Cow;

/// The bytes of a file are not text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at byte {offset})")]
pub struct DecodeError {
    /// The offset of the first invalid byte.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Decodes a file. UTF-8 is borrowed unchanged, byte order mark included, so that offsets in the text are offsets in the
/// file. UTF-16 is recognised by its byte order mark or by a zero byte in the first pair; offsets are then those of the
/// UTF-8 form.
///
/// # Errors
/// [`DecodeError`] at the first byte that is neither UTF-8 nor UTF-16.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, DecodeError> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            Err(DecodeError { offset: 0, reason: "the file is UTF-32, which is not supported" })
        }
        [0xff, 0xfe, rest @ ..] => utf16(rest, 2, u16::from_le_bytes).map(Cow::Owned),
        [0xfe, 0xff, rest @ ..] => utf16(rest, 2, u16::from_be_bytes).map(Cow::Owned),
        [first, 0, _, ..] if *first != 0 => utf16(bytes, 0, u16::from_le_bytes).map(Cow::Owned),
        [0, first, _, ..] if *first != 0 => utf16(bytes, 0, u16::from_be_bytes).map(Cow::Owned),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(DecodeError { offset: error.valid_up_to(), reason: "the file is not UTF-8" }),
        },
    }
}

fn utf16(bytes: &[u8], mark: usize, unit: fn([u8; 2]) -> u16) -> Result<String, DecodeError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(DecodeError {
            offset: mark + bytes.len() - 1,
            reason: "the file is UTF-16 and ends in the middle of a character",
        });
    }
    let mut text = String::with_capacity(bytes.len());
    let mut offset = mark;
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match decoded {
            Ok(character) => {
                text.push(character);
                offset += character.len_utf16() * 2;
            }
            Err(_) => {
                return Err(DecodeError {
                    offset,
                    reason: "the file is UTF-16 and contains an unpaired surrogate",
                });
            }
        }
    }
    Ok(text)
}
