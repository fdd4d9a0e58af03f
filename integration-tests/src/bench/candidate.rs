use std::fmt;

use super::path::{End, Path};

/// When the source is told that its message is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// When it is on the gateway's disk.
    Stored,
    /// When the target has confirmed it.
    Delivered,
}

/// How a peer is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As it comes.
    Defaults,
    /// As its documents recommend for speed.
    Recommended,
}

/// What the messages go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The gateway.
    Transload(Guarantee),
    /// mq-bridge, by its Python wheel.
    MqBridge(Tuning),
    /// `RabbitMQ`'s own MQTT listener.
    RabbitMqMqtt,
    /// mosquitto as a plain broker.
    Mosquitto,
    /// rumqttd as a plain broker.
    Rumqttd,
    /// nats-server's MQTT listener in front of a stream.
    NatsMqtt,
    /// A handler of axum that reads the body and answers 202: nothing arrives anywhere.
    BareHttp,
    /// The load goes to the broker of this end, and is read from there: what load and broker can do
    /// with nothing between them.
    Nothing(End),
}

impl Candidate {
    /// Who can do this path.
    pub fn of(path: Path) -> Vec<Self> {
        let Path { from, to } = path;
        let mut list =
            vec![Self::Transload(Guarantee::Delivered), Self::Transload(Guarantee::Stored)];
        // It connects to brokers and serves HTTP, and has no listener for devices.
        if from != End::Listener && to != End::Listener && from != End::Core {
            list.extend([Tuning::Defaults, Tuning::Recommended].map(Self::MqBridge));
        }
        match (from, to) {
            (End::Listener, End::Amqp) => list.push(Self::RabbitMqMqtt),
            (End::Listener, End::Listener) => list.extend([Self::Mosquitto, Self::Rumqttd]),
            (End::Listener, End::Jetstream) => list.push(Self::NatsMqtt),
            (End::Http, _) => list.push(Self::BareHttp),
            _ => {}
        }
        let raw = |end: End| match end {
            End::Amqp | End::Jetstream | End::Mosquitto | End::Core => Some(Self::Nothing(end)),
            End::Listener | End::Http => None,
        };
        list.extend(raw(from));
        list.extend(raw(to).filter(|_| from != to));
        list
    }

    /// What its acknowledgement to the source means.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Transload(Guarantee::Stored) => "on the gateway's disk",
            Self::Transload(Guarantee::Delivered) => "confirmed by the target",
            Self::MqBridge(_) => "after the publish, by its documents",
            Self::RabbitMqMqtt | Self::NatsMqtt => "in the broker's queue",
            Self::Mosquitto => "in the broker's memory",
            Self::Rumqttd => "read by the broker, before anything was done",
            Self::BareHttp => "read, and thrown away",
            Self::Nothing(_) => "by the broker itself",
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Transload(Guarantee::Stored) => "transload, stored".to_owned(),
            Self::Transload(Guarantee::Delivered) => "transload, delivered".to_owned(),
            Self::MqBridge(Tuning::Defaults) => "mq-bridge, defaults".to_owned(),
            Self::MqBridge(Tuning::Recommended) => "mq-bridge, tuned".to_owned(),
            Self::RabbitMqMqtt => "RabbitMQ's MQTT plugin".to_owned(),
            Self::Mosquitto => "mosquitto".to_owned(),
            Self::Rumqttd => "rumqttd".to_owned(),
            Self::NatsMqtt => "nats-server's MQTT".to_owned(),
            Self::BareHttp => "bare axum handler".to_owned(),
            Self::Nothing(end) => format!("{end} alone"),
        };
        f.pad(&text)
    }
}
