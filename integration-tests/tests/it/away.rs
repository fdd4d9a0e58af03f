//! Brokers that are away at the start, and brokers that go away in the middle: what was
//! acknowledged arrives, in order.

use std::time::Duration;

use transload_integration_tests::{
    Consumer, End, HttpSink, Mosquitto, Nats, Process, Python, RabbitMq, Received, Transload,
    free_port, texts, wait,
};

use crate::support::{client, devices, first_of_each, numbered, numbers, route};

/// How long a gateway may take to notice that a broker is back.
const BACK: Duration = Duration::from_secs(90);

/// A gateway from devices to a target, and a device.
async fn devices_to(target: &str, to: &str) -> (Transload, Python) {
    let port = free_port();
    let to = format!("{{ adapter = \"target\"{to} }}");
    let gateway = Transload::start(
        &[devices(port, ""), target.to_owned(), route("r", "devices", "away/#", &to, "")].concat(),
    )
    .await;
    (gateway, Python::mqtt(&format!("127.0.0.1:{port}")))
}

/// Waits until each of the numbers was received at least once, and in order of their first time.
async fn all_in_order(consumer: &mut Consumer, count: usize) {
    let received: Vec<Received> = wait::until_within(BACK, "all messages", || {
        let all = consumer.all().to_vec();
        async move { (first_of_each(&all).len() >= count).then_some(all) }
    })
    .await;
    assert_eq!(first_of_each(&received), numbers(0..count), "each, and in order");
}

/// The target is away at the start, appears, is taken away in the middle of a stream of messages,
/// and appears again.
#[tokio::test]
async fn amqp_as_a_target() {
    let mut broker = RabbitMq::start().await;
    broker.client().ask(&["declare", "q", "--bind", "amq.topic", "away.#"]).await;
    broker.stop().await;
    let target = client("target", "amqp", &broker.url(), "");
    let (gateway, device) = devices_to(&target, ", exchange = \"amq.topic\"").await;
    device.publish(&[], &numbered("away/x", 0..50)).await;
    assert_eq!(gateway.adapter_state("target").await.as_deref(), Some("down"));
    broker.appear().await;
    gateway.until_up("target").await;
    let publishing = async { device.publish(&[], &numbered("away/x", 50..1_000)).await };
    let restarting = async {
        broker
            .client()
            .until_answer(&["depth", "q"], |answer| answer["messages"].as_u64() > Some(100))
            .await;
        broker.kill();
        gateway.until_state("target", "down").await;
        broker.appear().await;
    };
    tokio::join!(publishing, restarting);
    let mut consumer = broker.client().consume(&["consume", "q"]).await;
    all_in_order(&mut consumer, 1_000).await;
}

#[tokio::test]
async fn jetstream_as_a_target() {
    let mut broker = Nats::start().await;
    broker.stream("S", &["away.>"]).await;
    broker.stop().await;
    let target = client("target", "nats", &broker.url(), "");
    let (gateway, device) = devices_to(&target, ", jetstream = true").await;
    device.publish(&[], &numbered("away/x", 0..50)).await;
    broker.appear().await;
    gateway.until_up("target").await;
    let publishing = async { device.publish(&[], &numbered("away/x", 50..1_000)).await };
    let restarting = async {
        broker
            .client()
            .until_answer(&["state", "S"], |answer| answer["messages"].as_u64() > Some(100))
            .await;
        broker.kill();
        gateway.until_state("target", "down").await;
        broker.appear().await;
    };
    tokio::join!(publishing, restarting);
    let mut consumer = broker.client().consume(&["consume-stream", "S", "away.>"]).await;
    all_in_order(&mut consumer, 1_000).await;
}

async fn mosquitto_as_a_target(version: &str) {
    let mut broker = Mosquitto::start().await;
    let session = ["consume", "away/#", "--session", "--client-id", "sink", "--version", "4"];
    broker.client().consume(&session).await.vanish();
    broker.stop().await;
    let target = client("target", "mqtt", &broker.url(), &format!("version = \"{version}\""));
    let (gateway, device) = devices_to(&target, "").await;
    device.publish(&[], &numbered("away/x", 0..50)).await;
    broker.appear().await;
    gateway.until_up("target").await;
    let publishing = async { device.publish(&[], &numbered("away/x", 50..1_000)).await };
    let restarting = async {
        broker.stop().await;
        gateway.until_state("target", "down").await;
        broker.appear().await;
    };
    tokio::join!(publishing, restarting);
    let mut consumer = broker.client().consume(&session).await;
    all_in_order(&mut consumer, 1_000).await;
}

#[tokio::test]
async fn mqtt_3_1_1_as_a_target() {
    mosquitto_as_a_target("3.1.1").await;
}

#[tokio::test]
async fn mqtt_5_as_a_target() {
    mosquitto_as_a_target("5").await;
}

