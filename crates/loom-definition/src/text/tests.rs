//! The reader: what it accepts, what it tolerates, and where it reports an error.

use super::*;

fn read_all(source: &str) -> Result<Read, Box<ReadError>> {
    read(source, &Limits::default())
}

#[track_caller]
fn check(source: &str, expected: &str) {
    let read = read_all(source).expect("the text is read");
    assert_eq!(read.root.to_value().to_json_text(), expected);
}

/// Expects an error: the text that it marks, and a part of its message and of its hint.
#[track_caller]
fn fails(source: &str, marked: &str, message: &str, hint: &str) {
    let error = read_all(source).expect_err("the text is invalid");
    assert_eq!(&source[error.place.range()], marked, "{error:?}");
    assert!(error.message.contains(message), "{error:?}");
    assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error:?}");
}

#[test]
fn json_is_read_as_it_is() {
    check(r#"{"a": [1, -2, 3.5, 1e2, true, false, null, "x"], "b": {}}"#, r#"{"a":[1,-2,3.5,1e2,true,false,null,"x"],"b":{}}"#.replace("1e2", &Value::from(100.0).to_json_text()).as_str());
    check("\u{feff}[]", "[]");
    check(" \t\r\n\"\"", "\"\"");
    check(r#""\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00""#, "\"\\\"\\\\/\\b\\f\\n\\r\\tAé😀\"");
    check("9223372036854775807", "9223372036854775807");
}

use loom_expression::Value;

#[test]
fn comments_trailing_commas_and_repeated_keys_are_noted() {
    let source = "{ // one\n \"a\": [1, /* two */ 2,], \"b\": 1, \"b\": 2, }";
    let read = read_all(source).expect("the text is read");
    let kinds: Vec<(&str, &str)> = read
        .notes
        .iter()
        .map(|note| {
            let kind = match &note.kind {
                NoteKind::Comment => "comment",
                NoteKind::TrailingComma => "comma",
                NoteKind::DuplicateKey { first, .. } => &source[first.range()],
                NoteKind::LoneSurrogate => "surrogate",
            };
            (kind, &source[note.place.range()])
        })
        .collect();
    assert_eq!(
        kinds,
        [("comment", "// one"), ("comment", "/* two */"), ("comma", ","), ("\"b\"", "\"b\""), ("comma", ",")]
    );
    assert_eq!(read.root.get("b").and_then(Node::integer), Some(2));
}

#[test]
fn repeated_keys_are_found_in_large_objects_too() {
    let members: Vec<String> = (0..200).map(|index| format!("\"k{index}\": 0")).collect();
    let source = format!("{{{}, \"k150\": 1}}", members.join(", "));
    let read = read_all(&source).expect("the text is read");
    assert_eq!(read.notes.len(), 1);
    assert_eq!(read.root.get("k150").and_then(Node::integer), Some(1));
}

#[test]
fn errors_have_positions_and_hints() {
    fails("{\"a\": 1 \"b\": 2}", "\"", "expected `,` or `}`, found `\"`", "add a comma");
    fails("{'a': 1}", "'", "expected a property name in double quotes", "double quotes");
    fails("{a: 1}", "a", "expected a property name in double quotes", "double quotes");
    fails("[True]", "True", "expected a JSON value, found `True`", "`true`");
    fails("[None]", "None", "expected a JSON value, found `None`", "`null`");
    fails("[01]", "01", "must not start with 0", "leading zeros");
    fails("[1.]", "]", "expected a digit, found `]`", "");
    fails("[\"a\\x\"]", "\\x", "invalid escape", "\\\\");
    fails("[\"a\\u12G4\"]", "\\u12", "four hexadecimal digits", "");
    fails("[\"a\tb\"]", "\t", "control character U+0009", "\\t");
    fails("[\"a\nb\"]", "\"a", "unterminated string", "\\n");
    fails("{} {}", "{", "expected the end of the file, found `{`", "closes too early");
    fails("[1}", "}", "expected `,` or `]`, found `}`", "mismatched bracket");
    fails("[so]", "so", "expected a JSON value", "strings must be in double quotes");
    fails("", "", "empty", "");
    fails("// nothing", "", "only comments", "");
}

#[test]
fn yaml_is_recognised() {
    for (source, line) in [
        ("triggers:\n  manual:\n    type: Request\n", "triggers:"),
        ("---\ndefinition:\n", "---"),
        ("\n# A workflow\ntriggers: {}\n", "# A workflow"),
        ("$schema: https://schema\r\nactions: {}", "$schema: https://schema"),
        ("- type: Compose", "- type: Compose"),
    ] {
        fails(source, line, "expected JSON, found YAML", "convert the file to JSON");
    }
    // These are broken in other ways.
    fails("type", "type", "expected a JSON value", "double quotes");
    fails("-", "", "expected a digit", "");
}

#[test]
fn a_truncated_text_shows_the_open_bracket() {
    let source = "{\n  \"actions\": {\n    \"A\": [1, 2";
    let error = read_all(source).expect_err("the text is truncated");
    assert_eq!(error.kind, ReadErrorKind::Truncated);
    assert_eq!(error.place.start as usize, source.len());
    assert_eq!(&source[error.related[0].0.range()], "[");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("3 brackets are not closed")));
    assert_eq!(position(source, error.place.start as usize), Position { line: 3, column: 15 });
}

