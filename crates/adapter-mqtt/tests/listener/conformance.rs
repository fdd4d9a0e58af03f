//! Statements of the specification that no other test shows, and the table of all of them.

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        self, DisconnectReasonCode, Packet, PubAckReason, PubRecReason, PublishProperties,
        RetainForwardRule,
    },
};
use transload_adapter::Event;

use crate::common::{V5, outgoing, start, until, v5_connect, v5_filter, v5_persistent, v5_publish};

/// [MQTT-3.3.1-3]
#[tokio::test]
async fn dup_is_not_passed_on() {
    let listener = start("").await;
    let mut subscriber = listener.v5("s").await;
    subscriber.listen("t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    let again = v5::Publish { dup: true, ..v5_publish("t", QoS::AtLeastOnce, 1, b"x") };
    publisher.send(Packet::Publish(again)).await;
    assert!(!subscriber.message().await.dup);
}

/// [MQTT-1.5.4-3]
#[tokio::test]
async fn u_feff_is_kept() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    let topic = "\u{feff}a/\u{feff}";
    client.listen(topic, QoS::AtMostOnce).await;
    client.publish(topic, QoS::AtMostOnce, 0, b"x").await;
    assert_eq!(&client.message().await.topic[..], topic.as_bytes());
    client.publish("a/\u{feff}", QoS::AtMostOnce, 0, b"x").await;
    client.ping().await;
}

/// [MQTT-1.5.7-1]
#[tokio::test]
async fn both_texts_of_a_user_property_are_utf8() {
    let listener = start("").await;
    for pair in [[0xff, b'v'], [b'n', 0xff]] {
        let mut client = listener.v5("c").await;
        let [name, value] = pair;
        let frame = [0x30, 11, 0, 1, b'a', 7, 38, 0, 1, name, 0, 1, value];
        client.0.write(&frame).await;
        match client.end().await.as_slice() {
            [Packet::Disconnect(disconnect)] => {
                assert_eq!(disconnect.reason_code, DisconnectReasonCode::MalformedPacket);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// [MQTT-3.1.2-14], [MQTT-3.1.2-15]
#[tokio::test]
async fn a_will_that_is_to_be_retained_is() {
    let listener = start("").await;
    for (topic, retain) in [("kept", true), ("not", false)] {
        let mut client = V5::open(listener.address).await;
        let will = v5::LastWill::new(topic, "gone", QoS::AtLeastOnce, retain, None);
        client.connect_with(v5_connect("w"), Some(will)).await;
        let mut watcher = listener.v5("watcher").await;
        watcher.listen(topic, QoS::AtMostOnce).await;
        drop(client);
        assert!(!watcher.message().await.retain);
    }
    let mut late = listener.v5("late").await;
    late.listen("#", QoS::AtMostOnce).await;
    let message = late.message().await;
    assert_eq!((&message.topic[..], message.retain), (&b"kept"[..], true));
    late.nothing().await;
}

/// [MQTT-3.8.4-3], [MQTT-3.8.4-4]
#[tokio::test]
async fn the_same_filter_replaces_its_subscription() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.subscribe_with(vec![v5_filter("t", QoS::AtMostOnce)], Some(1)).await;
    client.subscribe_with(vec![v5_filter("t", QoS::AtLeastOnce)], Some(2)).await;
    listener.send("", outgoing("t", b"x")).await.unwrap();
    let message = client.message().await;
    assert_eq!(message.qos, QoS::AtLeastOnce);
    assert_eq!(message.properties.unwrap().subscription_identifiers, [2]);
    client.nothing().await;
}

/// [MQTT-3.10.4-3]
#[tokio::test]
async fn what_is_on_its_way_is_finished_after_unsubscribe() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", true)).await;
    client.listen("t", QoS::ExactlyOnce).await;
    listener.send("qos = 2", outgoing("t", b"x")).await.unwrap();
    let message = client.message().await;
    let unsubscribe = v5::Unsubscribe { pkid: 3, filters: vec!["t".into()], properties: None };
    client.send(Packet::Unsubscribe(unsubscribe)).await;
    assert!(matches!(client.recv().await, Packet::UnsubAck(_)));
    drop(client);
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", false)).await;
    let again = client.message().await;
    assert_eq!((again.pkid, again.dup), (message.pkid, true));
    client.send(Packet::PubRec(v5::PubRec::new(again.pkid, None))).await;
    assert!(matches!(client.recv().await, Packet::PubRel(_)));
    client.send(Packet::PubComp(v5::PubComp::new(again.pkid, None))).await;
    client.ping().await;
}

/// [MQTT-4.4.0-2]
#[tokio::test]
async fn a_message_that_a_client_refuses_is_not_sent_again() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", true)).await;
    client.listen("t", QoS::ExactlyOnce).await;
    for qos in ["qos = 1", "qos = 2"] {
        listener.send(qos, outgoing("t", b"x")).await.unwrap();
    }
    let mut puback = v5::PubAck::new(client.message().await.pkid, None);
    puback.reason = PubAckReason::QuotaExceeded;
    client.send(Packet::PubAck(puback)).await;
    let mut pubrec = v5::PubRec::new(client.message().await.pkid, None);
    pubrec.reason = PubRecReason::QuotaExceeded;
    client.send(Packet::PubRec(pubrec)).await;
    client.ping().await;
    assert_eq!(listener.count(Event::MessageDropped), 2);
    drop(client);
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", false)).await;
    client.nothing().await;
}

/// [MQTT-4.8.2-6]
#[tokio::test]
async fn what_a_member_refuses_is_not_sent_to_another() {
    let listener = start("").await;
    let mut refuses = listener.v5("refuses").await;
    refuses.listen("$share/g/t", QoS::AtLeastOnce).await;
    listener.send("", outgoing("t", b"x")).await.unwrap();
    let message = refuses.message().await;
    let mut other = listener.v5("other").await;
    other.listen("$share/g/t", QoS::AtLeastOnce).await;
    let mut puback = v5::PubAck::new(message.pkid, None);
    puback.reason = PubAckReason::NotAuthorized;
    refuses.send(Packet::PubAck(puback)).await;
    refuses.ping().await;
    drop(refuses);
    other.nothing().await;
}

/// [MQTT-4.6.0-4]
#[tokio::test]
async fn pubrel_leaves_in_the_order_of_pubrec() {
    let listener = start("").await;
    for persistent in [false, true] {
        let mut client = V5::open(listener.address).await;
        let connect = if persistent { v5_persistent("s", true) } else { v5_connect("s") };
        client.connect(connect).await;
        client.listen("t", QoS::ExactlyOnce).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            listener.send("qos = 2", outgoing("t", b"x")).await.unwrap();
            ids.push(client.message().await.pkid);
        }
        ids.rotate_left(1);
        for id in &ids {
            client.send(Packet::PubRec(v5::PubRec::new(*id, None))).await;
        }
        for id in &ids {
            assert!(matches!(client.recv().await, Packet::PubRel(rel) if rel.pkid == *id));
        }
    }
}

