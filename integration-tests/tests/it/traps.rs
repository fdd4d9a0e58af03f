//! Faults that the libraries and other bridges have, shown not to be ours from end to end.

use std::time::Duration;

use serde_json::json;
use transload_integration_tests::{
    HttpSink, Message, Mosquitto, Nats, Python, RabbitMq, Transload, curl, free_port, texts, wait,
};

use crate::support::{client, devices, first_of_each, numbered, numbers, route, web};

/// A broker's *nack* of a publish is not a delivery: what did not fit is published again.
#[tokio::test]
async fn a_negative_confirmation_is_no_delivery() {
    let broker = RabbitMq::shared().await;
    let queue = "trap-nack";
    let full = [
        "declare",
        queue,
        "--argument",
        "x-max-length",
        "1",
        "--argument",
        "x-overflow",
        "\"reject-publish\"",
    ];
    broker.client().ask(&full).await;
    let port = free_port();
    let gateway = Transload::start(
        &[
            devices(port, ""),
            client("services", "amqp", &broker.url(), ""),
            route(
                "r",
                "devices",
                "trap/#",
                &format!("{{ adapter = \"services\", queue = \"{queue}\" }}"),
                "attempts = 1000",
            ),
        ]
        .concat(),
    )
    .await;
    gateway.until_up("services").await;
    Python::mqtt(&format!("127.0.0.1:{port}")).publish(&[], &numbered("trap/n", 0..5)).await;
    broker.client().until_answer(&["depth", queue], |answer| answer["messages"] == 1).await;
    let mut consumer = broker.client().consume(&["consume", queue]).await;
    let mut received = first_of_each(&consumer.take(5).await);
    received.sort();
    assert_eq!(received, numbers(0..5), "everything arrived once there was room");
}

/// A message that the exchange can route nowhere comes back with a positive confirmation: where the
/// route says `mandatory`, it goes to the dead letters and does not count as delivered.
#[tokio::test]
async fn a_returned_message_is_no_delivery() {
    let broker = RabbitMq::shared().await;
    let exchange = "trap-returned";
    broker.client().ask(&["exchange", exchange]).await;
    let bind = ["declare", "trap-returned", "--bind", exchange, "trap.wanted"];
    broker.client().ask(&bind).await;
    let port = free_port();
    let to = format!("{{ adapter = \"services\", exchange = \"{exchange}\", mandatory = true }}");
    let gateway = Transload::start(
        &[
            devices(port, ""),
            client("services", "amqp", &broker.url(), ""),
            route("r", "devices", "trap/#", &to, ""),
        ]
        .concat(),
    )
    .await;
    gateway.until_up("services").await;
    // Returned and wanted messages alternate, so that one cannot be taken for the other.
    let messages: Vec<_> = (0..20)
        .map(|number| if number % 2 == 0 { "trap/wanted" } else { "trap/unwanted" })
        .map(|address| Message::new(address, address))
        .collect();
    let device = Python::mqtt(&format!("127.0.0.1:{port}"));
    device.publish(&["--pipelined"], &messages).await;
    for (outcome, expected) in [("delivered", 10.0), ("dead_lettered", 10.0)] {
        wait::until(format!("{expected} messages to be {outcome}"), || async {
            let label = format!("outcome=\"{outcome}\"");
            let count = gateway.metric("transload_messages_finished_total", &label).await?;
            (count > expected - 0.5).then(|| assert!(count < expected + 0.5, "{count} {outcome}"))
        })
        .await;
    }
    let mut consumer = broker.client().consume(&["consume", "trap-returned"]).await;
    assert_eq!(texts(&consumer.take(10).await), ["trap/wanted"; 10]);
    consumer.stays_at(10).await;
}

/// A routing key of more than 255 bytes would make the broker close the channel, and with it what
/// is under way for others.
#[tokio::test]
async fn a_message_that_amqp_cannot_carry_harms_no_other() {
    let broker = RabbitMq::shared().await;
    let port = free_port();
    let arguments = ["consume", "trap-long", "--declare", "--bind", "amq.topic", "trap.long.#"];
    let mut consumer = broker.client().consume(&arguments).await;
    let gateway = Transload::start(
        &[
            devices(port, ""),
            client("services", "amqp", &broker.url(), ""),
            route(
                "r",
                "devices",
                "trap/long/#",
                "{ adapter = \"services\", exchange = \"amq.topic\" }",
                "",
            ),
        ]
        .concat(),
    )
    .await;
    gateway.until_up("services").await;
    let long = format!("trap/long/{}", "x".repeat(300));
    let messages = [
        Message::new("trap/long/a", "1"),
        Message::new(&long, "too long"),
        Message::new("trap/long/b", "2"),
    ];
    Python::mqtt(&format!("127.0.0.1:{port}")).publish(&[], &messages).await;
    assert_eq!(texts(&consumer.take(2).await), ["1", "2"]);
    let dead = || async {
        let count = gateway.metric("transload_messages_finished_total", "dead_lettered").await?;
        (count >= 1.0).then_some(())
    };
    wait::until("the dead letter", dead).await;
}