#[test]
fn every_prefix_of_a_text_is_refused_as_truncated() {
    let source = r#"{"a": [true, "b\u00e9", {"c": -1.5e3}], "d": null}"#;
    for end in 0..source.len() {
        let error = read_all(&source[..end]).expect_err("a prefix is not a value");
        let open_word =
            matches!(&source[..end], prefix if prefix.ends_with(|c: char| c.is_ascii_alphabetic()));
        assert!(
            error.kind == ReadErrorKind::Truncated || open_word || source[..end].contains("\\u"),
            "{end}: {error:?}"
        );
    }
}

#[test]
fn depth_and_size_have_limits() {
    let limits = Limits { bytes: 100, depth: 3 };
    let deep = read("[[[[]]]]", &limits).expect_err("too deep");
    assert_eq!(deep.kind, ReadErrorKind::TooDeep);
    assert_eq!(deep.related[0].1, "inside this one", "every bracket is closed");
    assert!(read("[[[]]]", &limits).is_ok());
    let long = format!("\"{}\"", "x".repeat(100));
    assert_eq!(read(&long, &limits).expect_err("too large").kind, ReadErrorKind::TooLarge);
    let deep = "[".repeat(1_000_000);
    assert_eq!(read_all(&deep).expect_err("too deep").kind, ReadErrorKind::TooDeep);
}

#[test]
fn utf16_and_marks_are_decoded() {
    let text = "{\"ä\": \"😀\"}";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (mark, bytes) in
        [(&[0xff, 0xfe][..], &little), (&[][..], &little), (&[0xfe, 0xff], &big), (&[], &big)]
    {
        let file = [mark, bytes].concat();
        assert_eq!(decode(&file).expect("the bytes are text"), text);
    }
    assert_eq!(decode(&[b'[', 0xff]).expect_err("not UTF-8").offset, 1);
    assert!(decode(&[0xff, 0xfe, b'[', 0, b']']).is_err());
    assert!(decode(&[0xff, 0xfe, 0x00, 0xd8]).is_err());
    assert!(decode(&[0xff, 0xfe, 0, 0, b'[', 0, 0, 0]).expect_err("UTF-32").reason.contains("UTF-32"));
}

#[test]
fn offsets_in_strings_map_through_escapes() {
    let source = r#"["a\n\u00e9é\ud83d\ude00z"]"#;
    let read = read_all(source).expect("the text is read");
    let string = &read.root.items().expect("an array")[0];
    let decoded = string.text().expect("a string");
    assert_eq!(decoded, "a\nééé😀z".replacen("éé", "é", 1));
    for (character, raw) in [("a", "a"), ("\n", "\\n"), ("😀", "\\ud83d"), ("z", "z")] {
        let at = decoded.find(character).expect("it is in there");
        let offset = file_offset(source, string.place, at);
        assert!(source[offset..].starts_with(raw), "{character:?} at {offset}");
    }
    // Past the end is the closing quote.
    assert_eq!(file_offset(source, string.place, decoded.len()), source.len() - 2);
}

#[test]
fn pointers_lead_to_places_and_back() {
    let source = r#"{"a/b": {"~": [10, {"x": 20}]}, "c": 3}"#;
    let read = read_all(source).expect("the text is read");
    for pointer in ["", "/a~1b", "/a~1b/~0", "/a~1b/~0/0", "/a~1b/~0/1/x", "/c"] {
        let node = read.root.follow(pointer).expect("the pointer leads somewhere");
        assert_eq!(read.root.pointer_to(node.place), pointer);
    }
    assert!(read.root.follow("/a~1b/~0/2").is_none());
    let name = read.root.member("c").expect("it is there").name_place;
    assert_eq!(read.root.pointer_to(name), "/c");
}

#[test]
fn names_of_members_ignore_case_but_prefer_the_exact_one() {
    let read = read_all(r#"{"Type": 1, "type": 2, "INPUTS": 3}"#).expect("the text is read");
    assert_eq!(read.root.get("type").and_then(Node::integer), Some(2));
    assert_eq!(read.root.get("inputs").and_then(Node::integer), Some(3));
}
