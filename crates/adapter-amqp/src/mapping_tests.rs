use std::sync::Arc;

use amq_protocol::types::{AMQPValue, ShortString};
use proptest::prelude::*;
use transload_envelope::Arguments;

use super::*;
use crate::table::tests::{field_table, table_of};

const NOW: Timestamp = Timestamp { unix_ms: 1_700_000_000_000 };
const LIMITS: Limits = Limits { message_bytes_max: 1000, frame_bytes_max: 4096 };

fn source(address: AddressSource) -> Source {
    Source {
        adapter: "services".into(),
        queue: "jobs.high".into(),
        consumer_tag: "tag".into(),
        address,
        mapping: AddressMapping::Swap,
    }
}

fn delivery(key: &str, properties: BasicProperties) -> Delivery {
    Delivery {
        tag: 7,
        redelivered: true,
        exchange: "amq.topic".into(),
        routing_key: key.into(),
        properties,
        data: "x".into(),
        data_bytes: 1,
        fault: None,
    }
}

fn arrive(properties: BasicProperties) -> Envelope {
    envelope(&source(AddressSource::RoutingKey), delivery("a.b", properties), NOW).unwrap()
}

fn outgoing(envelope: Envelope) -> Outgoing {
    Outgoing { envelope, arguments: Arguments::default() }
}

fn leave(envelope: Envelope, target: &str) -> Result<Publish, SendError> {
    let target: AmqpTarget = toml::from_str(target).unwrap();
    publish(&outgoing(envelope), &target, AddressMapping::Swap, LIMITS, NOW)
}

fn from_mqtt(properties: Properties) -> Envelope {
    Envelope::new(Origin::new("devices", "mqtt", "a/b"), "x").with_properties(properties)
}

#[test]
fn everything_that_amqp_says_arrives() {
    let envelope = arrive(BasicProperties {
        message_id: Some("id-1".into()),
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        correlation_id: Some("c-1".into()),
        reply_to: Some("amq.rabbitmq.reply-to.x/y".into()),
        expiration: Some("1500".into()),
        priority: Some(5),
        delivery_mode: Some(2),
        kind: Some("order".into()),
        app_id: Some("shop".into()),
        user_id: Some("guest".into()),
        timestamp: Some(12),
        headers: Some(table_of(&[("x-n", AMQPValue::LongInt(3))])),
        ..BasicProperties::default()
    });
    assert_eq!(envelope.id.as_str(), "id-1");
    assert_eq!(envelope.address.as_str(), "a/b");
    assert_eq!(&*envelope.payload, b"x");
    assert_eq!(envelope.headers.get("x-n"), Some(&Value::Int(3)));
    assert_eq!(
        envelope.properties(),
        &Properties {
            content_type: Some("text/plain".into()),
            content_encoding: Some("gzip".into()),
            correlation: Some("c-1".into()),
            reply_to: Some("amq/rabbitmq/reply-to/x.y".into()),
            expires_at: Some(NOW.after(Duration::from_millis(1500))),
            priority: Some(5),
            durable: Some(true),
            retain: false,
            kind: Some("order".into()),
            app_id: Some("shop".into()),
            user_id: Some("guest".into()),
            timestamp: Some(Timestamp { unix_ms: 12_000 }),
        }
    );
    let known: Vec<_> = envelope.origin.attributes.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        known,
        ["exchange", "routing_key", "queue", "redelivered", "consumer_tag", "reply_queue"]
    );
    assert_eq!(envelope.origin.attribute("redelivered"), Some(&Value::Bool(true)));
    // And leaves again as it came, but for the login's own user id.
    let publish = leave(envelope, "exchange = 'x'").unwrap();
    assert_eq!(publish.properties.user_id, None);
    let headers = field_table(&publish.properties.headers.clone().unwrap());
    assert_eq!(headers.inner().get(USER_ID_HEADER), Some(&AMQPValue::LongString("guest".into())));
    assert_eq!(publish.properties.reply_to, Some("amq.rabbitmq.reply-to.x/y".into()));
    assert_eq!(publish.properties.timestamp, Some(12));
    assert_eq!(publish.properties.expiration, Some("1500".into()));
}

