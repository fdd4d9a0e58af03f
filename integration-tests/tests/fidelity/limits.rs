//! What is too long or holds what a protocol cannot is refused by name, or carried in another form;
//! it is never cut and never breaks out of its place.

use proptest::{collection::vec, prelude::*};
use transload_adapter::SendError;
use transload_envelope::{Envelope, MessageId, Origin, Properties, Text};

use crate::protocol::{
    ALL,
    Protocol::{self, Amqp, Http, JetStream, Mqtt5, Mqtt311, Nats},
};

fn message() -> Envelope {
    Envelope::new(Origin::new("test", "test", "a/b"), "x").with_id(MessageId::from_source("id"))
}

fn with(properties: Properties) -> Envelope {
    message().with_properties(properties)
}

fn with_header(name: &str, value: &str) -> Envelope {
    let mut message = message();
    message.headers.push(name, value);
    message
}

fn letters(count: usize) -> Text {
    "x".repeat(count).into()
}

fn refusal(protocol: Protocol, message: &Envelope) -> Option<String> {
    match protocol.trip(message) {
        Ok(_) => None,
        Err(SendError::Rejected { reason }) => Some(reason.to_string()),
        Err(other) => panic!("{protocol:?}: {other:?}"),
    }
}

#[test]
fn short_strings_of_amqp_hold_255_bytes() {
    let address = |bytes: usize| Envelope::new(Origin::new("t", "t", &*letters(bytes)), "x");
    let of = |fill: &dyn Fn(&mut Properties, Option<Text>), bytes| {
        let mut properties = Properties::NONE;
        fill(&mut properties, Some(letters(bytes)));
        with(properties)
    };
    let cases: [(&str, &dyn Fn(usize) -> Envelope); 7] = [
        ("routing key", &address),
        ("message id", &|bytes| message().with_id(MessageId::from_source(letters(bytes)))),
        ("content type", &|bytes| of(&|of, text| of.content_type = text, bytes)),
        ("content encoding", &|bytes| of(&|of, text| of.content_encoding = text, bytes)),
        ("type", &|bytes| of(&|of, text| of.kind = text, bytes)),
        ("application id", &|bytes| of(&|of, text| of.app_id = text, bytes)),
        ("name of a header", &|bytes| with_header(&letters(bytes), "v")),
    ];
    for (field, message) in cases {
        assert_eq!(refusal(Amqp, &message(255)), None, "{field}");
        let reason = refusal(Amqp, &message(256)).unwrap();
        assert!(reason.contains(field) && reason.contains("256"), "{field}: {reason}");
        // What is long for AMQP is not for the others.
        for other in [Mqtt5, Nats, Http] {
            assert_eq!(refusal(other, &message(256)), None, "{other:?}: {field}");
        }
    }
    // A correlation finds another place.
    let long = with(Properties { correlation: Some(vec![0xff; 300].into()), ..Properties::NONE });
    let (_, back) = Amqp.trip(&long).unwrap();
    assert_eq!(back.properties().correlation, long.properties().correlation);
}

#[test]
fn oversize_is_refused_and_says_so() {
    let too_much = with_header("x", &letters(70_000));
    assert!(refusal(Mqtt5, &too_much).unwrap().contains("65,535"));
    assert_eq!(refusal(Amqp, &too_much), None, "a frame holds it");
    let reason = refusal(Amqp, &with_header("x", &letters(140_000))).unwrap();
    assert!(reason.contains("properties and headers take"), "{reason}");
    let large = Envelope::new(Origin::new("t", "t", "a"), vec![0; (1 << 20) + 1]);
    assert!(refusal(Amqp, &large).unwrap().contains("max_message_bytes"));
    let far = Envelope::new(Origin::new("t", "t", &*letters(70_000)), "x");
    for protocol in [Mqtt5, Mqtt311, Amqp, Nats, JetStream] {
        assert!(refusal(protocol, &far).is_some(), "{protocol:?}");
    }
}

