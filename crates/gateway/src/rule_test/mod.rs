//! Tests of the rules, which stand in the rules file or beside it: run without any broker.
//!
//! Invariants:
//! - The rules are asked as the dispatcher asks them; see [`crate::explain`].
//! - What is not expected fails a test as much as what is missing.
//! - Limits do not count: what depends on time or on other messages has no place in a test.

mod compare;
mod pairs;

use std::cell::LazyCell;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::{config::Configuration, explain::Explainer, message::Message};

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// The file that it stands in.
    pub file: String,
    /// Its line, from 1 on.
    pub line: usize,
    /// The message, which says where it comes in.
    pub message: Message,
    /// What is to go out, and nothing else.
    pub expect: Vec<Expectation>,
    /// A part of the reason for which the message goes to the dead letters.
    pub dead_letter: Option<String>,
}

/// What one target is to get; what is absent is not compared.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// The number of the adapter.
    pub to: usize,
    /// The route that sends it.
    pub route: Option<String>,
    /// The address.
    pub address: Option<String>,
    /// The payload.
    pub payload: Option<ExpectedPayload>,
    /// Some headers; an empty list for one that is not there.
    pub headers: Map<String, Json>,
    /// Some properties; null for one that is not there.
    pub properties: Map<String, Json>,
    /// Some keys of the target, filled in.
    pub keys: Map<String, Json>,
}

/// A payload to compare with.
#[derive(Clone, Debug)]
pub enum ExpectedPayload {
    /// Byte for byte.
    Bytes(Bytes),
    /// By its value.
    Json(Json),
}

/// Runs the tests of a configuration whose names contain the text. The answer has `passed`, `failed`
/// and `tests`; it is described in `docs/TESTING-RULES.md`.
pub fn run_tests(configuration: &Configuration, containing: &str) -> Json {
    let explainer = LazyCell::new(|| Explainer::new(configuration));
    let (mut passed, mut failed) = (0_usize, 0_usize);
    let mut tests = Vec::new();
    for test in configuration.tests.iter().filter(|test| test.name.contains(containing)) {
        let differences = compare::differences(&explainer, test);
        *if differences.is_empty() { &mut passed } else { &mut failed } += 1;
        tests.push(json!({
            "name": test.name,
            "file": test.file,
            "line": test.line,
            "passed": differences.is_empty(),
            "differences": differences,
        }));
    }
    json!({ "passed": passed, "failed": failed, "tests": tests })
}
