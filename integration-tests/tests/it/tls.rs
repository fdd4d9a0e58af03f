//! TLS to real brokers: whom the clients trust, and the certificate that they show; and a foreign
//! client over WebSocket with TLS at our own listener.

use std::path::Path;

use serde_json::Value;
use transload_integration_tests::{
    Message, Mosquitto, Nats, Outcome, Python, RabbitMq, ServerTls, Transload, free_port, texts,
    wait::until,
};
use transload_tls::testing::{Authority, Signed};

use crate::support::{client, devices, route};

/// The brokers trust the authority that signs their own certificates.
struct Site {
    own: Authority,
    other: Authority,
    broker: ServerTls,
}

impl Site {
    fn new() -> Self {
        let own = Authority::new("own");
        let Signed { certificate_file, key_file, .. } = own.sign("broker", &["localhost"]);
        let broker = ServerTls {
            ca: text(&own.file()),
            certificate: text(&certificate_file),
            key: text(&key_file),
        };
        Self { own, other: Authority::new("other"), broker }
    }

    /// Adapters of one kind: a good one, one that trusts another authority, one without a
    /// certificate, and one that asks for a name that the broker has not.
    fn adapters(&self, kind: &str, url: &str, elsewhere: &str, more: &str) -> String {
        let good = self.own.sign("guest", &[]);
        let root = |authority: &Authority| format!("ca_file = '{}'\n", authority.file().display());
        let shows = good.settings();
        let adapter = |name: &str, url: &str, more: &str, tls: &str| {
            client(&format!("{kind}-{name}"), kind, url, more)
                + &format!("[adapters.{kind}-{name}.tls]\n{tls}")
        };
        let stranger = self.other.sign("guest", &[]).settings();
        [
            adapter("good", url, more, &(root(&self.own) + &shows)),
            adapter("wrong-root", url, more, &(root(&self.other) + &shows)),
            // Settings that ask for a login by certificate would need one.
            adapter("nobody", url, "", &root(&self.own)),
            adapter("stranger", url, more, &(root(&self.own) + &stranger)),
            adapter("elsewhere", elsewhere, more, &(root(&self.own) + &shows)),
        ]
        .join("\n")
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Why an adapter is down.
async fn reason(gateway: &Transload, adapter: &str) -> String {
    until(format!("adapter {adapter} to be down for a reason"), || async {
        let (_, body) = gateway.admin("/readyz").await?;
        let body: Value = serde_json::from_str(&body).ok()?;
        let state = body.get("adapters")?.get(adapter)?.clone();
        (state["state"] == "down").then(|| state["reason"].to_string())
    })
    .await
}

/// A gateway with these adapters, and a route from a device to one of them.
async fn gateway(to: &str, adapters: &str) -> (Transload, u16) {
    let port = free_port();
    let text = devices(port, "") + adapters + &route("out", "devices", "tls/#", to, "");
    (Transload::start(&text).await, port)
}

async fn only_the_good_one_connects(gateway: &Transload, kind: &str) {
    gateway.until_up(&format!("{kind}-good")).await;
    let wrong_root = reason(gateway, &format!("{kind}-wrong-root")).await;
    assert!(wrong_root.contains("UnknownIssuer"), "{wrong_root}");
    let elsewhere = reason(gateway, &format!("{kind}-elsewhere")).await;
    assert!(elsewhere.contains("not valid for name"), "{elsewhere}");
    // What the broker says when it lets nobody in. It closes at once, so that its alert may be lost
    // behind a reset of the connection; the next attempt tells it.
    for (name, alert) in [("nobody", "CertificateRequired"), ("stranger", "UnknownCA")] {
        let adapter = format!("{kind}-{name}");
        until(format!("{adapter} to be down because of {alert}"), || async {
            reason(gateway, &adapter).await.contains(alert).then_some(())
        })
        .await;
    }
}

/// A device's message comes to the broker by the good adapter.
async fn a_message_goes_through(gateway: &Transload, port: u16) {
    let device = Python::mqtt(&format!("127.0.0.1:{port}"));
    device.publish(&["--qos", "1"], &[Message::new("tls/a", "hello")]).await;
    until("the broker's confirmation", || async {
        let delivered = "outcome=\"delivered\"";
        let sent = gateway.metric("transload_messages_finished_total", delivered).await?;
        (sent >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nats_is_reached_by_certificates() {
    let site = Site::new();
    let mut broker = Nats::absent();
    broker.require_certificates(site.broker.clone());
    broker.appear().await;
    let url = |host: &str| format!("tls://{host}:{}", broker.port());
    let adapters = site.adapters("nats", &url("localhost"), &url("127.0.0.1"), "");
    let (gateway, port) = gateway("\"nats-good\"", &adapters).await;
    only_the_good_one_connects(&gateway, "nats").await;
    a_message_goes_through(&gateway, port).await;
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_asked_for() {
    let site = Site::new();
    let broker = Nats::start().await;
    let tls = format!("tls = {{ ca_file = '{}' }}\ntoken = 'for TLS only'", site.broker.ca);
    let adapters = client("nats", "nats", &broker.url(), &tls)
        + &client("plain", "nats", &broker.url(), "")
        + &client("scheme", "nats", &broker.url().replace("nats:", "tls:"), &tls);
    let (gateway, _) = gateway("\"nats\"", &adapters).await;
    gateway.until_up("plain").await;
    for name in ["nats", "scheme"] {
        // What the server says of itself is all that was heard, and nothing was told to it.
        let reason = reason(&gateway, name).await;
        assert!(reason.contains("the server offers no TLS"), "{reason}");
    }
}

#[tokio::test]
async fn mosquitto_is_reached_by_certificates() {
    let site = Site::new();
    let mut broker = Mosquitto::absent();
    broker.require_certificates(site.broker.clone());
    broker.appear().await;
    let url = |host: &str| format!("mqtts://{host}:{}", broker.port());
    for version in ["5", "3.1.1"] {
        let version = format!("version = '{version}'");
        let adapters = site.adapters("mqtt", &url("localhost"), &url("127.0.0.1"), &version);
        let (gateway, port) = gateway("\"mqtt-good\"", &adapters).await;
        only_the_good_one_connects(&gateway, "mqtt").await;
        a_message_goes_through(&gateway, port).await;
    }
    assert!(broker.log().contains("'guest'"), "the certificate says who we are: {}", broker.log());
}

#[tokio::test]
async fn rabbitmq_is_reached_by_certificates_which_are_the_login() {
    let site = Site::new();
    let (_broker, port) = RabbitMq::start_with_tls(&site.broker).await;
    let url = |host: &str| format!("amqps://{host}:{port}/%2f");
    let adapters = site.adapters("amqp", &url("localhost"), &url("127.0.0.1"), "auth = 'external'");
    let to = "{ adapter = \"amqp-good\", exchange = \"amq.topic\" }";
    let (gateway, port) = gateway(to, &adapters).await;
    only_the_good_one_connects(&gateway, "amqp").await;
    a_message_goes_through(&gateway, port).await;
}

#[tokio::test]
async fn a_foreign_client_speaks_websocket_over_tls() {
    let site = Site::new();
    let device = site.own.sign("device-1", &[]);
    let (port, websocket) = (free_port(), free_port());
    let tls = format!(
        "websocket = \"127.0.0.1:{websocket}\"\n[adapters.devices.tls]\ncertificate_file = {:?}\n\
         key_file = {:?}\nclient_ca_file = {:?}\n",
        site.broker.certificate, site.broker.key, site.broker.ca
    );
    let gateway = Transload::start(&devices(port, &tls)).await;
    let (own, other) = (text(&site.own.file()), text(&site.other.file()));
    let (certificate, key) = (text(&device.certificate_file), text(&device.key_file));
    for (port, way) in [(port, &[][..]), (websocket, &["--websocket", "/mqtt"])] {
        let client = Python::mqtt(&format!("localhost:{port}"));
        let shows = ["--certificate", &certificate, "--key", &key];
        for version in ["4", "5"] {
            let good = [way, &["--version", version, "--ca", &own], &shows].concat();
            let mut consumer = client.consume(&[&["consume", "w/#"], &*good].concat()).await;
            client.publish(&good, &[Message::new("w/a", "over TLS")]).await;
            assert_eq!(texts(&consumer.take(1).await), ["over TLS"]);
        }
        // Whom the client does not trust it does not talk to, and the listener lets nobody in who
        // shows nothing.
        let suspicious = [way, &["--ca", &other], &shows].concat();
        let nobody = [way, &["--ca", &own]].concat();
        for refused in [suspicious, nobody] {
            let outcomes = client.try_publish(&refused, &[Message::new("w/a", "no")]).await;
            assert!(!outcomes.iter().any(Outcome::ok), "{refused:?}: {outcomes:?}");
        }
    }
    let refused = "event=\"connection_refused\"";
    let count = gateway.metric("transload_adapter_events_total", refused).await;
    assert!(count >= Some(4.0), "{count:?}");
}
