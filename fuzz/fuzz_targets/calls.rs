//! Any function, called with any arguments, gives a value or an error, twice the same.
//!
//! The first byte chooses the function; the rest, cut at zero bytes, are its arguments: a leading `#` makes an
//! integer, `{` or `[` the JSON after it, `<` the XML, anything else is text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loom_expression::{Limits, NoNames, Options, RecordedContext, Template, functions};

fuzz_target!(|input: (u8, &str)| {
    let (chosen, rest) = input;
    let known = functions();
    let name = known[usize::from(chosen) % known.len()].name;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let argument = |text: &str| match text.chars().next() {
        Some('#') => text[1..].parse::<i64>().map_or_else(|_| "null".to_owned(), |int| int.to_string()),
        Some('{' | '[') => format!("json({})", quoted(text)),
        Some('<') => format!("xml({})", quoted(text)),
        _ => quoted(text),
    };
    let arguments: Vec<String> = rest.split('\0').map(argument).collect();
    let text = format!("@{name}({})", arguments.join(","));
    let limits = Limits { text_bytes_max: 1 << 20, items_max: 10_000, xpath_steps_max: 100_000, ..Limits::default() };
    let options = Options { loom_spelling: false, limits };
    if let Ok(template) = Template::compile_str(&text, &NoNames, &options) {
        let run = || template.evaluate(&RecordedContext::default());
        assert_eq!(run(), run());
    }
});
