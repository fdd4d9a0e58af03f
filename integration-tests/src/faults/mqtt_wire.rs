//! As much of MQTT 3.1.1 and 5 as publishing and subscribing at `QoS` 1 needs, by the OASIS
//! standards; section numbers are those of version 5.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::produce::unexpected;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

const SESSION_EXPIRY: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;
const USER_PROPERTY: u8 = 0x26;
const SESSION_EXPIRY_S: u32 = 86_400;

/// A control packet from the other side.
#[derive(Debug)]
pub(crate) enum Packet {
    ConnAck { session_present: bool, code: u8 },
    Publish(Publish),
    PubAck { packet_id: u16, code: u8 },
    SubAck { codes: Vec<u8> },
    Other,
}

/// A message from the other side.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) duplicate: bool,
    pub(crate) packet_id: u16,
    /// The user property `message-id`; empty if there is none.
    pub(crate) message_id: String,
    pub(crate) payload: Bytes,
}

/// How a client connects.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    /// Whether the session outlives the connection.
    pub(crate) persistent: bool,
    pub(crate) receive_maximum: u16,
}

/// Longer than any run: there are no pings. 0 would say so, and not every broker takes that.
const KEEP_ALIVE_S: u16 = u16::MAX;

/// CONNECT, section 3.1.
pub(crate) fn connect(settings: &Connect, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    text("MQTT", &mut body);
    body.put_u8(if settings.version == Version::V3 { 4 } else { 5 });
    body.put_u8(if settings.persistent { 0 } else { 0b10 });
    body.put_u16(KEEP_ALIVE_S);
    if settings.version == Version::V5 {
        let mut properties = BytesMut::new();
        if settings.persistent {
            properties.put_u8(SESSION_EXPIRY);
            properties.put_u32(SESSION_EXPIRY_S);
        }
        properties.put_u8(RECEIVE_MAXIMUM);
        properties.put_u16(settings.receive_maximum);
        length(properties.len(), &mut body);
        body.put(properties);
    }
    text(&settings.client_id, &mut body);
    packet(0x10, &body, out);
}

/// SUBSCRIBE at `QoS` 1, section 3.8.
pub(crate) fn subscribe(version: Version, packet_id: u16, filter: &str, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    if version == Version::V5 {
        body.put_u8(0);
    }
    text(filter, &mut body);
    body.put_u8(1);
    packet(0x82, &body, out);
}

/// PUBLISH at `QoS` 1, section 3.3; the id goes along where the version has a place for it.
pub(crate) fn publish(
    version: Version,
    duplicate: bool,
    topic: &str,
    packet_id: u16,
    message_id: &str,
    payload: &[u8],
    out: &mut BytesMut,
) {
    let mut body = BytesMut::with_capacity(payload.len() + 100);
    text(topic, &mut body);
    body.put_u16(packet_id);
    if version == Version::V5 {
        let mut properties = BytesMut::new();
        properties.put_u8(USER_PROPERTY);
        text("message-id", &mut properties);
        text(message_id, &mut properties);
        length(properties.len(), &mut body);
        body.put(properties);
    }
    body.put_slice(payload);
    packet(if duplicate { 0x3a } else { 0x32 }, &body, out);
}

/// PUBACK, section 3.4.
pub(crate) fn puback(packet_id: u16, out: &mut BytesMut) {
    packet(0x40, &packet_id.to_be_bytes(), out);
}

fn packet(first: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u8(first);
    length(body.len(), out);
    out.put_slice(body);
}

fn text(value: &str, out: &mut BytesMut) {
    out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.put_slice(value.as_bytes());
}

/// A variable byte integer, section 1.5.5.
fn length(mut value: usize, out: &mut BytesMut) {
    loop {
        let digit = u8::try_from(value % 128).unwrap_or_default();
        value /= 128;
        out.put_u8(if value > 0 { digit | 0x80 } else { digit });
        if value == 0 {
            return;
        }
    }
}

fn read_length(from: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut value = 0;
    for (at, byte) in from.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if from.len() >= 4 { Err(unexpected("a length of five bytes")) } else { Ok(None) }
}

/// Takes the first packet, if all of it is there.
pub(crate) fn parse(version: Version, input: &mut BytesMut) -> io::Result<Option<Packet>> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    let first = *first;
    let Some((body, digits)) = read_length(rest)? else { return Ok(None) };
    if rest.len() < digits + body {
        return Ok(None);
    }
    input.advance(1 + digits);
    let mut body = input.split_to(body).freeze();
    let packet = read_packet(version, first, &mut body);
    packet.map(Some).map_err(|_| unexpected("a malformed MQTT packet"))
}

fn read_packet(
    version: Version,
    first: u8,
    body: &mut Bytes,
) -> Result<Packet, bytes::TryGetError> {
    Ok(match first >> 4 {
        2 => {
            let session_present = body.try_get_u8()? & 1 == 1;
            Packet::ConnAck { session_present, code: body.try_get_u8()? }
        }
        3 => Packet::Publish(read_publish(version, first, body)?),
        4 => {
            let packet_id = body.try_get_u16()?;
            // Without a reason code it is a success, section 3.4.2.1.
            Packet::PubAck { packet_id, code: body.try_get_u8().unwrap_or(0) }
        }
        9 => {
            body.try_get_u16()?;
            if version == Version::V5 {
                let properties = take_length(body)?;
                take(body, properties)?;
            }
            Packet::SubAck { codes: body.to_vec() }
        }
        _ => Packet::Other,
    })
}

fn read_publish(
    version: Version,
    first: u8,
    body: &mut Bytes,
) -> Result<Publish, bytes::TryGetError> {
    take_text(body)?;
    let packet_id = if first & 0b110 == 0 { 0 } else { body.try_get_u16()? };
    let mut message_id = String::new();
    if version == Version::V5 {
        let length = take_length(body)?;
        let mut properties = take(body, length)?;
        while properties.has_remaining() {
            if let Some((name, value)) = read_property(&mut properties)?
                && &*name == b"message-id"
            {
                message_id = String::from_utf8_lossy(&value).into_owned();
            }
        }
    }
    Ok(Publish { duplicate: first & 0x08 != 0, packet_id, message_id, payload: body.clone() })
}

/// Reads one property of a PUBLISH, section 2.2.2.2, and returns it if it is a user property.
fn read_property(from: &mut Bytes) -> Result<Option<(Bytes, Bytes)>, bytes::TryGetError> {
    match from.try_get_u8()? {
        USER_PROPERTY => return Ok(Some((take_text(from)?, take_text(from)?))),
        // The payload format indicator has one byte, the alias two, the expiry four,
        0x01 => drop(take(from, 1)?),
        0x23 => drop(take(from, 2)?),
        0x02 => drop(take(from, 4)?),
        0x0b => drop(take_length(from)?),
        // and content type, response topic and correlation data are preceded by their length.
        _ => drop(take_text(from)?),
    }
    Ok(None)
}

fn take(from: &mut Bytes, count: usize) -> Result<Bytes, bytes::TryGetError> {
    if from.len() < count {
        return Err(bytes::TryGetError { requested: count, available: from.len() });
    }
    Ok(from.split_to(count))
}

fn take_text(from: &mut Bytes) -> Result<Bytes, bytes::TryGetError> {
    let count = from.try_get_u16()?;
    take(from, count.into())
}

fn take_length(from: &mut Bytes) -> Result<usize, bytes::TryGetError> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = from.try_get_u8()?;
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 21 {
            return Ok(value);
        }
    }
}
