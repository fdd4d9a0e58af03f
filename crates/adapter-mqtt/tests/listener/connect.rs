//! CONNECT, CONNACK, wills, keep-alive, take-over, limits.

use std::time::{Duration, Instant};

use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{
        QoS,
        v5::{self, ConnectReturnCode, DisconnectReasonCode, Packet},
    },
};
use transload_adapter::Event;

use crate::common::{
    Raw, V4, V5, connect_properties, start, until, v4_connect, v5_connect, v5_persistent,
};

fn reason(packets: &[Packet]) -> Option<DisconnectReasonCode> {
    match packets.last() {
        Some(Packet::Disconnect(disconnect)) => Some(disconnect.reason_code),
        _ => None,
    }
}

#[tokio::test]
async fn both_versions_connect_on_one_port_and_are_told_the_limits() {
    let listener = start("receive_maximum = 17\nmax_packet_bytes = 4096").await;
    let mut v5 = V5::open(listener.address).await;
    let connack = v5.connect(v5_connect("five")).await;
    assert_eq!(connack.code, ConnectReturnCode::Success);
    assert!(!connack.session_present);
    let properties = connack.properties.unwrap();
    assert_eq!(properties.receive_max, Some(17));
    assert_eq!(properties.max_packet_size, Some(4096));
    assert_eq!(properties.topic_alias_max, Some(32));
    assert_eq!(properties.assigned_client_identifier, None);
    assert_eq!(properties.server_keep_alive, None);

    let mut v4 = V4::open(listener.address).await;
    let connack = v4.connect(v4_connect("four")).await;
    assert_eq!(connack.code, v4::ConnectReturnCode::Success);
}

#[tokio::test]
async fn other_versions_are_refused_in_their_own_words() {
    let listener = start("").await;
    for (protocol, level, answer) in [
        ("MQIsdp", 3, &[0x20, 2, 0, 1][..]),
        ("MQTT", 3, &[0x20, 2, 0, 1]),
        ("MQTT", 6, &[0x20]),
        ("HTTP", 4, &[0x20, 2, 0, 1]),
    ] {
        let mut raw = Raw::open(listener.address).await;
        let length = u8::try_from(protocol.len()).unwrap();
        let mut connect = vec![0x10, length + 2 + 6 + 1, 0, length];
        connect.extend_from_slice(protocol.as_bytes());
        connect.extend_from_slice(&[level, 2, 0, 60, 0, 1, b'x']);
        raw.write(&connect).await;
        let said = raw.closed().await;
        assert!(said.starts_with(answer), "{protocol} {level}: {said:x?}");
        if level == 6 {
            assert_eq!(said[3], 0x84, "{said:x?}");
        }
    }
}

#[tokio::test]
async fn an_empty_client_id_is_given_one_where_the_version_allows() {
    let listener = start("").await;
    let mut v5 = V5::open(listener.address).await;
    let connack = v5.connect(v5_connect("")).await;
    let assigned = connack.properties.unwrap().assigned_client_identifier.unwrap();
    assert!(!assigned.is_empty());

    let mut clean = V4::open(listener.address).await;
    assert_eq!(clean.connect(v4_connect("")).await.code, v4::ConnectReturnCode::Success);

    let mut unclean = V4::open(listener.address).await;
    let connect = v4::Connect { clean_session: false, ..v4_connect("") };
    assert_eq!(unclean.connect(connect).await.code, v4::ConnectReturnCode::BadClientId);
    assert!(unclean.end().await.is_empty());
}

#[tokio::test]
async fn enhanced_authentication_is_refused() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    let properties = v5::ConnectProperties {
        authentication_method: Some("SCRAM".into()),
        ..connect_properties()
    };
    let connect = v5::Connect { properties: Some(properties), ..v5_connect("a") };
    let connack = client.connect(connect).await;
    assert_eq!(connack.code, ConnectReturnCode::BadAuthenticationMethod);
    assert!(client.end().await.is_empty());
    until("the count", || listener.count(Event::ConnectionRefused) == 1).await;
}

#[tokio::test]
async fn what_is_no_connect_is_closed_without_an_answer() {
    let listener = start("").await;
    for first in [&[0xc0, 0][..], b"GET / HTTP/1.1\r\n\r\n", &[0x30, 3, 0, 1, b'a'], &[0xff; 64]] {
        let mut raw = Raw::open(listener.address).await;
        raw.write(first).await;
        assert_eq!(raw.closed().await, b"", "{first:x?}");
    }
}

