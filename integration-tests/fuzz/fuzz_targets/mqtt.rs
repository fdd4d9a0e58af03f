#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_adapter_mqtt::fuzz::packets(bytes));
