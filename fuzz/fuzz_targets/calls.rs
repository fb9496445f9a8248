//! See `loom_testkit::fuzz::calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::calls(bytes));
