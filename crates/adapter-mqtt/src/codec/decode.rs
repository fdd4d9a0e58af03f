use bytes::Bytes;

use super::{
    packet::{
        Ack, AckKind, Connect, Disconnect, Packet, Publish, QoS, Subscribe, SubscribeOptions,
        Unsubscribe, Version, Will,
    },
    properties::{Allowed, Properties},
    reader::Reader,
    reason::{Fault, Reason},
};

/// The length of the frame at the start of the bytes, once its header is there. Refuses a frame
/// above the bound before it is read.
pub(crate) fn frame_length(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Fault> {
    let mut length = 0_usize;
    for (place, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (place - 1));
        if byte & 0x80 == 0 {
            let total = place + 1 + length;
            if total > bytes_max {
                return Err(Fault::new(Reason::PACKET_TOO_LARGE, "a packet above the bound"));
            }
            return Ok(Some(total));
        }
    }
    if bytes.len() >= 5 {
        return Err(Fault::malformed("a remaining length of more than four bytes"));
    }
    Ok(None)
}

/// The version in which to answer a first packet that could not be read: by its level byte, and 5
/// for what is no CONNECT at all and for levels to come.
pub(crate) fn sniff_version(frame: &[u8]) -> Version {
    let body = frame.iter().skip(1).skip_while(|byte| **byte & 0x80 != 0).skip(1);
    let mut name = body.copied();
    let length = [name.next(), name.next()];
    let length = match length {
        [Some(high), Some(low)] => usize::from(u16::from_be_bytes([high, low])),
        _ => return Version::V5,
    };
    match name.nth(length) {
        Some(level) if level < 5 => Version::V311,
        _ => Version::V5,
    }
}

/// The first byte of a frame, and what is behind its header.
pub(super) fn header(frame: Bytes) -> Result<(u8, Reader), Fault> {
    let mut body = Reader::new(frame);
    let first = body.u8()?;
    body.variable()?;
    Ok((first, body))
}

/// The flags of all packets but PUBLISH are fixed.
pub(super) fn flags_must(first: u8, wanted: u8) -> Result<(), Fault> {
    if first & 0x0f == wanted { Ok(()) } else { Err(Fault::malformed("reserved flags are set")) }
}

/// Reads one whole frame from a client.
pub(crate) fn decode(version: Version, frame: Bytes) -> Result<Packet, Fault> {
    let (first, body) = header(frame)?;
    match first >> 4 {
        3 => return publish(version, first, body, Allowed::PUBLISH).map(Packet::Publish),
        6 | 8 | 10 => flags_must(first, 0b0010)?,
        _ => flags_must(first, 0)?,
    }
    match first >> 4 {
        1 => connect(body).map(|connect| Packet::Connect(Box::new(connect))),
        4 => ack(version, AckKind::PubAck, body),
        5 => ack(version, AckKind::PubRec, body),
        6 => ack(version, AckKind::PubRel, body),
        7 => ack(version, AckKind::PubComp, body),
        8 => subscribe(version, body).map(Packet::Subscribe),
        10 => unsubscribe(version, body).map(Packet::Unsubscribe),
        12 => body.end().map(|()| Packet::PingReq),
        14 => disconnect(version, body).map(Packet::Disconnect),
        15 if version == Version::V5 => Ok(Packet::Auth),
        0 | 15 => Err(Fault::malformed("a reserved packet type")),
        _ => Err(Fault::protocol("a packet that only servers send")),
    }
}

fn connect(mut body: Reader) -> Result<Connect, Fault> {
    const UNSUPPORTED: Fault =
        Fault::new(Reason::UNSUPPORTED_VERSION, "only MQTT 3.1.1 and 5 are spoken here");
    let name = body.text()?;
    let version = match (&*name, body.u8()?) {
        ("MQTT", 4) => Version::V311,
        ("MQTT", 5) => Version::V5,
        ("MQTT" | "MQIsdp", _) => return Err(UNSUPPORTED),
        _ => return Err(Fault::new(Reason::UNSUPPORTED_VERSION, "not MQTT")),
    };
    let flags = body.u8()?;
    let has = |bit: u8| flags & bit != 0;
    if has(0x01) {
        return Err(Fault::malformed("the reserved flag of CONNECT is set"));
    }
    if !has(0x04) && flags & 0x38 != 0 {
        return Err(Fault::malformed("will settings without a will"));
    }
    if version == Version::V311 && has(0x40) && !has(0x80) {
        return Err(Fault::malformed("a password without a user name"));
    }
    let keep_alive_s = body.u16()?;
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(&mut body, Allowed::CONNECT)?,
    };
    let clean = has(0x02);
    let client_id = body.text()?;
    let will = if has(0x04) { Some(will(version, flags, &mut body)?) } else { None };
    let username = if has(0x80) { Some(body.text()?) } else { None };
    let password = if has(0x40) { Some(body.binary()?) } else { None };
    body.end()?;
    Ok(Connect {
        version,
        client_id,
        clean,
        keep_alive_s,
        will,
        username,
        password,
        session_expiry_s: match version {
            // A 3.1.1 session that is not clean has no end of its own.
            Version::V311 if !clean => u32::MAX,
            Version::V311 => 0,
            Version::V5 => properties.session_expiry_s.unwrap_or(0),
        },
        receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
        packet_bytes_max: properties.packet_bytes_max,
        problem_information: properties.problem_information.unwrap_or(true),
        authentication_method: properties.authentication_method,
    })
}

