//! PUBLISH from clients: acknowledgements, order, the gateway's verdicts, bounds.

use std::time::Duration;

use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{
        QoS,
        v5::{self, DisconnectReasonCode, Packet, PubAckReason, PubRecReason},
    },
};
use transload_adapter::{Delivery, Event, Refusal, Sent, Settlement};
use transload_envelope::{MessageId, Value};

use crate::common::{V4, V5, connect_properties, start, until, v4_connect, v5_connect, v5_publish};

fn ended(packets: &[Packet]) -> Option<DisconnectReasonCode> {
    match packets.last() {
        Some(Packet::Disconnect(disconnect)) => Some(disconnect.reason_code),
        _ => None,
    }
}

fn rejected(refusal: Refusal) -> Settlement {
    Settlement::Rejected { refusal, reason: "because".into() }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_gateway_has_settled_it() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    client.publish("gateway/a", QoS::AtLeastOnce, 5, b"x").await;
    let Delivery { envelope, receipt } = listener.receive().await;
    assert_eq!(&envelope.payload[..], b"x");
    assert_eq!(envelope.origin.attribute("client_id"), Some(&Value::from("p")));
    assert_eq!(envelope.origin.attribute("qos"), Some(&Value::Int(1)));
    assert_eq!(envelope.origin.attribute("protocol_version"), Some(&Value::from("5")));
    assert_eq!(envelope.properties().durable, Some(true));
    client.nothing().await;
    client.ping().await;
    receipt.settle(Settlement::Accepted);
    let ack = client.puback().await;
    assert_eq!((ack.pkid, ack.reason), (5, PubAckReason::Success));
}

#[tokio::test]
async fn acknowledgements_leave_in_the_order_of_the_publishes() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    client.publish("gateway/a", QoS::AtLeastOnce, 1, b"").await;
    client.publish("gateway/b", QoS::ExactlyOnce, 2, b"").await;
    client.publish("local", QoS::AtLeastOnce, 3, b"").await;
    client.publish("gateway/c", QoS::AtLeastOnce, 4, b"").await;
    let first = listener.receive().await.receipt;
    let second = listener.receive().await.receipt;
    listener.receive().await.receipt.settle(Settlement::Accepted);
    second.settle(Settlement::Accepted);
    client.nothing().await;
    first.settle(Settlement::Accepted);
    assert!(matches!(client.recv().await, Packet::PubAck(ack) if ack.pkid == 1));
    assert!(matches!(client.recv().await, Packet::PubRec(ack) if ack.pkid == 2));
    assert!(matches!(client.recv().await, Packet::PubAck(ack) if ack.pkid == 3));
    assert!(matches!(client.recv().await, Packet::PubAck(ack) if ack.pkid == 4));
}

#[tokio::test]
async fn verdicts_become_reason_codes() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    for (verdict, reason) in [
        (Settlement::Accepted, PubAckReason::Success),
        (Settlement::Unrouted, PubAckReason::NoMatchingSubscribers),
        (rejected(Refusal::Full), PubAckReason::QuotaExceeded),
        (rejected(Refusal::Invalid), PubAckReason::PayloadFormatInvalid),
        (rejected(Refusal::Loop), PubAckReason::ImplementationSpecificError),
        (rejected(Refusal::Target), PubAckReason::ImplementationSpecificError),
    ] {
        client.publish("gateway/a", QoS::AtLeastOnce, 9, b"").await;
        listener.receive().await.receipt.settle(verdict.clone());
        let ack = client.puback().await;
        assert_eq!(ack.reason, reason, "{verdict:?}");
        let text = ack.properties.and_then(|properties| properties.reason_string);
        let refused = matches!(verdict, Settlement::Rejected { .. });
        assert_eq!(text.as_deref(), refused.then_some("because"));
    }
    client.publish("nobody", QoS::ExactlyOnce, 9, b"").await;
    match client.recv().await {
        Packet::PubRec(rec) => assert_eq!(rec.reason, PubRecReason::NoMatchingSubscribers),
        other => panic!("{other:?}"),
    }
    assert_eq!(listener.count(Event::MessageRefused), 4);
}

