//! Any bytes are JSON or an error, and what is JSON reads back the same from its text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loom_expression::Value;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Value::parse_json(bytes) {
        let again = Value::from_json_str(&value.to_json_text()).expect("our own text is JSON");
        assert_eq!(again, value);
    }
});
