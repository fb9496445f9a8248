//! The action `ChunkText`: splits text into chunks of a limited number of tokens, counted by a language model's tokenizer.

use tiktoken::CoreBpe;

use crate::Error;

/// The limit on the tokens of one chunk, which is that of the hosted service.
pub const TOKENS_MAX: usize = 8_000;

/// The built-in encodings: the name in definitions and the name of the tokenizer.
const ENCODINGS: [(&str, &str); 7] = [
    ("cl100k_base", "cl100k_base"),
    ("o200k_base", "o200k_base"),
    // The designer writes `cl200k_base` for the encoding of gpt-4o, which is really called `o200k_base`.
    ("cl200k_base", "o200k_base"),
    ("o200k_harmony", "o200k_harmony"),
    ("p50k_base", "p50k_base"),
    ("p50k_edit", "p50k_edit"),
    ("r50k_base", "r50k_base"),
];

/// Splits `text` into chunks of at most `tokens` tokens. Each chunk after the first starts with the last `overlap`
/// characters of the previous chunk, if that chunk is longer.
///
/// # Errors
/// `InvalidChunkSettings` if the encoding is unknown or `tokens` is not between 1 and [`TOKENS_MAX`].
///
/// ```
/// let pieces = loom_transform::chunk::by_tokens("one two three four", "cl100k_base", 2, 0).unwrap();
/// assert_eq!(pieces, ["one two", " three four"]);
/// ```
pub fn by_tokens(text: &str, encoding: &str, tokens: usize, overlap: usize) -> Result<Vec<String>, Error> {
    let wrong = |message: String| Error::new("InvalidChunkSettings", message);
    let known = ENCODINGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(encoding));
    let Some(tokenizer) = known.and_then(|(_, name)| tiktoken::get_encoding(name)) else {
        let names: Vec<&str> = ENCODINGS.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        return Err(wrong(format!("The encoding model '{encoding}' is not supported; use one of {names}.")));
    };
    if !(1..=TOKENS_MAX).contains(&tokens) {
        return Err(wrong(format!("'tokenSize' must be between 1 and {TOKENS_MAX} (got {tokens}).")));
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = start + first_piece(&text[start..], tokenizer, tokens);
        pieces.push(text[start..end].to_owned());
        if end == text.len() {
            break;
        }
        let back =
            text[start..end].char_indices().rev().nth(overlap.wrapping_sub(1)).map(|(at, _)| start + at);
        start = match back {
            Some(back) if overlap > 0 && back > start => back,
            _ => end,
        };
    }
    Ok(pieces)
}

/// The length in bytes of the first chunk of `text`: at most `tokens` tokens, but at least one character.
fn first_piece(text: &str, tokenizer: &CoreBpe, tokens: usize) -> usize {
    // Encode only as much text as one chunk may need; few tokens are longer than eight bytes.
    let mut window = tokens * 8;
    loop {
        let mut end = window.min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let encoded = tokenizer.encode(&text[..end]);
        if encoded.len() <= tokens {
            if end == text.len() {
                return end;
            }
            window *= 2;
            continue;
        }
        // A token may end inside a character, and a chunk encoded on its own may have a different number of tokens.
        let mut taken = tokens;
        while taken > 0 {
            if let Ok(piece) = tokenizer.decode_to_string(&encoded[..taken])
                && text.starts_with(&piece)
                && tokenizer.count(&piece) <= tokens
            {
                return piece.len();
            }
            taken -= 1;
        }
        return text.chars().next().map_or(0, char::len_utf8);
    }
}

#[cfg(test)]
mod tests;