#[tokio::test]
async fn reason_strings_are_left_out_when_the_client_does_not_want_them() {
    let mut listener = start("").await;
    let mut client = V5::open(listener.address).await;
    let properties =
        v5::ConnectProperties { request_problem_info: Some(0), ..connect_properties() };
    client.connect(v5::Connect { properties: Some(properties), ..v5_connect("p") }).await;
    client.publish("gateway/a", QoS::AtLeastOnce, 9, b"").await;
    listener.receive().await.receipt.settle(rejected(Refusal::Invalid));
    assert!(client.puback().await.properties.is_none());
}

#[tokio::test]
async fn a_refusal_is_acknowledged_to_3_1_1_but_for_a_full_queue() {
    let mut listener = start("").await;
    let mut client = listener.v4("p").await;
    client.publish("gateway/a", rumqttc::QoS::AtLeastOnce, 1, b"").await;
    listener.receive().await.receipt.settle(rejected(Refusal::Invalid));
    assert!(matches!(client.recv().await, v4::Packet::PubAck(ack) if ack.pkid == 1));
    client.publish("gateway/a", rumqttc::QoS::AtLeastOnce, 2, b"").await;
    listener.receive().await.receipt.settle(rejected(Refusal::Full));
    assert!(client.end().await.is_empty(), "an acknowledgement would lose the message");
    assert_eq!(listener.count(Event::MessageRefused), 2);
}

#[tokio::test]
async fn what_is_released_is_handed_over_again_after_its_delay_and_then_acknowledged() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    client.publish("gateway/a", QoS::AtLeastOnce, 1, b"x").await;
    let first = listener.receive().await;
    let id = first.envelope.id.clone();
    first.receipt.settle(Settlement::Released { after: Duration::from_millis(300) });
    listener.receives_nothing().await;
    let second = listener.receive().await;
    assert_eq!(second.envelope.id, id);
    client.nothing().await;
    // Dropping a receipt releases it too.
    drop(second);
    listener.receive().await.receipt.settle(Settlement::Accepted);
    assert_eq!(client.puback().await.pkid, 1);
}

#[tokio::test]
async fn what_is_released_gives_its_credit_back() {
    let mut listener = start("").await;
    let credits = listener.context.credits.clone();
    let others = credits.clone().acquire_many_owned(1024 - 2).await.unwrap();
    let mut client = listener.v5("p").await;
    for pkid in 1..=4 {
        client.publish("gateway/a", QoS::AtLeastOnce, pkid, &[]).await;
    }
    for _ in 0..8 {
        drop(listener.receive().await);
    }
    for _ in 1..=4 {
        listener.receive().await.receipt.settle(Settlement::Accepted);
    }
    for pkid in 1..=4 {
        assert_eq!(client.puback().await.pkid, pkid);
    }
    drop(others);
    assert_eq!(credits.available_permits(), 1024);
}

#[tokio::test]
async fn a_message_of_qos_2_is_handed_over_once_however_often_it_is_sent() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    let publish = v5_publish("gateway/a", QoS::ExactlyOnce, 3, b"x");
    client.send(Packet::Publish(publish.clone())).await;
    let delivery = listener.receive().await;
    let again = v5::Publish { dup: true, ..publish };
    client.send(Packet::Publish(again.clone())).await;
    listener.receives_nothing().await;
    delivery.receipt.settle(Settlement::Accepted);
    assert!(matches!(client.recv().await, Packet::PubRec(rec) if rec.pkid == 3));
    client.nothing().await;
    // PUBREC was lost.
    client.send(Packet::Publish(again.clone())).await;
    assert!(matches!(client.recv().await, Packet::PubRec(rec) if rec.pkid == 3));
    listener.receives_nothing().await;
    client.send(Packet::PubRel(v5::PubRel::new(3, None))).await;
    assert!(matches!(client.recv().await, Packet::PubComp(comp) if comp.pkid == 3));
    // The identifier is free now, and what comes under it is another message.
    client.send(Packet::Publish(again)).await;
    listener.receive().await.receipt.settle(Settlement::Accepted);
}