#[test]
fn nothing_said_is_nothing_known() {
    let envelope =
        arrive(BasicProperties { message_id: Some("".into()), ..BasicProperties::default() });
    assert_eq!(envelope.properties(), &Properties::NONE);
    assert!(!envelope.id.as_str().is_empty());
}

#[test]
fn the_address_comes_from_where_the_settings_say() {
    for (from, address) in [
        (AddressSource::RoutingKey, "k/e.y"),
        (AddressSource::Queue, "jobs/high"),
        (AddressSource::Fixed("orders/new".into()), "orders/new"),
    ] {
        let delivery = delivery("k.e/y", BasicProperties::default());
        let envelope = envelope(&source(from), delivery, NOW).unwrap();
        assert_eq!(envelope.address.as_str(), address);
    }
}

#[test]
fn a_correlation_that_does_not_fit_takes_the_long_form() {
    for (correlation, short) in [
        (b"plain".to_vec(), true),
        ("é".repeat(127).into_bytes(), true),
        (vec![b'x'; 256], false),
        (vec![0xff, 0xfe], false),
        (b"nul\0".to_vec(), false),
    ] {
        let correlation = Some(Bytes::from(correlation));
        let properties = Properties { correlation: correlation.clone(), ..Properties::NONE };
        let published = leave(from_mqtt(properties), "exchange = 'x'").unwrap().properties;
        assert_eq!(published.correlation_id.is_some(), short);
        let back = arrive(published);
        assert_eq!(back.properties().correlation, correlation);
        assert_eq!(back.headers.get(CORRELATION_HEADER), None);
    }
}

#[test]
fn a_topic_to_reply_to_is_no_queue() {
    let properties = Properties { reply_to: Some("r/1".into()), retain: true, ..Properties::NONE };
    let published = leave(from_mqtt(properties.clone()), "exchange = 'x'").unwrap().properties;
    assert_eq!(published.reply_to, None);
    let headers = field_table(&published.headers.clone().unwrap());
    assert_eq!(
        headers.inner().get(REPLY_TO_TOPIC_HEADER),
        Some(&AMQPValue::LongString("r.1".into()))
    );
    let back = arrive(published.clone());
    assert_eq!(back.properties().reply_to, properties.reply_to);
    assert!(back.properties().retain && back.headers.is_empty());
    // Onward to another broker it is still no queue.
    assert_eq!(leave(back, "exchange = 'x'").unwrap().properties.headers, published.headers);
}

#[test]
fn the_target_decides_where_it_goes() {
    for (target, arguments, exchange, key, own) in [
        ("exchange = 'amq.topic'", vec![], "amq.topic", "a.b", (false, true)),
        ("exchange = 'x'\nrouting_key = 'k'", vec![], "x", "k", (false, false)),
        ("queue = 'q'", vec![], "", "q", (false, false)),
        ("queue = 'q{a}'", vec![("queue", "q1")], "", "q1", (false, true)),
        (
            "exchange = '{e}'\nrouting_key = '{k}'",
            vec![("exchange", "E"), ("routing_key", "K")],
            "E",
            "K",
            (true, true),
        ),
    ] {
        let target: AmqpTarget = toml::from_str(target).unwrap();
        let arguments =
            arguments.into_iter().map(|(key, text)| (key.into(), text.into())).collect();
        let outgoing = Outgoing { envelope: from_mqtt(Properties::NONE), arguments };
        let made = publish(&outgoing, &target, AddressMapping::Swap, LIMITS, NOW).unwrap();
        assert_eq!(made.exchange.as_str(), exchange);
        assert_eq!(made.routing_key.as_str(), key);
        assert_eq!((made.own_exchange, made.own_key), own);
    }
}