/// A line break in any place stays in its place.
#[test]
fn nothing_is_injected() {
    const EVIL: &str = "a\r\nNats-Rollup: all\r\nContent-Length: 0\r\n\r\nx\0y";
    let text = || Some(Text::from(EVIL));
    let mut message = with(Properties {
        content_type: text(),
        content_encoding: text(),
        correlation: text().map(Text::into_bytes),
        kind: text(),
        app_id: text(),
        user_id: text(),
        ..Properties::NONE
    });
    message.headers.push(EVIL, EVIL);
    for protocol in ALL {
        if protocol == Mqtt5 || protocol == Mqtt311 {
            // MQTT allows line breaks, and no U+0000.
            assert!(refusal(protocol, &message).unwrap().contains("U+0000"), "{protocol:?}");
            continue;
        }
        let (_, back) = protocol.trip(&message).unwrap();
        let known = back.properties();
        for property in [&known.content_type, &known.kind, &known.app_id, &known.content_encoding] {
            assert_eq!(property.as_deref(), Some(EVIL), "{protocol:?}");
        }
        let injected = ["nats-rollup", "content-length"];
        let mut names = back.headers.iter().map(|header| header.name.to_ascii_lowercase());
        assert!(!names.any(|name| injected.contains(&&*name)), "{protocol:?}: {back:?}");
        let own = back.headers.iter().find(|header| *header.name == *EVIL).unwrap();
        assert_eq!(own.value.as_text().map(|text| &**text), Some(EVIL), "{protocol:?}");
    }
}

/// A header that has the name of something else is not it.
#[test]
fn no_header_impersonates() {
    for name in ["Nats-Rollup", "Nats-TTL", "Nats-Expected-Last-Sequence", "nmqtt-pub"] {
        for protocol in [Nats, JetStream] {
            let (_, back) = protocol.trip(&with_header(name, "all")).unwrap();
            assert_eq!(back.headers.get(name).unwrap().as_text().unwrap(), "all", "{name}");
        }
    }
    for name in ["Authorization", "Cookie", "Host", "Content-Length", "Transfer-Encoding"] {
        let (_, back) = Http.trip(&with_header(name, "x")).unwrap();
        assert_eq!(back.headers.get_ignoring_case(name), None, "{name}");
    }
    for name in ["Content-Type", "Content-Encoding", "Transload-Type", "transload-priority"] {
        for protocol in [Nats, Http] {
            let (_, back) = protocol.trip(&with_header(name, "7")).unwrap();
            assert_eq!(back.headers.get(name).unwrap().as_text().unwrap(), "7", "{name}");
            assert_eq!((&back.properties().kind, back.properties().priority), (&None, None));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a message holds, it is carried or refused; nothing panics and nothing else fails.
    #[test]
    fn anything_is_carried_or_refused(
        address: String,
        id: String,
        texts in vec(proptest::option::of(any::<String>().prop_map(Text::from)), 6),
        headers in vec((any::<String>(), any::<String>()), 0..6),
        payload: Vec<u8>,
    ) {
        let text = |place: usize| texts.get(place).cloned().flatten();
        let mut message = Envelope::new(Origin::new("test", "test", address), payload)
            .with_id(MessageId::from_source(id))
            .with_properties(Properties {
                content_type: text(0),
                content_encoding: text(1),
                kind: text(2),
                app_id: text(3),
                user_id: text(4),
                reply_to: text(5),
                ..Properties::NONE
            });
        for (name, value) in headers {
            message.headers.push(name, value);
        }
        for protocol in ALL {
            match protocol.trip(&message) {
                Ok((_, back)) => {
                    prop_assert_eq!(&back.payload, &message.payload);
                    prop_assert_eq!(back.address.as_str(), message.address.as_str());
                }
                Err(SendError::Rejected { .. }) => {}
                Err(other) => prop_assert!(false, "{:?} {:?}", protocol, other),
            }
        }
    }
}
