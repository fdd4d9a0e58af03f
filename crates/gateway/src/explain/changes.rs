//! What is different between a message that came in and one that goes out.

use serde_json::{Map, Value as Json, json};
use similar::TextDiff;
use transload_envelope::Envelope;

use crate::message;

/// How long a payload may be that is compared line by line.
const COMPARED_BYTES_MAX: usize = 256 * 1024;

/// The changes; empty where there are none.
pub(super) fn changes(before: &Envelope, after: &Envelope) -> Map<String, Json> {
    let mut changes = Map::new();
    if before.address != after.address {
        let pair = json!({ "from": before.address.as_str(), "to": after.address.as_str() });
        changes.insert("address".to_owned(), pair);
    }
    if before.id != after.id {
        let pair = json!({ "from": before.id.as_str(), "to": after.id.as_str() });
        changes.insert("id".to_owned(), pair);
    }
    let headers = named(&message::headers(&before.headers), &message::headers(&after.headers));
    let properties = named(&message::properties(before), &message::properties(after));
    for (key, list) in [("headers", headers), ("properties", properties)] {
        if !list.is_empty() {
            changes.insert(key.to_owned(), Json::Array(list));
        }
    }
    if before.payload != after.payload {
        changes.insert("payload".to_owned(), json!(lines(&before.payload, &after.payload)));
    }
    changes
}

/// What was added, removed or changed, by names.
fn named(before: &Json, after: &Json) -> Vec<Json> {
    let none = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
    let gone = before
        .iter()
        .filter(|(name, _)| !after.contains_key(*name))
        .map(|(name, value)| json!({ "name": name, "from": value }));
    let other = after.iter().filter_map(|(name, to)| match before.get(name) {
        None => Some(json!({ "name": name, "to": to })),
        Some(from) if from != to => Some(json!({ "name": name, "from": from, "to": to })),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Lines that begin with ` `, `-` or `+`. JSON is compared as it looks when it is laid out.
pub(crate) fn lines(before: &[u8], after: &[u8]) -> Vec<String> {
    if before.len().max(after.len()) > COMPARED_BYTES_MAX {
        return vec![format!("{} bytes became {} bytes", before.len(), after.len())];
    }
    let (before, after) = (laid_out(before), laid_out(after));
    let diff = TextDiff::from_lines(&before, &after);
    let changes = diff.iter_all_changes();
    changes.map(|change| format!("{}{}", change.tag(), change.value().trim_end())).collect()
}

/// A payload as lines: JSON laid out, other text as it is, other bytes in their length and form.
pub(crate) fn laid_out(payload: &[u8]) -> String {
    if let Ok(value) = serde_json::from_slice::<Json>(payload)
        && (value.is_object() || value.is_array())
    {
        return format!("{value:#}\n");
    }
    match std::str::from_utf8(payload) {
        Ok(text) => format!("{text}\n"),
        Err(_) => format!("{}\n", message::bytes_or_text(payload)),
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Origin, Properties};

    use super::*;

    fn envelope(payload: &'static str) -> Envelope {
        Envelope::new(Origin::new("a", "fake", "x"), payload)
    }

    #[test]
    fn what_changed_is_said_and_nothing_else() {
        let mut before = envelope(r#"{"a":1,"b":2}"#);
        before.headers.push("gone", 1_i64);
        before.headers.push("same", "x");
        let mut after = before.clone();
        assert!(changes(&before, &after).is_empty());
        after.payload = r#"{"a":1,"b":3}"#.into();
        after.headers.remove("gone");
        after.headers.push("new", true);
        after.address = "y".into();
        let after = after.with_properties(Properties { priority: Some(1), ..Properties::NONE });
        let expected = json!({
            "address": { "from": "x", "to": "y" },
            "headers": [{ "name": "gone", "from": 1 }, { "name": "new", "to": true }],
            "properties": [{ "name": "priority", "to": 1 }],
            "payload": [" {", "   \"a\": 1,", "-  \"b\": 2", "+  \"b\": 3", " }"],
        });
        assert_eq!(Json::Object(changes(&before, &after)), expected);
    }

    #[test]
    fn payloads_that_are_no_text_are_compared_too() {
        let mut after = envelope("text");
        after.payload = vec![0xff].into();
        let found = changes(&envelope("text"), &after);
        assert_eq!(found["payload"], json!(["-text", "+{\"base64\":\"/w==\"}"]));
    }
}
