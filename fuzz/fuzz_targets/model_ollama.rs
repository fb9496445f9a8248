//! See `loom_testkit::fuzz::model_ollama`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::model_ollama(bytes));
