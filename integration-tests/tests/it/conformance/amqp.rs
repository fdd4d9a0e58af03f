use async_trait::async_trait;
use serde_json::json;
use transload_adapter::testing::conformance::{Fixture, conforms};
use transload_adapter_amqp::AmqpClient;
use transload_integration_tests::{Message, RabbitMq};

use super::{Arrived, choose_tls};

struct Amqp {
    broker: RabbitMq,
    arrived: Arrived,
}

impl Amqp {
    async fn start() -> Self {
        let broker = RabbitMq::start().await;
        broker.client().ask(&["declare", "in"]).await;
        let mut amqp = Self { broker, arrived: Arrived::default() };
        amqp.listen().await;
        amqp.broker.keep_declared().await;
        amqp
    }

    async fn listen(&mut self) {
        let consumer = self.broker.client().consume(&["consume", "out", "--declare"]).await;
        self.arrived.replace(Some(consumer));
    }
}

#[async_trait]
impl Fixture for Amqp {
    type Adapter = AmqpClient;

    fn settings(&self) -> String {
        format!("url = \"{}\"\nconsume = [{{ queue = \"in\" }}]", self.broker.url())
    }

    fn target(&self) -> String {
        "queue = \"out\"".to_owned()
    }

    fn address(&self) -> String {
        "out".to_owned()
    }

    async fn publish(&mut self, texts: &[String]) {
        let persistent = |text: &String| {
            Message::new("in", text).with("properties", json!({ "delivery_mode": 2 }))
        };
        let messages: Vec<_> = texts.iter().map(persistent).collect();
        self.broker.client().publish(&["--exchange", "", "--mandatory"], &messages).await;
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.arrived.all()
    }

    async fn cut(&mut self) {
        self.broker.kill();
    }

    async fn restore(&mut self) {
        self.broker.appear().await;
        self.listen().await;
    }
}

#[tokio::test]
async fn amqp() {
    choose_tls();
    conforms(&mut Amqp::start().await).await;
}
