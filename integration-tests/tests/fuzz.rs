//! The entry points of the fuzz targets, over their corpus and over changes of it. The same changes in
//! every run; the fuzz targets are there for others.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(unreachable_pub, reason = "the fuzz targets share the file")]
#[path = "../fuzz/src/lib.rs"]
mod entries;

use std::{fs, path::Path};

/// Runs an entry point with the files of its corpus, and with changes of each.
fn run(name: &str, changes: usize, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let mut random = fastrand::Rng::with_seed(7);
    for input in &inputs {
        target(input);
        for _ in 0..changes {
            target(&changed(input, &inputs, &mut random));
        }
    }
}

/// The input with parts taken out, doubled, made other bytes, or replaced by parts of other inputs.
fn changed(input: &[u8], others: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=bytes.len());
        let end = (at + random.usize(0..6)).min(bytes.len());
        let with = match random.usize(0..5) {
            0 => Vec::new(),
            1 => vec![random.u8(..)],
            2 => bytes[at..end].repeat(2),
            3 => bytes[at..end].iter().map(|byte| byte ^ 1 << random.u8(0..8)).collect(),
            _ => {
                let other = &others[random.usize(0..others.len())];
                let from = random.usize(0..=other.len());
                other[from..(from + random.usize(0..24)).min(other.len())].to_vec()
            }
        };
        bytes.splice(at..end, with);
    }
    bytes
}

/// The same for an entry point that takes text.
fn run_text(name: &str, changes: usize, target: fn(&str)) {
    run(name, changes, |bytes| target(&String::from_utf8_lossy(bytes)));
}

#[test]
fn packets_of_mqtt() {
    run("mqtt", 3_000, entries::mqtt);
}

#[test]
fn requests_of_http() {
    run("http", 1_000, entries::http);
}

#[test]
fn rules_files() {
    run_text("configuration", 60, entries::configuration);
}

#[test]
fn patterns_templates_and_expressions() {
    run_text("pattern", 50, entries::pattern);
    run_text("template", 50, entries::template);
    run_text("expression", 50, entries::expression);
}
