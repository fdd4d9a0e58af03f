//! `mosquitto_pub` and `mosquitto_sub` as foreign MQTT clients.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{
    Consumer, Process, Received, directory,
    wait::{PATIENCE, until},
};

const INSTALL: &str = "apt-get install --no-install-recommends mosquitto-clients";

fn command(program: &str, address: &str, arguments: &[&str]) -> Command {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    // Otherwise what it prints to a file comes only when a block of it is full.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program]);
    command.args(["-h", host, "-p", port]).args(arguments).stdin(Stdio::null());
    command
}

/// Publishes with `mosquitto_pub`, which must succeed.
pub async fn publish(address: &str, arguments: &[&str]) {
    let directory = directory("mosquitto_pub");
    let mut command = command("mosquitto_pub", address, arguments);
    let mut process = Process::start("mosquitto_pub", &mut command, &directory, INSTALL);
    let status = process.wait(PATIENCE).await;
    assert!(status.success(), "mosquitto_pub {arguments:?}: {status}: {}", process.errors());
}

/// Subscribes with `mosquitto_sub`, and waits until the broker has answered.
pub async fn subscribe(address: &str, arguments: &[&str]) -> Consumer {
    let directory = directory("mosquitto_sub");
    let mut command = command("mosquitto_sub", address, arguments);
    // `%x` is the payload in hexadecimal digits, so that nothing in it can be taken for the frame; `@@` is one `@`.
    command.args(["-d", "-F", "@@ %t %q %r %x"]);
    let mut process = Process::start("mosquitto_sub", &mut command, &directory, INSTALL);
    until(format!("the subscription of mosquitto_sub {arguments:?}"), || {
        let said = process.output() + &process.errors();
        let granted = said.contains("SUBACK") || said.contains("Subscribed (mid");
        if !granted {
            process.must_run();
        }
        async move { granted.then_some(()) }
    })
    .await;
    Consumer::new(process, parse)
}

fn parse(text: &mut String) -> Vec<Received> {
    let Some(end) = text.rfind('\n') else { return Vec::new() };
    let complete: String = text.drain(..=end).collect();
    complete.lines().filter_map(parse_line).collect()
}

/// `@ TOPIC QOS RETAIN HEX`; a topic may hold spaces, and an empty payload has no digits.
fn parse_line(line: &str) -> Option<Received> {
    let mut parts = line.strip_prefix("@ ")?.rsplitn(4, ' ');
    let payload = hex(parts.next()?)?;
    let retain = parts.next()?;
    let qos = parts.next()?;
    let mut received = Received::new(parts.next()?, payload);
    received.fields = Value::Object(
        [("qos".to_owned(), qos.into()), ("retain".to_owned(), (retain == "1").into())]
            .into_iter()
            .collect(),
    );
    Some(received)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok())
        .collect()
}
