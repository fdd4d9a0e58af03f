//! The entry points of the fuzz targets, over their corpus and over changes of it. The same changes in
//! every run, unless `TRANSLOAD_FUZZ_ROUNDS` asks for more and others.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(unreachable_pub, reason = "the fuzz targets share the file")]
#[path = "../fuzz/src/messages.rs"]
mod messages;
#[expect(unreachable_pub, reason = "the fuzz targets share the file")]
#[path = "../fuzz/src/rules.rs"]
mod rules;
#[expect(unreachable_pub, reason = "the fuzz targets share the file")]
#[path = "../fuzz/src/texts.rs"]
mod texts;

use std::{env, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The files of a corpus, and what longer runs have found.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(folder.join(name)).unwrap().map(|file| file.unwrap().path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let found = folder.join(format!("{name}.found"));
    if found.exists() {
        let lines = fs::read_to_string(found).unwrap();
        inputs.extend(lines.lines().map(|line| STANDARD.decode(line).unwrap()));
    }
    inputs.sort();
    inputs
}

/// Runs an entry point with each input, and with about so many changes of them all.
fn run(name: &str, changes: usize, target: impl Fn(&[u8])) {
    let inputs = inputs(name);
    let changes = changes.div_ceil(inputs.len());
    let rounds = rounds();
    let seed = if rounds.is_some() { fastrand::u64(..) } else { 7 };
    eprintln!("{name}: seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut runs = 0_usize;
    for input in &inputs {
        target(input);
        for _ in 0..rounds.unwrap_or(1) * changes {
            target(&changed(input, &inputs, &mut random));
            runs += 1;
        }
    }
    eprintln!("{name}: {runs} changed inputs");
}

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for by whoever runs the test")]
fn rounds() -> Option<usize> {
    env::var("TRANSLOAD_FUZZ_ROUNDS").ok()?.parse().ok()
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
    run("mqtt", 18_000, transload_adapter_mqtt::fuzz::packets);
}

#[test]
fn requests_of_http() {
    run("http", 8_000, transload_adapter_http::fuzz::request);
}

#[test]
fn files_of_a_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    run("journal", 300, |bytes| {
        transload_delivery::journal::fuzz::open(bytes, directory.path()).unwrap();
    });
}

#[test]
fn messages_on_disk() {
    run("envelope", 15_000, messages::envelope);
}

#[test]
fn rules_files() {
    run_text("configuration", 60, rules::configuration);
}

#[test]
fn patterns_templates_and_expressions() {
    run_text("pattern", 150, texts::pattern);
    run_text("template", 150, texts::template);
    run_text("expression", 200, texts::expression);
}
