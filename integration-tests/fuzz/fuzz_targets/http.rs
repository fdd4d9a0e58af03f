#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_adapter_http::fuzz::request(bytes));
