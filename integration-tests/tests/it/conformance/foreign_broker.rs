use async_trait::async_trait;
use transload_adapter::testing::conformance::{Fixture, conforms};
use transload_adapter_mqtt::MqttClient;
use transload_integration_tests::{Message, Mosquitto};

use super::{Arrived, choose_tls};

/// A foreign broker that the gateway joins.
struct ForeignBroker {
    broker: Mosquitto,
    version: &'static str,
    arrived: Arrived,
}

impl ForeignBroker {
    async fn start(version: &'static str) -> Self {
        let arrived = Arrived::default();
        let mut peer = Self { broker: Mosquitto::start().await, version, arrived };
        peer.listen().await;
        peer
    }

    async fn listen(&mut self) {
        let arguments = ["consume", "out/#", "--version", "4", "--session", "--client-id", "sink"];
        self.arrived.replace(Some(self.broker.client().consume(&arguments).await));
    }
}

#[async_trait]
impl Fixture for ForeignBroker {
    type Adapter = MqttClient;

    fn settings(&self) -> String {
        let (url, version) = (self.broker.url(), self.version);
        format!("url = \"{url}\"\nversion = \"{version}\"\nsubscribe = [\"in/#\"]")
    }

    fn target(&self) -> String {
        "topic = \"out/x\"".to_owned()
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn publish(&mut self, texts: &[String]) {
        let messages: Vec<_> = texts.iter().map(|text| Message::new("in/x", text)).collect();
        self.broker.client().publish(&["--pipelined"], &messages).await;
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.arrived.all()
    }

    async fn cut(&mut self) {
        // Its session keeps what comes from now on. Left alone, it would come back by itself.
        self.arrived.replace(None);
        self.broker.stop().await;
    }

    async fn restore(&mut self) {
        self.broker.appear().await;
        self.listen().await;
    }
}

#[tokio::test]
async fn mqtt_client_of_3_1_1() {
    choose_tls();
    conforms(&mut ForeignBroker::start("3.1.1").await).await;
}

#[tokio::test]
async fn mqtt_client_of_5() {
    choose_tls();
    conforms(&mut ForeignBroker::start("5").await).await;
}
