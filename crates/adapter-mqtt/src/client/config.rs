//! The settings of `kind = "mqtt"` with `url`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Carriage, Secret,
    units::{ByteSize, HumanDuration},
};
use transload_tls::ClientTls;

use crate::{
    carriage::{MQTT_3_1_1, MQTT_5},
    codec::Version,
    request::RepliesBy,
};

/// A client of another MQTT broker.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Where the broker is: `mqtt://host:1883`, `mqtts://host:8883`, `ws://host/mqtt` or
    /// `wss://host/mqtt`. May hold `user:password@`; never shown with it.
    pub url: Secret,

    /// The version of the protocol: "5" or "3.1.1". Version 5 carries headers and properties, and
    /// a broker can say in it why it refuses a message.
    #[serde(default)]
    pub version: ProtocolVersion,

    /// The name under which the broker keeps the session; what it queues while the gateway is away
    /// belongs to this name. By default `transload-` and the adapter's name, the same on every
    /// machine: two gateways that share a broker need names of their own. The connection that
    /// publishes adds `-out`.
    #[serde(default)]
    pub client_id: Option<String>,

    /// A user name to log in with.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,

    /// TLS where `url` is `mqtts://` or `wss://`: whom to trust, and which certificate to show.
    #[serde(default)]
    pub tls: ClientTls,

    /// The topic filters to subscribe to, `$share/GROUP/FILTER` included. Without it they follow
    /// from the patterns of the routes.
    #[serde(default)]
    pub subscribe: Option<Vec<Subscription>>,

    /// Quality of service of the subscriptions that name none of their own: 0 or 1.
    #[serde(default = "defaults::qos")]
    #[schemars(range(max = 1))]
    pub qos: u8,

    /// How long the broker keeps the session, and what it queues for it, while the gateway is
    /// away; "0s" for a clean session. A broker of 3.1.1 decides by itself how long.
    #[serde(default = "defaults::session_expiry")]
    pub session_expiry: HumanDuration,

    /// How long a connection may be silent before the broker is asked whether it is there.
    #[serde(default = "defaults::keep_alive")]
    pub keep_alive: HumanDuration,

    /// The largest MQTT packet that is taken or sent, header and properties included.
    #[serde(default = "defaults::max_packet_bytes")]
    pub max_packet_bytes: ByteSize,

    /// How many messages may wait for their acknowledgement, in each direction.
    #[serde(default = "defaults::max_inflight")]
    pub max_inflight: u16,

    /// How many messages of quality of service 0 may wait in the gateway; what comes on top of
    /// them is dropped and counted, since their broker does not wait.
    #[serde(default = "defaults::buffer_messages")]
    pub buffer_messages: usize,

    /// How many bytes the payloads of these may have together, as far as they are of 4 KiB or
    /// more. Messages of quality of service 1 are not dropped: `max_inflight` of them, and a quarter
    /// of these bytes, are read ahead; the connection is not read on until there is room.
    #[serde(default = "defaults::buffer_bytes")]
    pub buffer_bytes: ByteSize,

    /// How long the broker may take to answer when a connection is made.
    #[serde(default = "defaults::connect_timeout")]
    pub connect_timeout: HumanDuration,

    /// How long the broker may take to acknowledge a message before the connection counts as lost.
    #[serde(default = "defaults::confirm_timeout")]
    pub confirm_timeout: HumanDuration,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ProtocolVersion {
    /// MQTT 5.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

impl ProtocolVersion {
    pub(super) fn on_the_wire(self) -> Version {
        match self {
            Self::V5 => Version::V5,
            Self::V311 => Version::V311,
        }
    }

    pub(super) fn carriage(self) -> &'static Carriage {
        match self {
            Self::V5 => &MQTT_5,
            Self::V311 => &MQTT_3_1_1,
        }
    }
}

/// A topic filter to subscribe to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Subscription {
    /// The filter, such as `sensors/+/temperature` or `$share/gateways/sensors/#`.
    Filter(String),
    /// A filter with settings of its own.
    Settings(SubscriptionSettings),
}

/// A topic filter with settings of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// The filter, such as `sensors/+/temperature` or `$share/gateways/sensors/#`.
    pub filter: String,
    /// Quality of service: 0 or 1.
    #[serde(default)]
    #[schemars(range(max = 1))]
    pub qos: Option<u8>,
}

impl Subscription {
    /// The filter.
    pub fn filter(&self) -> &str {
        match self {
            Self::Filter(filter) => filter,
            Self::Settings(settings) => &settings.filter,
        }
    }

    /// Its own quality of service.
    pub fn qos(&self) -> Option<u8> {
        match self {
            Self::Filter(_) => None,
            Self::Settings(settings) => settings.qos,
        }
    }
}

/// A target of a route: a topic at the broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTarget {
    /// The topic to publish under; without it, the message's address. May hold `{captures}`.
    #[serde(default)]
    pub topic: Option<String>,

    /// Quality of service: 0 or 1. Without it, 1, and 0 for messages whose source said that they
    /// need not be kept.
    #[serde(default)]
    #[schemars(range(max = 1))]
    pub qos: Option<u8>,

    /// Whether the broker keeps the message for later subscribers of its topic. Without it, as the
    /// source said.
    #[serde(default)]
    pub retain: Option<bool>,

    /// The topic that replies come under, for routes with `reply` to devices of MQTT 3.1.1, such as
    /// `devices/{device}/replies/{correlation}`. `topic` may hold `{correlation}` too, so that the
    /// device knows it. Without it, a device of MQTT 5 is told a Response Topic below
    /// `transload/replies`, where this client subscribes.
    #[serde(default)]
    pub reply_topic: Option<String>,

    /// The member of a JSON reply by which it is known under a `reply_topic` without `{correlation}`, such
    /// as `payload.id`; the payload of the request must hold `{correlation}` where the device
    /// takes it from. Other messages under the topic are routed as always.
    #[serde(default)]
    pub reply_correlation: Option<String>,
}

impl ClientTarget {
    /// How replies to requests are known.
    pub(crate) fn replies_by(&self) -> RepliesBy<'_> {
        RepliesBy { topic: self.reply_topic.as_deref(), member: self.reply_correlation.as_deref() }
    }
}

mod defaults {
    use super::{ByteSize, HumanDuration};

    pub(super) fn qos() -> u8 {
        1
    }
    pub(super) fn session_expiry() -> HumanDuration {
        HumanDuration::from_hours(7 * 24)
    }
    pub(super) fn keep_alive() -> HumanDuration {
        HumanDuration::from_secs(30)
    }
    /// A payload of 1 MiB, and room for its topic and properties.
    pub(super) fn max_packet_bytes() -> ByteSize {
        ByteSize::from_kib(1024 + 64)
    }
    pub(super) fn max_inflight() -> u16 {
        256
    }
    pub(super) fn buffer_messages() -> usize {
        4_096
    }
    pub(super) fn buffer_bytes() -> ByteSize {
        ByteSize::from_mib(16)
    }
    pub(super) fn connect_timeout() -> HumanDuration {
        HumanDuration::from_secs(10)
    }
    pub(super) fn confirm_timeout() -> HumanDuration {
        HumanDuration::from_mins(1)
    }
}
