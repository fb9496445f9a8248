//! See `loom_testkit::fuzz::pkcs12`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loom_testkit::fuzz::pkcs12(bytes));
