//! See `loom_testkit::fuzz::model_door`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::model_door(bytes));
