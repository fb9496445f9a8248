use super::*;

#[test]
fn chunks_join_to_the_text_and_respect_the_token_limit() {
    let text = "The quick brown fox jumps over the lazy dog. Zwölf Boxkämpfer 😀 jagen Viktor. ".repeat(40);
    let tokenizer = tiktoken::get_encoding("cl100k_base").expect("it is built in");
    for tokens in [1, 2, 7, 64, 8_000] {
        let pieces = by_tokens(&text, "cl100k_base", tokens, 0).expect("the settings are valid");
        assert_eq!(pieces.concat(), text, "{tokens}");
        let counted = pieces.iter().map(|piece| tokenizer.count(piece));
        // A character that takes several tokens cannot be split.
        assert!(counted.max().unwrap_or_default() <= tokens.max(3), "{tokens}");
    }
}

#[test]
fn chunks_overlap_by_characters() {
    let pieces = by_tokens("aa bb cc dd ee ff", "o200k_base", 3, 3).expect("the settings are valid");
    assert!(pieces.len() > 2);
    for pair in pieces.windows(2) {
        assert_eq!(pair[0][pair[0].len() - 3..], pair[1][..3]);
    }
    // An overlap longer than a chunk must not prevent progress.
    assert!(by_tokens("one two three", "cl100k_base", 1, 500).expect("the settings are valid").len() >= 3);
}

#[test]
fn errors_name_the_invalid_setting() {
    let error = by_tokens("x", "no_base", 5, 0).expect_err("unknown encoding");
    assert!(error.message.contains("cl100k_base"), "{error}");
    for tokens in [0, TOKENS_MAX + 1] {
        assert_eq!(by_tokens("x", "cl100k_base", tokens, 0).expect_err("range").code, "InvalidChunkSettings");
    }
    assert_eq!(by_tokens("", "cl100k_base", 5, 0), Ok(Vec::new()));
}
