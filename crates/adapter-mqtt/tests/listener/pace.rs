//! Publishers that are held back for a subscriber that has fallen behind.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{self, Packet},
};
use transload_adapter::Event;

use crate::common::start;

/// A subscriber that reads no faster than it must loses nothing, although the bound is far below what
/// is published.
#[tokio::test]
async fn publishers_wait_for_a_subscriber_that_has_fallen_behind() {
    let listener = start("max_queued_messages = 200\nslow_subscriber_wait = \"1m\"").await;
    let mut slow = listener.v5("slow").await;
    slow.listen("t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    // Its own subscription does not make it wait for itself.
    publisher.listen("t", QoS::AtLeastOnce).await;
    let publish = async {
        let (mut acknowledged, mut sent, mut own) = (0_u16, 0_u16, 0_u16);
        while acknowledged < 1000 || own < 1000 {
            while sent < 1000 && sent - acknowledged < 50 {
                sent += 1;
                publisher.publish("t", QoS::AtLeastOnce, sent, &sent.to_be_bytes()).await;
            }
            match publisher.recv().await {
                Packet::PubAck(ack) => {
                    assert_eq!(ack.reason, v5::PubAckReason::Success);
                    acknowledged += 1;
                }
                Packet::Publish(publish) => {
                    own += 1;
                    publisher.acknowledge(publish.pkid).await;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let read = async {
        for n in 1..=1000_u16 {
            let message = slow.message().await;
            assert_eq!(message.payload[..2], n.to_be_bytes());
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            slow.acknowledge(message.pkid).await;
        }
    };
    tokio::join!(publish, read);
    assert_eq!(listener.count(Event::MessageDropped), 0);
}

#[tokio::test]
async fn a_subscriber_that_is_stuck_holds_its_publishers_back_once() {
    let bounds = "max_queued_messages = 100\nmax_in_flight = 10\nslow_subscriber_wait = \"2s\"";
    let listener = start(bounds).await;
    let mut stuck = listener.v5("stuck").await;
    stuck.listen("t", QoS::AtLeastOnce).await;
    let mut publisher = listener.v5("p").await;
    let mut waits = 0;
    for n in 1..=200_u16 {
        let begin = Instant::now();
        publisher.publish("t", QoS::AtLeastOnce, n, b"x").await;
        // Whatever it waits for, its other packets are answered.
        publisher.send(Packet::PingReq(v5::PingReq)).await;
        let (mut acknowledged, mut answered) = (false, false);
        while !(acknowledged && answered) {
            match publisher.recv().await {
                Packet::PubAck(_) => acknowledged = true,
                Packet::PingResp(_) => {
                    assert!(begin.elapsed() < Duration::from_secs(1), "a ping had to wait");
                    answered = true;
                }
                other => panic!("{other:?}"),
            }
        }
        waits += u32::from(begin.elapsed() > Duration::from_secs(1));
    }
    assert_eq!(waits, 1);
    assert!(listener.count(Event::MessageDropped) > 50);
}