#[tokio::test]
async fn pubrel_of_an_unknown_identifier_is_answered_as_the_version_asks() {
    let listener = start("").await;
    let mut client = listener.v5("p").await;
    client.send(Packet::PubRel(v5::PubRel::new(3, None))).await;
    match client.recv().await {
        Packet::PubComp(comp) => {
            assert_eq!(comp.reason, v5::PubCompReason::PacketIdentifierNotFound);
        }
        other => panic!("{other:?}"),
    }
    let mut client = listener.v4("q").await;
    client.send(v4::Packet::PubRel(v4::PubRel::new(3))).await;
    assert!(matches!(client.recv().await, v4::Packet::PubComp(comp) if comp.pkid == 3));
}

#[tokio::test]
async fn more_than_the_receive_maximum_ends_a_client_of_v5() {
    let mut listener = start("receive_maximum = 3").await;
    let mut client = listener.v5("p").await;
    for pkid in 1..=3 {
        client.publish("gateway/a", QoS::AtLeastOnce, pkid, b"").await;
    }
    client.ping().await;
    client.publish("gateway/a", QoS::AtLeastOnce, 4, b"").await;
    let end = ended(&client.end().await);
    assert_eq!(end, Some(DisconnectReasonCode::ReceiveMaximumExceeded));
    for _ in 1..=3 {
        listener.receive().await;
    }
}

#[tokio::test]
async fn a_client_of_3_1_1_that_sends_more_waits_and_loses_nothing() {
    let mut listener = start("receive_maximum = 3").await;
    let mut client = listener.v4("p").await;
    for pkid in 1..=50_u16 {
        client.publish("gateway/a", rumqttc::QoS::AtLeastOnce, pkid, &pkid.to_be_bytes()).await;
    }
    for pkid in 1..=50_u16 {
        let delivery = listener.receive().await;
        assert_eq!(delivery.envelope.payload[..], pkid.to_be_bytes());
        delivery.receipt.settle(Settlement::Accepted);
        assert!(matches!(client.recv().await, v4::Packet::PubAck(ack) if ack.pkid == pkid));
    }
}

#[tokio::test]
async fn control_packets_are_answered_while_the_gateway_takes_nothing() {
    let mut listener = start("receive_maximum = 100").await;
    // All credits are gone: every publish waits.
    let credits = listener.context.credits.clone().acquire_many_owned(1024).await.unwrap();
    let mut client = V5::open(listener.address).await;
    client.connect(v5::Connect { keep_alive: 1, ..v5_connect("p") }).await;
    for pkid in 1..=99 {
        client.publish("gateway/a", QoS::AtLeastOnce, pkid, b"").await;
    }
    for _ in 0..5 {
        client.ping().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    client.listen("t", QoS::AtLeastOnce).await;
    client.publish("t", QoS::AtMostOnce, 0, b"behind").await;
    drop(credits);
    let mut accepted = listener.accept_all();
    for pkid in 1..=99 {
        match client.recv().await {
            Packet::PubAck(ack) => assert_eq!(ack.pkid, pkid),
            other => panic!("{other:?}"),
        }
        accepted.recv().await.unwrap();
    }
    assert_eq!(&client.message().await.payload[..], b"behind");
}

#[tokio::test]
async fn what_was_sent_before_the_goodbye_is_handed_over() {
    let mut listener = start("").await;
    let credits = listener.context.credits.clone().acquire_many_owned(1024).await.unwrap();
    let mut client = listener.v4("p").await;
    for _ in 0..20 {
        client.publish("gateway/a", rumqttc::QoS::AtMostOnce, 0, b"x").await;
    }
    client.send(v4::Packet::Disconnect).await;
    drop(client);
    listener.receives_nothing().await;
    drop(credits);
    for _ in 0..20 {
        listener.receive().await.receipt.settle(Settlement::Accepted);
    }
}

#[tokio::test]
async fn topic_aliases_stand_for_their_topics() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    let alias = |topic: &str, alias| v5::Publish {
        properties: Some(v5::PublishProperties { topic_alias: Some(alias), ..Default::default() }),
        ..v5_publish(topic, QoS::AtMostOnce, 0, b"")
    };
    for (topic, number, address) in [
        ("gateway/a", 1, "gateway/a"),
        ("gateway/b", 32, "gateway/b"),
        ("", 1, "gateway/a"),
        ("gateway/c", 1, "gateway/c"),
        ("", 1, "gateway/c"),
        ("", 32, "gateway/b"),
    ] {
        client.send(Packet::Publish(alias(topic, number))).await;
        let delivery = listener.receive().await;
        assert_eq!(&*delivery.envelope.address, address);
        delivery.receipt.settle(Settlement::Accepted);
    }
    for (number, code) in [
        (33, DisconnectReasonCode::TopicAliasInvalid),
        (0, DisconnectReasonCode::TopicAliasInvalid),
        (2, DisconnectReasonCode::ProtocolError),
    ] {
        let mut client = listener.v5("q").await;
        client.send(Packet::Publish(alias("", number))).await;
        assert_eq!(ended(&client.end().await), Some(code), "{number}");
    }
}

