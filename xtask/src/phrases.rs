//! Phrases that must not come back: sentences that a native reader stumbles over, each with its plain replacement.
//!
//! Used by `tidy` for every Rust and Markdown file. `docs/style.md` explains the reasons. Single words are left to the
//! reader's judgement, so every entry is a phrase.

/// A phrase and its replacement. Phrases are in lower case, and `*` stands for any one word. A phrase does not match after
/// "there": "there is no run that …" is plain English.
const PHRASES: &[(&str, &str)] = &[
    // Inversions and negations.
    ("is no * of", "is not a … of"),
    ("is no * that", "is not a … that"),
    ("are no * of", "are not … of"),
    ("are no * that", "are not … that"),
    ("is no time", "is not a valid timestamp"),
    ("is no number", "is not a number"),
    ("is no boolean", "is not a boolean"),
    ("is no string", "is not a string"),
    ("is no duration", "is not a duration"),
    ("is no expression", "is not an expression"),
    ("is no json", "is not JSON"),
    ("is no method", "is not a method"),
    ("is no object", "is not an object"),
    ("is no array", "is not an array"),
    ("is no directory", "is not a directory"),
    ("should be here, not", "expected …, found …"),
    ("that it was, is", "subject, verb, object"),
    ("nobody that is trusted", "an unknown authority"),
    ("of no use", "cannot be used"),
    // Odd verbs.
    ("goes on", "continues"),
    ("go on with", "continue"),
    ("can go on", "can continue"),
    ("to go on", "to continue"),
    ("is told", "is reported, or receives"),
    ("are told", "are reported, or receive"),
    ("stand still", "suspend"),
    ("stands still", "is suspended"),
    ("let a * be", "an imperative verb"),
    ("let a * stand", "an imperative verb"),
    ("what ails", "what is wrong with"),
    ("counts for", "applies to"),
    ("may not stand", "is not allowed"),
    ("are looked at", "are checked"),
    ("not looked at", "ignored"),
    ("lies beside", "is next to"),
    ("lie beside", "are next to"),
    ("stands beside", "is next to"),
    ("in the eyes of", "according to"),
    ("as many * as may be", "the limit"),
    ("may only stand", "is only allowed"),
    ("stand in double quotes", "must be in double quotes"),
    ("stands in double quotes", "must be in double quotes"),
    ("carry out", "execute"),
    ("carried out", "executed"),
    ("by itself", "automatically, or alone"),
    ("leave at once", "exit immediately"),
    ("is left out", "is omitted, or ignored"),
    ("are left out", "are omitted, or ignored"),
    ("makes no sense", "is not valid"),
    ("is taken for", "is treated as, or mistaken for"),
    ("are taken for", "are treated as, or mistaken for"),
    ("takes the place of", "replaces"),
    ("take the place of", "replace"),
    ("is given up", "is abandoned, or dropped"),
    ("is let go", "is dropped, or closed"),
    ("handed on", "passed on"),
    ("hands on", "passes on"),
    ("begins anew", "starts again"),
    ("begin anew", "start again"),
    ("hears of", "learns of, or receives"),
    ("without a word", "silently"),
    ("as it came", "unchanged"),
    ("whoever", "anyone who, or the reader, caller or watcher that"),
    ("not a loss of power", "may be lost on power failure"),
    ("depends on luck", "fails under some seeds"),
    ("depend on luck", "fail under some seeds"),
    ("its own proof", "signed"),
    ("their own proof", "signed"),
    ("leave a choice", "are ambiguous"),
    ("is reckoned", "is computed"),
    ("are reckoned", "are computed"),
    ("under the byte", "under its position"),
    ("time that jumps", "virtual time"),
    // Vague nouns.
    ("time limit", "timeout"),
    ("time limits", "timeouts"),
    ("once more", "again"),
];

/// Reports every listed phrase in `text`, which is the content of the file `shown`.
pub(crate) fn check(shown: &str, text: &str, findings: &mut Vec<String>) {
    let words = words(text);
    for (phrase, replacement) in PHRASES {
        let wanted: Vec<&str> = phrase.split(' ').collect();
        for (at, found) in words.windows(wanted.len()).enumerate() {
            let after_there = at > 0 && words[at - 1].text == "there" && !words[at - 1].ends;
            if matches(&wanted, found) && !after_there {
                let line = found[0].line;
                findings
                    .push(format!("{shown}:{line}: \"{phrase}\": write \"{replacement}\" (docs/style.md)"));
            }
        }
    }
}

/// A word in lower case, its line, and whether punctuation separates it from the next one.
struct Word {
    text: String,
    line: usize,
    comma: bool,
    ends: bool,
}

/// Whether `found` are the words of a phrase, with the punctuation of the phrase and no other.
fn matches(wanted: &[&str], found: &[Word]) -> bool {
    let last = wanted.len() - 1;
    wanted.iter().zip(found).enumerate().all(|(index, (wanted, found))| {
        let (wanted, comma) = wanted.strip_suffix(',').map_or((*wanted, false), |word| (word, true));
        (wanted == "*" || wanted == found.text)
            && (index == last || (found.comma == comma && (comma || !found.ends)))
    })
}

/// The words of a text. A line break within a comment or a paragraph separates words as a space does. An identifier with
/// underscores is one word, so names in code never match.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let content = trimmed.trim_start_matches(['/', '!', '>', '#']);
        if content.trim().is_empty() {
            end(&mut words);
        }
        let mut rest = content;
        while let Some(start) = rest.find(is_part_of_word) {
            separate(&mut words, &rest[..start]);
            let length = rest[start..].find(|c: char| !is_part_of_word(c)).unwrap_or(rest.len() - start);
            let text = rest[start..start + length].to_lowercase();
            words.push(Word { text, line: index + 1, comma: false, ends: false });
            rest = &rest[start + length..];
        }
        separate(&mut words, rest.trim_end_matches('\\'));
    }
    words
}

/// Records what separates the last word from the next one.
fn separate(words: &mut [Word], between: &str) {
    match between.trim() {
        "" => {}
        "," => {
            if let Some(last) = words.last_mut() {
                last.comma = true;
            }
        }
        _ => end(words),
    }
}

fn end(words: &mut [Word]) {
    if let Some(last) = words.last_mut() {
        last.ends = true;
    }
}

fn is_part_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '\''
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check("a.rs", text, &mut findings);
        findings
    }

    #[test]
    fn a_planted_phrase_is_reported_with_its_line_and_replacement() {
        let text = "//! Heads.\n\nfn run() {\n    // A run Goes On after a crash.\n}\n";
        assert_eq!(found(text), [r#"a.rs:4: "goes on": write "continues" (docs/style.md)"#]);
    }

    #[test]
    fn every_listed_phrase_is_found() {
        for (phrase, _) in PHRASES {
            let planted = phrase.replace('*', "run");
            assert!(found(&format!("Say that {planted} here")).len() == 1, "{phrase}");
        }
    }

    #[test]
    fn a_phrase_may_span_lines() {
        for text in ["/// It stands\n/// still.", "It stands\nstill.", "    \"It stands \\\n     still\""] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
        assert!(found("It stands\n\nstill.").is_empty(), "a blank line ends a paragraph");
    }

    #[test]
    fn other_words_and_punctuation_do_not_match() {
        for text in [
            "fn goes_on() {}",
            "the cargoes on board",
            "it goes. On the way",
            "there is no run that waits",
            "is no longer used",
            "let a = be",
            "let a (first) be",
        ] {
            assert!(found(text).is_empty(), "{text}: {:?}", found(text));
        }
    }
}