#[test]
fn hops_are_counted_across_gateways() {
    let mut passed = from_mqtt(Properties::NONE);
    passed.hops = 3;
    let published = leave(passed, "exchange = 'x'").unwrap().properties;
    let back = arrive(published);
    assert_eq!((back.hops, back.headers.len()), (3, 0));
    for (count, expected) in [(-1, 0), (300, 255)] {
        let headers = table_of(&[(HOPS_HEADER, AMQPValue::LongInt(count))]);
        assert_eq!(
            arrive(BasicProperties { headers: Some(headers), ..BasicProperties::default() }).hops,
            expected
        );
    }
}

#[test]
fn durability_follows_the_source_unless_the_target_says() {
    for (durable, target, mode) in [
        (None, "exchange = 'x'", 2),
        (Some(true), "exchange = 'x'", 2),
        (Some(false), "exchange = 'x'", 1),
        (Some(false), "exchange = 'x'\npersistent = true", 2),
        (Some(true), "exchange = 'x'\npersistent = false", 1),
    ] {
        let properties = Properties { durable, ..Properties::NONE };
        let made = leave(from_mqtt(properties), target).unwrap();
        assert_eq!(made.properties.delivery_mode, Some(mode), "{durable:?} {target}");
    }
}

#[test]
fn an_expired_message_says_so() {
    let properties = Properties { expires_at: Some(Timestamp { unix_ms: 1 }), ..Properties::NONE };
    let made = leave(from_mqtt(properties), "exchange = 'x'").unwrap();
    assert_eq!(made.properties.expiration, Some("0".into()));
}

#[test]
fn every_limit_is_named_before_the_broker_closes_the_channel() {
    let long = Text::from("x".repeat(256));
    let of = |change: &dyn Fn(&mut Properties)| {
        let mut properties = Properties::NONE;
        change(&mut properties);
        from_mqtt(properties)
    };
    let mut large = from_mqtt(Properties::NONE);
    large.payload = vec![0; 1001].into();
    let mut headers = from_mqtt(Properties::NONE);
    headers.headers.push("h", "x".repeat(4096));
    let mut addressed = from_mqtt(Properties::NONE);
    addressed.address = long.clone().into();
    let mut wild = from_mqtt(Properties::NONE);
    wild.address = "a/*/b".into();
    let mut reply = arrive(BasicProperties::default());
    reply.properties_mut().reply_to = Some(long.clone());
    for (envelope, field) in [
        (from_mqtt(Properties::NONE).with_id(MessageId::from_source(long.clone())), "message id"),
        (of(&|p| p.content_type = Some(long.clone())), "content type"),
        (of(&|p| p.content_encoding = Some(long.clone())), "content encoding"),
        (of(&|p| p.kind = Some(long.clone())), "the type"),
        (of(&|p| p.app_id = Some(long.clone())), "application id"),
        (reply, "queue to reply to"),
        (large, "payload has 1001 bytes"),
        (headers, "properties and headers take"),
        (addressed, "routing key"),
        (wild, "wildcard *"),
    ] {
        match leave(envelope, "exchange = 'x'") {
            Err(SendError::Rejected { reason }) => assert!(reason.contains(field), "{reason}"),
            other => panic!("{field}: {other:?}"),
        }
    }
    let long = format!("exchange = '{long}'");
    assert!(matches!(
        leave(from_mqtt(Properties::NONE), &long),
        Err(SendError::Rejected { reason }) if reason.contains("name of the exchange")
    ));
}

#[test]
fn too_deep_a_header_is_refused() {
    let mut value = AMQPValue::Void;
    for _ in 0..40 {
        value = AMQPValue::FieldArray(vec![value].into());
    }
    let headers = table_of(&[("deep", value)]);
    let delivery =
        delivery("a", BasicProperties { headers: Some(headers), ..BasicProperties::default() });
    let error = envelope(&source(AddressSource::RoutingKey), delivery, NOW).unwrap_err();
    assert!(error.contains("deep"));
}