/// rumqttd acknowledges what nobody has seen; a kill then loses it. With a route that is `stored`,
/// what was acknowledged is on disk.
#[tokio::test]
async fn acknowledged_messages_survive_a_kill() {
    const COUNT: usize = 20_000;
    let port = free_port();
    let mut sink = HttpSink::absent();
    let mut gateway = Transload::start(
        &[
            devices(port, ""),
            client("target", "http", &sink.url(), ""),
            route(
                "r",
                "devices",
                "kill/#",
                "{ adapter = \"target\", concurrency = 16 }",
                "guarantee = \"stored\"",
            ),
        ]
        .concat(),
    )
    .await;
    let patience = Duration::from_mins(3);
    let device = Python::mqtt(&format!("127.0.0.1:{port}")).patient(patience);
    device.publish(&["--pipelined"], &numbered("kill/x", 0..COUNT)).await;
    gateway.kill();
    sink.appear(&[]).await;
    gateway.run().await;
    let received = sink.requests().take_within(patience, COUNT).await;
    let mut received: Vec<usize> =
        first_of_each(&received).iter().filter_map(|text| text.parse().ok()).collect();
    received.sort_unstable();
    assert!(received.into_iter().eq(0..COUNT), "every acknowledged message arrived");
}

/// After a start with a backlog waiting, a broker sends the backlog before it answers the
/// subscription; a client that waits for the answer with a full window never comes back.
#[tokio::test]
async fn a_backlog_at_the_broker_does_not_keep_the_gateway_away() {
    const COUNT: usize = 2_000;
    for version in ["3.1.1", "5"] {
        let broker = Mosquitto::start().await;
        let mut sink = HttpSink::start().await;
        let mut gateway = Transload::start(
            &[
                client(
                    "source",
                    "mqtt",
                    &broker.url(),
                    &format!("version = \"{version}\"\nsubscribe = [\"b/#\"]"),
                ),
                client("target", "http", &sink.url(), ""),
                route("r", "source", "b/#", "{ adapter = \"target\", concurrency = 16 }", ""),
            ]
            .concat(),
        )
        .await;
        gateway.until_up("source").await;
        gateway.kill();
        broker.client().publish(&["--pipelined"], &numbered("b/x", 0..COUNT)).await;
        gateway.run().await;
        let received = sink.requests().take_within(Duration::from_mins(2), COUNT).await;
        let mut received: Vec<usize> =
            first_of_each(&received).iter().filter_map(|text| text.parse().ok()).collect();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..COUNT), "{version}: the whole backlog");
    }
}

/// A core message that carries a reply subject is no `JetStream` message: nothing is sent there.
#[tokio::test]
async fn a_core_message_with_a_reply_subject_is_not_acknowledged() {
    let broker = Nats::start().await;
    let mut sink = HttpSink::start().await;
    let gateway = Transload::start(
        &[
            client("source", "nats", &broker.url(), "subscribe = [\"core.>\"]"),
            client("target", "http", &sink.url(), ""),
            route("r", "source", "core/#", "\"target\"", ""),
        ]
        .concat(),
    )
    .await;
    gateway.until_up("source").await;
    let mut replies = broker.client().consume(&["consume", "answers"]).await;
    let message = Message::new("core.x", "question").with("reply", json!("answers"));
    broker.client().publish(&[], &[message]).await;
    assert_eq!(texts(&sink.requests().take(1).await), ["question"]);
    replies.stays_at(0).await;
}

/// A poison message, which the target refuses for good, does not hold up those behind it.
#[tokio::test]
async fn a_poison_message_does_not_wedge_its_queue() {
    let port = free_port();
    let mut sink = HttpSink::absent();
    sink.appear(&["--status", "400,200"]).await;
    let gateway = Transload::start(
        &[
            web(port),
            client("target", "http", &sink.url(), ""),
            route("r", "web", "p/#", "\"target\"", ""),
        ]
        .concat(),
    )
    .await;
    for text in ["poison", "good"] {
        let answer =
            curl::post(&format!("http://127.0.0.1:{port}/p/x"), &[], text.as_bytes()).await;
        assert_eq!(answer.status, 202);
    }
    assert_eq!(texts(&sink.requests().take(2).await), ["poison", "good"]);
    sink.requests().stays_at(2).await;
    let dead = gateway.metric("transload_messages_finished_total", "dead_lettered").await;
    assert_eq!(dead, Some(1.0));
}

/// A target that cannot handle a message now gets it again, after the time that it asked for.
#[tokio::test]
async fn a_busy_target_is_asked_again_when_it_said() {
    let port = free_port();
    let mut sink = HttpSink::absent();
    sink.appear(&["--status", "503,500,200", "--retry-after", "1"]).await;
    let _gateway = Transload::start(
        &[
            web(port),
            client("target", "http", &sink.url(), ""),
            route("r", "web", "p/#", "\"target\"", ""),
        ]
        .concat(),
    )
    .await;
    let begin = std::time::Instant::now();
    curl::post(&format!("http://127.0.0.1:{port}/p/x"), &[], b"again").await;
    assert_eq!(texts(&sink.requests().take(3).await), ["again", "again", "again"]);
    assert!(begin.elapsed() >= Duration::from_secs(1), "not before the time was over");
    sink.requests().stays_at(3).await;
}
