//! The protocols from outside: where messages are published, and where they arrive.

use serde_json::{Value, json};
use transload_integration_tests::{
    Consumer, HttpSink, Message, Mosquitto, Nats, Python, RabbitMq, Received, Transload, curl,
    free_port,
};

use crate::address;

/// A message as the tests think of it: canonical address, payload, properties.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) address: String,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(address: impl Into<String>, payload: impl AsRef<[u8]>) -> Self {
        Self { address: address.into(), payload: payload.as_ref().to_vec() }
    }
}

/// The properties that every sample carries where its protocol can.
pub(crate) const CONTENT_TYPE: &str = "application/x-sample";
pub(crate) const CORRELATION: &str = "correlation-1";
pub(crate) const HEADER: (&str, &str) = ("tenant", "blue");

/// A protocol as a source or a target of messages, with its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Devices of MQTT 3.1.1 at our own listener.
    DevicesV3,
    /// Devices of MQTT 5 at our own listener.
    DevicesV5,
    /// A foreign MQTT broker, joined by 3.1.1.
    BrokerV3,
    /// A foreign MQTT broker, joined by MQTT 5.
    BrokerV5,
    /// RabbitMQ.
    Amqp,
    /// Core NATS.
    NatsCore,
    /// JetStream.
    JetStream,
    /// Requests: to our listener as a source, from us as a target.
    Http,
    /// Server-sent events; a target only.
    Events,
}

impl Protocol {
    /// The version of an MQTT client on this side.
    fn mqtt_version(self) -> &'static str {
        if matches!(self, Self::DevicesV3 | Self::BrokerV3) { "4" } else { "5" }
    }

    /// Whether content type, correlation and headers pass.
    pub(crate) fn carries_properties(self) -> bool {
        !matches!(self, Self::DevicesV3 | Self::BrokerV3 | Self::Events)
    }
}

/// A broker behind a source or a target.
#[derive(Debug)]
pub(crate) enum Broker {
    /// None: our own listener, at this port.
    Listener(u16),
    Mosquitto(Mosquitto),
    /// The shared one.
    RabbitMq(&'static RabbitMq),
    Nats(Nats),
    HttpSink(HttpSink),
}

impl Broker {
    async fn start(protocol: Protocol, is_target: bool) -> Self {
        match protocol {
            Protocol::DevicesV3 | Protocol::DevicesV5 | Protocol::Events => {
                Self::Listener(free_port())
            }
            Protocol::Http if !is_target => Self::Listener(free_port()),
            Protocol::Http => Self::HttpSink(HttpSink::start().await),
            Protocol::BrokerV3 | Protocol::BrokerV5 => Self::Mosquitto(Mosquitto::start().await),
            Protocol::Amqp => Self::RabbitMq(RabbitMq::shared().await),
            Protocol::NatsCore | Protocol::JetStream => Self::Nats(Nats::start().await),
        }
    }

    fn mqtt(&self) -> Python {
        match self {
            Self::Listener(port) => Python::mqtt(&format!("127.0.0.1:{port}")),
            Self::Mosquitto(broker) => broker.client(),
            Self::RabbitMq(_) | Self::Nats(_) | Self::HttpSink(_) => panic!("no MQTT: {self:?}"),
        }
    }

    fn nats(&self) -> &Nats {
        let Self::Nats(broker) = self else { panic!("no NATS: {self:?}") };
        broker
    }

    fn rabbitmq(&self) -> &'static RabbitMq {
        let Self::RabbitMq(broker) = self else { panic!("no AMQP: {self:?}") };
        broker
    }