fn short_text() -> impl Strategy<Value = Option<Text>> {
    proptest::option::of("\\PC{0,40}".prop_map(Text::from))
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = (short_text(), short_text(), short_text(), short_text(), short_text());
    let rest = (
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        proptest::option::of(any::<u8>()),
        any::<Option<bool>>(),
        any::<bool>(),
        proptest::option::of(0..i64::from(u32::MAX)),
        proptest::option::of(0..1_000_000_i64),
    );
    (texts, rest).prop_map(|(texts, rest)| Properties {
        content_type: texts.0,
        content_encoding: texts.1,
        reply_to: texts.2,
        kind: texts.3,
        app_id: texts.4,
        correlation: rest.0.map(Bytes::from),
        priority: rest.1,
        durable: rest.2,
        retain: rest.3,
        timestamp: rest.4.map(|seconds| Timestamp { unix_ms: seconds * 1000 }),
        expires_at: rest.5.map(|ms| Timestamp { unix_ms: NOW.unix_ms + ms }),
        user_id: None,
    })
}

proptest! {
    #[test]
    fn properties_and_payload_survive_the_round_trip(
        properties in properties(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        key in "[a-z./]{0,20}",
        protocol in prop_oneof![Just("mqtt"), Just("amqp")],
    ) {
        let origin = Arc::new(Origin::new("x", protocol, AddressMapping::Swap.to_address(&key)));
        let sent = Envelope::new(origin, payload).with_properties(properties.clone());
        let made = leave(sent.clone(), "exchange = 'x'").unwrap();
        let mut delivery = delivery(made.routing_key.as_str(), made.properties);
        delivery.data = made.payload.clone();
        let back = envelope(&source(AddressSource::RoutingKey), delivery, NOW).unwrap();
        prop_assert_eq!(&back.id, &sent.id);
        prop_assert_eq!(&back.address, &sent.address);
        prop_assert_eq!(&back.payload, &sent.payload);
        // What the source did not say is kept safe by default.
        let durable = Some(properties.durable != Some(false));
        prop_assert_eq!(back.properties(), &Properties { durable, ..properties });
        prop_assert!(back.headers.is_empty());
    }
}

#[test]
fn attributes_of_events_have_a_prefix_of_their_own() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let headers = table_of(&[
        ("cloudEvents_specversion", text("1.0")),
        ("cloudEvents:id", text("A234")),
        ("ce-source", text("/mycontext")),
        ("cloudEvents_no-name", text("x")),
        ("type", text("plain")),
        ("cloudEvents_number", AMQPValue::LongInt(5)),
    ]);
    let envelope = arrive(BasicProperties { headers: Some(headers), ..BasicProperties::default() });
    let header = |name: &str| envelope.headers.get(name).cloned();
    assert_eq!(header("ce-specversion"), Some("1.0".into()));
    assert_eq!(header("ce-id"), Some("A234".into()));
    assert_eq!(header("ce-source"), Some("/mycontext".into()));
    assert_eq!(header("ce-number"), Some(Value::Int(5)));
    assert_eq!(header("cloudEvents_no-name"), Some("x".into()));
    assert_eq!(header("type"), Some("plain".into()));
    assert_eq!(envelope.id.as_str(), "/mycontext A234");
    let sent = leave(envelope, "").unwrap().properties;
    let headers = field_table(&sent.headers.unwrap());
    let names: Vec<_> = headers.inner().keys().map(ShortString::as_str).collect();
    let event = ["id", "no-name", "number", "source", "specversion"];
    let event: Vec<_> = event.iter().map(|name| format!("cloudEvents_{name}")).collect();
    assert_eq!(names[..5], event);
    assert_eq!(names[5..], ["type"]);
    assert_eq!(sent.message_id.as_deref().unwrap(), "/mycontext A234");
}
