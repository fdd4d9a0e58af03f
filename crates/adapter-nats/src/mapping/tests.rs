use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use transload_envelope::{Envelope, MessageId, Origin, Properties, Timestamp, Value};

use super::headers::Incoming;
use super::{
    AddressMapping::{self, Nats, Percent, Swap},
    Outbound, check_subject, covers, incoming, is_internal, matches, outgoing, overlaps,
    pattern_filters, reply_address,
};
use crate::client::{HeaderBlock, HeaderLines};

const NOW: Timestamp = Timestamp { unix_ms: 1_700_000_000_000 };

#[test]
fn addresses_become_subjects_as_documented() {
    for (mapping, address, wanted) in [
        (Nats, "a/b", Some("a.b")),
        (Nats, "spBv1.0/plant1", Some("spBv1//0.plant1")),
        (Nats, "/a", Some("/.a")),
        (Nats, "a/", Some("a./")),
        (Nats, "a//b", Some("a./.b")),
        (Nats, "/", Some("/./")),
        (Nats, "//a", Some("/./.a")),
        (Nats, "a//", Some("a././")),
        (Nats, ".", Some("//")),
        (Nats, "a/ü", Some("a.ü")),
        (Nats, "a b", None),
        (Nats, "a/*", None),
        (Nats, "a/>", None),
        (Nats, "a\r\nPUB x 0", None),
        (Nats, "$SYS/REQ/SERVER/PING", None),
        (Nats, "$JS/API/STREAM/DELETE/A", None),
        (Swap, "v1.0/b", Some("v1/0.b")),
        (Swap, "/a", None),
        (Swap, "a//b", None),
        (Swap, "a/*", None),
        (Percent, "v1.0/b", Some("v1%2E0.b")),
        (Percent, "/a", Some("%.a")),
        (Percent, "a b/*/>", Some("a%20b.%2A.%3E")),
        (Percent, "a%2Fb", Some("a%252Fb")),
        (Percent, "a\u{2028}b", Some("a%E2%80%A8b")),
    ] {
        let got = mapping.subject(address).ok();
        assert_eq!(got.as_deref(), wanted, "{mapping:?} {address:?}");
        if let Some(subject) = got {
            assert_eq!(mapping.address(&subject), address, "{mapping:?} back from {subject:?}");
        }
    }
}

#[test]
fn foreign_subjects_always_have_an_address() {
    for (mapping, subject, wanted) in [
        (Nats, "a/b.c", "a%2Fb/c"),
        (Nats, "a///b", "a.%2Fb"),
        (Percent, "a/b", "a%2Fb"),
        (Percent, "100%.x", "100%/x"),
        (Percent, "a%2Fb", "a%2Fb"),
        (Percent, "%FF", "%FF"),
        (Swap, "a/b.c", "a.b/c"),
    ] {
        assert_eq!(mapping.address(subject), wanted, "{mapping:?} {subject:?}");
    }
}

#[test]
fn patterns_become_filters() {
    for (mapping, pattern, wanted) in [
        (Nats, "#", Some(vec![">"])),
        (Nats, "{all...}", Some(vec![">"])),
        (Nats, "a/#", Some(vec!["a.>", "a"])),
        (Nats, "a/{rest...}", Some(vec!["a.>", "a"])),
        (Nats, "a/+/b/{id}", Some(vec!["a.*.b.*"])),
        (Nats, "dev-{id}.raw/x", Some(vec!["*.x"])),
        (Nats, "{{x}}/y", Some(vec!["{x}.y"])),
        (Nats, "v1.0/{x}", Some(vec!["v1//0.*"])),
        (Nats, "/a", Some(vec!["/.a"])),
        (Nats, "a b", None),
        (Nats, "a/>", None),
        (Swap, "a//b", None),
        (Percent, "a b/#", Some(vec!["a%20b.>", "a%20b"])),
    ] {
        let got = pattern_filters(mapping, pattern).ok();
        assert_eq!(got, wanted.map(|w| w.into_iter().map(str::to_owned).collect()), "{pattern}");
    }
}

