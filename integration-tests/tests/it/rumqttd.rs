//! rumqttd inside this process as a second foreign MQTT broker, of another kind than mosquitto.

use std::sync::OnceLock;

use transload_integration_tests::{Python, Transload, free_port, texts, wait};

use crate::support::{client, devices, numbered, numbers, route};

/// The ports of 3.1.1 and 5: rumqttd has one for each. A broker cannot be stopped, so there is one
/// for the whole process.
async fn ports() -> (u16, u16) {
    static PORTS: OnceLock<(u16, u16)> = OnceLock::new();
    let (v4, v5) = *PORTS.get_or_init(|| {
        let (v4, v5) = (free_port(), free_port());
        let server = |version: &str, port: u16| {
            format!(
                "[{version}.1]\nname = \"{version}\"\nlisten = \"127.0.0.1:{port}\"\n\
                 next_connection_delay_ms = 1\n[{version}.1.connections]\n\
                 connection_timeout_ms = 60000\nmax_payload_size = 4194304\n\
                 max_inflight_count = 100\ndynamic_filters = true\n"
            )
        };
        let router = "id = 0\n[router]\nmax_connections = 100\nmax_outgoing_packet_count = 200\n\
                      max_segment_size = 104857600\nmax_segment_count = 10\n";
        let config = [router, &server("v4", v4), &server("v5", v5)].concat();
        let config: rumqttd::Config = toml::from_str(&config).expect("a configuration");
        std::thread::spawn(move || {
            if let Err(error) = rumqttd::Broker::new(config).start() {
                eprintln!("rumqttd ended: {error}");
            }
        });
        (v4, v5)
    });
    for port in [v4, v5] {
        wait::until_open(wait::PATIENCE, port, || ()).await;
    }
    (v4, v5)
}

/// From a foreign client through rumqttd to the gateway, and from the gateway through rumqttd to
/// a foreign client.
async fn both_ways(version: &str, paho: &str, port: u16) {
    let listener = free_port();
    let root = format!("rumqttd{paho}");
    // Both tests are clients of one router, where two of one name would end each other.
    let keys =
        format!("version = \"{version}\"\nclient_id = \"{root}\"\nsubscribe = [\"{root}/in/#\"]\n");
    let gateway = Transload::start(
        &[
            devices(listener, ""),
            client("foreign", "mqtt", &format!("mqtt://127.0.0.1:{port}"), &keys),
            route("in", "foreign", &format!("{root}/in/#"), "\"devices\"", ""),
            route("out", "devices", &format!("{root}/out/#"), "\"foreign\"", ""),
        ]
        .concat(),
    )
    .await;
    gateway.until_up("foreign").await;
    let foreign = Python::mqtt(&format!("127.0.0.1:{port}"));
    let device = Python::mqtt(&format!("127.0.0.1:{listener}"));
    for (from, to, topic) in
        [(&foreign, &device, format!("{root}/in/x")), (&device, &foreign, format!("{root}/out/x"))]
    {
        let mut consumer = to.consume(&["consume", &topic, "--version", paho]).await;
        from.publish(&["--pipelined", "--version", paho], &numbered(&topic, 0..200)).await;
        assert_eq!(texts(&consumer.take(200).await), numbers(0..200), "{topic}");
    }
}

#[tokio::test]
async fn joined_by_3_1_1() {
    both_ways("3.1.1", "4", ports().await.0).await;
}

#[tokio::test]
async fn joined_by_5() {
    both_ways("5", "5", ports().await.1).await;
}
