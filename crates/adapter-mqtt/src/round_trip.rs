//! A message to MQTT and back without a broker, for tests of what comes through.

use bytes::BytesMut;
use transload_adapter::SendError;
use transload_envelope::{Envelope, Origin, Outgoing, Timestamp};

use crate::{
    client::{self, ClientTarget, ProtocolVersion},
    codec::{self, Packet, PublishHead, QoS, Version},
    mapping,
    message::Message,
};

/// The topic and the message that a subscriber of the same broker gets of what is published at
/// `now`, by way of the bytes of PUBLISH; or why it cannot be published.
pub fn round_trip(
    outgoing: &Outgoing,
    version: ProtocolVersion,
    now: Timestamp,
) -> Result<(String, Envelope), SendError> {
    let version = match version {
        ProtocolVersion::V5 => Version::V5,
        ProtocolVersion::V311 => Version::V311,
    };
    let message = client::message(&ClientTarget::default(), outgoing)?;
    let head = PublishHead {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        packet_id: u16::from(message.qos != QoS::AtMostOnce),
        topic: &message.topic,
        expiry_s: message.expiry_s(now),
        subscription_ids: &[],
        properties: message.properties.as_deref(),
        payload_bytes: message.payload.len(),
    };
    let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
    let mut packet = BytesMut::new();
    if codec::publish_head(&mut packet, version, &head, None).is_none() {
        return Err(rejected("the packet is too large".to_owned()));
    }
    packet.extend_from_slice(&message.payload);
    let publish = match codec::decode(version, packet.freeze()) {
        Ok(Packet::Publish(publish)) => publish,
        other => return Err(rejected(format!("what was written reads as {other:?}"))),
    };
    let received = Message::from_publish(publish, now);
    let origin = Origin::new("mqtt", "mqtt", received.topic.clone());
    Ok((received.topic.to_string(), mapping::to_envelope(&received, origin)))
}
