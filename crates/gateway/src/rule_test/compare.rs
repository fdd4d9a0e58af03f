use serde_json::{Value as Json, json};

use super::{Expectation, ExpectedPayload, RuleTest, pairs::pairs};
use crate::{
    explain::{Directory, Explainer, Outcome, Output, Sending, laid_out, lines, outcome},
    message,
};

/// What is not as a test expects it; nothing if it passes.
pub(super) fn differences(explainer: &Explainer, test: &RuleTest) -> Vec<Json> {
    let (directory, rules) = explainer.parts();
    let number = directory.sources(test.message.from.as_deref());
    let Some(number) = number.ok().and_then(|numbers| numbers.first().copied()) else {
        return vec![json!({ "what": "no_source" })];
    };
    let (adapter, kind) = directory.adapter(number);
    let envelope = test.message.envelope(adapter, kind);
    let Outcome { outputs, .. } = outcome(directory, rules, number, &envelope);
    let (sent, failed): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.sends.is_ok());
    let mut differences = dead_letters(directory, test, &failed);
    let sent: Vec<(&Output<'_>, &Sending)> =
        sent.into_iter().filter_map(|output| Some((output, output.sends.as_ref().ok()?))).collect();
    compare(directory, &test.expect, &sent, &mut differences);
    differences
}

fn compare(
    directory: &Directory,
    expected: &[Expectation],
    sent: &[(&Output<'_>, &Sending)],
    differences: &mut Vec<Json>,
) {
    let of = |left: usize, right: usize| {
        let (output, sending) = sent.get(right)?;
        differing(directory, expected.get(left)?, output, sending)
    };
    let exact = pairs(expected.len(), sent.len(), &|left, right| {
        of(left, right).is_some_and(|found| found.is_empty())
    });
    let mut free: Vec<usize> =
        (0..sent.len()).filter(|right| !exact.contains(&Some(*right))).collect();
    for (left, expectation) in expected.iter().enumerate() {
        if exact.get(left).copied().flatten().is_some() {
            continue;
        }
        let candidates = free.iter().filter_map(|right| Some((*right, of(left, *right)?)));
        // The one that is most like it was probably meant.
        match candidates.min_by_key(|(_, found)| found.len()) {
            Some((right, found)) => {
                free.retain(|other| *other != right);
                differences.push(json!({
                    "what": "different",
                    "to": directory.adapter(expectation.to).0,
                    "route": sent.get(right).map(|(output, _)| directory.route(output.rule)),
                    "keys": found,
                }));
            }
            None => differences.push(json!({
                "what": "missing",
                "to": directory.adapter(expectation.to).0,
                "route": expectation.route,
                "expected": expectation.keys,
            })),
        }
    }
    for (output, sending) in free.into_iter().filter_map(|right| sent.get(right)) {
        differences.push(json!({
            "what": "unexpected",
            "to": directory.adapter(output.target.adapter).0,
            "route": directory.route(output.rule),
            "found": sending.keys,
            "message": message::message(&sending.envelope),
        }));
    }
}

/// The keys in which what was sent is not what was expected; `None` where it goes elsewhere.
fn differing(
    directory: &Directory,
    expected: &Expectation,
    output: &Output<'_>,
    sending: &Sending,
) -> Option<Vec<Json>> {
    if output.target.adapter != expected.to {
        return None;
    }
    let mut found = Vec::new();
    let mut compare = |key: String, expected: &Json, sent: Option<&Json>| {
        let sent = sent.unwrap_or(&Json::Null);
        if expected != sent {
            found.push(json!({ "key": key, "expected": expected, "found": sent }));
        }
    };
    if let Some(route) = &expected.route {
        compare("route".to_owned(), &json!(route), Some(&json!(directory.route(output.rule))));
    }
    for (key, expected) in &expected.keys {
        compare(key.clone(), expected, sending.keys.get(key));
    }
    let envelope = &sending.envelope;
    if let Some(address) = &expected.address {
        compare("address".to_owned(), &json!(address), Some(&json!(envelope.address.as_str())));
    }
    let headers = message::headers(&envelope.headers);
    for (name, expected) in &expected.headers {
        let absent = expected.as_array().is_some_and(Vec::is_empty);
        let expected = if absent { &Json::Null } else { expected };
        compare(format!("header {name}"), expected, headers.get(name));
    }
    let properties = message::properties(envelope);
    for (name, expected) in &expected.properties {
        compare(format!("property {name}"), expected, properties.get(name));
    }
    if let Some(payload) = &expected.payload {
        found.extend(payload_differs(payload, &envelope.payload));
    }
    Some(found)
}

fn payload_differs(expected: &ExpectedPayload, found: &[u8]) -> Option<Json> {
    let expected = match expected {
        ExpectedPayload::Bytes(bytes) if **bytes == *found => return None,
        ExpectedPayload::Bytes(bytes) => bytes.to_vec(),
        ExpectedPayload::Json(json) => {
            let same = serde_json::from_slice::<Json>(found).is_ok_and(|found| same(json, &found));
            if same {
                return None;
            }
            json.to_string().into_bytes()
        }
    };
    let diff = if laid_out(&expected) == laid_out(found) {
        vec![
            format!("-{:?}", String::from_utf8_lossy(&expected)),
            format!("+{:?}", String::from_utf8_lossy(found)),
        ]
    } else {
        lines(&expected, found)
    };
    Some(json!({ "key": "payload", "diff": diff }))
}

/// Whether two values are the same, where a number may be written in two ways.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => {
            left == right || (left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64()
        }
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            let equal = |(key, value): (&String, &Json)| {
                right.get(key).is_some_and(|other| same(value, other))
            };
            left.len() == right.len() && left.iter().all(equal)
        }
        (left, right) => left == right,
    }
}

/// What is not as expected of the dead letters.
fn dead_letters(directory: &Directory, test: &RuleTest, failed: &[&Output<'_>]) -> Vec<Json> {
    let mut differences = Vec::new();
    let mut seen = false;
    for output in failed {
        let Err(reason) = &output.sends else { continue };
        let wanted = test.dead_letter.as_ref().is_some_and(|part| reason.contains(part.as_str()));
        seen |= wanted;
        if !wanted {
            differences.push(json!({
                "what": "dead_letter",
                "route": directory.route(output.rule),
                "to": directory.adapter(output.target.adapter).0,
                "expected": test.dead_letter,
                "found": &**reason,
            }));
        }
    }
    if let (false, true, Some(expected)) = (seen, differences.is_empty(), &test.dead_letter) {
        differences.push(json!({ "what": "no_dead_letter", "expected": expected }));
    }
    differences
}
