//! Sessions that outlive their connections, windows, slow subscribers, restarts.

use std::{sync::Arc, time::Duration};

use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{
        QoS,
        v5::{self, ConnectProperties, Packet},
    },
};
use transload_adapter::{Event, store::Store};
use transload_delivery::{JournalStore, MemoryStore, journal::JournalSettings};

use crate::common::{
    V4, V5, connect_properties, start, start_with, until, v4_connect, v5_connect, v5_persistent,
};

async fn persistent(listener: &crate::common::Listener, clean: bool) -> (V5, bool) {
    let mut client = V5::open(listener.address).await;
    let present = client.connect(v5_persistent("s", clean)).await.session_present;
    (client, present)
}

#[tokio::test]
async fn messages_wait_for_a_persistent_session() {
    let listener = start("").await;
    let (mut client, present) = persistent(&listener, false).await;
    assert!(!present);
    client.listen("t/#", QoS::ExactlyOnce).await;
    drop(client);
    let mut publisher = listener.v5("p").await;
    until("the client is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    for n in 1..=300_u16 {
        publisher.publish("t/1", QoS::AtLeastOnce, n, &n.to_be_bytes()).await;
        publisher.puback().await;
    }
    publisher.publish("t/0", QoS::AtMostOnce, 0, b"not kept").await;
    publisher.ping().await;
    let (mut client, present) = persistent(&listener, false).await;
    assert!(present);
    for n in 1..=300_u16 {
        let message = client.message().await;
        assert_eq!(message.payload[..], n.to_be_bytes());
        assert!(!message.dup);
        client.acknowledge(message.pkid).await;
    }
    client.nothing().await;
}

#[tokio::test]
async fn the_same_for_a_session_of_3_1_1_that_is_not_clean() {
    let listener = start("").await;
    let connect = || v4::Connect { clean_session: false, ..v4_connect("s") };
    let mut client = V4::open(listener.address).await;
    assert!(!client.connect(connect()).await.session_present);
    client.listen("t", rumqttc::QoS::AtLeastOnce).await;
    client.send(v4::Packet::Disconnect).await;
    assert!(client.end().await.is_empty());
    let mut publisher = listener.v4("p").await;
    publisher.publish("t", rumqttc::QoS::AtLeastOnce, 1, b"x").await;
    assert!(matches!(publisher.recv().await, v4::Packet::PubAck(_)));
    let mut client = V4::open(listener.address).await;
    assert!(client.connect(connect()).await.session_present);
    match client.recv().await {
        v4::Packet::Publish(publish) => assert_eq!(&publish.payload[..], b"x"),
        other => panic!("{other:?}"),
    }
    // A clean session ends the old one.
    let mut client = listener.v4("s").await;
    client.send(v4::Packet::Disconnect).await;
    client.end().await;
    let mut client = V4::open(listener.address).await;
    assert!(!client.connect(connect()).await.session_present);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_marked_and_in_order() {
    let listener = start("").await;
    let (mut client, _) = persistent(&listener, true).await;
    client.listen("t", QoS::ExactlyOnce).await;
    let mut publisher = listener.v5("p").await;
    for (n, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::ExactlyOnce)] {
        publisher.publish("t", qos, n, &[0]).await;
        publisher.recv().await;
    }
    let first = client.message().await;
    let second = client.message().await;
    let third = client.message().await;
    client.send(Packet::PubRec(v5::PubRec::new(second.pkid, None))).await;
    let answer = client.recv().await;
    assert!(matches!(&answer, Packet::PubRel(rel) if rel.pkid == second.pkid), "{answer:?}");
    drop(client);

    let (mut client, present) = persistent(&listener, false).await;
    assert!(present);
    let again = client.message().await;
    assert_eq!((again.pkid, again.dup), (first.pkid, true));
    assert!(matches!(client.recv().await, Packet::PubRel(rel) if rel.pkid == second.pkid));
    let again = client.message().await;
    assert_eq!((again.pkid, again.dup), (third.pkid, true));
    client.acknowledge(first.pkid).await;
    client.send(Packet::PubComp(v5::PubComp::new(second.pkid, None))).await;
    client.send(Packet::PubRec(v5::PubRec::new(third.pkid, None))).await;
    assert!(matches!(client.recv().await, Packet::PubRel(rel) if rel.pkid == third.pkid));
    client.send(Packet::PubComp(v5::PubComp::new(third.pkid, None))).await;
    client.ping().await;
    drop(client);
    let (mut client, _) = persistent(&listener, false).await;
    client.nothing().await;
}

