//! Header fields and the properties, id and headers of a message.
//!
//! | message | HTTP |
//! |---|---|
//! | content type, content encoding | `Content-Type`, `Content-Encoding` |
//! | id | read from `webhook-id`, `Idempotency-Key`, `X-GitHub-Delivery`, `X-Shopify-Webhook-Id` or `Message-Id`, in this order; written as `webhook-id` and `Idempotency-Key` |
//! | correlation | `X-Correlation-Id`; `Transload-Correlation` in base64 if it is not text |
//! | type, app id, user id | `Transload-Type`, `Transload-App-Id`, `Transload-User-Id` |
//! | priority, timestamp (ms since the epoch), hops | `Transload-Priority`, `Transload-Timestamp`, `Transload-Hops` |
//! | headers | header fields, in order and with repeats |
//!
//! Headers that are attributes of an event (`ce-…`) are percent-encoded as the HTTP binding of
//! `CloudEvents` 1.0.2, section 3.1.3.2, wants it, and decoded; the event's source and id are the id of a
//! message that has no other.
//!
//! Expiry, durability, retain and reply address have no counterpart in HTTP. Header names and values
//! that HTTP cannot carry (control characters, spaces in names) are percent-encoded; lists and maps
//! are JSON text.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE},
};
use percent_encoding::{
    AsciiSet, CONTROLS, percent_decode, percent_encode_byte, utf8_percent_encode,
};
use serde_json::json;
use transload_envelope::{
    Envelope, Headers, MessageId, Properties, Text, Timestamp, Value, cloudevents,
};

/// Headers that carry the sender's own id, the most telling first.
const ID_HEADERS: [&str; 5] =
    ["webhook-id", "idempotency-key", "x-github-delivery", "x-shopify-webhook-id", "message-id"];
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const CORRELATION_BYTES: HeaderName = HeaderName::from_static("transload-correlation");
const KIND: HeaderName = HeaderName::from_static("transload-type");
const APP_ID: HeaderName = HeaderName::from_static("transload-app-id");
const USER_ID: HeaderName = HeaderName::from_static("transload-user-id");
const PRIORITY: HeaderName = HeaderName::from_static("transload-priority");
const TIMESTAMP: HeaderName = HeaderName::from_static("transload-timestamp");
const HOPS: HeaderName = HeaderName::from_static("transload-hops");

/// The header of a reply that holds its status; in HTTP it is the response's own.
pub(crate) const STATUS_HEADER: &str = "status";

/// What is encoded in an event's attribute, beside all that is not ASCII.
const ATTRIBUTE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The longest id that every protocol can carry (an AMQP short string), in bytes.
const ID_BYTES_MAX: usize = 255;

/// The number of headers of a message that are written; servers refuse many fewer.
const HEADERS_MAX: usize = 1024;

/// The longest wait that a peer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// Fields that belong to one hop (RFC 9110, section 7.6.1), to the framing of one message, or to
/// one pair of client and server.
const ONE_HOP: [&str; 18] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// A field whose value is a secret, though it is not for one hop only.
const SECRET: &str = "x-gitlab-token";

/// Fields that say what this client of ours can read, or who it is.
const OUR_OWN: [&str; 3] = ["accept", "accept-encoding", "user-agent"];

/// Whether a header of this name, in lower case, is part of a message at all.
pub(crate) fn is_forwardable(name: &str) -> bool {
    !ONE_HOP.contains(&name)
}

/// Puts what the fields of a request or a response say into a message.
pub(crate) fn read_headers(fields: &HeaderMap, envelope: &mut Envelope) {
    if let Some(id) = read_id(fields) {
        envelope.id = id;
    }
    let mut properties = Properties::NONE;
    let mut headers = Headers::default();
    let named: Vec<_> =
        fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let of_connection = |name: &HeaderName| {
        named.iter().flat_map(|list| list.split(',')).any(|token| token.trim() == name.as_str())
    };
    for name in fields.keys() {
        let mut values = fields.get_all(name).iter();
        let (first, repeated) = (values.next(), values.next().is_some());
        if first.is_some_and(|first| read_property(name, first, repeated, &mut properties)) {
            continue;
        }
        if *name == HOPS {
            envelope.hops = first.and_then(parse).unwrap_or(envelope.hops);
        } else if is_forwardable(name.as_str()) && *name != SECRET && !of_connection(name) {
            let name = Text::from(name.as_str());
            let is_attribute = cloudevents::attribute(&name).is_some();
            let read = if is_attribute { read_attribute } else { read_value };
            for value in fields.get_all(&*name) {
                headers.push(name.clone(), read(value));
            }
        }
    }
    if read_id(fields).is_none() && cloudevents::is_event(&headers) {
        envelope.id = cloudevents::message_id(&headers).unwrap_or_else(|| envelope.id.clone());
    }
    envelope.headers = headers;
    if properties != Properties::NONE {
        *envelope.properties_mut() = properties;
    }
}