    /// The keys of the adapter that select its role.
    fn adapter(&self, protocol: Protocol) -> String {
        match self {
            Self::Listener(port) => {
                let http = matches!(protocol, Protocol::Http | Protocol::Events);
                let kind = if http { "http" } else { "mqtt" };
                format!("kind = \"{kind}\"\nlisten = \"127.0.0.1:{port}\"\n")
            }
            Self::Mosquitto(broker) => {
                let version = if protocol == Protocol::BrokerV3 { "3.1.1" } else { "5" };
                format!("kind = \"mqtt\"\nurl = \"{}\"\nversion = \"{version}\"\n", broker.url())
            }
            Self::RabbitMq(broker) => format!("kind = \"amqp\"\nurl = \"{}\"\n", broker.url()),
            Self::Nats(broker) => format!("kind = \"nats\"\nurl = \"{}\"\n", broker.url()),
            Self::HttpSink(sink) => format!("kind = \"http\"\nurl = \"{}\"\n", sink.url()),
        }
    }
}

/// Where the messages of a case come from: everything below `m/<case>`.
#[derive(Debug)]
pub(crate) struct Source {
    protocol: Protocol,
    case: String,
    pub(crate) broker: Broker,
}

impl Source {
    pub(crate) async fn start(protocol: Protocol, case: &str) -> Self {
        let broker = Broker::start(protocol, false).await;
        if protocol == Protocol::JetStream {
            broker.nats().stream("SOURCE", &[&format!("m.{case}.>")]).await;
        }
        Self { protocol, case: case.to_owned(), broker }
    }

    /// `[adapters.source]`.
    pub(crate) fn adapter(&self) -> String {
        let case = &self.case;
        let keys = self.broker.adapter(self.protocol);
        let reads = match self.protocol {
            Protocol::BrokerV3 | Protocol::BrokerV5 => format!("subscribe = [\"m/{case}/#\"]\n"),
            Protocol::NatsCore => format!("subscribe = [\"m.{case}.>\"]\n"),
            Protocol::JetStream => "[[adapters.source.consume]]\nstream = \"SOURCE\"\n\
                 durable = \"gateway\"\ncreate = true\n"
                .to_owned(),
            Protocol::Amqp => format!(
                "[[adapters.source.consume]]\nqueue = \"source-{case}\"\ndeclare = true\n\
                 bind = {{ exchange = \"amq.topic\", key = \"m.{case}.#\" }}\n"
            ),
            Protocol::DevicesV3 | Protocol::DevicesV5 | Protocol::Http | Protocol::Events => {
                String::new()
            }
        };
        format!("[adapters.source]\n{keys}{reads}")
    }

    /// Publishes one message after the other; each must be acknowledged.
    pub(crate) async fn publish(&self, samples: &[Sample]) {
        match self.protocol {
            Protocol::DevicesV3 | Protocol::DevicesV5 | Protocol::BrokerV3 | Protocol::BrokerV5 => {
                let messages: Vec<_> = samples.iter().map(|sample| self.mqtt(sample)).collect();
                let arguments = ["--version", self.protocol.mqtt_version()];
                self.broker.mqtt().publish(&arguments, &messages).await;
            }
            Protocol::Amqp => {
                let messages: Vec<_> = samples.iter().map(amqp).collect();
                self.broker.rabbitmq().client().publish(&["--mandatory"], &messages).await;
            }
            Protocol::NatsCore => {
                let messages: Vec<_> = samples.iter().map(nats).collect();
                self.broker.nats().client().publish(&[], &messages).await;
            }
            Protocol::JetStream => {
                let messages: Vec<_> = samples.iter().map(nats).collect();
                self.broker.nats().client().publish(&["--jetstream"], &messages).await;
            }
            Protocol::Http => {
                for sample in samples {
                    self.post(sample).await;
                }
            }
            Protocol::Events => panic!("event streams are no source"),
        }
    }

    fn mqtt(&self, sample: &Sample) -> Message {
        let message = Message::new(&sample.address, &sample.payload);
        if !self.protocol.carries_properties() {
            return message;
        }
        message.with("headers", json!([[HEADER.0, HEADER.1]])).with(
            "properties",
            json!({
                "content_type": CONTENT_TYPE,
                "correlation": address::base64(CORRELATION.as_bytes()),
            }),
        )
    }

