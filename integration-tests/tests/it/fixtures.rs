//! The fixtures themselves, without the gateway: when one of these fails, the machine is at fault.

use serde_json::json;
use transload_integration_tests::{
    HttpSink, Message, Mosquitto, Nats, RabbitMq, curl, mosquitto_clients, texts,
};

fn binary() -> Vec<u8> {
    (0..=255).collect()
}

#[tokio::test]
async fn rabbitmq_and_pika() {
    let broker = RabbitMq::shared().await;
    let bind = ["--declare", "--bind", "amq.topic", "fixture.amqp"];
    let mut consumer =
        broker.client().consume(&[&["consume", "fixture-amqp"][..], &bind].concat()).await;
    let message = Message::new("fixture.amqp", binary())
        .with("headers", json!({ "n": 1 }))
        .with("properties", json!({ "content_type": "a/b", "delivery_mode": 2 }));
    broker.client().publish(&[], &[message]).await;
    let received = consumer.take(1).await.remove(0);
    assert_eq!((received.address.as_str(), received.payload.clone()), ("fixture.amqp", binary()));
    assert_eq!(received.header("n"), Some(&json!(1)));
    assert_eq!(received.property("content_type"), Some(&json!("a/b")));
}

#[tokio::test]
async fn nats_core_and_jetstream() {
    let broker = Nats::start().await;
    let mut core = broker.client().consume(&["consume", "a.>"]).await;
    broker.stream("S", &["a.>"]).await;
    let mut stream = broker.client().consume(&["consume-stream", "S", "a.>"]).await;
    let message = Message::new("a.b", binary()).with("headers", json!({ "X": "y" }));
    broker.client().publish(&["--jetstream"], &[message]).await;
    for consumer in [&mut core, &mut stream] {
        let received = consumer.take(1).await.remove(0);
        assert_eq!((received.address.as_str(), received.payload.clone()), ("a.b", binary()));
        assert_eq!(received.header("X"), Some(&json!("y")));
    }
}

#[tokio::test]
async fn mosquitto_with_paho_and_its_own_clients() {
    let broker = Mosquitto::start().await;
    let mut own = mosquitto_clients::subscribe(&broker.address(), &["-t", "a/#", "-q", "1"]).await;
    let mut v4 = broker.client().consume(&["consume", "a/#", "--version", "4"]).await;
    let mut v5 = broker.client().consume(&["consume", "a/#", "--version", "5"]).await;
    let message = Message::new("a/b", binary())
        .with("headers", json!([["k", "1"], ["k", "2"]]))
        .with("properties", json!({ "content_type": "a/b" }));
    broker.client().publish(&[], &[message]).await;
    mosquitto_clients::publish(&broker.address(), &["-t", "a/empty", "-n", "-q", "1"]).await;
    for consumer in [&mut own, &mut v4, &mut v5] {
        let received = consumer.take(2).await;
        assert_eq!((received[0].address.as_str(), &received[0].payload), ("a/b", &binary()));
        assert_eq!((received[1].address.as_str(), texts(&received)[1].as_str()), ("a/empty", ""));
    }
    let first = &v5.all()[0];
    assert_eq!(first.fields["headers"], json!([["k", "1"], ["k", "2"]]));
    assert_eq!(first.property("content_type"), Some(&json!("a/b")));
}

#[tokio::test]
async fn a_broker_comes_back_on_its_port_with_its_data() {
    let mut broker = Nats::absent();
    broker.appear().await;
    broker.stream("S", &["a"]).await;
    broker.client().publish(&["--jetstream"], &[Message::new("a", "kept")]).await;
    broker.kill();
    broker.appear().await;
    let mut stream = broker.client().consume(&["consume-stream", "S", "a"]).await;
    assert_eq!(texts(&stream.take(1).await), ["kept"]);
}

#[tokio::test]
async fn http_sink_and_curl() {
    let mut sink = HttpSink::absent();
    sink.appear(&["--status", "503,200", "--retry-after", "1"]).await;
    let url = format!("{}/a%20b?c=d", sink.url());
    let first = curl::post(&url, &["Content-Type: a/b"], &binary()).await;
    assert_eq!((first.status, first.header("retry-after")), (503, Some("1")));
    assert_eq!(curl::post(&url, &[], b"").await.status, 200);
    let received = sink.requests().take(2).await;
    assert_eq!((received[0].address.as_str(), &received[0].payload), ("/a%20b?c=d", &binary()));
    assert_eq!(received[0].header("content-type"), Some(&json!("a/b")));
    assert_eq!(received[1].payload, b"");
}