#[tokio::test]
async fn topics_that_cannot_be_published_to() {
    let mut listener = start("").await;
    for topic in ["", "a/+", "a/#", "#"] {
        let mut client = listener.v5("p").await;
        client.publish(topic, QoS::AtLeastOnce, 1, b"").await;
        let end = ended(&client.end().await);
        assert_eq!(end, Some(DisconnectReasonCode::TopicNameInvalid), "{topic:?}");
    }
    let mut watcher = listener.v5("w").await;
    watcher.listen("$SYS/#", QoS::AtMostOnce).await;
    let mut client = listener.v5("p").await;
    client.publish("$SYS/broker", QoS::AtLeastOnce, 1, b"").await;
    assert_eq!(client.puback().await.reason, PubAckReason::TopicNameInvalid);
    let mut client = listener.v4("q").await;
    client.publish("$SYS/broker", rumqttc::QoS::AtLeastOnce, 1, b"").await;
    assert!(matches!(client.recv().await, v4::Packet::PubAck(_)));
    assert_eq!(listener.count(Event::MessageRefused), 2);
    watcher.nothing().await;
    listener.receives_nothing().await;
}

#[tokio::test]
async fn properties_reach_the_gateway() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let properties = v5::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        response_topic: Some("answers".into()),
        correlation_data: Some("\0\u{1}".into()),
        content_type: Some("application/json".into()),
        user_properties: vec![
            pair("b", "1"),
            pair("a", "2"),
            pair("b", "3"),
            pair("message-id", "mine"),
            pair("priority", "7"),
        ],
        ..Default::default()
    };
    let publish = v5_publish("gateway/a", QoS::AtLeastOnce, 1, b"{}");
    client.send(Packet::Publish(v5::Publish { properties: Some(properties), ..publish })).await;
    let envelope = listener.receive().await.envelope;
    assert_eq!(envelope.id, MessageId::from_source("mine"));
    let known = envelope.properties();
    assert_eq!(known.content_type.as_deref(), Some("application/json"));
    assert_eq!(known.reply_to.as_deref(), Some("answers"));
    assert_eq!(known.correlation.as_deref(), Some(&b"\0\x01"[..]));
    assert_eq!(known.priority, Some(7));
    assert!(known.expires_at.is_some());
    let headers: Vec<_> = envelope.headers.iter().map(|header| &*header.name).collect();
    assert_eq!(headers, ["b", "a", "b"]);
}