/// An empty retained message goes to those who are there as any other, and a session's own retained
/// messages wait for it.
#[tokio::test]
async fn retained_messages_wait_for_a_session_that_went_away() {
    let listener = start("").await;
    let mut publisher = listener.v5("p").await;
    publisher.retain("r/1", b"one").await;
    publisher.retain("r/2", b"two").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", true)).await;
    let filter = v5::Filter {
        retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        ..v5_filter("r/#", QoS::AtLeastOnce)
    };
    client.subscribe(vec![filter]).await;
    client.message().await;
    drop(client);
    until("the client is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("s", false)).await;
    for payload in [b"one", b"two"] {
        let message = client.message().await;
        assert_eq!((&message.payload[..], message.retain), (&payload[..], true));
        assert!(message.properties.unwrap_or(PublishProperties::default()).topic_alias.is_none());
    }
}

/// Every test that the table names is there.
#[test]
fn the_table_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../../docs/MQTT-CONFORMANCE.md")).unwrap();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split(", ") {
            let test = test.trim_matches('`');
            let (module, name) = test.rsplit_once("::").unwrap();
            let file = module.split("::").next().unwrap();
            let sources = [
                format!("tests/listener/{file}.rs"),
                format!("src/listener/{file}.rs"),
                format!("src/{file}/tests.rs"),
            ];
            let is_there = sources.iter().any(|source| {
                let text = std::fs::read_to_string(root.join(source)).unwrap_or_default();
                text.contains(&format!("fn {name}("))
            });
            assert!(is_there, "{test} is nowhere");
            named += 1;
        }
    }
    assert!(named > 150, "{named} tests are named");
}