fn will(version: Version, flags: u8, body: &mut Reader) -> Result<Will, Fault> {
    let qos = QoS::from_bits((flags >> 3) & 0b11).ok_or(Fault::malformed("QoS 3"))?;
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(body, Allowed::WILL)?,
    };
    let topic = body.text()?;
    let payload = body.binary()?;
    Ok(Will {
        delay_s: properties.will_delay_s,
        publish: Publish {
            qos,
            retain: flags & 0x20 != 0,
            topic,
            expiry_s: properties.expiry_s,
            properties: properties.into_message(),
            payload,
            ..Publish::default()
        },
    })
}

/// PUBLISH from either side, which differ in the properties that are allowed.
pub(super) fn publish(
    version: Version,
    flags: u8,
    mut body: Reader,
    allowed: Allowed,
) -> Result<Publish, Fault> {
    let qos = QoS::from_bits((flags >> 1) & 0b11).ok_or(Fault::malformed("QoS 3"))?;
    let dup = flags & 0b1000 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(Fault::malformed("a repeated QoS 0 message"));
    }
    let topic = body.text()?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { body.packet_id()? };
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(&mut body, allowed)?,
    };
    Ok(Publish {
        dup,
        qos,
        retain: flags & 1 != 0,
        packet_id,
        topic,
        topic_alias: properties.topic_alias,
        expiry_s: properties.expiry_s,
        properties: properties.into_message(),
        payload: body.rest(),
    })
}

fn ack(version: Version, kind: AckKind, mut body: Reader) -> Result<Packet, Fault> {
    let packet_id = body.packet_id()?;
    let reason = tail_reason(version, &mut body, Allowed::ACK)?.0;
    Ok(Packet::Ack(Ack { kind, packet_id, reason }))
}

fn disconnect(version: Version, mut body: Reader) -> Result<Disconnect, Fault> {
    let (reason, properties) = tail_reason(version, &mut body, Allowed::DISCONNECT)?;
    Ok(Disconnect { reason, session_expiry_s: properties.session_expiry_s })
}

/// Reason code and properties, which MQTT 5 lets a packet leave out from the end.
pub(super) fn tail_reason(
    version: Version,
    body: &mut Reader,
    allowed: Allowed,
) -> Result<(Reason, Properties), Fault> {
    let mut reason = Reason::SUCCESS;
    let mut properties = Properties::default();
    if version == Version::V5 && !body.is_empty() {
        reason = Reason(body.u8()?);
        if !body.is_empty() {
            properties = Properties::read(body, allowed)?;
        }
    }
    body.end()?;
    Ok((reason, properties))
}

fn subscribe(version: Version, mut body: Reader) -> Result<Subscribe, Fault> {
    let packet_id = body.packet_id()?;
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(&mut body, Allowed::SUBSCRIBE)?,
    };
    let mut filters = Vec::new();
    while !body.is_empty() {
        let filter = body.text()?;
        let byte = body.u8()?;
        if version == Version::V311 && byte & 0b1111_1100 != 0 {
            return Err(Fault::malformed("reserved bits of a subscription are set"));
        }
        let options = SubscribeOptions::from_byte(byte)
            .ok_or(Fault::malformed("subscription options out of range"))?;
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(Fault::protocol("SUBSCRIBE without a topic filter"));
    }
    Ok(Subscribe { packet_id, subscription_id: properties.subscription_id, filters })
}

fn unsubscribe(version: Version, mut body: Reader) -> Result<Unsubscribe, Fault> {
    let packet_id = body.packet_id()?;
    if version == Version::V5 {
        Properties::read(&mut body, Allowed::UNSUBSCRIBE)?;
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(body.text()?);
    }
    if filters.is_empty() {
        return Err(Fault::protocol("UNSUBSCRIBE without a topic filter"));
    }
    Ok(Unsubscribe { packet_id, filters })
}
