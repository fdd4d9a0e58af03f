use bytes::BytesMut;
use transload_envelope::Text;

use super::{
    packet::{Ack, AckKind, ConnAck, MessageProperties, QoS, Version},
    properties::{Count, Sink, Writer, id, write_variable},
    reason::Reason,
};

/// A PUBLISH to a client, without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishHead<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// 0 with `QoS` 0.
    pub(crate) packet_id: u16,
    pub(crate) topic: &'a Text,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) subscription_ids: &'a [u32],
    pub(crate) properties: Option<&'a MessageProperties>,
    pub(crate) payload_bytes: usize,
}

/// Writes the packet up to its payload and returns its whole size; writes nothing and returns
/// `None` when that is above the bound or more than the protocol can say.
pub(crate) fn publish_head(
    into: &mut BytesMut,
    version: Version,
    head: &PublishHead<'_>,
    bytes_max: Option<u32>,
) -> Option<usize> {
    let mut properties_bytes = 0;
    let mut body = 2 + head.topic.len() + head.payload_bytes;
    if head.qos != QoS::AtMostOnce {
        body += 2;
    }
    if version == Version::V5 {
        let mut counted = Writer(Count::default());
        publish_properties(&mut counted, head);
        properties_bytes = counted.0.0;
        body += variable_bytes(properties_bytes) + properties_bytes;
    }
    let remaining = u32::try_from(body).ok().filter(|bytes| *bytes <= 268_435_455)?;
    let total = 1 + variable_bytes(body) + body;
    if bytes_max.is_some_and(|max| u32::try_from(total).map_or(true, |total| total > max)) {
        return None;
    }
    let topic_bytes = u16::try_from(head.topic.len()).ok()?;
    let flags = u8::from(head.dup) << 3 | head.qos.bits() << 1 | u8::from(head.retain);
    into.reserve(total.saturating_sub(head.payload_bytes));
    into.extend_from_slice(&[0x30 | flags]);
    write_variable(into, remaining);
    into.extend_from_slice(&topic_bytes.to_be_bytes());
    into.extend_from_slice(head.topic.as_bytes());
    if head.qos != QoS::AtMostOnce {
        into.extend_from_slice(&head.packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        write_variable(into, length(properties_bytes));
        publish_properties(&mut Writer(into), head);
    }
    Some(total)
}

fn publish_properties<S: Sink>(writer: &mut Writer<S>, head: &PublishHead<'_>) {
    if let Some(seconds) = head.expiry_s {
        writer.u32(id::MESSAGE_EXPIRY, seconds);
    }
    for subscription in head.subscription_ids {
        writer.variable(id::SUBSCRIPTION_ID, *subscription);
    }
    if let Some(properties) = head.properties {
        if properties.utf8_payload {
            writer.u8(id::PAYLOAD_FORMAT, 1);
        }
        if let Some(text) = &properties.content_type {
            writer.text(id::CONTENT_TYPE, text);
        }
        if let Some(text) = &properties.response_topic {
            writer.text(id::RESPONSE_TOPIC, text);
        }
        if let Some(bytes) = &properties.correlation {
            writer.binary(id::CORRELATION, bytes);
        }
        for pair in &properties.user {
            writer.user(pair);
        }
    }
}

/// Writes CONNACK.
pub(crate) fn connack(into: &mut BytesMut, version: Version, connack: &ConnAck) {
    let present = u8::from(connack.session_present);
    if version == Version::V311 {
        into.extend_from_slice(&[0x20, 2, present, connack.reason.connack_v311()]);
        return;
    }
    let mut writer = Writer::<Vec<u8>>::default();
    if let Some(seconds) = connack.session_expiry_s {
        writer.u32(id::SESSION_EXPIRY, seconds);
    }
    if let Some(messages) = connack.receive_maximum {
        writer.u16(id::RECEIVE_MAXIMUM, messages);
    }
    if let Some(bytes) = connack.packet_bytes_max {
        writer.u32(id::PACKET_BYTES_MAX, bytes);
    }
    if let Some(client_id) = &connack.assigned_client_id {
        writer.text(id::ASSIGNED_CLIENT_ID, client_id);
    }
    if connack.topic_alias_maximum > 0 {
        writer.u16(id::TOPIC_ALIAS_MAXIMUM, connack.topic_alias_maximum);
    }
    if let Some(text) = &connack.reason_string {
        writer.text(id::REASON_STRING, text);
    }
    if let Some(seconds) = connack.server_keep_alive_s {
        writer.u16(id::SERVER_KEEP_ALIVE, seconds);
    }
    frame(into, 0x20, &[present, connack.reason.0], &writer.0, &[]);
}

/// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(crate) fn puback(into: &mut BytesMut, version: Version, ack: Ack, text: Option<&str>) {
    let first = match ack.kind {
        AckKind::PubAck => 0x40,
        AckKind::PubRec => 0x50,
        AckKind::PubRel => 0x62,
        AckKind::PubComp => 0x70,
    };
    let [high, low] = ack.packet_id.to_be_bytes();
    if version == Version::V311 || ack.reason == Reason::SUCCESS {
        into.extend_from_slice(&[first, 2, high, low]);
        return;
    }
    let mut writer = Writer::<Vec<u8>>::default();
    if let Some(text) = text {
        writer.text(id::REASON_STRING, text);
    }
    frame(into, first, &[high, low, ack.reason.0], &writer.0, &[]);
}

