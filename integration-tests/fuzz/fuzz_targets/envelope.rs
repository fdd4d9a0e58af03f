#![no_main]

#[allow(dead_code, reason = "the other targets share the file")]
#[path = "../src/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::envelope(bytes));
