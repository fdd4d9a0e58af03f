//! Whole clients of another make.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, v5};

use crate::common::{soon, start};

#[tokio::test]
async fn rumqttc_speaks_3_1_1() {
    let mut listener = start("").await;
    let mut accepted = listener.accept_all();
    let mut options = MqttOptions::new("r4", "127.0.0.1", listener.address.port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 32);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.subscribe("gateway/+", qos).await.unwrap();
        client.publish("gateway/x", qos, false, "hello").await.unwrap();
        let message = async {
            loop {
                if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                    return publish;
                }
            }
        };
        let message = Box::pin(soon("a message", message)).await;
        assert_eq!((message.qos, &message.payload[..]), (qos, &b"hello"[..]));
        assert_eq!(&*soon("the gateway", accepted.recv()).await.unwrap().address, "gateway/x");
    }
}

#[tokio::test]
async fn rumqttc_speaks_5() {
    use v5::mqttbytes::QoS;
    let mut listener = start("").await;
    let mut accepted = listener.accept_all();
    let mut options = v5::MqttOptions::new("r5", "127.0.0.1", listener.address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = v5::AsyncClient::new(options, 32);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.subscribe("gateway/+", qos).await.unwrap();
        client.publish("gateway/x", qos, false, "hello").await.unwrap();
        let message = async {
            loop {
                let event = events.poll().await.unwrap();
                if let v5::Event::Incoming(v5::Incoming::Publish(publish)) = event {
                    return publish;
                }
            }
        };
        let message = Box::pin(soon("a message", message)).await;
        assert_eq!((message.qos, &message.payload[..]), (qos, &b"hello"[..]));
        assert_eq!(&*soon("the gateway", accepted.recv()).await.unwrap().address, "gateway/x");
    }
}
