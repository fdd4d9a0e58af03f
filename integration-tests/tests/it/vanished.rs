//! Peers that vanish without a word: the connection stays open and carries nothing any more. The
//! gateway notices within the time that it is told, connects anew, and nothing is lost.

use std::time::Duration;

use transload_integration_tests::{
    Consumer, HttpSink, Mosquitto, Nats, Proxy, Python, RabbitMq, Transload, free_port, wait,
};

use crate::support::{client, devices, first_of_each, numbered, numbers, route};

/// What a loaded machine may add to a bound. No adapter's defaults would be fast enough.
const SLACK: Duration = Duration::from_secs(10);

/// How long messages may take that a broker believes to be with the connection that was lost.
const AGAIN: Duration = Duration::from_secs(90);

// Longer than a starved broker takes to confirm: otherwise connections are given up over and over.
const SHORT: &str = "connect_timeout = \"3s\"\nconfirm_timeout = \"3s\"";

fn proxy(to: u16) -> Proxy {
    Proxy::start(to).unwrap()
}

/// Waits until the gateway has given up its connection for another.
async fn until_another(proxy: &Proxy, made: u64, bound: Duration) {
    wait::until_within(bound + SLACK, "another connection", || {
        let another = proxy.made() > made;
        async move { another.then_some(()) }
    })
    .await;
}

/// Waits until each of the numbers has been received. Order is not asked for: what was on its way in
/// the lost connection comes again, behind what was sent later.
async fn all(consumer: &mut Consumer, count: usize) {
    let received = wait::until_within(AGAIN, "all messages", || {
        let received = first_of_each(consumer.all());
        async move { (received.len() >= count).then_some(received) }
    })
    .await;
    let mut received: Vec<usize> = received.iter().map(|text| text.parse().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, (0..count).collect::<Vec<_>>());
}

/// A gateway from devices to a target, and a device.
async fn devices_to(target: &str, to: &str) -> (Transload, Python) {
    let port = free_port();
    let to = format!("{{ adapter = \"target\"{to} }}");
    let route = route("r", "devices", "away/#", &to, "");
    let gateway = Transload::start(&[devices(port, ""), target.to_owned(), route].concat()).await;
    gateway.until_up("target").await;
    (gateway, Python::mqtt(&format!("127.0.0.1:{port}")))
}

/// Loses the target twice: while nothing is under way, which only questions of the adapter's own can
/// tell, and in the middle of messages. They arrive in order.
async fn lose_target(proxy: &Proxy, bound: Duration, device: &Python, consumer: &mut Consumer) {
    device.publish(&[], &numbered("away/x", 0..100)).await;
    consumer.take_within(AGAIN, 100).await;
    let made = proxy.made();
    proxy.half_open();
    until_another(proxy, made, bound).await;

    let publishing = async { device.publish(&[], &numbered("away/x", 100..1_000)).await };
    let losing = async {
        consumer.take_within(AGAIN, 100).await;
        let made = proxy.made();
        proxy.half_open();
        until_another(proxy, made, bound).await;
    };
    tokio::join!(publishing, losing);
    let received = wait::until_within(AGAIN, "all messages", || {
        let received = first_of_each(consumer.all());
        async move { (received.len() >= 1_000).then_some(received) }
    })
    .await;
    assert_eq!(received, numbers(0..1_000), "each, and in order");
}

#[tokio::test]
async fn an_amqp_target() {
    let broker = RabbitMq::shared().await;
    let proxy = proxy(broker.port());
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port());
    let target = client("target", "amqp", &url, &format!("{SHORT}\nheartbeat = \"2s\""));
    let mut consumer = broker.client().consume(&["consume", "vanished", "--declare"]).await;
    let (_gateway, device) = devices_to(&target, ", queue = \"vanished\"").await;
    lose_target(&proxy, Duration::from_secs(4), &device, &mut consumer).await;
}

#[tokio::test]
async fn a_jetstream_target() {
    let broker = Nats::start().await;
    broker.stream("S", &["away.>"]).await;
    let proxy = proxy(broker.port());
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let target = client("target", "nats", &url, &format!("{SHORT}\nping_interval = \"1s\""));
    let mut consumer = broker.client().consume(&["consume-stream", "S", "away.>"]).await;
    let (_gateway, device) = devices_to(&target, ", jetstream = true").await;
    lose_target(&proxy, Duration::from_secs(3), &device, &mut consumer).await;
}

async fn an_mqtt_target(version: &str) {
    let broker = Mosquitto::start().await;
    let proxy = proxy(broker.port());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let more = format!("{SHORT}\nkeep_alive = \"5s\"\nversion = \"{version}\"");
    let mut consumer = broker.client().consume(&["consume", "away/#"]).await;
    let (_gateway, device) = devices_to(&client("target", "mqtt", &url, &more), "").await;
    lose_target(&proxy, Duration::from_secs(10), &device, &mut consumer).await;
}

#[tokio::test]
async fn an_mqtt_3_1_1_target() {
    an_mqtt_target("3.1.1").await;
}

#[tokio::test]
async fn an_mqtt_5_target() {
    an_mqtt_target("5").await;
}

