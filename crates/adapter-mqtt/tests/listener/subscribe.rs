//! SUBSCRIBE, UNSUBSCRIBE and what subscribers are given; retained messages.

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        Filter, Packet, Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode,
        UnsubAckReason, Unsubscribe,
    },
};
use transload_adapter::Event;

use crate::common::{V5, start, v5_filter, v5_publish};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test]
async fn a_message_comes_with_the_smaller_qos() {
    let listener = start("").await;
    for published in QOS {
        for subscribed in QOS {
            let mut subscriber = listener.v5("s").await;
            subscriber.listen("t", subscribed).await;
            let mut publisher = listener.v5("p").await;
            publisher.publish("t", published, 1, b"x").await;
            let message = subscriber.message().await;
            let smaller = (published as u8).min(subscribed as u8);
            assert_eq!(message.qos as u8, smaller, "{published:?} {subscribed:?}");
            assert!(!message.dup);
        }
    }
}

#[tokio::test]
async fn wildcards_match_as_the_specification_says() {
    let listener = start("").await;
    for (filter, topic, matches) in [
        ("a/b", "a/b", true),
        ("a/b", "a/B", false),
        ("a/+", "a/b", true),
        ("a/+", "a/", true),
        ("a/+", "a", false),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "a/b", true),
        ("{a}/+", "{a}/b", true),
        ("{a}/+", "b/b", false),
    ] {
        let mut client = listener.v5("c").await;
        client.listen(filter, QoS::AtMostOnce).await;
        client.publish(topic, QoS::AtMostOnce, 0, b"x").await;
        if matches {
            assert_eq!(&client.message().await.topic[..], topic.as_bytes(), "{filter}");
        } else {
            client.nothing().await;
        }
    }
}

#[tokio::test]
async fn filters_that_are_not_valid_are_refused_one_by_one() {
    let listener = start("max_subscriptions = 2").await;
    let mut client = listener.v5("c").await;
    let filters = ["a", "a/#/b", "b+", "$share/g", "$share//a", "b", "c", "a"];
    let filters = filters.map(|filter| v5_filter(filter, QoS::AtLeastOnce)).to_vec();
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    let invalid = SubscribeReasonCode::TopicFilterInvalid;
    let quota = SubscribeReasonCode::QuotaExceeded;
    assert_eq!(
        client.subscribe(filters).await,
        [granted, invalid, invalid, invalid, invalid, granted, quota, granted]
    );
}

#[tokio::test]
async fn unsubscribing_says_what_there_was() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.listen("a/+", QoS::AtMostOnce).await;
    let filters = vec!["a/+".into(), "a/+".into(), "never".into()];
    let unsubscribe = Unsubscribe { pkid: 3, filters, properties: None };
    client.send(Packet::Unsubscribe(unsubscribe)).await;
    match client.recv().await {
        Packet::UnsubAck(unsuback) => {
            let none = UnsubAckReason::NoSubscriptionExisted;
            assert_eq!(unsuback.reasons, [UnsubAckReason::Success, none, none]);
        }
        other => panic!("{other:?}"),
    }
    client.publish("a/b", QoS::AtMostOnce, 0, b"x").await;
    client.nothing().await;
}

#[tokio::test]
async fn no_local_keeps_a_clients_own_messages_from_it() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.subscribe(vec![Filter { nolocal: true, ..v5_filter("#", QoS::AtMostOnce) }]).await;
    client.publish("t", QoS::AtMostOnce, 0, b"own").await;
    let mut other = listener.v5("o").await;
    other.publish("t", QoS::AtMostOnce, 0, b"other's").await;
    assert_eq!(&client.message().await.payload[..], b"other's");
}

#[tokio::test]
async fn overlapping_subscriptions_give_one_message_with_all_identifiers() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.subscribe_with(vec![v5_filter("a/#", QoS::AtMostOnce)], Some(1)).await;
    client.subscribe_with(vec![v5_filter("a/+", QoS::AtLeastOnce)], Some(268_435_455)).await;
    client.subscribe_with(vec![v5_filter("a/b", QoS::AtMostOnce)], None).await;
    let mut other = listener.v5("o").await;
    other.publish("a/b", QoS::ExactlyOnce, 1, b"x").await;
    let message = client.message().await;
    assert_eq!(message.qos, QoS::AtLeastOnce);
    let mut ids = message.properties.unwrap().subscription_identifiers;
    ids.sort_unstable();
    assert_eq!(ids, [1, 268_435_455]);
    client.nothing().await;
}

#[tokio::test]
async fn user_properties_go_through_unaltered() {
    let listener = start("").await;
    for qos in QOS {
        let mut client = listener.v5("c").await;
        client.listen("t", qos).await;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            response_topic: Some("r".into()),
            correlation_data: Some("\0".into()),
            content_type: Some("c".into()),
            user_properties: vec![
                pair("b", "1"),
                pair("message-id", "m"),
                pair("b", "2"),
                pair("app-id", ""),
                pair("", ""),
            ],
            ..PublishProperties::default()
        };
        let publish = v5_publish("t", qos, 1, b"x");
        let publish = Publish { properties: Some(properties.clone()), ..publish };
        let mut other = listener.v5("o").await;
        other.send(Packet::Publish(publish)).await;
        assert_eq!(client.message().await.properties, Some(properties));
    }
}