#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let listener = start("").await;
    let mut client = listener.v5("twice").await;
    client.send(Packet::Connect(v5_connect("twice"), None, None)).await;
    assert_eq!(reason(&client.end().await), Some(DisconnectReasonCode::ProtocolError));
    let mut client = listener.v4("twice").await;
    client.send(v4::Packet::Connect(v4_connect("twice"))).await;
    assert!(client.end().await.is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_say_connect_in_time_is_closed() {
    let listener = start("connect_timeout = \"200ms\"").await;
    let begin = Instant::now();
    let mut silent = Raw::open(listener.address).await;
    let mut slow = Raw::open(listener.address).await;
    slow.write(&[0x10, 20, 0, 4]).await;
    assert_eq!(silent.closed().await, b"");
    assert_eq!(slow.closed().await, b"");
    assert!(begin.elapsed() >= Duration::from_millis(190));
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_counted() {
    let listener = start("max_connections = 1").await;
    let mut first = listener.v5("first").await;
    let mut second = Raw::open(listener.address).await;
    assert_eq!(second.closed().await, b"");
    assert_eq!(listener.count(Event::ConnectionRefused), 1);
    first.ping().await;
}

#[tokio::test]
async fn sessions_beyond_the_bound_are_refused_and_known_ones_are_not() {
    let listener = start("max_sessions = 1").await;
    let mut first = V5::open(listener.address).await;
    first.connect(v5_persistent("known", true)).await;
    let mut second = V5::open(listener.address).await;
    let connack = second.connect(v5_connect("new")).await;
    assert_eq!(connack.code, ConnectReturnCode::QuotaExceeded);
    let mut again = V5::open(listener.address).await;
    assert!(again.connect(v5_persistent("known", false)).await.session_present);
}

#[tokio::test]
async fn a_packet_above_the_bound_is_refused_before_it_is_read() {
    let listener = start("max_packet_bytes = 1024").await;
    let mut client = listener.v5("large").await;
    // The header alone says it.
    client.0.write(&[0x30, 0xff, 0xff, 0x7f]).await;
    assert_eq!(reason(&client.end().await), Some(DisconnectReasonCode::PacketTooLarge));
    let mut first = Raw::open(listener.address).await;
    first.write(&[0x10, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 5]).await;
    assert!(first.closed().await.starts_with(&[0x20]));
}

#[tokio::test]
async fn a_silent_client_is_lost_after_one_and_a_half_keep_alives() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    let begin = Instant::now();
    client.connect(v5::Connect { keep_alive: 1, ..v5_connect("silent") }).await;
    assert_eq!(reason(&client.end().await), Some(DisconnectReasonCode::KeepAliveTimeout));
    let silence = begin.elapsed();
    assert!(silence >= Duration::from_millis(1400), "{silence:?}");
    assert!(silence < Duration::from_millis(2500), "{silence:?}");
}

#[tokio::test]
async fn pings_keep_a_client_and_zero_turns_the_keep_alive_off() {
    let listener = start("").await;
    let mut pinging = V5::open(listener.address).await;
    pinging.connect(v5::Connect { keep_alive: 1, ..v5_connect("pinging") }).await;
    let mut unbounded = V5::open(listener.address).await;
    unbounded.connect(v5::Connect { keep_alive: 0, ..v5_connect("unbounded") }).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        pinging.ping().await;
    }
    unbounded.ping().await;
}

#[tokio::test]
async fn a_keep_alive_above_the_maximum_is_replaced_and_told() {
    let listener = start("keep_alive_max = \"30s\"").await;
    for (asked, told) in [(60, Some(30)), (0, Some(30)), (20, None)] {
        let mut client = V5::open(listener.address).await;
        let connack = client.connect(v5::Connect { keep_alive: asked, ..v5_connect("k") }).await;
        assert_eq!(connack.properties.unwrap().server_keep_alive, told, "{asked}");
    }
}

#[tokio::test]
async fn a_client_id_belongs_to_whoever_came_last() {
    let listener = start("").await;
    let mut first = listener.v5("same").await;
    first.listen("t", QoS::AtLeastOnce).await;
    let mut second = listener.v5("same").await;
    assert_eq!(reason(&first.end().await), Some(DisconnectReasonCode::SessionTakenOver));
    let mut old = listener.v4("same").await;
    assert_eq!(reason(&second.end().await), Some(DisconnectReasonCode::SessionTakenOver));
    let _new = listener.v4("same").await;
    assert!(old.end().await.is_empty());
}

#[tokio::test]
async fn a_hundred_connections_fight_for_a_client_id_and_one_wins() {
    let listener = start("").await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let address = listener.address;
        all.spawn(async move {
            let mut client = V5::open(address).await;
            client.connect(v5_persistent("same", false)).await;
            client
        });
    }
    let mut clients = all.join_all().await;
    let mut last = V5::open(listener.address).await;
    last.connect(v5_persistent("same", false)).await;
    for client in &mut clients {
        client.end().await;
    }
    last.ping().await;
    until("the others are gone", || {
        listener.count(Event::ConnectionOpened) - listener.count(Event::ConnectionClosed) == 1
    })
    .await;
}

