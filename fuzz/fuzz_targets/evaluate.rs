//! Evaluating any template gives a value or an error, twice the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loom_expression::{Limits, NoNames, Options, RecordedContext, Template};

fuzz_target!(|text: &str| {
    let limits = Limits { text_bytes_max: 1 << 20, items_max: 10_000, xpath_steps_max: 100_000, ..Limits::default() };
    let options = Options { loom_spelling: false, limits };
    if let Ok(template) = Template::compile_str(text, &NoNames, &options) {
        let run = || template.evaluate(&RecordedContext::default());
        assert_eq!(run(), run());
    }
});
