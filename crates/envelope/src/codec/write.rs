use super::{DEPTH_MAX, VERSION};
use crate::{Arguments, Envelope, Headers, Origin, Properties, Text, Timestamp, Value};

pub(super) fn envelope(envelope: &Envelope, into: &mut Vec<u8>) {
    let readdressed = envelope.address != envelope.origin.address;
    let properties = envelope.properties();
    let plain = *properties == Properties::NONE;
    into.reserve(envelope.size());
    let flags = u8::from(readdressed) | u8::from(!plain) << 1;
    into.extend_from_slice(&[VERSION, flags, envelope.hops]);
    text(envelope.id.as_text(), into);
    origin(&envelope.origin, into);
    if readdressed {
        text(envelope.address.as_text(), into);
    }
    if !plain {
        self::properties(properties, into);
    }
    headers(&envelope.headers, into);
    bytes(&envelope.payload, into);
}

pub(super) fn arguments(arguments: &Arguments, into: &mut Vec<u8>) {
    count(arguments.iter().len(), into);
    for (key, filled) in arguments.iter() {
        text(key, into);
        text(filled, into);
    }
}

fn origin(origin: &Origin, into: &mut Vec<u8>) {
    text(&origin.adapter, into);
    text(&origin.protocol, into);
    text(origin.address.as_text(), into);
    count(origin.attributes.len(), into);
    for (name, value) in &origin.attributes {
        text(name, into);
        self::value(value, DEPTH_MAX, into);
    }
}

fn headers(headers: &Headers, into: &mut Vec<u8>) {
    count(headers.len(), into);
    for header in headers {
        text(&header.name, into);
        value(&header.value, DEPTH_MAX, into);
    }
}

fn properties(properties: &Properties, into: &mut Vec<u8>) {
    let Properties {
        content_type,
        content_encoding,
        correlation,
        reply_to,
        expires_at,
        priority,
        durable,
        retain,
        kind,
        app_id,
        user_id,
        timestamp,
    } = properties;
    let present = [
        content_type.is_some(),
        content_encoding.is_some(),
        correlation.is_some(),
        reply_to.is_some(),
        expires_at.is_some(),
        priority.is_some(),
        durable.is_some(),
        *retain,
        kind.is_some(),
        app_id.is_some(),
        user_id.is_some(),
        timestamp.is_some(),
    ];
    let bits = present.iter().rev().fold(0, |bits, &is| bits << 1 | u64::from(is));
    varint(bits, into);
    texts([content_type, content_encoding], into);
    if let Some(correlation) = correlation {
        bytes(correlation, into);
    }
    texts([reply_to], into);
    time(*expires_at, into);
    into.extend(priority.iter().copied().chain(durable.map(u8::from)));
    texts([kind, app_id, user_id], into);
    time(*timestamp, into);
}

fn texts<const N: usize>(present: [&Option<Text>; N], into: &mut Vec<u8>) {
    for it in present.into_iter().flatten() {
        text(it, into);
    }
}

fn time(present: Option<Timestamp>, into: &mut Vec<u8>) {
    if let Some(time) = present {
        zigzag(time.unix_ms, into);
    }
}

fn value(value: &Value, depth_left: usize, into: &mut Vec<u8>) {
    match value {
        Value::Null => into.push(0),
        Value::Bool(false) => into.push(1),
        Value::Bool(true) => into.push(2),
        Value::Int(number) => {
            into.push(3);
            zigzag(*number, into);
        }
        Value::UInt(number) => {
            into.push(4);
            varint(*number, into);
        }
        Value::Float(number) => {
            into.push(5);
            into.extend(number.to_le_bytes());
        }
        Value::Text(it) => {
            into.push(6);
            text(it, into);
        }
        Value::Bytes(it) => {
            into.push(7);
            bytes(it, into);
        }
        Value::Timestamp(time) => {
            into.push(8);
            zigzag(time.unix_ms, into);
        }
        Value::List(_) | Value::Map(_) if depth_left == 0 => into.push(0),
        Value::List(list) => {
            into.push(9);
            count(list.len(), into);
            for inner in list {
                self::value(inner, depth_left - 1, into);
            }
        }
        Value::Map(map) => {
            into.push(10);
            count(map.len(), into);
            for (name, inner) in map {
                text(name, into);
                self::value(inner, depth_left - 1, into);
            }
        }
    }
}

fn text(text: &Text, into: &mut Vec<u8>) {
    bytes(text.as_bytes(), into);
}

/// Writes bytes with their length.
pub fn bytes(bytes: &[u8], into: &mut Vec<u8>) {
    count(bytes.len(), into);
    into.extend_from_slice(bytes);
}

fn count(count: usize, into: &mut Vec<u8>) {
    // A usize has at most 64 bits on every platform that Rust knows.
    varint(u64::try_from(count).unwrap_or(u64::MAX), into);
}

/// Writes a signed number.
pub fn zigzag(number: i64, into: &mut Vec<u8>) {
    varint((number.wrapping_shl(1) ^ (number >> 63)).cast_unsigned(), into);
}

/// Writes an unsigned number.
pub fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    into.push(low_byte(number));
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}
