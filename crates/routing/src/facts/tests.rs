use proptest::prelude::*;
use serde_json::json;
use transload_envelope::Origin;

use super::*;

fn message(payload: impl Into<bytes::Bytes>) -> Envelope {
    Envelope::new(Origin::new("devices", "mqtt", "a"), payload)
}

#[test]
fn what_is_json_for_the_library_is_json_here_and_the_same() {
    for text in [
        "null",
        " 5 ",
        "-0",
        "1e400",
        "18446744073709551615",
        "123456789012345678901234567890",
        "0.1",
        "\"a\\u00e9\\n\"",
        "\"\\ud800\"",
        "{\"a\": 1, \"b\": [true, null, {\"c\": \"\\t\"}], \"a\": 2}",
        "{\"a\": 1} x",
        "{\"a\": 1",
        "{\"a\": 01}",
        "[1, 2,]",
        "",
        "ON",
        "\u{feff}1",
    ] {
        let envelope = message(text);
        let expected: Option<serde_json::Value> = serde_json::from_str(text).ok();
        assert_eq!(Facts::new(&envelope).payload(), expected, "{text}");
    }
    assert_eq!(Facts::new(&message(&b"\"\xff\""[..])).payload(), None);
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(Facts::new(&message(deep)).payload(), None);
}

#[test]
fn memory_is_used_again() {
    let (first, second) = (message("[1, \"\\n\"]"), message("{\"a\": \"\\t\"}"));
    let facts = Facts::new(&first);
    assert_eq!(facts.payload(), Some(json!([1, "\n"])));
    let facts = Facts::reusing(&second, facts.into_tape());
    assert_eq!(facts.payload(), Some(json!({ "a": "\t" })));
    assert!(Facts::reusing(&second, facts.into_tape()).tape.get().is_none());
}

proptest! {
    #[test]
    fn any_text_is_read_as_the_library_reads_it(text in "[\\[\\]{}\",:0-9a.e\\\\u -]{0,40}") {
        let expected: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        prop_assert_eq!(Facts::new(&message(text)).payload(), expected);
    }
}
