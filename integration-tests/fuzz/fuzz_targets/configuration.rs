#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| transload_fuzz::configuration(text));
