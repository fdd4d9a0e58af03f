//! What servers send, as a client reads it.

use bytes::Bytes;
use transload_envelope::Text;

use super::{
    decode::{flags_must, header, publish, tail_reason},
    packet::{ConnAck, Publish, Version},
    properties::{Allowed, Properties},
    reader::Reader,
    reason::{Fault, Reason},
};

/// What a server sends to a client that subscribes and does not publish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FromServer {
    ConnAck(Box<ConnAck>),
    /// Its topic is never empty: this client takes no aliases.
    Publish(Publish),
    SubAck(SubAck),
    PingResp,
    Disconnect(Farewell),
}

/// SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubAck {
    pub(crate) packet_id: u16,
    codes: Bytes,
}

impl SubAck {
    /// What was granted, or why not, in the order of the filters.
    pub(crate) fn codes(&self) -> impl ExactSizeIterator<Item = Reason> {
        self.codes.iter().map(|code| Reason(*code))
    }
}

/// DISCONNECT from a server, which 3.1.1 does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Farewell {
    pub(crate) reason: Reason,
    pub(crate) reason_string: Option<Text>,
}

/// Reads one whole frame from a server, which is as little trusted as a client.
pub(crate) fn decode_from_server(version: Version, frame: Bytes) -> Result<FromServer, Fault> {
    let (first, body) = header(frame)?;
    if first >> 4 == 3 {
        return message(version, first, body).map(FromServer::Publish);
    }
    flags_must(first, if matches!(first >> 4, 6 | 8 | 10) { 0b0010 } else { 0 })?;
    match first >> 4 {
        2 => connack(version, body).map(|connack| FromServer::ConnAck(Box::new(connack))),
        4..=7 | 11 => Err(Fault::protocol("an answer to what was never sent")),
        9 => suback(version, body).map(FromServer::SubAck),
        13 => body.end().map(|()| FromServer::PingResp),
        14 if version == Version::V5 => farewell(body).map(FromServer::Disconnect),
        15 if version == Version::V5 => Err(Fault::protocol("AUTH, which was not begun")),
        0 | 15 => Err(Fault::malformed("a reserved packet type")),
        _ => Err(Fault::protocol("a packet that only clients send")),
    }
}

fn message(version: Version, first: u8, body: Reader) -> Result<Publish, Fault> {
    let publish = publish(version, first, body, Allowed::PUBLISH_FROM_SERVER)?;
    if publish.topic_alias.is_some() {
        return Err(Fault::new(Reason::TOPIC_ALIAS_INVALID, "a topic alias, and none was offered"));
    }
    if publish.topic.is_empty() || publish.topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(Fault::new(Reason::TOPIC_NAME_INVALID, "no topic name, or one with wildcards"));
    }
    Ok(publish)
}

fn connack(version: Version, mut body: Reader) -> Result<ConnAck, Fault> {
    let session_present = match body.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Fault::malformed("reserved flags of CONNACK are set")),
    };
    let code = body.u8()?;
    // A broker that does not know version 5 answers in its own: two bytes.
    let (reason, properties) = if version == Version::V311 || body.is_empty() {
        (Reason::of_connack_v311(code)?, Properties::default())
    } else {
        (Reason(code), Properties::read(&mut body, Allowed::CONNACK)?)
    };
    body.end()?;
    if session_present && reason != Reason::SUCCESS {
        return Err(Fault::protocol("a refusal that has a session"));
    }
    if reason != Reason::SUCCESS && !reason.is_failure() {
        return Err(Fault::protocol("a reason code that CONNACK has not"));
    }
    Ok(ConnAck {
        session_present,
        reason,
        reason_string: properties.reason_string,
        session_expiry_s: properties.session_expiry_s,
        receive_maximum: properties.receive_maximum,
        packet_bytes_max: properties.packet_bytes_max,
        assigned_client_id: properties.assigned_client_id,
        topic_alias_maximum: properties.topic_alias_maximum,
        server_keep_alive_s: properties.server_keep_alive_s,
    })
}

fn suback(version: Version, mut body: Reader) -> Result<SubAck, Fault> {
    let packet_id = body.packet_id()?;
    if version == Version::V5 {
        Properties::read(&mut body, Allowed::ACK)?;
    }
    let codes = body.rest();
    let known = |code: &u8| match version {
        Version::V311 => matches!(code, 0..=2 | 0x80),
        Version::V5 => matches!(code, 0..=2 | 0x80..),
    };
    if codes.is_empty() || !codes.iter().all(known) {
        return Err(Fault::protocol("a reason code that SUBACK has not"));
    }
    Ok(SubAck { packet_id, codes })
}

fn farewell(mut body: Reader) -> Result<Farewell, Fault> {
    let (reason, properties) =
        tail_reason(Version::V5, &mut body, Allowed::DISCONNECT_FROM_SERVER)?;
    Ok(Farewell { reason, reason_string: properties.reason_string })
}
