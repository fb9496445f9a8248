//! See `loom_testkit::fuzz::xpath`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::xpath(bytes));
