//! A message to NATS and back without a server, for tests of what comes through.

use async_nats::{HeaderMap, HeaderName, Message};
use transload_adapter::SendError;
use transload_envelope::{Envelope, Outgoing, Timestamp};

use crate::{
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
    let (headers, reply) = mapping::outgoing(&outgoing.envelope, how, now);
    let headers = read(&written(&headers)).map_err(rejected)?;
    let message = Message {
        subject: subject.as_str().into(),
        reply,
        payload: outgoing.envelope.payload.clone(),
        headers: Some(headers),
        status: None,
        description: None,
        length: 0,
    };
    let mut envelope = inbound::core_envelope(&"nats".into(), mapping, message, now);
    if jetstream {
        envelope.properties_mut().durable = Some(true);
    }
    Ok((subject, envelope))
}

/// The lines as the client library writes them (its `HeaderMap::to_bytes`).
fn written(headers: &HeaderMap) -> String {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    lines.flat_map(|(name, value)| [name.as_ref(), ": ", value.as_str(), "\r\n"]).collect()
}

/// The lines as the client library reads them (its `connection.rs`).
fn read(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} has no name"))?;
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name"))?;
        headers.append(name, value.trim());
    }
    Ok(headers)
}
