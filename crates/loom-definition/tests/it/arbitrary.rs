//! Loading any input returns a workflow or diagnostics and never panics.

use loom_definition::{Definition, LoadOptions, diagnostic::SourceFile, diagnostic::sarif, render, text};
use proptest::prelude::*;

/// A definition with most constructs, to be mutated.
const SEED: &str = include_str!("all_constructs.json");

fn load(bytes: &[u8]) {
    let diagnostics = match Definition::parse(bytes, &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics.0,
    };
    let source = text::decode(bytes).unwrap_or_default();
    for diagnostic in &diagnostics {
        assert!(diagnostic.span.start <= diagnostic.span.end);
        assert!(diagnostic.span.end <= bytes.len().max(source.len()));
        assert!(!render(diagnostic, &source, "file.json", false).is_empty());
        drop(diagnostic.to_json(&source));
    }
    drop(sarif(&[SourceFile { name: "file.json", source: &source, diagnostics: &diagnostics }]));
}

#[test]
fn the_seed_itself_loads() {
    let loaded = Definition::parse(SEED.as_bytes(), &LoadOptions::default());
    if let Err(diagnostics) = loaded {
        panic!("{diagnostics}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        load(&bytes);
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(text in r#"[\[\]{}:,"'@a-z0-9 \\/*.()é\n]{0,120}"#) {
        load(text.as_bytes());
    }

    #[test]
    fn a_definition_with_a_piece_cut_out_never_panics(start in 0..SEED.len(), length in 0usize..60) {
        let end = (start + length).min(SEED.len());
        let mut bytes = SEED.as_bytes().to_vec();
        bytes.drain(start..end);
        load(&bytes);
    }

    #[test]
    fn a_definition_with_a_piece_replaced_never_panics(
        which in any::<prop::sample::Index>(),
        by in prop::sample::select(vec!["null", "[]", "{}", "\"\"", "-1", "1e999", "\"@{\"", "\"@x(\"", "true", "[{}]"]),
    ) {
        // A whole value is replaced, so that the text remains valid JSON and is lowered.
        let values: Vec<usize> = SEED.match_indices(": ").map(|(at, _)| at + 2).collect();
        let at = values[which.index(values.len())];
        let rest = &SEED[at..];
        let end = value_end(rest);
        load(format!("{}{by}{}", &SEED[..at], &rest[end..]).as_bytes());
    }
}

/// The length of the JSON value at the start of `text`.
fn value_end(text: &str) -> usize {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 0 => return at,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => return at,
            _ => {}
        }
        if depth == 0 && !quoted && matches!(character, '}' | ']' | '"') && at > 0 {
            return at + character.len_utf8();
        }
    }
    text.len()
}
