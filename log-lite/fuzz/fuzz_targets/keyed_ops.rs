#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::log::keyed_ops(input));
