//! Messages to envelopes and back. Pure.
//!
//! | envelope | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | address | topic name | topic name |
//! | payload | payload | payload |
//! | content type | Content Type | none |
//! | correlation | Correlation Data | none |
//! | reply to | Response Topic | none |
//! | expiry | Message Expiry Interval, counting down | none |
//! | durable | `QoS` 1 or 2 | `QoS` 1 or 2 |
//! | retain | Retain | Retain |
//! | id | user property `message-id` | none |
//! | content encoding | user property `content-encoding` | none |
//! | priority | user property `priority` | none |
//! | type | user property `message-type` | none |
//! | application | user property `app-id` | none |
//! | user | user property `user-id` | none |
//! | timestamp | user property `timestamp-ms`, milliseconds since 1970 | none |
//! | hops | user property `transload-hops` | none |
//! | headers | the other user properties, in order, with repeats | none |
//!
//! The names do not meet the bare attribute names of CloudEvents (`id`, `type`, `source`, `time`
//! …). With `specversion`, a message is an event in binary mode (see [`event`]). A property whose value
//! does not read as what its name says stays a header too, so nothing is lost. Header values that are no text become text: numbers and
//! truth values in their JSON form, timestamps in milliseconds, bytes in base64 behind
//! `base64:` where they are no UTF-8, lists and maps as JSON.

mod event;

