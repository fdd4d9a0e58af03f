//! Addresses with awkward levels come back as they were, or are refused as `docs/SEMANTICS.md`
//! says; no wildcard gets into the form of any protocol.

use proptest::prelude::*;
use transload_adapter::SendError;
use transload_adapter_amqp::AddressMapping as AmqpMapping;
use transload_adapter_nats::AddressMapping as NatsMapping;
use transload_envelope::{Arguments, Envelope, Origin, Outgoing};

use crate::protocol::{
    ALL, NOW,
    Protocol::{self, Amqp, Http, JetStream, Mqtt5, Mqtt311, Nats},
};

fn message(address: &str) -> Envelope {
    Envelope::new(Origin::new("test", "test", address), "x")
}

/// Whether the wire form could be taken for a wildcard, or for more than one address, by whoever
/// reads it.
fn is_smuggled(protocol: Protocol, form: &str) -> bool {
    match protocol {
        Mqtt5 | Mqtt311 => form.contains(['+', '#', '\0']) || form.starts_with('$'),
        Amqp => form.split('.').any(|word| word == "*" || word == "#"),
        Nats | JetStream => {
            let system = ["$SYS", "$JS", "$MQTT", "_INBOX"];
            form.contains(['*', '>', ' ', '\t', '\r', '\n'])
                || form.split('.').any(str::is_empty)
                || form.split('.').next().is_some_and(|first| system.contains(&first))
        }
        Http => {
            form.split('/').any(|level| level == "." || level == "..")
                || form.contains(['?', '#', ' ', '\r', '\n', '\\', '\0'])
        }
    }
}

/// Levels of every awkward kind.
fn address() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        4 => "[a-z]{0,3}",
        2 => r"[a.]{0,3}",
        2 => r"[ab*>+#$%/ ]{0,3}",
        1 => Just("$SYS".to_owned()),
        1 => Just("$JS".to_owned()),
        1 => Just("_INBOX".to_owned()),
        1 => "\\PC{0,3}",
        1 => "[\r\n\t\0\u{85}\u{2028}]{1,2}",
    ];
    proptest::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_address_comes_back_or_is_refused(address in address()) {
        for protocol in ALL {
            match protocol.trip(&message(&address)) {
                Ok((form, back)) => {
                    prop_assert_eq!(back.address.as_str(), &*address, "{:?} {}", protocol, form);
                    prop_assert!(!is_smuggled(protocol, &form), "{:?} {:?}", protocol, form);
                }
                Err(SendError::Rejected { reason }) => prop_assert!(!reason.is_empty()),
                Err(other) => prop_assert!(false, "{:?} {:?}", protocol, other),
            }
        }
    }

    /// The other mappings that can be asked for.
    #[test]
    fn with_every_mapping(address in address()) {
        let outgoing = Outgoing { envelope: message(&address), arguments: Arguments::default() };
        for mapping in [AmqpMapping::Swap, AmqpMapping::Percent, AmqpMapping::Nats] {
            if let Ok((key, back)) = transload_adapter_amqp::round_trip(&outgoing, mapping, NOW) {
                prop_assert_eq!(back.address.as_str(), &*address, "{:?} {}", mapping, key);
                prop_assert!(!is_smuggled(Amqp, &key), "{:?} {:?}", mapping, key);
            }
        }
        for mapping in [NatsMapping::Swap, NatsMapping::Percent, NatsMapping::Nats] {
            let trip = transload_adapter_nats::round_trip(&outgoing, mapping, false, NOW);
            if let Ok((subject, back)) = trip {
                prop_assert_eq!(back.address.as_str(), &*address, "{:?} {}", mapping, subject);
                prop_assert!(!is_smuggled(Nats, &subject), "{:?} {:?}", mapping, subject);
            }
        }
    }
}

/// What a rule fills into the target's own key is no way around it.
#[test]
fn an_argument_smuggles_nothing() {
    for (key, text) in [
        ("topic", "a/+"),
        ("topic", "#"),
        ("topic", "$SYS/x"),
        ("topic", "a\0"),
        ("subject", "a.*"),
        ("subject", ">"),
        ("subject", "a b"),
        ("subject", "a\r\nPUB b 0"),
        ("subject", "$JS.API.STREAM.DELETE.x"),
        ("routing_key", "a.*"),
        ("routing_key", "#"),
        ("routing_key", "#.a"),
    ] {
        let mut arguments = Arguments::default();
        arguments.push(key, text);
        let outgoing = Outgoing { envelope: message("a"), arguments };
        let refused = match key {
            "topic" => {
                let version = transload_adapter_mqtt::ProtocolVersion::V5;
                transload_adapter_mqtt::round_trip(&outgoing, version, NOW)
            }
            "subject" => {
                transload_adapter_nats::round_trip(&outgoing, NatsMapping::Nats, false, NOW)
            }
            _ => transload_adapter_amqp::round_trip(&outgoing, AmqpMapping::Swap, NOW),
        };
        let is_refused = matches!(refused, Err(SendError::Rejected { .. }));
        assert!(is_refused, "{key} {text:?}: {refused:?}");
    }
}

/// The table of `docs/SEMANTICS.md` and what stands below it: `None` is refused.
#[test]
fn the_documented_addresses() {
    type Row = (&'static str, [Option<&'static str>; 4]);
    let rows: [Row; 19] = [
        ("a/b", [Some("a/b"), Some("a.b"), Some("a.b"), Some("/a/b")]),
        ("a.b/c", [Some("a.b/c"), Some("a/b.c"), Some("a//b.c"), Some("/a.b/c")]),
        ("a//b", [Some("a//b"), Some("a..b"), Some("a./.b"), Some("/a//b")]),
        ("/a", [Some("/a"), Some(".a"), Some("/.a"), Some("//a")]),
        ("a/", [Some("a/"), Some("a."), Some("a./"), Some("/a/")]),
        ("/", [Some("/"), Some("."), Some("/./"), Some("//")]),
        ("a b", [Some("a b"), Some("a b"), None, Some("/a%20b")]),
        ("a/*", [Some("a/*"), None, None, Some("/a/*")]),
        ("a/x*", [Some("a/x*"), Some("a.x*"), None, Some("/a/x*")]),
        ("a/>", [Some("a/>"), Some("a.>"), None, Some("/a/%3E")]),
        ("a/+", [None, Some("a.+"), Some("a.+"), None]),
        ("a/#", [None, None, Some("a.#"), None]),
        ("$x/a", [None, Some("$x.a"), Some("$x.a"), Some("/$x/a")]),
        ("$SYS/a", [None, Some("$SYS.a"), None, Some("/$SYS/a")]),
        ("a/$x", [Some("a/$x"), Some("a.$x"), Some("a.$x"), Some("/a/$x")]),
        ("_INBOX/a", [Some("_INBOX/a"), Some("_INBOX.a"), None, Some("/_INBOX/a")]),
        ("a/..", [Some("a/.."), Some("a.//"), Some("a.////"), None]),
        ("a%/ü", [Some("a%/ü"), Some("a%.ü"), Some("a%.ü"), Some("/a%25/%C3%BC")]),
        ("", [None, Some(""), Some("/"), None]),
    ];
    for (address, forms) in rows {
        for (protocol, form) in [Mqtt5, Amqp, Nats, Http].into_iter().zip(forms) {
            let got = protocol.trip(&message(address)).ok();
            let got = got.as_ref().map(|(form, _)| form.as_str());
            assert_eq!(got, form, "{protocol:?} {address:?}");
        }
    }
}