#[tokio::test]
async fn a_message_of_qos_2_is_known_across_connections() {
    let mut listener = start("").await;
    let (mut client, _) = persistent(&listener, true).await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"x").await;
    let delivery = listener.receive().await;
    drop(client);
    let (mut client, _) = persistent(&listener, false).await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"x").await;
    listener.receives_nothing().await;
    delivery.receipt.settle(transload_adapter::Settlement::Accepted);
    assert!(matches!(client.recv().await, Packet::PubRec(rec) if rec.pkid == 5));
    drop(client);
    let (mut client, _) = persistent(&listener, false).await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"x").await;
    assert!(matches!(client.recv().await, Packet::PubRec(rec) if rec.pkid == 5));
    listener.receives_nothing().await;
}

#[tokio::test]
async fn a_session_ends_when_its_time_has_run_out() {
    let listener = start("session_expiry_max = \"1s\"").await;
    let mut client = V5::open(listener.address).await;
    let connack = client.connect(v5_persistent("s", true)).await;
    assert_eq!(connack.properties.unwrap().session_expiry_interval, Some(1), "it is told");
    client.listen("t", QoS::AtLeastOnce).await;
    drop(client);
    let (client, present) = persistent(&listener, false).await;
    assert!(present);
    drop(client);
    let begin = std::time::Instant::now();
    let mut publisher = listener.v5("p").await;
    let ended = async {
        loop {
            publisher.publish("t", QoS::AtLeastOnce, 1, b"x").await;
            if publisher.puback().await.reason == v5::PubAckReason::NoMatchingSubscribers {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    crate::common::soon("the end of the session", ended).await;
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    let (_, present) = persistent(&listener, false).await;
    assert!(!present);
}

#[tokio::test]
async fn disconnect_can_shorten_a_session_and_not_lengthen_one_that_ends() {
    let listener = start("").await;
    let disconnect = |seconds| {
        let properties = v5::DisconnectProperties {
            session_expiry_interval: Some(seconds),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        let mut disconnect = v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection);
        disconnect.properties = Some(properties);
        Packet::Disconnect(disconnect)
    };
    let (mut client, _) = persistent(&listener, true).await;
    client.send(disconnect(0)).await;
    client.end().await;
    let (_, present) = persistent(&listener, false).await;
    assert!(!present);
    let mut client = listener.v5("other").await;
    client.send(disconnect(60)).await;
    match client.end().await.last() {
        Some(Packet::Disconnect(disconnect)) => {
            assert_eq!(disconnect.reason_code, v5::DisconnectReasonCode::ProtocolError);
        }
        other => panic!("{other:?}"),
    }
}

/// Subscribes, reads and drops the connection, until every message has come.
async fn read_over_broken_connections(address: std::net::SocketAddr, name: &str, seen: &Seen) {
    let mut turn = 0_usize;
    while seen.lock().unwrap().len() < 1000 {
        let mut client = V5::open(address).await;
        let connack = client.connect(v5_persistent(name, false)).await;
        assert!(connack.session_present);
        turn += 1;
        for place in 0..37 * turn {
            let next = tokio::time::timeout(crate::common::QUIET, client.recv()).await;
            let Ok(Packet::Publish(message)) = next else { break };
            // Every fifth is received and not acknowledged.
            if place % 5 < 4 {
                seen.lock().unwrap().insert(message.payload.to_vec());
                client.acknowledge(message.pkid).await;
            }
        }
    }
}

type Seen = Arc<std::sync::Mutex<std::collections::BTreeSet<Vec<u8>>>>;

#[tokio::test]
async fn nothing_is_lost_over_broken_connections() {
    let listener = start("max_in_flight = 16").await;
    for (filter, names) in [("t", &["one"][..]), ("$share/g/t", &["a", "b", "c"])] {
        for name in names {
            let mut client = V5::open(listener.address).await;
            client.connect(v5_persistent(name, true)).await;
            client.listen(filter, QoS::AtLeastOnce).await;
        }
        let seen = Seen::default();
        let mut readers = tokio::task::JoinSet::new();
        for name in names {
            let (address, seen) = (listener.address, Arc::clone(&seen));
            readers.spawn(async move { read_over_broken_connections(address, name, &seen).await });
        }
        let mut publisher = listener.v5("p").await;
        for n in 1..=1000_u16 {
            publisher.publish("t", QoS::AtLeastOnce, n, &n.to_be_bytes()).await;
            if n % 100 == 0 {
                for _ in 0..100 {
                    publisher.puback().await;
                }
            }
        }
        crate::common::soon("all messages", readers.join_all()).await;
        for name in names {
            drop(listener.v5(name).await);
        }
    }
}

#[tokio::test]
async fn no_more_is_sent_than_the_clients_receive_maximum() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    let properties = ConnectProperties { receive_maximum: Some(2), ..connect_properties() };
    client.connect(v5::Connect { properties: Some(properties), ..v5_connect("s") }).await;
    client.listen("t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    for n in 1..=5 {
        publisher.publish("t", QoS::AtLeastOnce, n, b"x").await;
    }
    let first = client.message().await;
    client.message().await;
    client.nothing().await;
    client.acknowledge(first.pkid).await;
    client.message().await;
    client.nothing().await;
}

/// rumqttd loses most of these without a word.
#[tokio::test]
async fn a_slow_subscriber_loses_nothing_of_qos_1() {
    let listener = start("").await;
    for name in ["clean", "kept"] {
        let mut slow = V5::open(listener.address).await;
        let connect = if name == "clean" { v5_connect(name) } else { v5_persistent(name, true) };
        slow.connect(connect).await;
        slow.listen(name, QoS::AtLeastOnce).await;
        let mut publisher = listener.v5("p").await;
        let payload = [b'x'; 1000];
        for n in 1..=5000_u16 {
            let mut payload = payload;
            payload[..2].copy_from_slice(&n.to_be_bytes());
            publisher.publish(name, QoS::AtLeastOnce, n, &payload).await;
            if n % 200 == 0 {
                for _ in 0..200 {
                    publisher.puback().await;
                }
            }
        }
        for n in 1..=5000_u16 {
            let message = slow.message().await;
            assert_eq!(message.payload[..2], n.to_be_bytes(), "{name}");
            slow.acknowledge(message.pkid).await;
        }
    }
    assert_eq!(listener.count(Event::MessageDropped), 0);
}

#[tokio::test]
async fn what_does_not_fit_a_slow_subscribers_queue_is_counted() {
    let listener = start("max_queued_messages = 100\nmax_in_flight = 10").await;
    for name in ["clean", "kept"] {
        let before = listener.count(Event::MessageDropped);
        let mut slow = V5::open(listener.address).await;
        let connect = if name == "clean" { v5_connect(name) } else { v5_persistent(name, true) };
        slow.connect(connect).await;
        slow.listen(name, QoS::AtLeastOnce).await;
        let mut publisher = listener.v5("p").await;
        let mut refused = 0_u64;
        for n in 1..=200_u16 {
            publisher.publish(name, QoS::AtLeastOnce, n, &n.to_be_bytes()).await;
            refused +=
                u64::from(publisher.puback().await.reason == v5::PubAckReason::QuotaExceeded);
        }
        let mut received = 0_u64;
        let mut last = 0;
        while let Ok(message) = tokio::time::timeout(crate::common::QUIET, slow.message()).await {
            received += 1;
            let number = u16::from_be_bytes([message.payload[0], message.payload[1]]);
            assert_eq!(number, last + 1, "the oldest are kept");
            last = number;
            slow.acknowledge(message.pkid).await;
        }
        assert!((100..200).contains(&received), "{received}");
        assert_eq!(refused, 200 - received, "the publisher of MQTT 5 is told");
        assert_eq!(listener.count(Event::MessageDropped) - before, refused);
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_costs_a_bounded_number_of_messages_of_qos_0() {
    let listener = start("max_queued_bytes = \"1MiB\"").await;
    let mut stuck = listener.v5("stuck").await;
    stuck.listen("t", QoS::AtMostOnce).await;
    let mut publisher = listener.v5("p").await;
    let payload = vec![0; 100_000];
    for _ in 0..200 {
        publisher.publish("t", QoS::AtMostOnce, 0, &payload).await;
    }
    publisher.ping().await;
    until("drops are counted", || listener.count(Event::MessageDropped) > 0).await;
    let mut other = listener.v5("other").await;
    other.listen("u", QoS::AtMostOnce).await;
    publisher.publish("u", QoS::AtMostOnce, 0, b"x").await;
    assert_eq!(&other.message().await.payload[..], b"x");
}

#[tokio::test]
async fn sessions_subscriptions_and_retained_messages_outlive_the_listener() {
    let store = Arc::new(MemoryStore::new());
    before_the_restart(store.clone()).await;
    after_the_restart(store).await;
}

#[tokio::test]
async fn on_disk_they_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let open = || JournalStore::open(directory.path(), JournalSettings::default()).unwrap();
    let store = Arc::new(open());
    before_the_restart(store.clone()).await;
    store.close().await.unwrap();
    drop(store);
    after_the_restart(Arc::new(open())).await;
}

async fn before_the_restart(store: Arc<dyn Store>) {
    let listener = start_with("", store).await;
    let (mut client, _) = persistent(&listener, true).await;
    client.subscribe_with(vec![crate::common::v5_filter("t/+", QoS::AtLeastOnce)], Some(5)).await;
    client.listen("$share/g/s", QoS::AtLeastOnce).await;
    client.listen("gone", QoS::AtLeastOnce).await;
    let unsubscribe = v5::Unsubscribe { pkid: 1, filters: vec!["gone".into()], properties: None };
    client.send(Packet::Unsubscribe(unsubscribe)).await;
    client.recv().await;
    client.retain("r", b"kept").await;
    client.retain("cleared", b"x").await;
    client.retain("cleared", b"").await;
    drop(client);
    until("the client is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    let mut publisher = listener.v5("p").await;
    publisher.publish("t/1", QoS::AtLeastOnce, 1, b"before").await;
    publisher.puback().await;
    let tasks = listener.context.tasks.clone();
    tasks.close();
    drop(listener);
    crate::common::soon("the end of all tasks", tasks.wait()).await;
}

async fn after_the_restart(store: Arc<dyn Store>) {
    let listener = start_with("", store).await;
    let mut publisher = listener.v5("p").await;
    for (topic, wanted) in [("t/2", true), ("s", true), ("gone", false)] {
        publisher.publish(topic, QoS::AtLeastOnce, 1, b"after").await;
        let none = v5::PubAckReason::NoMatchingSubscribers;
        assert_eq!(publisher.puback().await.reason != none, wanted, "{topic}");
    }
    let (mut client, present) = persistent(&listener, false).await;
    assert!(present);
    let mut messages = Vec::new();
    for _ in 0..3 {
        let message = client.message().await;
        if message.topic.starts_with(b"t/") {
            assert_eq!(message.properties.clone().unwrap().subscription_identifiers, [5]);
        }
        client.acknowledge(message.pkid).await;
        messages.push((message.topic, message.payload));
    }
    messages.sort();
    let expected = [("s", "after"), ("t/1", "before"), ("t/2", "after")];
    assert_eq!(messages, expected.map(|(topic, payload)| (topic.into(), payload.into())));
    client.listen("#", QoS::AtMostOnce).await;
    let message = client.message().await;
    assert_eq!((&message.topic[..], &message.payload[..]), (&b"r"[..], &b"kept"[..]));
    client.nothing().await;
}