#[tokio::test]
async fn expiry_counts_down_and_ends_a_message() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    let expiring = |payload: &[u8], seconds| Publish {
        retain: true,
        properties: Some(PublishProperties {
            message_expiry_interval: Some(seconds),
            ..PublishProperties::default()
        }),
        ..v5_publish(std::str::from_utf8(payload).unwrap(), QoS::AtLeastOnce, 1, payload)
    };
    client.send(Packet::Publish(expiring(b"short", 1))).await;
    client.puback().await;
    client.send(Packet::Publish(expiring(b"long", 100))).await;
    client.puback().await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    client.listen("+", QoS::AtMostOnce).await;
    let message = client.message().await;
    assert_eq!(&message.payload[..], b"long");
    let left = message.properties.unwrap().message_expiry_interval.unwrap();
    assert!((90..100).contains(&left), "{left}");
    client.nothing().await;
}

#[tokio::test]
async fn retained_messages_are_kept_replaced_and_cleared() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.retain("r/a", b"1").await;
    client.retain("r/a", b"2").await;
    client.retain("r/b", b"3").await;
    client.retain("r/b", b"").await;
    // Only a retained empty payload clears.
    client.publish("r/a", QoS::AtLeastOnce, 9, b"").await;
    client.puback().await;
    let mut late = listener.v5("late").await;
    late.listen("r/+", QoS::AtLeastOnce).await;
    let message = late.message().await;
    assert!(message.retain);
    assert_eq!((&message.topic[..], &message.payload[..]), (&b"r/a"[..], &b"2"[..]));
    late.acknowledge(message.pkid).await;
    late.nothing().await;
}

#[tokio::test]
async fn an_empty_message_that_is_not_retained_is_an_ordinary_one() {
    let mut listener = start("").await;
    let mut client = listener.v5("c").await;
    client.listen("gateway/e", QoS::AtMostOnce).await;
    client.publish("gateway/e", QoS::AtMostOnce, 0, b"").await;
    assert!(client.message().await.payload.is_empty());
    assert!(listener.receive().await.envelope.payload.is_empty());
}

#[tokio::test]
async fn every_kind_of_filter_finds_its_retained_messages() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    for topic in ["a", "a/b", "a/b/c", "ab", "b/b"] {
        client.retain(topic, b"x").await;
    }
    for (filter, topics) in [
        ("a", &["a"][..]),
        ("a/#", &["a", "a/b", "a/b/c"]),
        ("a/+", &["a/b"]),
        ("+/b", &["a/b", "b/b"]),
        ("#", &["a", "a/b", "a/b/c", "ab", "b/b"]),
        ("a/b/+/d", &[]),
    ] {
        let mut late = listener.v5("late").await;
        late.listen(filter, QoS::AtMostOnce).await;
        for topic in topics {
            assert_eq!(&late.message().await.topic[..], topic.as_bytes(), "{filter}");
        }
        late.ping().await;
    }
}

#[tokio::test]
async fn retain_handling_and_retain_as_published() {
    let listener = start("").await;
    let mut publisher = listener.v5("p").await;
    publisher.retain("t", b"kept").await;
    let filter = |rule, preserve_retain| Filter {
        retain_forward_rule: rule,
        preserve_retain,
        ..v5_filter("t", QoS::AtMostOnce)
    };
    let mut client = listener.v5("c").await;
    client.subscribe(vec![filter(RetainForwardRule::Never, false)]).await;
    client.nothing().await;
    client.subscribe(vec![filter(RetainForwardRule::OnNewSubscribe, false)]).await;
    client.nothing().await;
    client.subscribe(vec![filter(RetainForwardRule::OnEverySubscribe, false)]).await;
    assert!(client.message().await.retain);
    let mut new = listener.v5("n").await;
    new.subscribe(vec![filter(RetainForwardRule::OnNewSubscribe, true)]).await;
    assert!(new.message().await.retain);
    publisher.retain("t", b"live").await;
    assert!(!client.message().await.retain);
    assert!(new.message().await.retain);
}

#[tokio::test]
async fn more_retained_messages_than_may_be_are_refused_and_counted() {
    let listener = start("max_retained = 1").await;
    let mut client = listener.v5("c").await;
    client.retain("a", b"x").await;
    let publish = v5_publish("b", QoS::AtLeastOnce, 1, b"x");
    client.send(Packet::Publish(Publish { retain: true, ..publish })).await;
    let reason = client.puback().await.reason;
    assert_eq!(reason, rumqttc::v5::mqttbytes::v5::PubAckReason::QuotaExceeded);
    assert!(listener.count(Event::MessageRefused) > 0);
    // One that is there can be replaced.
    client.retain("a", b"y").await;
}

#[tokio::test]
async fn messages_above_the_clients_packet_bound_are_left_out() {
    let listener = start("").await;
    let mut small = V5::open(listener.address).await;
    let properties = rumqttc::v5::mqttbytes::v5::ConnectProperties {
        max_packet_size: Some(64),
        ..crate::common::connect_properties()
    };
    let connect = rumqttc::v5::mqttbytes::v5::Connect {
        properties: Some(properties),
        ..crate::common::v5_connect("small")
    };
    small.connect(connect).await;
    small.listen("t", QoS::AtLeastOnce).await;
    let mut client = listener.v5("p").await;
    client.publish("t", QoS::AtLeastOnce, 1, &[0; 100]).await;
    client.publish("t", QoS::AtLeastOnce, 2, b"fits").await;
    assert_eq!(&small.message().await.payload[..], b"fits");
    assert_eq!(listener.count(Event::MessageDropped), 1);
}
