//! Texts that people write, with random changes, through the entry points of the fuzz targets.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(unreachable_pub, reason = "the fuzz targets share the file")]
#[path = "../../../integration-tests/fuzz/src/texts.rs"]
mod entries;

use std::{fs, path::Path};

/// How often each text is changed.
const CHANGES: usize = 150;

/// Runs a target with the texts of its corpus, and with changes of them.
fn run(name: &str, target: fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../integration-tests/fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut texts: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    texts.sort();
    assert!(!texts.is_empty(), "{name} has no corpus");
    // The same changes in every run; the fuzz targets are there for others.
    let mut random = fastrand::Rng::with_seed(7);
    for text in &texts {
        target(text);
        for _ in 0..CHANGES {
            target(&changed(text, &texts, &mut random));
        }
    }
}

/// The text with parts taken out, doubled, or replaced by parts of other texts.
fn changed(text: &str, others: &[String], random: &mut fastrand::Rng) -> String {
    const PIECES: [&str; 16] =
        ["{", "}", "\"", "'", "(", ")", "[", "/", "|", "=", "\\", "\n", ".", "é", "#", "${X"];
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=characters.len());
        let end = (at + random.usize(0..6)).min(characters.len());
        let with: Vec<char> = match random.usize(0..4) {
            0 => Vec::new(),
            1 => PIECES[random.usize(0..PIECES.len())].chars().collect(),
            2 => characters[at..end].repeat(2),
            _ => {
                let other: Vec<char> = others[random.usize(0..others.len())].chars().collect();
                let from = random.usize(0..=other.len());
                other[from..(from + random.usize(0..12)).min(other.len())].to_vec()
            }
        };
        characters.splice(at..end, with);
    }
    characters.into_iter().collect()
}

#[test]
fn patterns() {
    run("pattern", entries::pattern);
}

#[test]
fn templates() {
    run("template", entries::template);
}

#[test]
fn expressions() {
    run("expression", entries::expression);
}
