//! All protocols behind one face.

use transload_adapter::{Carriage, SendError};
use transload_adapter_amqp::AddressMapping as AmqpMapping;
use transload_adapter_mqtt::ProtocolVersion;
use transload_adapter_nats::AddressMapping as NatsMapping;
use transload_envelope::{Arguments, Envelope, Outgoing, Timestamp};

/// The time of every test.
pub(crate) const NOW: Timestamp = Timestamp { unix_ms: 1_700_000_000_000 };

/// A protocol, as far as what it carries differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Mqtt5,
    Mqtt311,
    Amqp,
    Nats,
    JetStream,
    Http,
}

use Protocol::{Amqp, Http, JetStream, Mqtt5, Mqtt311, Nats};

pub(crate) const ALL: [Protocol; 6] = [Mqtt5, Mqtt311, Amqp, Nats, JetStream, Http];

impl Protocol {
    /// What its adapter says that it carries.
    pub(crate) fn carriage(self) -> &'static Carriage {
        match self {
            Mqtt5 => &transload_adapter_mqtt::MQTT_5,
            Mqtt311 => &transload_adapter_mqtt::MQTT_3_1_1,
            Amqp => &transload_adapter_amqp::CARRIAGE,
            Nats => &transload_adapter_nats::CORE,
            JetStream => &transload_adapter_nats::STREAM,
            Http => &transload_adapter_http::REQUESTS,
        }
    }

    /// What a receiver gets of a message that is sent to the address which it has; with the address
    /// in the protocol's own form.
    pub(crate) fn trip(self, envelope: &Envelope) -> Result<(String, Envelope), SendError> {
        let envelope = envelope.clone();
        let outgoing = Outgoing { envelope, arguments: Arguments::default() };
        match self {
            Mqtt5 => transload_adapter_mqtt::round_trip(&outgoing, ProtocolVersion::V5, NOW),
            Mqtt311 => transload_adapter_mqtt::round_trip(&outgoing, ProtocolVersion::V311, NOW),
            Amqp => transload_adapter_amqp::round_trip(&outgoing, AmqpMapping::Swap, NOW),
            Nats => transload_adapter_nats::round_trip(&outgoing, NatsMapping::Nats, false, NOW),
            JetStream => {
                transload_adapter_nats::round_trip(&outgoing, NatsMapping::Nats, true, NOW)
            }
            Http => transload_adapter_http::round_trip(&outgoing),
        }
    }
}