#[tokio::test]
async fn an_answer_goes_to_the_response_topic() {
    let mut listener = start("").await;
    let mut client = listener.v5("p").await;
    client.listen("answers", QoS::AtLeastOnce).await;
    let properties = v5::PublishProperties {
        response_topic: Some("answers".into()),
        correlation_data: Some("c".into()),
        ..Default::default()
    };
    let publish = v5_publish("gateway/a", QoS::AtLeastOnce, 1, b"question");
    client.send(Packet::Publish(v5::Publish { properties: Some(properties), ..publish })).await;
    let Delivery { envelope, receipt } = listener.receive().await;
    let mut answer = transload_envelope::Envelope::new(envelope.origin.clone(), &b"answer"[..]);
    answer.properties_mut().correlation.clone_from(&envelope.properties().correlation);
    let outbound = listener.endpoints.outbound.as_ref().unwrap();
    assert_eq!(outbound.answer(&envelope, &answer).await.unwrap(), Sent::Confirmed);
    receipt.settle(Settlement::Accepted);
    let (mut acknowledged, mut answered) = (false, false);
    for _ in 0..2 {
        match client.recv().await {
            Packet::PubAck(ack) => acknowledged = ack.reason == PubAckReason::Success,
            Packet::Publish(publish) => {
                assert_eq!(&publish.payload[..], b"answer");
                let properties = publish.properties.unwrap();
                assert_eq!(properties.correlation_data.as_deref(), Some(&b"c"[..]));
                answered = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged && answered);
}

#[tokio::test]
async fn without_local_devices_do_not_hear_each_other() {
    let mut listener = start("local = false").await;
    let mut watcher = listener.v5("w").await;
    watcher.listen("#", QoS::AtLeastOnce).await;
    let mut client = listener.v5("p").await;
    client.publish("a", QoS::AtLeastOnce, 1, b"").await;
    assert_eq!(client.puback().await.reason, PubAckReason::NoMatchingSubscribers);
    client.publish("gateway/a", QoS::AtLeastOnce, 2, b"").await;
    listener.receive().await.receipt.settle(Settlement::Accepted);
    assert_eq!(client.puback().await.reason, PubAckReason::Success);
    watcher.nothing().await;
    client
        .send(Packet::Publish(v5::Publish {
            retain: true,
            ..v5_publish("b", QoS::AtLeastOnce, 3, b"x")
        }))
        .await;
    client.puback().await;
    let mut late = listener.v5("late").await;
    late.listen("#", QoS::AtLeastOnce).await;
    late.nothing().await;
}

#[tokio::test]
async fn a_large_payload_goes_both_ways() {
    let mut listener = start("").await;
    let payload: Vec<u8> = (0..1_048_576_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    let mut subscribers = Vec::new();
    for n in 0..3 {
        let mut subscriber = listener.v5(&format!("s{n}")).await;
        subscriber.listen("gateway/#", QoS::AtLeastOnce).await;
        subscribers.push(subscriber);
    }
    let mut client = V4::open(listener.address).await;
    client.connect(v4_connect("p")).await;
    client.publish("gateway/large", rumqttc::QoS::AtLeastOnce, 1, &payload).await;
    let delivery = listener.receive().await;
    assert!(delivery.envelope.payload == payload);
    delivery.receipt.settle(Settlement::Accepted);
    assert!(matches!(client.recv().await, v4::Packet::PubAck(_)));
    for subscriber in &mut subscribers {
        assert!(subscriber.message().await.payload == payload);
    }
}

#[tokio::test]
async fn a_flood_of_many_publishers_is_acknowledged_whole() {
    let mut listener = start("").await;
    let accepted = listener.accept_all();
    let mut publishers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut client = listener.v4(&format!("p{n}")).await;
        publishers.spawn(async move {
            let mut acknowledged = 0;
            for round in 0..10_u16 {
                for pkid in 1..=100 {
                    let pkid = round * 100 + pkid;
                    client.publish("gateway/x", rumqttc::QoS::AtLeastOnce, pkid, b"x").await;
                }
                for _ in 0..100 {
                    assert!(matches!(client.recv().await, v4::Packet::PubAck(_)));
                    acknowledged += 1;
                }
            }
            acknowledged
        });
    }
    let acknowledged: usize = publishers.join_all().await.into_iter().sum();
    assert_eq!(acknowledged, 8000);
    until("all messages", || accepted.len() == 8000).await;
}
