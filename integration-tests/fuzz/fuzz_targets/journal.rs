#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

/// In memory where there is such a place: a file is written for each input.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { env::temp_dir() };
    let directory = parent.join(format!("transload-fuzz-{}", process::id()));
    fs::create_dir_all(&directory).expect("a folder can be made");
    directory
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    transload_delivery::journal::fuzz::open(bytes, &DIRECTORY).expect("files can be written");
});
