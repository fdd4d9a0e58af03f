//! The binary form of messages: round trips, damage, and the files of version 1.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::{fs, path::PathBuf};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use transload_envelope::{
    Address, Arguments, Envelope, Header, Headers, MessageId, Origin, Properties, Text, Timestamp,
    Value, codec,
    codec::{DEPTH_MAX, DecodeError},
};

fn encoded(envelope: &Envelope) -> Bytes {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes);
    bytes.into()
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof!["\\PC{0,12}", ".{0,3}", "[a-z/]{0,200}"].prop_map(Text::from)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|unix_ms| Timestamp { unix_ms })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        // NaN is not equal to itself, so it has a test of its own.
        any::<f64>().prop_filter("NaN", |it| !it.is_nan()).prop_map(Value::Float),
        text().prop_map(Value::Text),
        bytes(20).prop_map(Value::Bytes),
        timestamp().prop_map(Value::Timestamp),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((text(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let others = (
        option::of(bytes(20)),
        option::of(timestamp()),
        option::of(any::<u8>()),
        option::of(any::<bool>()),
        any::<bool>(),
        option::of(timestamp()),
    );
    (texts, others).prop_map(|(texts, others)| Properties {
        content_type: texts.0,
        content_encoding: texts.1,
        reply_to: texts.2,
        kind: texts.3,
        app_id: texts.4,
        user_id: texts.5,
        correlation: others.0,
        expires_at: others.1,
        priority: others.2,
        durable: others.3,
        retain: others.4,
        timestamp: others.5,
    })
}

prop_compose! {
    fn envelope()(
        id in text(),
        (adapter, protocol, address) in (text(), text(), text()),
        attributes in vec((text(), value()), 0..3),
        readdressed in option::of(text()),
        properties in option::of(properties()),
        headers in vec((text(), value()), 0..5),
        payload in bytes(300),
        hops in any::<u8>(),
    ) -> Envelope {
        let mut origin = Origin::new(adapter, protocol, address);
        origin.attributes = attributes;
        let mut envelope = Envelope::new(origin, payload).with_id(MessageId::from_source(id));
        if let Some(address) = readdressed {
            envelope.address = Address::new(address);
        }
        envelope.headers =
            headers.into_iter().map(|(name, value)| Header { name, value }).collect::<Headers>();
        envelope.hops = hops;
        envelope.with_properties(properties.unwrap_or_default())
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(envelope in envelope()) {
        let bytes = encoded(&envelope);
        prop_assert_eq!(codec::decode(&bytes).unwrap(), envelope);
    }

    #[test]
    fn arguments_are_read_back(pairs in vec((text(), text()), 0..5)) {
        let arguments: Arguments = pairs.into_iter().collect();
        let mut bytes = Vec::new();
        codec::encode_arguments(&arguments, &mut bytes);
        prop_assert_eq!(codec::decode_arguments(&bytes.into()).unwrap(), arguments);
    }

    #[test]
    fn a_cut_off_message_is_an_error(envelope in envelope(), at in any::<prop::sample::Index>()) {
        let bytes = encoded(&envelope);
        prop_assert!(codec::decode(&bytes.slice(..at.index(bytes.len()))).is_err());
    }

    #[test]
    fn a_message_has_one_form(
        envelope in envelope(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&envelope).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        // Flags that say what is not so (an address that is the origin's all the same) are the
        // only second form, and harmless.
        if let Ok(read) = codec::decode(&bytes) && at != 1 {
            let again = codec::decode(&encoded(&read)).unwrap();
            prop_assert_eq!(format!("{:?}", read), format!("{again:?}"));
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(mut bytes in vec(any::<u8>(), 0..400)) {
        drop(codec::decode(&bytes.clone().into()));
        drop(codec::decode_arguments(&bytes.clone().into()));
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (codec::VERSION, bytes[1] & 3);
        }
        drop(codec::decode(&bytes.into()));
    }
}

#[test]
fn the_payload_is_a_slice_of_the_input() {
    let bytes = encoded(&Envelope::new(Origin::new("a", "mqtt", "t"), vec![7; 100]));
    let payload = codec::decode(&bytes).unwrap().payload;
    let range = bytes.as_ptr_range();
    assert!(range.contains(&payload.as_ptr()));
}

#[test]
fn a_length_beyond_the_input_reserves_nothing() {
    let mut bytes = vec![codec::VERSION, 0, 0];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(codec::decode(&bytes.into()), Err(DecodeError::CutOff));
}

#[test]
fn bytes_behind_the_message_are_an_error() {
    let mut bytes = encoded(&Envelope::new(Origin::new("a", "mqtt", "t"), "x")).to_vec();
    bytes.push(0);
    assert_eq!(codec::decode(&bytes.into()), Err(DecodeError::TooLong(1)));
}

#[test]
fn not_a_number_keeps_its_bits() {
    let mut envelope = Envelope::new(Origin::new("a", "mqtt", "t"), "x");
    let number = f64::from_bits(0x7ff8_0000_0000_0001);
    envelope.headers.push("nan", Value::Float(number));
    let read = codec::decode(&encoded(&envelope)).unwrap();
    let Some(Value::Float(read)) = read.headers.get("nan") else { panic!("no float") };
    assert_eq!(read.to_bits(), number.to_bits());
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Bool(true), |inner, _| Value::List(vec![inner]))
}

#[test]
fn nesting_has_a_bound() {
    let mut envelope = Envelope::new(Origin::new("a", "mqtt", "t"), "x");
    envelope.headers.push("deep", nested(DEPTH_MAX));
    assert_eq!(codec::decode(&encoded(&envelope)).unwrap(), envelope);

    // One level more loses its innards and nothing else.
    envelope.headers.push("deeper", nested(DEPTH_MAX + 1));
    let read = codec::decode(&encoded(&envelope)).unwrap();
    let mut cut = Value::Null;
    for _ in 0..DEPTH_MAX {
        cut = Value::List(vec![cut]);
    }
    assert_eq!(read.headers.get("deeper"), Some(&cut));
    assert_eq!(read.payload, envelope.payload);

    // What was not written here and is deeper still is refused before the stack is at its end.
    let mut bytes = vec![codec::VERSION, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    bytes.extend([9, 1].repeat(1_000_000));
    assert_eq!(codec::decode(&bytes.into()), Err(DecodeError::TooDeep));
}

/// The messages that the files of version 1 hold. They are never changed: a change here would be
/// a change of the format.
fn fixtures() -> Vec<(&'static str, Envelope)> {
    let minimal = Envelope::new(Origin::new("devices", "mqtt", "a/b"), "21.5")
        .with_id(MessageId::from_source("0192-1"));
    let origin = Origin::new("orders", "amqp", "orders/eu/new")
        .with("exchange", "orders")
        .with("redelivered", true)
        .with("table", Value::Map(vec![("n".into(), Value::Null)]));
    let mut full = Envelope::new(origin, &b"\x00\x01\xfe\xff"[..])
        .with_id(MessageId::from_source("order-4711"))
        .with_properties(Properties {
            content_type: Some("application/json".into()),
            content_encoding: Some("gzip".into()),
            correlation: Some(Bytes::from_static(b"\xc0\xde")),
            reply_to: Some("replies/7".into()),
            expires_at: Some(Timestamp { unix_ms: 1_800_000_000_000 }),
            priority: Some(9),
            durable: Some(true),
            retain: true,
            kind: Some("order.created".into()),
            app_id: Some("shop".into()),
            user_id: Some("guest".into()),
            timestamp: Some(Timestamp { unix_ms: -1 }),
        });
    full.address = Address::new("billing/eu");
    full.hops = 3;
    for (name, value) in [
        ("null", Value::Null),
        ("no", Value::Bool(false)),
        ("yes", Value::Bool(true)),
        ("least", Value::Int(i64::MIN)),
        ("most", Value::UInt(u64::MAX)),
        ("float", Value::Float(-0.5)),
        ("text", "gr\u{fc}n".into()),
        ("bytes", Value::Bytes(Bytes::from_static(b"\xff"))),
        ("time", Value::Timestamp(Timestamp { unix_ms: 1_700_000_000_123 })),
        ("list", Value::List(vec![Value::Int(1), Value::Map(Vec::new())])),
        ("text", "again".into()),
    ] {
        full.headers.push(name, value);
    }
    vec![("v1-minimal.envelope", minimal), ("v1-full.envelope", full)]
}

#[test]
fn files_of_version_1_are_read_and_written_byte_for_byte() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, envelope) in fixtures() {
        let file = Bytes::from(fs::read(folder.join(name)).unwrap());
        assert_eq!(codec::decode(&file).unwrap(), envelope, "{name}");
        assert_eq!(encoded(&envelope), file, "{name}");
    }
    let future = Bytes::from(fs::read(folder.join("v255-unknown.envelope")).unwrap());
    assert_eq!(codec::decode(&future), Err(DecodeError::Version(255)));
}

/// Writes the files. They are there already; this is how they were made.
#[test]
#[ignore = "it writes the fixtures"]
fn write_fixtures() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, envelope) in fixtures() {
        fs::write(folder.join(name), encoded(&envelope)).unwrap();
    }
    fs::write(folder.join("v255-unknown.envelope"), [255, 0, 0]).unwrap();
}
