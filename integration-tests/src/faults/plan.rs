use std::{fmt, str::FromStr, time::Duration};

use super::schedule::{Link, Place};

/// A way of messages through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Devices at our own listener, in both versions, to a queue.
    MqttAmqp,
    /// Posts to our own listener, to a stream.
    HttpJetstream,
    /// A queue to a session at our own listener.
    AmqpMqtt,
    /// A queue to a session at mosquitto.
    AmqpMosquitto,
    /// A stream to a web server.
    JetstreamHttp,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MqttAmqp,
        Self::HttpJetstream,
        Self::AmqpMqtt,
        Self::AmqpMosquitto,
        Self::JetstreamHttp,
    ];

    /// As the command line says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MqttAmqp => "mqtt-amqp",
            Self::HttpJetstream => "http-jetstream",
            Self::AmqpMqtt => "amqp-mqtt",
            Self::AmqpMosquitto => "amqp-mosquitto",
            Self::JetstreamHttp => "jetstream-http",
        }
    }

    /// Where messages arrive.
    pub fn targets(self) -> &'static [&'static str] {
        match self {
            Self::MqttAmqp => &["AMQP queue"],
            Self::HttpJetstream => &["JetStream stream"],
            Self::AmqpMqtt => &["session at our listener"],
            Self::AmqpMosquitto => &["session at mosquitto"],
            Self::JetstreamHttp => &["web server"],
        }
    }

    /// The brokers that take part.
    pub fn brokers(self) -> &'static [Place] {
        match self {
            Self::MqttAmqp | Self::AmqpMqtt => &[Place::RabbitMq],
            Self::HttpJetstream | Self::JetstreamHttp => &[Place::Nats],
            Self::AmqpMosquitto => &[Place::RabbitMq, Place::Mosquitto],
        }
    }

    /// The connections that go through a proxy.
    pub fn links(self) -> &'static [Link] {
        match self {
            // What is subscribed at the gateway itself is read without one.
            Self::AmqpMqtt => &[Link::Source],
            Self::MqttAmqp | Self::HttpJetstream | Self::AmqpMosquitto | Self::JetstreamHttp => {
                &[Link::Source, Link::Target]
            }
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|path| path.name() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|path| path.name()).collect();
            format!("there is no path {text}; paths are {}", known.join(", "))
        })
    }
}

/// One run of the harness.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The way of the messages.
    pub path: Path,
    /// How many messages are sent, by all producers together.
    pub messages: u32,
    /// How many times a process is killed; there are further faults beside.
    pub kills: u32,
    /// Messages a second of all producers together, at most.
    pub rate: Option<f64>,
    /// The same seed gives the same faults in the same order.
    pub seed: u64,
    /// Whether the gateway's data is on a small file system that is filled up now and then.
    pub small_disk: bool,
    /// Whether the route only promises its best effort: to see that the harness notices what is
    /// lost then.
    pub best_effort: bool,
    /// For how long nothing may arrive at the end before what is missing counts as lost.
    pub patience: Duration,
    /// Whether each fault is said on standard error.
    pub verbose: bool,
}