fn will(delay_s: Option<u32>) -> v5::LastWill {
    let properties = v5::LastWillProperties {
        delay_interval: delay_s,
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(100),
        content_type: Some("text/plain".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
    };
    v5::LastWill {
        topic: "will".into(),
        message: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Some(properties),
    }
}

#[tokio::test]
async fn a_will_is_published_when_the_client_is_lost_and_not_when_it_says_goodbye() {
    let listener = start("").await;
    let mut watcher = listener.v5("watcher").await;
    watcher.listen("will", QoS::AtLeastOnce).await;

    let mut client = V5::open(listener.address).await;
    client.connect_with(v5_connect("w"), Some(will(None))).await;
    drop(client);
    let message = watcher.message().await;
    assert_eq!(&message.payload[..], b"gone");
    let properties = message.properties.unwrap();
    assert_eq!(properties.message_expiry_interval, Some(100), "it begins when it is published");
    assert_eq!(properties.payload_format_indicator, Some(1));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    let expected = [("a".into(), "1".into()), ("a".into(), "2".into())];
    assert_eq!(properties.user_properties, expected);
    watcher.acknowledge(message.pkid).await;

    for (reason_code, published) in [
        (DisconnectReasonCode::NormalDisconnection, false),
        (DisconnectReasonCode::DisconnectWithWillMessage, true),
    ] {
        let mut client = V5::open(listener.address).await;
        client.connect_with(v5_connect("w"), Some(will(None))).await;
        client.send(Packet::Disconnect(v5::Disconnect::new(reason_code))).await;
        client.end().await;
        if published {
            let message = watcher.message().await;
            watcher.acknowledge(message.pkid).await;
        } else {
            watcher.nothing().await;
        }
    }
}

#[tokio::test]
async fn a_will_of_3_1_1_is_published_at_a_protocol_error_and_at_take_over() {
    let listener = start("").await;
    let mut watcher = listener.v4("watcher").await;
    watcher.listen("will", rumqttc::QoS::AtMostOnce).await;
    let connect = || {
        let last_will = v4::LastWill::new("will", "gone", rumqttc::QoS::AtMostOnce, false);
        v4::Connect { last_will: Some(last_will), ..v4_connect("w") }
    };
    let mut client = V4::open(listener.address).await;
    client.connect(connect()).await;
    client.0.write(&[0xf0, 0]).await;
    client.end().await;
    watcher.message().await;

    let mut client = V4::open(listener.address).await;
    client.connect(connect()).await;
    let _other = listener.v4("w").await;
    watcher.message().await;
    watcher.nothing().await;
}

#[tokio::test]
async fn a_delayed_will_waits_and_is_dropped_when_the_client_comes_back() {
    let listener = start("").await;
    let mut watcher = listener.v5("watcher").await;
    watcher.listen("will", QoS::AtMostOnce).await;

    let mut client = V5::open(listener.address).await;
    client.connect_with(v5_persistent("w", true), Some(will(Some(1)))).await;
    let begin = Instant::now();
    drop(client);
    watcher.message().await;
    assert!(begin.elapsed() >= Duration::from_millis(950), "{:?}", begin.elapsed());

    let mut client = V5::open(listener.address).await;
    client.connect_with(v5_persistent("w", false), Some(will(Some(1)))).await;
    drop(client);
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("w", false)).await;
    let nothing = tokio::time::timeout(Duration::from_millis(1300), watcher.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_will_goes_to_the_gateway_too() {
    let mut listener = start("").await;
    let mut client = V5::open(listener.address).await;
    let will = v5::LastWill { topic: "gateway/will".into(), ..will(None) };
    client.connect_with(v5_connect("w"), Some(will)).await;
    drop(client);
    let delivery = listener.receive().await;
    assert_eq!(&*delivery.envelope.address, "gateway/will");
    drop(delivery);
    // What was released comes again.
    let delivery = listener.receive().await;
    delivery.receipt.settle(transload_adapter::Settlement::Accepted);
    listener.receives_nothing().await;
}

#[tokio::test]
async fn the_wills_own_faults_are_found_at_connect() {
    let listener = start("").await;
    for topic in ["", "a/#", "$SYS/a"] {
        let mut client = V5::open(listener.address).await;
        let will = v5::LastWill { topic: topic.into(), ..will(None) };
        let connack = client.connect_with(v5_connect("w"), Some(will)).await;
        assert_eq!(connack.code, ConnectReturnCode::TopicNameInvalid, "{topic}");
    }
}
