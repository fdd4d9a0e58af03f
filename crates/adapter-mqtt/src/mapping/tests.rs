use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = Text> {
    "[a-zA-Z0-9 ä😀-]{0,12}".prop_map(Text::from)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    any::<Vec<u8>>().prop_map(Bytes::from)
}

fn option<T: Strategy>(of: T) -> impl Strategy<Value = Option<T::Value>> {
    proptest::option::of(of)
}

/// Names that stand for something among the user properties, and others.
fn name() -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => text(),
        1 => Just("message-id".into()),
        1 => Just("priority".into()),
        1 => Just("timestamp-ms".into()),
        1 => Just("transload-hops".into()),
        1 => Just("type".into()),
        1 => Just("app-id".into()),
    ]
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3_u8).prop_map(|bits| QoS::from_bits(bits).unwrap())
}

prop_compose! {
    fn message()(
        topic in "[a-z/]{1,12}",
        payload in bytes(),
        qos in qos(),
        retain: bool,
        expires in option(0..i64::MAX),
        content_type in option(text()),
        response_topic in option("[a-z/]{1,12}"),
        correlation in option(bytes()),
        user in proptest::collection::vec((name(), prop_oneof![text(), "[0-9]{1,4}".prop_map(Text::from)]), 0..6),
    ) -> Message {
        Message {
            topic: topic.into(),
            payload,
            qos,
            retain,
            expires_at: expires.map(|unix_ms| Timestamp { unix_ms }),
            properties: Some(Box::new(MessageProperties {
                utf8_payload: false,
                content_type,
                response_topic: response_topic.map(Into::into),
                correlation,
                user,
            })),
        }
    }
}

prop_compose! {
    fn envelope()(
        address in "[a-z/]{1,12}",
        payload in bytes(),
        id in "[a-z0-9]{1,12}",
        hops: u8,
        content_type in option(text()),
        content_encoding in option(text()),
        correlation in option(bytes()),
        reply_to in option("[a-z/]{1,12}"),
        expires in option(0..i64::MAX),
        priority: Option<u8>,
        durable: bool,
        retain: bool,
        (kind, app_id, user_id) in (option(text()), option(text()), option(text())),
        timestamp in option(any::<i64>()),
        headers in proptest::collection::vec(("x-[a-z]{0,6}", text()), 0..6),
    ) -> Envelope {
        let mut envelope = Envelope::new(Origin::new("a", "mqtt", address), payload)
            .with_id(MessageId::from_source(id))
            .with_properties(Properties {
                content_type,
                content_encoding,
                correlation,
                reply_to: reply_to.map(Into::into),
                expires_at: expires.map(|unix_ms| Timestamp { unix_ms }),
                priority,
                durable: Some(durable),
                retain,
                kind,
                app_id,
                user_id,
                timestamp: timestamp.map(|unix_ms| Timestamp { unix_ms }),
            });
        envelope.hops = hops;
        for (name, value) in headers {
            envelope.headers.push(name, value);
        }
        envelope
    }
}

fn origin(topic: &Text) -> Origin {
    Origin::new("a", "mqtt", topic.clone())
}

/// The user properties in an order that does not depend on their route.
fn sorted(message: &Message) -> Vec<(Text, Text)> {
    let mut user = message.properties.as_ref().unwrap().user.clone();
    user.sort();
    user
}