use std::{fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use transload_envelope::{
    Envelope, MessageId, Origin, Properties, Text, Timestamp, Value, cloudevents,
};

use crate::{
    codec::{MessageProperties, QoS},
    message::Message,
};

const MESSAGE_ID: Text = Text::from_static("message-id");
const CONTENT_ENCODING: Text = Text::from_static("content-encoding");
const MESSAGE_TYPE: Text = Text::from_static("message-type");
const APP_ID: Text = Text::from_static("app-id");
const USER_ID: Text = Text::from_static("user-id");
const TIMESTAMP: Text = Text::from_static("timestamp-ms");
const HOPS: Text = Text::from_static("transload-hops");

/// The longest text or binary field of the protocol, in bytes.
const FIELD_BYTES_MAX: usize = 65_535;

/// Makes an envelope of a message that came in.
pub(crate) fn to_envelope(message: &Message, origin: impl Into<Arc<Origin>>) -> Envelope {
    let mut properties = Properties {
        expires_at: message.expires_at,
        durable: Some(message.qos != QoS::AtMostOnce),
        retain: message.retain,
        ..Properties::NONE
    };
    let mut envelope = Envelope::new(origin, message.payload.clone());
    let mut id_taken = false;
    if let Some(sent) = message.properties.as_deref() {
        let is_event = event::is_event(&sent.user);
        properties.content_type.clone_from(&sent.content_type);
        properties.correlation.clone_from(&sent.correlation);
        properties.reply_to.clone_from(&sent.response_topic);
        for (name, value) in &sent.user {
            if &**name == "message-id" && !value.is_empty() && !id_taken {
                // The first one counts, and an empty one identifies nothing.
                envelope.id = MessageId::from_source(value.clone());
                id_taken = true;
            } else if !take_known((name, value), is_event, &mut envelope, &mut properties) {
                envelope.headers.push(name.clone(), value.clone());
            }
        }
        if is_event {
            event::take(&mut envelope, id_taken);
        }
    }
    envelope.with_properties(properties)
}

/// Makes an envelope that keeps every user property as a header, for other clients of the same
/// listener, who are to get a message as it was published ([MQTT-3.3.2-17], [MQTT-3.3.2-18]).
pub(crate) fn to_envelope_verbatim(message: &Message, origin: impl Into<Arc<Origin>>) -> Envelope {
    let mut envelope = Envelope::new(origin, message.payload.clone());
    let sent = message.properties.as_deref();
    let properties = Properties {
        expires_at: message.expires_at,
        durable: Some(message.qos != QoS::AtMostOnce),
        retain: message.retain,
        content_type: sent.and_then(|sent| sent.content_type.clone()),
        correlation: sent.and_then(|sent| sent.correlation.clone()),
        reply_to: sent.and_then(|sent| sent.response_topic.clone()),
        ..Properties::NONE
    };
    for (name, value) in sent.map(|sent| &*sent.user).unwrap_or_default() {
        envelope.headers.push(name.clone(), value.clone());
    }
    envelope.with_properties(properties)
}

/// The way back from [`to_envelope_verbatim`].
pub(crate) fn from_envelope_verbatim(
    envelope: &Envelope,
    qos: QoS,
    retain: bool,
    utf8_payload: bool,
) -> Message {
    let known = envelope.properties();
    let user = envelope.headers.iter();
    let properties = MessageProperties {
        utf8_payload,
        content_type: known.content_type.clone(),
        response_topic: known.reply_to.clone(),
        correlation: known.correlation.clone(),
        user: user.map(|header| (header.name.clone(), value_text(&header.value))).collect(),
    };
    Message {
        topic: envelope.address.as_text().clone(),
        payload: envelope.payload.clone(),
        qos,
        retain,
        expires_at: known.expires_at,
        properties: (properties != MessageProperties::default()).then(|| Box::new(properties)),
    }
}

/// Reads one user property that stands for something in the envelope; not when it is a repeat, or
/// does not read as what it stands for.
fn take_known(
    (name, value): (&Text, &Text),
    is_event: bool,
    envelope: &mut Envelope,
    properties: &mut Properties,
) -> bool {
    fn text(place: &mut Option<Text>, value: &Text) -> bool {
        let free = place.is_none();
        place.get_or_insert_with(|| value.clone());
        free
    }
    fn parsed<T>(place: &mut Option<T>, value: Option<T>) -> bool {
        let taken = place.is_none() && value.is_some();
        if taken {
            *place = value;
        }
        taken
    }
    match &**name {
        "content-encoding" => text(&mut properties.content_encoding, value),
        "message-type" => text(&mut properties.kind, value),
        "app-id" => text(&mut properties.app_id, value),
        "user-id" => text(&mut properties.user_id, value),
        known if known == event::priority(is_event) => {
            parsed(&mut properties.priority, canonical(value))
        }
        "timestamp-ms" => {
            let time = canonical(value).map(|unix_ms| Timestamp { unix_ms });
            parsed(&mut properties.timestamp, time)
        }
        "transload-hops" => match canonical(value) {
            Some(hops) if envelope.hops == 0 => {
                envelope.hops = hops;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// A number that is written as this program would write it, so that it comes out as it went in.
fn canonical<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// What of an envelope MQTT cannot carry at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmappable {
    /// A field is longer than 65,535 bytes.
    #[error("{0} is longer than the 65,535 bytes that MQTT allows")]
    TooLong(&'static str),
    /// A text holds U+0000.
    #[error("{0} holds the character U+0000, which MQTT does not allow")]
    Null(&'static str),
    /// The reply address is no topic name.
    #[error("the reply address is no MQTT topic name")]
    ReplyTo,
}

/// Makes a message of an envelope, to be published under the topic.
pub(crate) fn from_envelope(
    envelope: &Envelope,
    topic: Text,
    qos: QoS,
    retain: bool,
) -> Result<Message, Unmappable> {
    let known = envelope.properties();
    let mut user = Vec::with_capacity(envelope.headers.len() + 2);
    user.push((MESSAGE_ID, envelope.id.as_text().clone()));
    let mut add = |name: Text, value: Option<Text>| user.extend(value.map(|value| (name, value)));
    add(CONTENT_ENCODING, known.content_encoding.clone());
    let is_event = cloudevents::is_event(&envelope.headers);
    let priority = Text::from_static(event::priority(is_event));
    add(priority, known.priority.map(|priority| priority.to_string().into()));
    add(MESSAGE_TYPE, known.kind.clone());
    add(APP_ID, known.app_id.clone());
    add(USER_ID, known.user_id.clone());
    add(TIMESTAMP, known.timestamp.map(|time| time.unix_ms.to_string().into()));
    add(HOPS, (envelope.hops > 0).then(|| envelope.hops.to_string().into()));
    for header in &envelope.headers {
        let name = if is_event {
            event::written(header, &envelope.headers)
        } else {
            Some(header.name.clone())
        };
        user.extend(name.map(|name| (name, value_text(&header.value))));
    }
    for (name, value) in &user {
        check_text(name, "the name of a header")?;
        check_text(value, "the value of a header")?;
    }
    if let Some(content_type) = &known.content_type {
        check_text(content_type, "the content type")?;
    }
    if known.correlation.as_ref().is_some_and(|bytes| bytes.len() > FIELD_BYTES_MAX) {
        return Err(Unmappable::TooLong("the correlation"));
    }
    if known.reply_to.as_deref().is_some_and(|topic| !crate::topic::is_valid_name(topic)) {
        return Err(Unmappable::ReplyTo);
    }
    Ok(Message {
        topic,
        payload: envelope.payload.clone(),
        qos,
        retain,
        expires_at: known.expires_at,
        properties: Some(Box::new(MessageProperties {
            utf8_payload: false,
            content_type: known.content_type.clone(),
            response_topic: known.reply_to.clone(),
            correlation: known.correlation.clone(),
            user,
        })),
    })
}

fn check_text(text: &str, what: &'static str) -> Result<(), Unmappable> {
    if text.len() > FIELD_BYTES_MAX {
        return Err(Unmappable::TooLong(what));
    }
    if text.as_bytes().contains(&0) {
        return Err(Unmappable::Null(what));
    }
    Ok(())
}

/// A header value as the text of a user property.
fn value_text(value: &Value) -> Text {
    match value {
        Value::Text(text) => text.clone(),
        Value::Null => Text::new(),
        Value::Bytes(bytes) => bytes_text(bytes),
        Value::Timestamp(time) => time.unix_ms.to_string().into(),
        Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::List(_)
        | Value::Map(_) => {
            let mut text = String::new();
            write_json(&mut text, value);
            text.into()
        }
    }
}

fn bytes_text(bytes: &Bytes) -> Text {
    Text::try_from(bytes.clone())
        .unwrap_or_else(|_| format!("base64:{}", BASE64.encode(bytes)).into())
}

fn write_json(into: &mut String, value: &Value) {
    match value {
        Value::Null => into.push_str("null"),
        Value::Bool(truth) => push(into, truth),
        Value::Int(number) => push(into, number),
        Value::UInt(number) => push(into, number),
        // JSON has no infinities.
        Value::Float(number) if !number.is_finite() => into.push_str("null"),
        Value::Float(number) => push(into, number),
        Value::Timestamp(time) => push(into, time.unix_ms),
        Value::Text(text) => write_json_text(into, text),
        Value::Bytes(bytes) => write_json_text(into, &bytes_text(bytes)),
        Value::List(list) => {
            into.push('[');
            for (place, value) in list.iter().enumerate() {
                into.push_str(if place > 0 { "," } else { "" });
                write_json(into, value);
            }
            into.push(']');
        }
        Value::Map(map) => {
            into.push('{');
            for (place, (name, value)) in map.iter().enumerate() {
                into.push_str(if place > 0 { "," } else { "" });
                write_json_text(into, name);
                into.push(':');
                write_json(into, value);
            }
            into.push('}');
        }
    }
}

fn push(into: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(into, "{value}");
}

fn write_json_text(into: &mut String, text: &str) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            c if c < ' ' => push(into, format_args!("\\u{:04x}", u32::from(c))),
            c => into.push(c),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests;