    async fn post(&self, sample: &Sample) {
        let Broker::Listener(port) = self.broker else { panic!("no listener: {self:?}") };
        let url = format!("http://127.0.0.1:{port}/{}", address::to_path(&sample.address));
        let headers = [
            format!("Content-Type: {CONTENT_TYPE}"),
            format!("X-Correlation-Id: {CORRELATION}"),
            format!("{}: {}", HEADER.0, HEADER.1),
        ];
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let answer = curl::post(&url, &headers, &sample.payload).await;
        assert_eq!(answer.status, 202, "{url}: {answer:?}");
        assert!(answer.json()["id"].is_string(), "{answer:?}");
    }
}

fn amqp(sample: &Sample) -> Message {
    Message::new(&address::to_routing_key(&sample.address), &sample.payload)
        .with("headers", json!({ HEADER.0: HEADER.1 }))
        .with(
            "properties",
            json!({
                "content_type": CONTENT_TYPE,
                "correlation_id": CORRELATION,
                "delivery_mode": 2,
            }),
        )
}

fn nats(sample: &Sample) -> Message {
    Message::new(&address::to_subject(&sample.address), &sample.payload).with(
        "headers",
        json!({ HEADER.0: HEADER.1, "Content-Type": CONTENT_TYPE, "Correlation-Id": CORRELATION }),
    )
}

/// Where the messages of a case arrive.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) protocol: Protocol,
    case: String,
    pub(crate) broker: Broker,
    consumer: Option<Consumer>,
}

impl Target {
    pub(crate) async fn start(protocol: Protocol, case: &str) -> Self {
        let broker = Broker::start(protocol, true).await;
        let below = format!("m.{case}.>");
        match protocol {
            Protocol::JetStream => broker.nats().stream("TARGET", &[&below]).await,
            Protocol::Amqp => {
                let exchange = format!("target-{case}");
                broker.rabbitmq().client().ask(&["exchange", &exchange]).await;
            }
            Protocol::DevicesV3
            | Protocol::DevicesV5
            | Protocol::BrokerV3
            | Protocol::BrokerV5
            | Protocol::NatsCore
            | Protocol::Http
            | Protocol::Events => {}
        }
        let mut target = Self { protocol, case: case.to_owned(), broker, consumer: None };
        if !matches!(target.broker, Broker::Listener(_)) {
            target.listen().await;
        }
        target
    }

    /// `[adapters.target]`.
    pub(crate) fn adapter(&self) -> String {
        format!("[adapters.target]\n{}", self.broker.adapter(self.protocol))
    }

    /// The `to` of the route.
    pub(crate) fn to(&self) -> String {
        let case = &self.case;
        let more = match self.protocol {
            Protocol::Amqp => format!(", exchange = \"target-{case}\""),
            Protocol::JetStream => ", jetstream = true".to_owned(),
            Protocol::Events => ", stream = \"/streams/all\"".to_owned(),
            Protocol::DevicesV3
            | Protocol::DevicesV5
            | Protocol::BrokerV3
            | Protocol::BrokerV5
            | Protocol::NatsCore
            | Protocol::Http => String::new(),
        };
        format!("{{ adapter = \"target\"{more} }}")
    }

    /// Subscribes, where that needs the gateway.
    pub(crate) async fn attach(&mut self) {
        if self.consumer.is_none() && !matches!(self.broker, Broker::HttpSink(_)) {
            self.listen().await;
        }
    }

    async fn listen(&mut self) {
        let case = &self.case;
        self.consumer = match self.protocol {
            Protocol::DevicesV3 | Protocol::DevicesV5 | Protocol::BrokerV3 | Protocol::BrokerV5 => {
                let below = format!("m/{case}/#");
                let version = self.protocol.mqtt_version();
                let client = self.broker.mqtt();
                Some(client.consume(&["consume", &below, "--version", version]).await)
            }
            Protocol::Amqp => {
                let (queue, exchange) = (format!("sink-{case}"), format!("target-{case}"));
                let client = self.broker.rabbitmq().client();
                let arguments = ["consume", &queue, "--declare", "--bind", &exchange, "#"];
                Some(client.consume(&arguments).await)
            }
            Protocol::NatsCore => {
                let below = format!("m.{case}.>");
                Some(self.broker.nats().client().consume(&["consume", &below]).await)
            }
            Protocol::JetStream => {
                let below = format!("m.{case}.>");
                let client = self.broker.nats().client();
                Some(client.consume(&["consume-stream", "TARGET", &below]).await)
            }
            Protocol::Events => {
                let Broker::Listener(port) = self.broker else { panic!("no listener: {self:?}") };
                let url = format!("http://127.0.0.1:{port}/streams/all");
                Some(curl::events(&url, None).await)
            }
            Protocol::Http => None,
        };
    }