proptest! {
    #[test]
    fn an_envelope_comes_back_whole(envelope in envelope()) {
        let known = envelope.properties();
        let qos = if known.durable == Some(true) { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let topic = envelope.address.as_text().clone();
        let message = from_envelope(&envelope, topic.clone(), qos, known.retain).unwrap();
        prop_assert_eq!(to_envelope(&message, origin(&topic)), envelope);
    }

    #[test]
    fn nothing_of_a_message_is_lost(message in message()) {
        let envelope = to_envelope(&message, origin(&message.topic));
        let again =
            from_envelope(&envelope, message.topic.clone(), message.qos, message.retain).unwrap();
        let mut expected = sorted(&message);
        let has_id = expected.iter().any(|(name, value)| *name == MESSAGE_ID && !value.is_empty());
        if !has_id {
            expected.push((MESSAGE_ID, envelope.id.as_text().clone()));
            expected.sort();
        }
        // Zero hops are the same as none.
        expected.retain(|(name, value)| !(*name == HOPS && &**value == "0"));
        let mut got = sorted(&again);
        got.retain(|(name, value)| !(*name == HOPS && &**value == "0"));
        prop_assert_eq!(got, expected);
        let (again_properties, properties) =
            (again.properties.clone().unwrap(), message.properties.clone().unwrap());
        prop_assert_eq!(&again_properties.content_type, &properties.content_type);
        prop_assert_eq!(&again_properties.response_topic, &properties.response_topic);
        prop_assert_eq!(&again_properties.correlation, &properties.correlation);
        prop_assert_eq!(&again.payload, &message.payload);
        prop_assert_eq!(again.expires_at, message.expires_at);
    }

    #[test]
    fn for_other_clients_a_message_stays_as_it_is(message in message()) {
        let envelope = to_envelope_verbatim(&message, origin(&message.topic));
        let again = from_envelope_verbatim(&envelope, message.qos, message.retain, false);
        let plain = message.properties.as_deref() == Some(&MessageProperties::default());
        let expected = Message {
            properties: message.properties.clone().filter(|_| !plain),
            ..message
        };
        prop_assert_eq!(again, expected);
    }
}

#[test]
fn values_become_text() {
    let map = Value::Map(vec![
        ("a\"".into(), Value::List(vec![Value::Int(-1), Value::Null, Value::Float(1.5)])),
        ("b".into(), Value::Text("line\n".into())),
        ("c".into(), Value::Float(f64::INFINITY)),
    ]);
    for (value, text) in [
        (Value::Null, ""),
        (Value::Bool(true), "true"),
        (Value::UInt(u64::MAX), "18446744073709551615"),
        (Value::Bytes(Bytes::from_static(b"text")), "text"),
        (Value::Bytes(Bytes::from_static(&[0xff])), "base64:/w=="),
        (Value::Timestamp(Timestamp { unix_ms: 5 }), "5"),
        (map, r#"{"a\"":[-1,null,1.5],"b":"line\u000a","c":null}"#),
    ] {
        assert_eq!(&*value_text(&value), text);
    }
}

#[test]
fn what_mqtt_cannot_carry_is_said() {
    let envelope = |change: fn(&mut Envelope)| {
        let mut envelope = Envelope::new(Origin::new("a", "b", "c"), "");
        change(&mut envelope);
        from_envelope(&envelope, "t".into(), QoS::AtMostOnce, false).map(drop)
    };
    assert_eq!(envelope(|_| {}), Ok(()));
    for (change, error) in [
        (
            (|e| e.headers.push("a", "b\0")) as fn(&mut Envelope),
            Unmappable::Null("the value of a header"),
        ),
        (|e| e.headers.push("a".repeat(70_000), ""), Unmappable::TooLong("the name of a header")),
        (
            |e| e.properties_mut().correlation = Some(vec![0; 70_000].into()),
            Unmappable::TooLong("the correlation"),
        ),
        (|e| e.properties_mut().reply_to = Some("a/#".into()), Unmappable::ReplyTo),
    ] {
        assert_eq!(envelope(change), Err(error));
    }
}

fn with_user(pairs: &[(&'static str, &'static str)]) -> Message {
    let user = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Message {
        topic: "a".into(),
        payload: Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: None,
        properties: Some(Box::new(MessageProperties { user, ..MessageProperties::default() })),
    }
}

/// The user properties of an envelope behind the id of the message.
fn user_of(envelope: &Envelope) -> Vec<(Text, Text)> {
    let message = from_envelope(envelope, "a".into(), QoS::AtLeastOnce, false).unwrap();
    message.properties.unwrap().user.split_off(1)
}

#[test]
fn attributes_of_an_event_are_told_from_what_has_the_same_name() {
    let event = with_user(&[
        ("specversion", "1.0"),
        ("priority", "7"),
        ("traceparent", "00-a-b-01"),
        ("transload-priority", "3"),
    ]);
    let mut envelope = to_envelope(&event, origin(&event.topic));
    assert_eq!(envelope.properties().priority, Some(3));
    let headers: Vec<_> = envelope.headers.iter().map(|header| &*header.name).collect();
    assert_eq!(headers, ["ce-specversion", "ce-priority", "traceparent", "ce-traceparent"]);
    // The gateway puts its own span in between.
    envelope.headers.set("traceparent", "00-a-c-01");
    let pairs = |pairs: &[(&'static str, &'static str)]| -> Vec<(Text, Text)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let expected = [
        ("transload-priority", "3"),
        ("specversion", "1.0"),
        ("priority", "7"),
        ("traceparent", "00-a-c-01"),
    ];
    assert_eq!(user_of(&envelope), pairs(&expected));
    // An attribute that nothing else stands for is written.
    envelope.headers.remove("traceparent");
    assert_eq!(user_of(&envelope)[3], ("traceparent".into(), "00-a-b-01".into()));

    let plain = with_user(&[("priority", "7"), ("transload-priority", "3")]);
    let envelope = to_envelope(&plain, origin(&plain.topic));
    assert_eq!(envelope.properties().priority, Some(7));
    assert_eq!(user_of(&envelope), pairs(&[("priority", "7"), ("transload-priority", "3")]));
}

#[test]
fn an_event_is_known_by_its_version_and_has_bare_names_here() {
    let message = with_user;
    let event = message(&[
        ("specversion", "1.0"),
        ("id", "A234"),
        ("source", "/mycontext"),
        ("comexampleextension1", "value"),
        ("X-Other", "1"),
    ]);
    let envelope = to_envelope(&event, origin(&event.topic));
    let names: Vec<_> = envelope.headers.iter().map(|header| &*header.name).collect();
    let expected = ["ce-specversion", "ce-id", "ce-source", "ce-comexampleextension1", "X-Other"];
    assert_eq!(names, expected);
    assert_eq!(envelope.id.as_str(), "/mycontext A234");
    let back = from_envelope(&envelope, "a".into(), QoS::AtLeastOnce, false).unwrap();
    let sent = back.properties.unwrap().user;
    assert_eq!(sent[0], ("message-id".into(), "/mycontext A234".into()));
    assert_eq!(sent[1..], event.properties.as_ref().unwrap().user[..]);

    let plain = message(&[("id", "A234"), ("source", "/mycontext"), ("ce-type", "t")]);
    let envelope = to_envelope(&plain, origin(&plain.topic));
    let names: Vec<_> = envelope.headers.iter().map(|header| &*header.name).collect();
    assert_eq!(names, ["id", "source", "ce-type"]);
    let back = from_envelope(&envelope, "a".into(), QoS::AtLeastOnce, false).unwrap();
    assert_eq!(back.properties.unwrap().user[1..], plain.properties.unwrap().user[..]);
}
