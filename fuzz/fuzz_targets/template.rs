//! Compiling any text neither panics nor points outside of the text, and what parses prints and parses again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loom_expression::{NoNames, Options, Template, syntax};

fuzz_target!(|text: &str| {
    for loom_spelling in [false, true] {
        let options = Options { loom_spelling, ..Options::default() };
        if let Err(errors) = Template::compile_str(text, &NoNames, &options) {
            for error in errors {
                assert!(text.get(error.span.clone()).is_some());
                loom_expression::caret(text, error.span);
            }
        }
    }
    let options = Options::default();
    if let Ok(expression) = syntax::parse_expression(text, 0..text.len(), &options) {
        let printed = expression.to_string();
        // White space may be added between arguments, so only what is still short enough parses again.
        if let Ok(again) = syntax::parse_expression(&printed, 0..printed.len(), &options) {
            assert_eq!(again, expression);
        } else {
            assert!(printed.chars().count() > options.limits.expression_chars_max);
        }
    }
});