    pub(crate) fn consumer(&mut self) -> &mut Consumer {
        if let Broker::HttpSink(sink) = &mut self.broker {
            return sink.requests();
        }
        self.consumer.as_mut().expect("attached before")
    }

    /// The next messages in canonical form, as they came.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<(Sample, Received)> {
        let protocol = self.protocol;
        let received = self.consumer().take(count).await;
        received.into_iter().map(|message| (canonical(protocol, &message), message)).collect()
    }
}

fn canonical(protocol: Protocol, message: &Received) -> Sample {
    let address = match protocol {
        Protocol::Amqp => address::of_routing_key(&message.address),
        Protocol::NatsCore | Protocol::JetStream => address::of_subject(&message.address),
        Protocol::Http => address::of_path(&message.address),
        Protocol::DevicesV3
        | Protocol::DevicesV5
        | Protocol::BrokerV3
        | Protocol::BrokerV5
        | Protocol::Events => message.address.clone(),
    };
    let payload = if protocol == Protocol::Events {
        event_data(&message.text())
    } else {
        message.payload.clone()
    };
    Sample { address, payload }
}

/// What is not text comes as a `data:` URL (RFC 2397).
fn event_data(data: &str) -> Vec<u8> {
    let encoded = data.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match encoded {
        Some((_, encoded)) => curl::decode_base64(encoded).expect("base64 after its marker"),
        None => data.as_bytes().to_vec(),
    }
}

/// Content type, correlation and header of a received message, where the protocol has them.
pub(crate) fn properties(protocol: Protocol, message: &Received) -> [Option<Value>; 3] {
    let header = |name: &str| message.header(name).cloned();
    let [content_type, correlation] = match protocol {
        Protocol::DevicesV5 | Protocol::BrokerV5 => {
            [message.property("content_type").cloned(), message.property("correlation").cloned()]
        }
        Protocol::Amqp => {
            [message.property("content_type").cloned(), message.property("correlation_id").cloned()]
        }
        Protocol::NatsCore | Protocol::JetStream => {
            [header("Content-Type"), header("Correlation-Id")]
        }
        Protocol::Http => [header("Content-Type"), header("X-Correlation-Id")],
        Protocol::DevicesV3 | Protocol::BrokerV3 | Protocol::Events => [None, None],
    };
    [content_type, correlation, header(HEADER.0)]
}

/// What [`properties`] are to be.
pub(crate) fn expected_properties(protocol: Protocol) -> [Option<Value>; 3] {
    let correlation = match protocol {
        Protocol::DevicesV5 | Protocol::BrokerV5 => address::base64(CORRELATION.as_bytes()),
        Protocol::DevicesV3
        | Protocol::BrokerV3
        | Protocol::Amqp
        | Protocol::NatsCore
        | Protocol::JetStream
        | Protocol::Http
        | Protocol::Events => CORRELATION.to_owned(),
    };
    [Some(CONTENT_TYPE.into()), Some(correlation.into()), Some(HEADER.1.into())]
}

/// A gateway with one route from one protocol to another, both connected.
pub(crate) async fn join(source: &Source, target: &mut Target) -> Transload {
    let case = &source.case;
    let gateway = Transload::start(&format!(
        "{}\n{}\n[[route]]\nname = \"{case}\"\nfrom = \"source\"\nmatch = \"m/{case}/#\"\nto = {}\n",
        source.adapter(),
        target.adapter(),
        target.to()
    ))
    .await;
    gateway.until_up("source").await;
    gateway.until_up("target").await;
    target.attach().await;
    gateway
}