/// Reads one field into the properties; false when it is not one or says nothing we understand.
fn read_property(
    name: &HeaderName,
    value: &HeaderValue,
    repeated: bool,
    into: &mut Properties,
) -> bool {
    let text = || std::str::from_utf8(value.as_bytes()).ok().map(Text::from);
    let read = |place: &mut Option<Text>| {
        *place = text();
        place.is_some()
    };
    if repeated {
        return false;
    }
    if *name == CONTENT_TYPE {
        read(&mut into.content_type)
    } else if *name == CONTENT_ENCODING {
        read(&mut into.content_encoding)
    } else if *name == CORRELATION {
        into.correlation = Some(Bytes::copy_from_slice(value.as_bytes()));
        true
    } else if *name == CORRELATION_BYTES {
        let bytes = STANDARD.decode(value.as_bytes()).ok().map(Bytes::from);
        let understood = bytes.is_some();
        into.correlation = bytes.or(into.correlation.take());
        understood
    } else if *name == KIND {
        read(&mut into.kind)
    } else if *name == APP_ID {
        read(&mut into.app_id)
    } else if *name == USER_ID {
        read(&mut into.user_id)
    } else if *name == PRIORITY {
        into.priority = parse(value);
        into.priority.is_some()
    } else if *name == TIMESTAMP {
        into.timestamp = parse(value).map(|unix_ms| Timestamp { unix_ms });
        into.timestamp.is_some()
    } else {
        false
    }
}

fn parse<T: std::str::FromStr>(value: &HeaderValue) -> Option<T> {
    value.to_str().ok()?.parse().ok()
}

fn read_value(value: &HeaderValue) -> Value {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Bytes(Bytes::copy_from_slice(value.as_bytes())),
    }
}

fn read_attribute(value: &HeaderValue) -> Value {
    match percent_decode(value.as_bytes()).decode_utf8() {
        Ok(text) => Value::from(&*text),
        Err(_) => read_value(value),
    }
}

/// The sender's id, if it has one that every protocol can carry. `Idempotency-Key` may be quoted
/// (draft-ietf-httpapi-idempotency-key-header).
fn read_id(fields: &HeaderMap) -> Option<MessageId> {
    ID_HEADERS.iter().find_map(|name| {
        let text = std::str::from_utf8(fields.get(*name)?.as_bytes()).ok()?.trim();
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let id = unquoted.unwrap_or(text);
        usable_id(id)
    })
}

/// An id that every protocol can carry.
pub(crate) fn usable_id(id: &str) -> Option<MessageId> {
    let usable = (1..=ID_BYTES_MAX).contains(&id.len()) && !id.contains(char::is_control);
    usable.then(|| MessageId::from_source(id))
}

/// The fields of a request that carries the message. Fields already there win.
pub(crate) fn write_request_headers(envelope: &Envelope, into: &mut HeaderMap) {
    let mut fields = HeaderMap::new();
    write_headers(envelope, &mut fields);
    for name in OUR_OWN {
        fields.remove(name);
    }
    let id = encode_value(envelope.id.as_str().as_bytes());
    for name in [WEBHOOK_ID, IDEMPOTENCY_KEY] {
        fields.entry(name).or_insert_with(|| id.clone());
    }
    write_number(&mut fields, HOPS, (envelope.hops > 0).then_some(envelope.hops));
    for name in into.keys() {
        fields.remove(name);
    }
    into.extend(fields);
}

/// The fields of a response that carries the message.
pub(crate) fn write_response_headers(envelope: &Envelope, into: &mut HeaderMap) {
    write_headers(envelope, into);
}

