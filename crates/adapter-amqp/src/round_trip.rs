//! A message to AMQP and back without a broker, for tests of what comes through.

use transload_adapter::SendError;
use transload_envelope::{Envelope, Outgoing, Text, Timestamp};

use crate::{
    address::AddressMapping,
    client::Delivery,
    config::{AddressSource, AmqpTarget},
    mapping::{self, Limits, Source},
};

/// The smallest frame that RabbitMQ grants by default, and a payload that is large for a test.
const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, frame_bytes_max: 128 << 10 };

/// The routing key and the message that a consumer of the same broker gets of what is published at
/// `now`, or why it cannot be published.
pub fn round_trip(
    outgoing: &Outgoing,
    mapping: AddressMapping,
    now: Timestamp,
) -> Result<(String, Envelope), SendError> {
    let target = AmqpTarget { exchange: Some("amq.topic".to_owned()), ..AmqpTarget::default() };
    let publish = mapping::publish(outgoing, &target, mapping, LIMITS, now)?;
    let key = publish.routing_key.to_string();
    let source = Source {
        adapter: "amqp".into(),
        queue: "queue".into(),
        consumer_tag: "tag".into(),
        address: AddressSource::RoutingKey,
        mapping,
    };
    let delivery = Delivery {
        tag: 1,
        exchange: publish.exchange,
        routing_key: publish.routing_key,
        properties: publish.properties,
        data_bytes: publish.payload.len() as u64,
        data: publish.payload,
        fault: None,
        redelivered: false,
    };
    let rejected = |reason: Text| SendError::Rejected { reason };
    Ok((key, mapping::envelope(&source, delivery, now).map_err(rejected)?))
}
