use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinSet;
use transload_adapter::{
    Context,
    testing::{
        self,
        conformance::{Fixture, conforms},
    },
};
use transload_adapter_mqtt::MqttListener;
use transload_delivery::MemoryStore;
use transload_integration_tests::{Message, Python, free_port};

use super::Arrived;

/// Devices of one version of MQTT.
struct Devices {
    port: u16,
    version: &'static str,
    store: Arc<MemoryStore>,
    publishers: JoinSet<()>,
    arrived: Arrived,
}

impl Devices {
    fn new(version: &'static str) -> Self {
        Self {
            port: free_port(),
            version,
            store: Arc::new(MemoryStore::new()),
            publishers: JoinSet::new(),
            arrived: Arrived::default(),
        }
    }

    fn client(&self) -> Python {
        Python::mqtt(&format!("127.0.0.1:{}", self.port))
    }
}

#[async_trait]
impl Fixture for Devices {
    type Adapter = MqttListener;

    fn settings(&self) -> String {
        format!("listen = \"127.0.0.1:{}\"", self.port)
    }

    fn target(&self) -> String {
        "topic = \"out/x\"".to_owned()
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    fn context(&self) -> Context {
        let store = Arc::clone(&self.store);
        Context { store, ..testing::context("conformance", 1) }
    }

    async fn connected(&mut self) {
        let arguments = ["consume", "out/#", "--version", self.version];
        self.arrived.replace(Some(self.client().consume(&arguments).await));
    }

    async fn publish(&mut self, texts: &[String]) {
        let messages: Vec<_> = texts.iter().map(|text| Message::new("in/x", text)).collect();
        let (client, version) = (self.client(), self.version);
        self.publishers.spawn(async move {
            client.try_publish(&["--pipelined", "--version", version], &messages).await;
        });
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.arrived.all()
    }

    async fn cut(&mut self) {}

    async fn restore(&mut self) {}

    fn can_be_cut(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn mqtt_listener_with_devices_of_3_1_1() {
    conforms(&mut Devices::new("4")).await;
}

#[tokio::test]
async fn mqtt_listener_with_devices_of_5() {
    conforms(&mut Devices::new("5")).await;
}
