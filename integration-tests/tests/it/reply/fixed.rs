//! Devices of MQTT 3.1.1 whose topics are fixed, and which tell what they answer in their payload.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use transload_integration_tests::{HttpSink, Mosquitto, Python, Transload, curl, free_port};

use crate::support::{client, devices, route, web};

/// On our listener and on another broker: callers are not mixed up, and what the device says of its own
/// accord under the same topic is a message like any other.
#[tokio::test]
async fn a_device_tells_in_its_payload_what_it_answers() {
    const CALLS: usize = 8;
    let (broker, mut sink) = (Mosquitto::start().await, HttpSink::start().await);
    let (http, mqtt) = (free_port(), free_port());
    let ask = |adapter: &str| {
        let to = format!(
            "{{ adapter = \"{adapter}\", topic = \"{{device}}/rpc\", reply_topic = \
             \"out/{{device}}/rpc\", reply_correlation = \"payload.id\" }}"
        );
        let reply = "reply = { timeout = \"15s\" }\nshape = { set = { payload.id = \
                     \"{{correlation}}\" } }";
        route(adapter, "web", &format!("{adapter}/{{device}}"), &to, reply)
    };
    let gateway = Transload::start(
        &[
            web(http),
            devices(mqtt, ""),
            client("broker", "mqtt", &broker.url(), "subscribe = [\"out/#\"]"),
            client("sink", "http", &sink.url(), ""),
            ask("devices"),
            ask("broker"),
            // The connection that takes messages in from the other broker hears the replies too.
            route("events", "any", "out/#", r#""sink""#, "when = 'payload.event == \"tick\"'"),
        ]
        .concat(),
    )
    .await;
    gateway.until_ready().await;
    for (adapter, address) in
        [("devices", format!("127.0.0.1:{mqtt}")), ("broker", broker.address())]
    {
        let under = ["consume", "d1/rpc", "--version", "4", "--answer-under", "out/d1/rpc"];
        let _device = Python::mqtt(&address).consume(&under).await;
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let url = format!("http://127.0.0.1:{http}/{adapter}/d1");
            calls.spawn(async move {
                let body = json!({ "say": number }).to_string();
                (
                    number,
                    curl::post(&url, &["Content-Type: application/json"], body.as_bytes()).await,
                )
            });
        }
        for (number, answer) in calls.join_all().await {
            assert_eq!(
                (answer.status, &answer.json()["echo"]),
                (200, &json!(number)),
                "{answer:?}"
            );
        }
        for event in sink.requests().take(CALLS).await {
            let event: Value = serde_json::from_slice(&event.payload).unwrap();
            assert_eq!(event, json!({ "id": 7, "event": "tick" }), "{adapter}");
        }
    }
    sink.requests().stays_at(2 * CALLS).await;
}
