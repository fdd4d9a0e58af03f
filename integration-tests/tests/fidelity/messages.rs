//! Messages of every kind.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use transload_envelope::{Envelope, MessageId, Origin, Properties, Text, Timestamp, Value};

use crate::protocol::NOW;

/// Text with everything that may go wrong: line breaks, spaces at the ends, what has a meaning in
/// one of the encodings, characters beyond ASCII and beyond the first plane.
pub(crate) fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => "[ -~]{0,24}",
        2 => "[%=:;, \\t\"'a]{0,12}",
        2 => "\\PC{0,12}",
        1 => "[\r\n\u{1}\u{7f}\u{85}\u{a0}\u{2028}\u{feff} a]{0,6}",
    ]
    .prop_map(Text::from)
}

/// The name of a header that stands for nothing else in any protocol.
fn name() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => "x-[a-z]{1,2}",
        2 => "[A-Z][a-zA-Z0-9_.-]{0,12}x",
        1 => "x[ -~]{0,12}",
        1 => "x\\PC{1,8}",
    ]
    .prop_map(Text::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e9..1e9).prop_map(Value::Float),
        text().prop_map(Value::Text),
    ];
    let list = vec(leaf.clone(), 0..3).prop_map(Value::List);
    prop_oneof![8 => text().prop_map(Value::Text), 2 => leaf, 1 => list]
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|unix_ms| Timestamp { unix_ms })
}

fn properties() -> impl Strategy<Value = Properties> {
    let correlation = prop_oneof![
        any::<Vec<u8>>().prop_map(Bytes::from),
        text().prop_map(Text::into_bytes),
        Just(Bytes::from(vec![b'c'; 300])),
    ];
    // From a moment ago to more than any protocol counts.
    let expiry = prop_oneof![4 => 1..100_000_000_i64, 1 => 1..4_294_967_296_000_i64];
    (
        (option::of(text()), option::of(text()), option::of(correlation)),
        option::of("[a-z]{1,4}(/[a-z.]{1,4}){0,3}"),
        option::of(expiry.prop_map(|ms| Timestamp { unix_ms: NOW.unix_ms + ms })),
        (any::<Option<u8>>(), any::<bool>(), any::<bool>()),
        (option::of(text()), option::of(text()), option::of(text())),
        option::of(time()),
    )
        .prop_map(
            |(content, reply_to, expires_at, (priority, durable, retain), names, timestamp)| {
                let (content_type, content_encoding, correlation) = content;
                let (kind, app_id, user_id) = names;
                Properties {
                    content_type,
                    content_encoding,
                    correlation,
                    reply_to: reply_to.map(Text::from),
                    expires_at,
                    priority,
                    durable: Some(durable),
                    retain,
                    kind,
                    app_id,
                    user_id,
                    timestamp,
                }
            },
        )
}

prop_compose! {
    /// A message that every protocol can carry to its address.
    pub(crate) fn message()(
        address in "[a-z]{1,4}(/[a-z.ä]{1,4}x){0,3}",
        payload: Vec<u8>,
        id in "[!-~]{1,32}",
        hops in 0..16_u8,
        properties in properties(),
        headers in vec((name(), value()), 0..8),
    ) -> Envelope {
        let mut envelope = Envelope::new(Origin::new("test", "test", address), payload)
            .with_id(MessageId::from_source(id))
            .with_properties(properties);
        envelope.hops = hops;
        for (name, value) in headers {
            // To HTTP they are one name, so nobody could tell what came back.
            let is_another = |known: &Text| *known != name && known.eq_ignore_ascii_case(&name);
            if !envelope.headers.iter().any(|header| is_another(&header.name)) {
                envelope.headers.push(name, value);
            }
        }
        envelope
    }
}

prop_compose! {
    /// An event (`CloudEvents` 1.0 in binary mode) with an extension and a header that is none.
    pub(crate) fn event()(
        mut message in message(),
        (id, source, kind) in ("[!-~]{1,16}", "/[!-~]{1,16}", "\\PC{1,16}"),
        subject in text(),
        extension in ("[a-z0-9]{1,12}", text()),
        header in ("x-[a-z]{1,4}", value()),
    ) -> Envelope {
        message.headers = transload_envelope::Headers::default();
        for (name, value) in [
            ("ce-specversion", Text::from("1.0")),
            ("ce-id", id.into()),
            ("ce-source", source.into()),
            ("ce-type", kind.into()),
            ("ce-subject", subject),
        ] {
            message.headers.push(name, value);
        }
        // Not one of those above.
        message.headers.push(format!("ce-ext{}", extension.0), extension.1);
        message.headers.push(header.0, header.1);
        message
    }
}
