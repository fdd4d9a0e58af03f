//! The contract's conformance suite for every adapter, against real peers.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::task::JoinSet;
use transload_adapter::{
    Adapter, Context,
    testing::{
        self,
        conformance::{Fixture, conforms},
    },
};
use transload_adapter_amqp::AmqpClient;
use transload_adapter_http::{HttpClient, HttpListener};
use transload_adapter_mqtt::MqttListener;
use transload_adapter_nats::NatsClient;
use transload_delivery::MemoryStore;
use transload_integration_tests::{
    Consumer, HttpSink, Message, Nats, Python, RabbitMq, curl, free_port, texts,
};

/// TLS needs a provider to be chosen, also where no test uses TLS.
fn choose_tls() {
    // Another test of this process may have chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What has arrived, over several consumers one after the other.
#[derive(Default)]
struct Arrived {
    before: Vec<String>,
    consumer: Option<Consumer>,
}

impl Arrived {
    fn replace(&mut self, consumer: Option<Consumer>) {
        if let Some(old) = std::mem::replace(&mut self.consumer, consumer) {
            self.before.extend(texts(&old.vanish()));
        }
    }

    fn all(&mut self) -> Vec<String> {
        let now = self.consumer.as_mut().map(|consumer| texts(consumer.all()));
        self.before.iter().cloned().chain(now.unwrap_or_default()).collect()
    }
}

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

struct HttpServer {
    sink: HttpSink,
    before: Vec<String>,
}

#[async_trait]
impl Fixture for HttpServer {
    type Adapter = HttpClient;

    fn settings(&self) -> String {
        format!("url = \"{}\"", self.sink.url())
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn publish(&mut self, _: &[String]) {
        panic!("an HTTP server publishes nothing");
    }

    async fn arrived(&mut self) -> Vec<String> {
        let now = texts(self.sink.requests().all());
        self.before.iter().cloned().chain(now).collect()
    }

    async fn cut(&mut self) {
        self.before.extend(texts(&self.sink.vanish()));
    }

    async fn restore(&mut self) {
        self.sink.appear(&[]).await;
    }
}

#[tokio::test]
async fn http_client() {
    choose_tls();
    conforms(&mut HttpServer { sink: HttpSink::start().await, before: Vec::new() }).await;
}

/// Senders that post again what was not accepted for now.
struct HttpSenders {
    port: u16,
    requests: JoinSet<()>,
    arrived: Arrived,
}

#[async_trait]
impl Fixture for HttpSenders {
    type Adapter = HttpListener;

    fn settings(&self) -> String {
        format!("listen = \"127.0.0.1:{}\"", self.port)
    }

    fn target(&self) -> String {
        "stream = \"/streams/out\"".to_owned()
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn connected(&mut self) {
        let url = format!("http://127.0.0.1:{}/streams/out", self.port);
        self.arrived.replace(Some(curl::events(&url, None).await));
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts.iter().cloned() {
            let url = format!("http://127.0.0.1:{}/in/x", self.port);
            self.requests.spawn(async move {
                while curl::post(&url, &[], text.as_bytes()).await.status == 503 {}
            });
        }
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.arrived.all()
    }

    async fn cut(&mut self) {}

    async fn restore(&mut self) {}

    fn receives_in_order(&self) -> bool {
        false
    }

    fn can_be_cut(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn http_listener() {
    choose_tls();
    let (requests, arrived) = (JoinSet::new(), Arrived::default());
    conforms(&mut HttpSenders { port: free_port(), requests, arrived }).await;
}

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

/// The capabilities of a source decide on what a route may promise.
#[test]
fn the_capabilities_are_those_of_the_protocols() {
    let listener = toml::from_str("listen = \"127.0.0.1:1\"").unwrap();
    let source = MqttListener::source(&listener);
    assert!(source.receives && source.acknowledges);
}