#[test]
fn filters_cover_match_and_overlap() {
    for (outer, inner, is_covered, is_overlapping) in [
        ("a.>", "a.b", true, true),
        ("a.>", "a", false, false),
        ("a.>", "a.*.>", true, true),
        (">", ">", true, true),
        ("a.*", "a.>", false, true),
        ("a.*", "a.*", true, true),
        ("a.*", "*.b", false, true),
        ("a.b", "a.*", false, true),
        ("a.b", "a.c", false, false),
        ("a", "a.b", false, false),
    ] {
        assert_eq!(covers(outer, inner), is_covered, "{outer} covers {inner}");
        assert_eq!(overlaps(outer, inner), is_overlapping, "{outer} overlaps {inner}");
        assert_eq!(overlaps(inner, outer), is_overlapping, "{inner} overlaps {outer}");
    }
    assert!(matches("a.*.c", "a.b.c") && !matches("a.*.c", "a.b.d"));
}

#[test]
fn internal_subjects_are_known() {
    for subject in ["$JS.ACK.a", "$SYS.x", "$MQTT.sub", "_INBOX.a.b", "my.inbox.x"] {
        assert!(is_internal(subject, Some("my.inbox")), "{subject}");
    }
    for subject in ["$KV.bucket.key", "a.$JS", "_INBOXES.a", "my.inboxes.x"] {
        assert!(!is_internal(subject, Some("my.inbox")), "{subject}");
    }
    assert_eq!(reply_address(Nats, "_INBOX.a.b").as_deref(), Some("_INBOX/a/b"));
    assert_eq!(reply_address(Nats, "$JS.ACK.S.C.1.2.3.4.5"), None);
}

#[test]
fn a_subject_that_would_break_the_protocol_line_is_refused() {
    assert!(check_subject(&"a".repeat(1_900)).is_ok());
    assert!(check_subject(&"a".repeat(1_901)).is_err());
}

fn full() -> Envelope {
    let properties = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        correlation: Some(Bytes::from_static(b"\x00\xff\r\n")),
        reply_to: Some("replies/1".into()),
        expires_at: Some(NOW.after(Duration::from_millis(1_500))),
        priority: Some(7),
        durable: None,
        retain: true,
        kind: Some("order".into()),
        app_id: Some(" shop ".into()),
        user_id: Some("ann\r\nNats-Rollup: all".into()),
        timestamp: Some(NOW),
    };
    let mut envelope = Envelope::new(Origin::new("web", "http", "a/b"), "payload")
        .with_id(MessageId::from_source("id-1"))
        .with_properties(properties);
    envelope.hops = 3;
    for (name, value) in [
        ("b", "2"),
        ("B", "1"),
        ("b", "3"),
        ("Nats-Rollup", "all"),
        ("nats-expected-stream", "X"),
        ("Content-Type", "not the property"),
        ("x:y", "colon"),
        ("größe", "ü"),
        ("", "empty name"),
        ("injected", "a\r\nNats-Rollup: all"),
        ("blank", " padded "),
        ("empty", ""),
    ] {
        envelope.headers.push(name, value);
    }
    envelope
}

fn written(envelope: &Envelope, how: Outbound<'_>) -> (HeaderLines, Option<String>) {
    let mut lines = HeaderLines::default();
    let reply = outgoing(envelope, how, NOW, &mut lines);
    (lines, reply)
}

fn these(list: &[(&str, &str)]) -> HeaderLines {
    let mut lines = HeaderLines::default();
    for (name, value) in list {
        lines.push(name, value);
    }
    lines
}

fn read(lines: &HeaderLines) -> Incoming {
    incoming(Some(HeaderBlock(lines.as_bytes())), NOW)
}

