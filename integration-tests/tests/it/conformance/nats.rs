use async_trait::async_trait;
use transload_adapter::testing::conformance::{Fixture, conforms};
use transload_adapter_nats::NatsClient;
use transload_integration_tests::{Message, Nats};

use super::{Arrived, choose_tls};

struct NatsPeer {
    broker: Nats,
    jetstream: bool,
    arrived: Arrived,
}

impl NatsPeer {
    async fn start(jetstream: bool) -> Self {
        let broker = Nats::start().await;
        if jetstream {
            broker.stream("IN", &["in.>"]).await;
            broker.stream("OUT", &["out.>"]).await;
        }
        let mut peer = Self { broker, jetstream, arrived: Arrived::default() };
        peer.listen().await;
        peer
    }

    async fn listen(&mut self) {
        // What was there before is read again from a stream, and not from a core subject.
        let arguments: &[&str] = if self.jetstream {
            self.arrived = Arrived::default();
            &["consume-stream", "OUT", "out.>"]
        } else {
            &["consume", "out.>"]
        };
        self.arrived.replace(Some(self.broker.client().consume(arguments).await));
    }
}

#[async_trait]
impl Fixture for NatsPeer {
    type Adapter = NatsClient;

    fn settings(&self) -> String {
        let source = if self.jetstream {
            "consume = [{ stream = \"IN\", durable = \"d\", create = true, ack_wait = \"2s\" }]"
        } else {
            "subscribe = [\"in.>\"]"
        };
        format!("url = \"{}\"\n{source}", self.broker.url())
    }

    fn target(&self) -> String {
        format!("subject = \"out.x\"\njetstream = {}", self.jetstream)
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn publish(&mut self, texts: &[String]) {
        let messages: Vec<_> = texts.iter().map(|text| Message::new("in.x", text)).collect();
        let arguments: &[&str] = if self.jetstream { &["--jetstream"] } else { &[] };
        self.broker.client().publish(arguments, &messages).await;
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

    fn keeps_confirmed(&self) -> bool {
        self.jetstream
    }
}

#[tokio::test]
async fn nats_core() {
    choose_tls();
    conforms(&mut NatsPeer::start(false).await).await;
}

#[tokio::test]
async fn jetstream() {
    choose_tls();
    conforms(&mut NatsPeer::start(true).await).await;
}