#[tokio::test]
async fn http_as_a_target() {
    let mut sink = HttpSink::absent();
    let (_gateway, device) = devices_to(&client("target", "http", &sink.url(), ""), "").await;
    device.publish(&[], &numbered("away/x", 0..50)).await;
    sink.appear(&[]).await;
    assert_eq!(texts(&sink.requests().take_within(BACK, 50).await), numbers(0..50));
    let publishing = async { device.publish(&[], &numbered("away/x", 50..1_000)).await };
    let restarting = async {
        sink.requests().take(50).await;
        // What it has answered when it is killed it has recorded.
        let mut received = sink.vanish();
        tokio::time::sleep(Duration::from_millis(200)).await;
        sink.appear(&[]).await;
        received.drain(..50);
        received
    };
    let ((), mut received) = tokio::join!(publishing, restarting);
    wait::until_within(BACK, "all messages", || {
        let mut all = received.clone();
        all.extend(sink.requests().all().iter().cloned());
        let count = first_of_each(&all).len();
        async move { (count >= 950).then_some(()) }
    })
    .await;
    received.extend(sink.requests().all().iter().cloned());
    assert_eq!(first_of_each(&received), numbers(50..1_000));
}

/// A gateway from a source to a sink that records, and the sink.
async fn from_source(source: &str) -> (Transload, HttpSink) {
    let sink = HttpSink::start().await;
    let target = client("target", "http", &sink.url(), "");
    let route = route("r", "source", "away/#", "\"target\"", "");
    (Transload::start(&[source.to_owned(), target, route].concat()).await, sink)
}

#[tokio::test]
async fn amqp_as_a_source() {
    let mut broker = RabbitMq::absent();
    let source = client(
        "source",
        "amqp",
        &broker.url(),
        "[[adapters.source.consume]]\nqueue = \"q\"\ndeclare = true\n\
         bind = { exchange = \"amq.topic\", key = \"away.#\" }\n",
    );
    let (gateway, mut sink) = from_source(&source).await;
    gateway.until_state("source", "down").await;
    broker.appear().await;
    gateway.until_up("source").await;
    broker.keep_declared().await;
    let persistent = |message: transload_integration_tests::Message| {
        message.with("properties", serde_json::json!({ "delivery_mode": 2 }))
    };
    let batch: Vec<_> = numbered("away.x", 0..500).into_iter().map(persistent).collect();
    broker.client().publish(&["--mandatory"], &batch).await;
    broker.kill();
    gateway.until_state("source", "down").await;
    broker.appear().await;
    let batch: Vec<_> = numbered("away.x", 500..600).into_iter().map(persistent).collect();
    broker.client().publish(&["--mandatory"], &batch).await;
    all_in_order(sink.requests(), 600).await;
}

#[tokio::test]
async fn jetstream_as_a_source() {
    let mut broker = Nats::start().await;
    broker.stream("S", &["away.>"]).await;
    broker.stop().await;
    let source = client(
        "source",
        "nats",
        &broker.url(),
        "[[adapters.source.consume]]\nstream = \"S\"\ndurable = \"gateway\"\ncreate = true\n",
    );
    let (gateway, mut sink) = from_source(&source).await;
    gateway.until_state("source", "down").await;
    broker.appear().await;
    gateway.until_up("source").await;
    broker.client().publish(&["--jetstream"], &numbered("away.x", 0..500)).await;
    broker.kill();
    gateway.until_state("source", "down").await;
    broker.appear().await;
    broker.client().publish(&["--jetstream"], &numbered("away.x", 500..600)).await;
    all_in_order(sink.requests(), 600).await;
}

/// Core NATS keeps nothing; but a gateway that was connected once is subscribed again.
#[tokio::test]
async fn core_nats_as_a_source() {
    let mut broker = Nats::absent();
    let source = client("source", "nats", &broker.url(), "subscribe = [\"away.>\"]\n");
    let (gateway, mut sink) = from_source(&source).await;
    gateway.until_state("source", "down").await;
    for round in 0..2 {
        broker.appear().await;
        gateway.until_up("source").await;
        let range = 100 * round..100 * (round + 1);
        broker.client().publish(&[], &numbered("away.x", range.clone())).await;
        assert_eq!(texts(&sink.requests().take(100).await), numbers(range));
        broker.kill();
        gateway.until_state("source", "down").await;
    }
}

async fn mosquitto_as_a_source(version: &str) {
    let mut broker = Mosquitto::absent();
    let more = format!("version = \"{version}\"\nsubscribe = [\"away/#\"]\n");
    let (gateway, mut sink) = from_source(&client("source", "mqtt", &broker.url(), &more)).await;
    gateway.until_state("source", "down").await;
    broker.appear().await;
    gateway.until_up("source").await;
    broker.client().publish(&["--pipelined"], &numbered("away/x", 0..500)).await;
    broker.stop().await;
    gateway.until_state("source", "down").await;
    broker.appear().await;
    broker.client().publish(&["--pipelined"], &numbered("away/x", 500..600)).await;
    all_in_order(sink.requests(), 600).await;
}

#[tokio::test]
async fn mqtt_3_1_1_as_a_source() {
    mosquitto_as_a_source("3.1.1").await;
}

#[tokio::test]
async fn mqtt_5_as_a_source() {
    mosquitto_as_a_source("5").await;
}