fn lines(headers: &HeaderLines, wanted: &str) -> Vec<String> {
    let all = HeaderBlock(headers.as_bytes()).lines();
    let of_name = all.filter(|(name, _)| *name == wanted.as_bytes());
    of_name.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[test]
fn no_user_header_becomes_a_control_header() {
    let (headers, _) = written(&full(), Outbound::default());
    assert_eq!(lines(&headers, "Nats-Rollup"), [""; 0]);
    assert_eq!(lines(&headers, "nats-expected-stream"), [""; 0]);
    assert_eq!(lines(&headers, "Nats-Msg-Id"), ["id-1"]);
    assert_eq!(lines(&headers, "Content-Type"), ["application/json"]);
    assert_eq!(lines(&headers, "b"), ["2", "3"]);
    for (_, value) in HeaderBlock(headers.as_bytes()).lines() {
        assert!(!value.contains(&b'\r') && !value.contains(&b'\n'));
    }
}

#[test]
fn everything_comes_back() {
    for jetstream in [false, true] {
        let sent = full();
        let how = Outbound { jetstream, ..Outbound::default() };
        let (headers, reply) = written(&sent, how);
        let mut got = read(&headers);
        assert_eq!(reply.as_deref(), (!jetstream).then_some("replies.1"));
        if let Some(reply) = reply {
            got.properties.reply_to = reply_address(Nats, &reply);
        }
        assert_eq!(got.id.as_ref(), Some(&sent.id));
        assert_eq!(&got.properties, sent.properties());
        assert_eq!(got.hops, 3);
        assert_eq!(got.headers, sent.headers);
    }
}

#[test]
fn the_server_deletes_only_where_the_target_asks_for_it() {
    let (headers, _) = written(&full(), Outbound::default());
    assert_eq!(lines(&headers, "Nats-TTL"), [""; 0]);
    let how = Outbound { jetstream: true, ttl: true, stream: Some("S"), mapping: Nats };
    let (headers, _) = written(&full(), how);
    assert_eq!(lines(&headers, "Nats-TTL"), ["2"]);
    assert_eq!(lines(&headers, "Nats-Expected-Stream"), ["S"]);
}

#[test]
fn a_foreign_time_to_live_is_read() {
    for (text, wanted_ms) in
        [("60", Some(60_000)), ("1h30m", Some(5_400_000)), ("500ms", Some(500)), ("never", None)]
    {
        let headers = these(&[("Nats-TTL", text)]);
        let got = read(&headers).properties.expires_at;
        assert_eq!(got.map(|end| end.unix_ms - NOW.unix_ms), wanted_ms, "{text}");
    }
}

#[test]
fn what_is_not_ours_stays_a_header_and_mqtt_internals_go() {
    let headers = these(&[
        ("Nmqtt-Pub", "1"),
        ("Nats-Rollup", "sub"),
        ("Transload-Hops", "many"),
        ("Transload-Header", "no equals sign"),
    ]);
    let got = read(&headers);
    let names: Vec<_> = got.headers.iter().map(|header| header.name.to_string()).collect();
    assert_eq!(names, ["Nats-Rollup", "Transload-Hops", "Transload-Header"]);
}

#[test]
fn typed_values_become_text() {
    let mut envelope = Envelope::new(Origin::new("q", "amqp", "a"), "");
    envelope.headers.push("n", 7_i64);
    envelope.headers.push("t", true);
    envelope.headers.push("bin", Value::Bytes(Bytes::from_static(&[0xff, 0])));
    envelope.headers.push("list", Value::List(vec![Value::Int(1), Value::Float(f64::NAN)]));
    let (headers, _) = written(&envelope, Outbound::default());
    for (name, wanted) in [("n", "7"), ("t", "true"), ("bin", "base64:/wA="), ("list", "[1,null]")]
    {
        assert_eq!(lines(&headers, name), [wanted]);
    }
}

proptest! {
    #[test]
    fn every_address_that_is_mapped_comes_back(address in "\\PC{0,24}|[a/.% *>$_]{0,12}") {
        for mapping in [Nats, Swap, Percent] {
            if let Ok(subject) = mapping.subject(&address) {
                prop_assert!(check_subject(&subject).is_ok());
                prop_assert_eq!(mapping.address(&subject), address.clone(), "{:?}", mapping);
            }
        }
    }

    #[test]
    fn percent_takes_every_address_that_is_not_the_servers(address in "[^$_]\\PC{0,40}") {
        prop_assert!(Percent.subject(&address).is_ok(), "{:?}", address);
    }

    #[test]
    fn a_mapped_address_holds_no_wildcard_of_a_subscription(levels in "[a-z*>/. ]{1,16}") {
        for mapping in [Nats, Swap, Percent] {
            if let Ok(subject) = mapping.subject(&levels) {
                prop_assert!(!subject.contains(['*', '>', ' ']));
            }
        }
    }

    #[test]
    fn a_filter_brings_in_what_its_pattern_asks_for(
        levels in prop::collection::vec("[a-c.]{0,2}", 1..5),
        wild in prop::collection::vec(any::<bool>(), 5),
        cut in 0_usize..5,
    ) {
        let mut pattern: Vec<String> = levels
            .iter()
            .zip(&wild)
            .map(|(level, wild)| if *wild { "+".to_owned() } else { level.clone() })
            .collect();
        if cut < pattern.len() {
            pattern.truncate(cut);
            pattern.push("#".to_owned());
        }
        let filters = pattern_filters(Nats, &pattern.join("/")).unwrap();
        let subject = Nats.subject(&levels.join("/")).unwrap();
        prop_assert!(filters.iter().any(|filter| matches(filter, &subject)));
    }

    #[test]
    fn headers_come_back(name in "\\PC{0,12}|Nats-[a-z]{0,4}|[a-z\r\n: ]{0,6}", value in ".{0,20}|[a\r\n\t ]{0,6}") {
        let mut envelope = Envelope::new(Origin::new("q", "amqp", "a"), "");
        envelope.headers.push(name.clone(), value.clone());
        let (headers, _) = written(&envelope, Outbound::default());
        let got = read(&headers);
        prop_assert_eq!(got.headers, envelope.headers);
    }
}

#[test]
fn the_default_is_what_the_server_does() {
    assert_eq!(AddressMapping::default(), Nats);
}

#[test]
fn attributes_of_events_are_percent_encoded() {
    let headers = these(&[
        ("ce-specversion", "1.0"),
        ("Ce-Id", "A234-1234-1234"),
        ("ce-source", "/mycontext"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("other", "a%20b"),
    ]);
    let got = read(&headers);
    assert_eq!(got.headers.get("ce-id"), Some(&"A234-1234-1234".into()));
    assert_eq!(got.headers.get("ce-subject"), Some(&"Euro € 😀".into()));
    assert_eq!(got.headers.get("other"), Some(&"a%20b".into()));
    assert_eq!(got.id.unwrap().as_str(), "/mycontext A234-1234-1234");
    let mut envelope = Envelope::new(Origin::new("events", "nats", "a"), "");
    envelope.headers = got.headers;
    let (again, _) = written(&envelope, Outbound::default());
    assert_eq!(lines(&again, "ce-subject"), ["Euro%20%E2%82%AC%20%F0%9F%98%80"]);
    assert_eq!(lines(&again, "other"), ["a%20b"]);
    // Not an attribute but for its case: the peer would write it in lower case.
    envelope.headers.push("CE-x", "1");
    let (again, _) = written(&envelope, Outbound::default());
    assert_eq!(lines(&again, "CE-x"), [""; 0]);
    assert_eq!(read(&again).headers.get("CE-x"), Some(&"1".into()));
}

#[test]
fn headers_of_others_that_are_no_text_are_bytes() {
    let block = b"NATS/1.0\r\nb: \xff\r\na: x\r\nCorrelation-Id: \xfe\r\n\r\n";
    let got = incoming(Some(HeaderBlock(block)), NOW);
    let wanted = Value::Bytes(Bytes::from_static(b"\xff"));
    assert_eq!(got.headers.get("b"), Some(&wanted));
    assert_eq!(got.headers.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(got.properties.correlation.as_deref(), Some(&b"\xfe"[..]));
}