/// Writes SUBACK; what was granted is told by the codes 0 to 2.
pub(crate) fn suback(into: &mut BytesMut, version: Version, packet_id: u16, codes: &[Reason]) {
    let codes = codes.iter().map(|code| match version {
        Version::V311 if code.is_failure() => 0x80,
        Version::V311 | Version::V5 => code.0,
    });
    let codes: Vec<_> = codes.collect();
    acknowledgement(into, version, 0x90, packet_id, &codes);
}

/// Writes UNSUBACK.
pub(crate) fn unsuback(into: &mut BytesMut, version: Version, packet_id: u16, codes: &[Reason]) {
    let codes: Vec<_> = match version {
        Version::V311 => Vec::new(),
        Version::V5 => codes.iter().map(|code| code.0).collect(),
    };
    acknowledgement(into, version, 0xb0, packet_id, &codes);
}

fn acknowledgement(into: &mut BytesMut, version: Version, first: u8, packet_id: u16, codes: &[u8]) {
    let packet_id = packet_id.to_be_bytes();
    match version {
        Version::V311 => {
            into.extend_from_slice(&[first]);
            write_variable(into, length(packet_id.len() + codes.len()));
            into.extend_from_slice(&packet_id);
            into.extend_from_slice(codes);
        }
        Version::V5 => frame(into, first, &packet_id, &[], codes),
    }
}

/// Writes PINGRESP.
pub(crate) fn pingresp(into: &mut BytesMut) {
    into.extend_from_slice(&[0xd0, 0]);
}

/// Writes DISCONNECT with a reason, which 3.1.1 has not.
pub(crate) fn disconnect(
    into: &mut BytesMut,
    version: Version,
    reason: Reason,
    text: Option<&'static str>,
) {
    if version == Version::V5 {
        let mut writer = Writer::<Vec<u8>>::default();
        if let Some(text) = text {
            writer.text(id::REASON_STRING, text);
        }
        frame(into, 0xe0, &[reason.0], &writer.0, &[]);
    }
}

/// Writes an MQTT 5 packet: fixed header, variable header, properties, payload.
pub(super) fn frame(
    into: &mut BytesMut,
    first: u8,
    header: &[u8],
    properties: &[u8],
    payload: &[u8],
) {
    let properties_bytes = variable_bytes(properties.len()) + properties.len();
    into.extend_from_slice(&[first]);
    write_variable(into, length(header.len() + properties_bytes + payload.len()));
    into.extend_from_slice(header);
    write_variable(into, length(properties.len()));
    into.extend_from_slice(properties);
    into.extend_from_slice(payload);
}

/// A length that is known to be small: everything here but PUBLISH is bounded by what the peer
/// sent, by one text of ours or by our settings.
pub(super) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// How many bytes the length takes as a Variable Byte Integer.
fn variable_bytes(length: usize) -> usize {
    match length {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}