/// Nobody asks an idle connection of HTTP/1.1, so that the next request finds out.
#[tokio::test]
async fn an_http_target() {
    let mut sink = HttpSink::start().await;
    let proxy = proxy(sink.port());
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let target = client("target", "http", &url, "timeout = \"1s\"");
    let (_gateway, device) = devices_to(&target, "").await;
    for round in 0..3 {
        let made = proxy.made();
        proxy.half_open();
        let range = 100 * round..100 * (round + 1);
        device.publish(&[], &numbered("away/x", range.clone())).await;
        until_another(&proxy, made, Duration::from_secs(1)).await;
        all(sink.requests(), range.end).await;
    }
}

/// A gateway from a source to a sink that records, and the sink. What the broker sends into the
/// connection after it was lost comes again.
async fn lose_source(
    source: &str,
    proxy: &Proxy,
    bound: Duration,
    publisher: &Python,
    how: &[&str],
    to: &str,
) {
    let mut sink = HttpSink::start().await;
    let target = client("target", "http", &sink.url(), "");
    let route = route("r", "source", "away/#", "\"target\"", "");
    let gateway = Transload::start(&[source.to_owned(), target, route].concat()).await;
    gateway.until_up("source").await;
    publisher.publish(how, &numbered(to, 0..100)).await;
    all(sink.requests(), 100).await;
    let made = proxy.made();
    proxy.half_open();
    publisher.publish(how, &numbered(to, 100..200)).await;
    until_another(proxy, made, bound).await;
    publisher.publish(how, &numbered(to, 200..300)).await;
    all(sink.requests(), 300).await;
}

#[tokio::test]
async fn an_amqp_source() {
    let broker = RabbitMq::shared().await;
    let proxy = proxy(broker.port());
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port());
    let more = "heartbeat = \"2s\"\n[[adapters.source.consume]]\nqueue = \"vanished-source\"\n\
                declare = true\nbind = { exchange = \"amq.topic\", key = \"away.vanished\" }\n";
    let source = client("source", "amqp", &url, more);
    let publisher = broker.client();
    let bound = Duration::from_secs(4);
    lose_source(&source, &proxy, bound, &publisher, &["--mandatory"], "away.vanished").await;
}

#[tokio::test]
async fn a_jetstream_source() {
    let broker = Nats::start().await;
    broker.stream("S", &["away.>"]).await;
    let proxy = proxy(broker.port());
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let more = "ping_interval = \"1s\"\n[[adapters.source.consume]]\nstream = \"S\"\n\
                durable = \"gateway\"\ncreate = true\nack_wait = \"2s\"\n";
    let source = client("source", "nats", &url, more);
    let publisher = broker.client();
    let bound = Duration::from_secs(3);
    lose_source(&source, &proxy, bound, &publisher, &["--jetstream"], "away.x").await;
}

async fn an_mqtt_source(version: &str) {
    let broker = Mosquitto::start().await;
    let proxy = proxy(broker.port());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let more = format!("keep_alive = \"5s\"\nversion = \"{version}\"\nsubscribe = [\"away/#\"]\n");
    let source = client("source", "mqtt", &url, &more);
    let publisher = broker.client();
    let bound = Duration::from_secs(10);
    lose_source(&source, &proxy, bound, &publisher, &["--pipelined"], "away/x").await;
}

#[tokio::test]
async fn an_mqtt_3_1_1_source() {
    an_mqtt_source("3.1.1").await;
}

#[tokio::test]
async fn an_mqtt_5_source() {
    an_mqtt_source("5").await;
}

/// A device that reads from us vanishes: its will is sent, and what was sent to it without an
/// acknowledgement it gets when it comes back.
#[tokio::test]
async fn a_device() {
    let port = free_port();
    let proxy = proxy(port);
    let route =
        route("r", "devices", "away/#", "{ adapter = \"devices\", topic = \"back/x\" }", "");
    let _gateway = Transload::start(&[devices(port, ""), route].concat()).await;
    let direct = Python::mqtt(&format!("127.0.0.1:{port}"));
    let mut watcher = direct.consume(&["consume", "will/#"]).await;
    let session = ["consume", "back/#", "--session", "--client-id", "reader", "--keep-alive", "2"];
    let will = ["--will", "{\"address\": \"will/x\", \"payload\": \"Z29uZQ==\", \"qos\": 1}"];
    let through = Python::mqtt(&format!("127.0.0.1:{}", proxy.port()));
    let mut reader = through.consume(&[&session[..], &will].concat()).await;
    direct.publish(&[], &numbered("away/x", 0..10)).await;
    reader.take(10).await;
    proxy.half_open();
    direct.publish(&[], &numbered("away/x", 10..20)).await;
    // One and a half times the keep-alive (MQTT 5, section 3.1.2.10).
    watcher.take_within(Duration::from_secs(3) + SLACK, 1).await;
    drop(reader);
    let mut reader = direct.consume(&session).await;
    reader.until_received("the last", |message| message.text() == "19").await;
    // What was read first may come again where its acknowledgement did not get through any more.
    let received = first_of_each(reader.all());
    let again = received.len().saturating_sub(10);
    assert!(again <= 10, "{received:?}");
    assert_eq!(received, numbers(10 - again..20));
}