/// The gateway itself is killed in the middle: what its source was told to be accepted arrives.
#[tokio::test]
async fn the_gateway_killed_between_jetstream_and_amqp() {
    let broker = RabbitMq::shared().await;
    let nats = Nats::start().await;
    nats.stream("S", &["away.>"]).await;
    let consume = "[[adapters.source.consume]]\nstream = \"S\"\ndurable = \"g\"\ncreate = true\nack_wait = \"2s\"\n";
    let mut gateway = Transload::start(
        &[
            client("source", "nats", &nats.url(), consume),
            client("target", "amqp", &broker.url(), ""),
            route("r", "source", "away/#", "{ adapter = \"target\", queue = \"away-killed\" }", ""),
        ]
        .concat(),
    )
    .await;
    let arguments = ["consume", "away-killed", "--declare"];
    let mut consumer = broker.client().consume(&arguments).await;
    let publishing = nats.client();
    let messages = numbered("away.x", 0..1_000);
    let publishing = publishing.publish(&["--jetstream"], &messages);
    let killing = async {
        for _ in 0..3 {
            let before = consumer.all().len();
            wait::until("some messages", || {
                let more = consumer.all().len() > before + 50 || consumer.all().len() >= 1_000;
                async move { more.then_some(()) }
            })
            .await;
            gateway.kill();
            gateway.run().await;
        }
    };
    tokio::join!(publishing, killing);
    let received = wait::until_within(BACK, "all messages", || {
        let all = consumer.all().to_vec();
        async move { (first_of_each(&all).len() >= 1_000).then_some(all) }
    })
    .await;
    let mut all = first_of_each(&received);
    all.sort_by_key(|text| text.parse::<usize>().unwrap_or(usize::MAX));
    assert_eq!(all, numbers(0..1_000));
}

/// Freezes a target with its connections open, until the gateway's time-outs have passed and it knows
/// that nobody is there, and lets it go on.
async fn hang(process: &Process, gateway: &Transload, device: &Python) {
    process.signal(End::Stop);
    device.publish(&[], &numbered("away/x", 200..400)).await;
    gateway.until_state("target", "down").await;
    process.signal(End::Continue);
    device.publish(&[], &numbered("away/x", 400..500)).await;
}

const SHORT: &str = "connect_timeout = \"1s\"\nconfirm_timeout = \"1s\"";

#[tokio::test]
async fn amqp_that_hangs_longer_than_the_time_outs() {
    let mut broker = RabbitMq::start().await;
    broker.client().ask(&["declare", "q", "--bind", "amq.topic", "away.#"]).await;
    // Without a confirmation the messages are held; the heartbeat tells that the connection is dead.
    let target = client("target", "amqp", &broker.url(), &format!("{SHORT}\nheartbeat = \"2s\""));
    let (gateway, device) = devices_to(&target, ", exchange = \"amq.topic\"").await;
    device.publish(&[], &numbered("away/x", 0..200)).await;
    hang(broker.process().unwrap(), &gateway, &device).await;
    let mut consumer = broker.client().consume(&["consume", "q"]).await;
    all_in_order(&mut consumer, 500).await;
}

#[tokio::test]
async fn jetstream_that_hangs_longer_than_the_time_outs() {
    let mut broker = Nats::start().await;
    broker.stream("S", &["away.>"]).await;
    let target = client("target", "nats", &broker.url(), SHORT);
    let (gateway, device) = devices_to(&target, ", jetstream = true").await;
    device.publish(&[], &numbered("away/x", 0..200)).await;
    hang(broker.process().unwrap(), &gateway, &device).await;
    let mut consumer = broker.client().consume(&["consume-stream", "S", "away.>"]).await;
    all_in_order(&mut consumer, 500).await;
}

#[tokio::test]
async fn mosquitto_that_hangs_longer_than_the_time_outs() {
    let mut broker = Mosquitto::start().await;
    let session = ["consume", "away/#", "--session", "--client-id", "sink", "--version", "4"];
    broker.client().consume(&session).await.vanish();
    let target = client("target", "mqtt", &broker.url(), SHORT);
    let (gateway, device) = devices_to(&target, "").await;
    device.publish(&[], &numbered("away/x", 0..200)).await;
    hang(broker.process().unwrap(), &gateway, &device).await;
    let mut consumer = broker.client().consume(&session).await;
    all_in_order(&mut consumer, 500).await;
}

#[tokio::test]
async fn http_that_hangs_longer_than_the_time_out() {
    let mut sink = HttpSink::start().await;
    let target = client("target", "http", &sink.url(), "timeout = \"1s\"");
    let (gateway, device) = devices_to(&target, "").await;
    device.publish(&[], &numbered("away/x", 0..200)).await;
    sink.requests().take(1).await;
    sink.requests().process().signal(End::Stop);
    device.publish(&[], &numbered("away/x", 200..400)).await;
    wait::until("attempts that failed", || async {
        let retried = gateway.metric("transload_messages_finished_total", "retried").await?;
        (retried > 1.5).then_some(())
    })
    .await;
    sink.requests().process().signal(End::Continue);
    device.publish(&[], &numbered("away/x", 400..500)).await;
    all_in_order(sink.requests(), 500).await;
}
