//! The `adapters.toml` of the repository does what the README says, alone and with brokers that
//! appear later.

use std::path::Path;

use transload_integration_tests::{
    Message, Nats, Python, RabbitMq, Transload, curl, free_port, texts,
};

/// The repository's file with its addresses and URLs replaced, each of which must be there.
fn default_file(replacements: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters.toml");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (theirs, ours) in replacements {
        assert!(text.contains(theirs), "{theirs} is not in adapters.toml");
        text = text.replace(theirs, ours);
    }
    text
}

#[tokio::test]
async fn the_default_file_works_alone_and_joins_brokers_when_they_appear() {
    let mut rabbitmq = RabbitMq::start().await;
    for (queue, key) in [("hooks", "hooks.#"), ("telemetry", "devices.*.telemetry")] {
        let declare = ["declare", queue, "--bind", "amq.topic", key];
        rabbitmq.client().ask(&declare).await;
    }
    rabbitmq.stop().await;
    let mut nats = Nats::start().await;
    nats.stream("ALL", &["hooks.>", "devices.>"]).await;
    nats.stop().await;

    let (devices, web, admin) = (free_port(), free_port(), free_port());
    let file = default_file(&[
        ("127.0.0.1:1883", format!("127.0.0.1:{devices}")),
        ("127.0.0.1:8080", format!("127.0.0.1:{web}")),
        ("127.0.0.1:9640", format!("127.0.0.1:{admin}")),
        ("127.0.0.1:5672", format!("127.0.0.1:{}", rabbitmq.port())),
        ("127.0.0.1:4222", format!("127.0.0.1:{}", nats.port())),
    ]);
    let gateway = Transload::start_file(&file, admin).await;
    gateway.until_ready().await;
    let device = Python::mqtt(&format!("127.0.0.1:{devices}"));
    let web = format!("http://127.0.0.1:{web}");

    // Alone: hooks to devices and to a stream, telemetry to a stream.
    let mut hooks = device.consume(&["consume", "hooks/#"]).await;
    let mut hook_events = curl::events(&format!("{web}/streams/hooks"), None).await;
    let mut telemetry_events = curl::events(&format!("{web}/streams/telemetry"), None).await;
    let answer = curl::post(&format!("{web}/hooks/orders/new"), &[], b"{\"order\": 42}").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let hook = hooks.take(1).await.remove(0);
    assert_eq!(
        (hook.address.as_str(), hook.text().as_str()),
        ("hooks/orders/new", "{\"order\": 42}")
    );
    assert_eq!(texts(&hook_events.take(1).await), ["{\"order\": 42}"]);
    device.publish(&[], &[Message::new("devices/d1/telemetry", "21.5")]).await;
    let event = telemetry_events.take(1).await.remove(0);
    assert_eq!((event.address.as_str(), event.text().as_str()), ("devices/d1/telemetry", "21.5"));

    // What was meant for brokers that were not there arrives when they are.
    rabbitmq.appear().await;
    for (queue, key, text) in [
        ("hooks", "hooks.orders.new", "{\"order\": 42}"),
        ("telemetry", "devices.d1.telemetry", "21.5"),
    ] {
        let received = rabbitmq.client().consume(&["consume", queue]).await.take(1).await.remove(0);
        assert_eq!((received.address.as_str(), received.text().as_str()), (key, text));
    }
    nats.appear().await;
    let mut stream = nats.client().consume(&["consume-stream", "ALL", ">"]).await;
    let mut received: Vec<_> =
        stream.take(2).await.into_iter().map(|one| (one.address.clone(), one.text())).collect();
    received.sort();
    assert_eq!(received[0], ("devices.d1.telemetry".to_owned(), "21.5".to_owned()));
    assert_eq!(received[1], ("hooks.orders.new".to_owned(), "{\"order\": 42}".to_owned()));

    // Commands from both brokers to devices.
    gateway.until_up("services").await;
    gateway.until_up("events").await;
    let mut commands = device.consume(&["consume", "commands/#"]).await;
    rabbitmq.client().publish(&["--mandatory"], &[Message::new("commands.d1", "by amqp")]).await;
    nats.client().publish(&[], &[Message::new("commands.d2", "by nats")]).await;
    let mut received: Vec<_> =
        commands.take(2).await.into_iter().map(|one| (one.address.clone(), one.text())).collect();
    received.sort();
    assert_eq!(received[0], ("commands/d1".to_owned(), "by amqp".to_owned()));
    assert_eq!(received[1], ("commands/d2".to_owned(), "by nats".to_owned()));
    commands.stays_at(2).await;
}