fn write_headers(envelope: &Envelope, into: &mut HeaderMap) {
    for header in envelope.headers.iter().take(HEADERS_MAX) {
        let name = encode_name(&header.name);
        if let Some(name) = name.filter(|name| is_forwardable(name.as_str())) {
            let text = header.value.as_text();
            let value = match text.filter(|_| cloudevents::attribute(name.as_str()).is_some()) {
                Some(text) => {
                    let encoded = utf8_percent_encode(text, ATTRIBUTE).to_string();
                    encode_value(encoded.as_bytes())
                }
                None => write_value(&header.value),
            };
            into.append(name, value);
        }
    }
    let properties = envelope.properties();
    let text = |text: &Text| encode_value(text.as_bytes());
    for (name, value) in [
        (CONTENT_TYPE, &properties.content_type),
        (CONTENT_ENCODING, &properties.content_encoding),
        (KIND, &properties.kind),
        (APP_ID, &properties.app_id),
        (USER_ID, &properties.user_id),
    ] {
        if let Some(value) = value {
            into.insert(name, text(value));
        }
    }
    if let Some(correlation) = &properties.correlation {
        if is_plain(correlation) {
            into.insert(CORRELATION, encode_value(correlation));
        } else {
            into.insert(CORRELATION_BYTES, encode_value(STANDARD.encode(correlation).as_bytes()));
        }
    }
    write_number(into, PRIORITY, properties.priority);
    write_number(into, TIMESTAMP, properties.timestamp.map(|timestamp| timestamp.unix_ms));
}

fn write_number(into: &mut HeaderMap, name: HeaderName, number: Option<impl Into<i64>>) {
    if let Some(number) = number {
        into.insert(name, HeaderValue::from(number.into()));
    }
}

/// Text that a field value carries unchanged.
fn is_plain(bytes: &[u8]) -> bool {
    let edges = [bytes.first(), bytes.last()];
    !bytes.is_empty()
        && edges.iter().flatten().all(|byte| !byte.is_ascii_whitespace())
        && std::str::from_utf8(bytes).is_ok()
        && bytes.iter().all(|byte| !byte.is_ascii_control())
}

/// A header's name in lower case, with percent-encoding for what is no token (RFC 9110, section
/// 5.6.2; `%` is allowed in one); none for an empty name.
fn encode_name(name: &str) -> Option<HeaderName> {
    let lower = name.to_ascii_lowercase();
    if let Ok(name) = HeaderName::from_bytes(lower.as_bytes()) {
        return Some(name);
    }
    let mut encoded = String::with_capacity(lower.len() + 8);
    for byte in lower.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(percent_encode_byte(byte));
        }
    }
    HeaderName::from_bytes(encoded.as_bytes()).ok()
}

fn write_value(value: &Value) -> HeaderValue {
    match value {
        Value::Null => HeaderValue::from_static(""),
        Value::Bool(truth) => HeaderValue::from_static(if *truth { "true" } else { "false" }),
        Value::Int(number) => HeaderValue::from(*number),
        Value::UInt(number) => HeaderValue::from(*number),
        Value::Float(number) => encode_value(number.to_string().as_bytes()),
        Value::Text(text) => encode_value(text.as_bytes()),
        Value::Bytes(bytes) => encode_value(bytes),
        Value::Timestamp(time) => HeaderValue::from(time.unix_ms),
        Value::List(_) | Value::Map(_) => encode_value(to_json(value).to_string().as_bytes()),
    }
}

/// A field value: control characters, and spaces at either end, are percent-encoded, since HTTP
/// forbids the first and strips the second.
fn encode_value(bytes: &[u8]) -> HeaderValue {
    let trimmed = bytes.trim_ascii();
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let inner = start..start + trimmed.len();
    if inner.len() == bytes.len()
        && let Ok(value) = HeaderValue::from_bytes(bytes)
    {
        return value;
    }
    let mut encoded = Vec::with_capacity(bytes.len() + 8);
    for (place, byte) in bytes.iter().enumerate() {
        if byte.is_ascii_control() || !inner.contains(&place) {
            encoded.extend_from_slice(percent_encode_byte(*byte).as_bytes());
        } else {
            encoded.push(*byte);
        }
    }
    HeaderValue::from_bytes(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(number),
        Value::UInt(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(&**text),
        Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Value::Timestamp(time) => json!(time.unix_ms),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(name, value)| (&**name, to_json(value))).collect(),
    }
}

/// How long a peer asks us to wait (`Retry-After`, RFC 9110, section 10.2.3): seconds or a date. A
/// day at most.
pub(crate) fn read_retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = fields.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
