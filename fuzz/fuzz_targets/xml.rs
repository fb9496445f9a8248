//! See `loom_testkit::fuzz::xml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::xml(bytes));
