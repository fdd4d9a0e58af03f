//! A message to NATS and back without a server, for tests of what comes through.

use transload_adapter::SendError;
use transload_envelope::{Envelope, Outgoing, Timestamp};

use crate::{
    client::{HeaderBlock, HeaderLines, Message},
    config::NatsTarget,
    inbound,
    mapping::{self, AddressMapping},
    outbound,
};

/// The subject and the message that a subscriber of the same server gets of what is published at
/// `now`, by way of the lines of its headers; or why it cannot be published.
pub fn round_trip(
    outgoing: &Outgoing,
    mapping: AddressMapping,
    jetstream: bool,
    now: Timestamp,
) -> Result<(String, Envelope), SendError> {
    let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
    let target = NatsTarget { jetstream, ..NatsTarget::default() };
    let subject = outbound::subject(&target, outgoing, mapping)
        .map_err(|error| rejected(error.to_string()))?;
    let how = mapping::Outbound { jetstream, mapping, ..mapping::Outbound::default() };
    let mut lines = HeaderLines::default();
    let reply = mapping::outgoing(&outgoing.envelope, how, now, &mut lines);
    let message = Message {
        subject: subject.as_str().into(),
        reply: reply.map(Into::into),
        headers: Some(HeaderBlock(lines.as_bytes())),
        payload: &outgoing.envelope.payload,
    };
    let mut envelope = inbound::core_envelope(&"nats".into(), mapping, &message, now);
    if jetstream {
        envelope.properties_mut().durable = Some(true);
    }
    Ok((subject, envelope))
}
