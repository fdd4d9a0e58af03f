//! Users and their permissions on our own MQTT listener, and `QoS` 2 over a kill, as foreign clients see
//! them.

use std::{io::Write as _, process::Stdio};

use serde_json::json;
use transload_integration_tests::{
    Message, Python, Transload, free_port, mosquitto_clients, texts, transload,
};

use crate::support::{devices, numbered, numbers};

/// A line of a users file, as the program makes it.
fn line(name: &str, password: &str) -> String {
    let mut command = transload(&["hash-password", name]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn foreign_clients_log_in_and_do_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, line("pump", "p") + &line("reader", "r")).unwrap();
    let permissions = "permissions = [\
        { users = [\"pump\"], publish = [\"devices/{user}/#\"] }, \
        { users = [\"reader\"], subscribe = [\"devices/#\"] }]";
    let port = free_port();
    let more = format!("users_file = '{}'\n{permissions}", users.display());
    let gateway = Transload::start(&devices(port, &more)).await;
    gateway.until_up("devices").await;
    let address = format!("127.0.0.1:{port}");
    let client = Python::mqtt(&address);

    let reader = ["-u", "reader", "-P", "r", "-t", "devices/#", "-q", "1"];
    let mut hears = mosquitto_clients::subscribe(&address, &reader).await;
    for version in ["4", "5"] {
        let pump = ["--username", "pump", "--password", "p", "--version", version];
        let topic = format!("devices/pump/{version}");
        client.publish(&pump, &[Message::new(&topic, version)]).await;
        let forged = Message::new("devices/other", "forged");
        let outcomes = client.try_publish(&pump, &[forged]).await;
        // 3.1.1 cannot say it.
        assert_eq!(outcomes[0].ok(), version == "4", "{outcomes:?}");
        for (name, password) in [("pump", "wrong"), ("nobody", "p")] {
            let wrong = ["--username", name, "--password", password, "--version", version];
            let refused = client.try_publish(&wrong, &[Message::new(&topic, "x")]).await;
            // Paho shows the code of 3.1.1 as that of 5.
            assert_eq!(refused[0].0["refused"], json!(0x86), "{refused:?}");
        }
        let subscribe =
            ["consume", "devices/#", "--username", "pump", "--password", "p", "--version", version];
        let consumer = client.consume(&subscribe).await;
        assert_ne!(consumer.subscription()["granted"], json!([1]));
    }
    assert_eq!(texts(&hears.take(2).await), ["4", "5"]);
    hears.stays_at(2).await;
}

/// Paho's session has what waited for it once, after the gateway was killed.
#[tokio::test]
async fn qos_2_to_a_session_is_delivered_over_kills() {
    let port = free_port();
    let mut gateway = Transload::start(&devices(port, "")).await;
    gateway.until_up("devices").await;
    let address = format!("127.0.0.1:{port}");
    let client = Python::mqtt(&address);
    let subscribe =
        ["consume", "t", "--qos", "2", "--session", "--client-id", "reader", "--version", "5"];
    client.consume(&subscribe).await.vanish();
    client.publish(&["--qos", "2"], &numbered("t", 0..50)).await;
    gateway.kill();
    gateway.run().await;
    gateway.until_up("devices").await;
    let mut reader = client.consume(&subscribe).await;
    assert_eq!(texts(&reader.take(50).await), numbers(0..50));
    reader.stays_at(50).await;
}
