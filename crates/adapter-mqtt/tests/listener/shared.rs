//! Shared subscriptions.

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{DisconnectReasonCode, Filter, Packet},
};

use crate::common::{V5, start, v5_filter, v5_persistent};

#[tokio::test]
async fn each_message_goes_to_one_member_in_turn() {
    let listener = start("").await;
    let mut members = Vec::new();
    for name in ["m0", "m1", "m2"] {
        let mut member = listener.v5(name).await;
        member.listen("$share/g/t/#", QoS::AtLeastOnce).await;
        members.push(member);
    }
    let mut other = listener.v5("other").await;
    other.listen("$share/h/t/#", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for n in 0..9_u8 {
            publisher.publish("t/x", qos, u16::from(n) + 1, &[n]).await;
            if qos == QoS::AtLeastOnce {
                publisher.puback().await;
            }
        }
        let mut seen = Vec::new();
        for member in &mut members {
            for _ in 0..3 {
                let message = member.message().await;
                assert_eq!(message.qos, qos);
                seen.push(message.payload[0]);
                if qos == QoS::AtLeastOnce {
                    member.acknowledge(message.pkid).await;
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..9).collect::<Vec<_>>());
        for n in 0..9 {
            let message = other.message().await;
            assert_eq!(message.payload[0], n, "the only member has all, in order");
        }
    }
    for member in &mut members {
        member.nothing().await;
    }
}

#[tokio::test]
async fn what_a_member_did_not_acknowledge_goes_to_another() {
    let listener = start("").await;
    let mut leaving = listener.v5("leaving").await;
    leaving.listen("$share/g/t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    for n in 1..=100 {
        publisher.publish("t", QoS::AtLeastOnce, n, &n.to_be_bytes()).await;
        publisher.puback().await;
    }
    for _ in 1..=10 {
        let message = leaving.message().await;
        leaving.acknowledge(message.pkid).await;
    }
    leaving.ping_past_messages().await;
    let mut staying = listener.v5("staying").await;
    staying.listen("$share/g/t", QoS::AtLeastOnce).await;
    drop(leaving);
    let mut seen = Vec::new();
    for _ in 11..=100 {
        let message = staying.message().await;
        staying.acknowledge(message.pkid).await;
        seen.push(u16::from_be_bytes([message.payload[0], message.payload[1]]));
    }
    seen.sort_unstable();
    assert_eq!(seen, (11..=100).collect::<Vec<_>>());
    staying.nothing().await;
}

/// rumqttd's router panics at this.
#[tokio::test]
async fn a_persistent_member_that_drops_unacknowledged_messages_hurts_nobody() {
    let listener = start("").await;
    let mut client = V5::open(listener.address).await;
    client.connect(v5_persistent("m", true)).await;
    client.listen("$share/g/t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    publisher.publish("t", QoS::AtLeastOnce, 1, b"x").await;
    publisher.puback().await;
    client.message().await;
    drop(client);
    publisher.publish("t", QoS::AtLeastOnce, 2, b"y").await;
    publisher.puback().await;
    // Both wait in the group until a member comes.
    let mut client = V5::open(listener.address).await;
    assert!(client.connect(v5_persistent("m", false)).await.session_present);
    assert_eq!(&client.message().await.payload[..], b"x");
    assert_eq!(&client.message().await.payload[..], b"y");
    publisher.ping().await;
}

#[tokio::test]
async fn shared_subscriptions_take_no_retained_messages_and_no_no_local() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.retain("t", b"kept").await;
    client.listen("$share/g/t", QoS::AtLeastOnce).await;
    client.nothing().await;
    let filter = v5_filter("$share/g/t", QoS::AtLeastOnce);
    let subscribe = rumqttc::v5::mqttbytes::v5::Subscribe {
        pkid: 1,
        filters: vec![Filter { nolocal: true, ..filter }],
        properties: None,
    };
    client.send(Packet::Subscribe(subscribe)).await;
    match client.end().await.last() {
        Some(Packet::Disconnect(disconnect)) => {
            assert_eq!(disconnect.reason_code, DisconnectReasonCode::ProtocolError);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_last_member_takes_the_subscription_with_it() {
    let listener = start("").await;
    let mut member = listener.v5("m").await;
    member.listen("$share/g/t", QoS::AtLeastOnce).await;
    member
        .send(Packet::Disconnect(rumqttc::v5::mqttbytes::v5::Disconnect::new(
            DisconnectReasonCode::NormalDisconnection,
        )))
        .await;
    member.end().await;
    let mut publisher = listener.v5("p").await;
    publisher.publish("t", QoS::AtLeastOnce, 1, b"x").await;
    let reason = publisher.puback().await.reason;
    assert_eq!(reason, rumqttc::v5::mqttbytes::v5::PubAckReason::NoMatchingSubscribers);
}

impl V5 {
    /// Waits for the answer to a ping, whatever messages come before it.
    async fn ping_past_messages(&mut self) {
        self.send(Packet::PingReq(rumqttc::v5::mqttbytes::v5::PingReq)).await;
        while !matches!(self.recv().await, Packet::PingResp(_)) {}
    }
}
