//! `CloudEvents` between protocols, made and read by the official Python SDK.

use serde_json::{Map, Value};
use transload_integration_tests::{HttpSink, Nats, Python, Received, Transload, curl, free_port};

/// The headers that a client has received, by their names.
fn headers(message: &Received) -> Map<String, Value> {
    match &message.fields["headers"] {
        Value::Object(headers) => headers.clone(),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
            .collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            panic!("no headers: {other}")
        }
    }
}

/// What a client has received must be the event that the SDK has made.
async fn assert_same(received: &Received) {
    let headers = Value::Object(headers(received)).to_string();
    let payload = received.fields["payload"].as_str().unwrap();
    let read = Python::events().ask(&["read", &headers, payload]).await;
    assert_eq!(read["same"], true, "{read} of {received:?}");
}

#[tokio::test]
async fn events_pass_between_http_and_nats_as_the_official_sdk_has_them() {
    let (nats, mut sink, port) = (Nats::start().await, HttpSink::start().await, free_port());
    let gateway = Transload::start(&format!(
        r#"
        [adapters.web]
        kind = "http"
        listen = "127.0.0.1:{port}"
        [adapters.sink]
        kind = "http"
        url = "{}"
        [adapters.events]
        kind = "nats"
        url = "{}"
        subscribe = ["e.>"]

        [[route]]
        name = "in"
        from = "web"
        match = "in/{{mode}}"
        shape = {{ unwrap = "cloudevents" }}
        to = {{ adapter = "events", subject = "e.{{mode}}" }}
        [[route]]
        name = "out in headers"
        from = "events"
        match = "e/binary"
        to = "sink"
        [[route]]
        name = "out in one"
        from = "events"
        match = "e/structured"
        shape = {{ wrap = "cloudevents" }}
        to = "sink"
        "#,
        sink.url(),
        nats.url()
    ))
    .await;
    gateway.until_up("events").await;
    gateway.until_up("sink").await;
    let mut subscriber = nats.client().consume(&["consume", "e.>"]).await;
    for mode in ["binary", "structured"] {
        send(port, &format!("in/{mode}"), mode, "A234-1234-1234").await;

        let heard = subscriber.take(1).await.remove(0);
        assert_eq!(heard.header("ce-id"), Some(&"A234-1234-1234".into()), "in binary mode");
        assert_same(&heard).await;
        let sent = sink.requests().take(1).await.remove(0);
        let structured = sent.header("Content-Type").unwrap().as_str().unwrap();
        assert_eq!(structured == "application/cloudevents+json", mode == "structured");
        assert_same(&sent).await;
    }
}

/// Sends an event that the SDK has made, with this id, to a path of our listener.
async fn send(port: u16, path: &str, mode: &str, id: &str) {
    let made = Python::events().ask(&["make", mode, id]).await;
    let fields: Vec<String> = made["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap()))
        .collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let payload = curl::decode_base64(made["payload"].as_str().unwrap()).unwrap();
    let url = format!("http://127.0.0.1:{port}/{path}");
    let answer = curl::post(&url, &fields, &payload).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn several_events_go_out_as_one_batch() {
    let (mut sink, port) = (HttpSink::start().await, free_port());
    let _gateway = Transload::start(&format!(
        r#"
        [adapters.web]
        kind = "http"
        listen = "127.0.0.1:{port}"
        [adapters.sink]
        kind = "http"
        url = "{}"
        [[route]]
        name = "single"
        from = "web"
        match = "single"
        shape = [{{ unwrap = "cloudevents" }}, {{ wrap = "cloudevents" }}]
        to = {{ adapter = "sink", path = "single" }}
        batch = {{ max_messages = 3, max_wait = "1m" }}
        [[route]]
        name = "batches"
        from = "web"
        match = "batches"
        shape = {{ wrap = "cloudevents-batch" }}
        to = {{ adapter = "sink", path = "batches" }}
        batch = {{ max_messages = 3, max_wait = "1m" }}
        "#,
        sink.url(),
    ))
    .await;
    let ids = ["one", "two", "three"];
    for path in ["single", "batches"] {
        for id in ids {
            // One that came in structured is unwrapped before, or it would be the data of another.
            let mode = if path == "single" && id == "two" { "structured" } else { "binary" };
            send(port, path, mode, id).await;
        }
        let sent = sink.requests().take(1).await.remove(0);
        assert_eq!(sent.address, format!("/{path}"));
        let content_type = sent.header("Content-Type").unwrap();
        assert_eq!(content_type, "application/cloudevents-batch+json");
        assert!(!headers(&sent).keys().any(|name| name.to_lowercase().starts_with("ce-")));
        let payload = sent.fields["payload"].as_str().unwrap();
        let read = Python::events().ask(&["read-batch", payload]).await;
        assert_eq!((&read["ids"], &read["same"]), (&ids.as_slice().into(), &true.into()), "{read}");
    }
}
