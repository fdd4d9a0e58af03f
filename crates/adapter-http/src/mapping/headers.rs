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
//! Expiry, durability, retain and reply address have no counterpart in HTTP. What a field cannot
//! hold (control characters, spaces at the ends of a value or in a name, a name that stands for
//! something else here) travels as `Transload-Header` or `Transload-Property` (`carrier`); lists and
//! maps are JSON text. Names are in lower case.

mod carrier;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    iter,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use serde_json::json;
use transload_envelope::{
    Envelope, Header, Headers, MessageId, Properties, Text, Timestamp, Value, cloudevents,
};

/// Headers that carry the sender's own id, the most telling first.
static ID_HEADERS: [HeaderName; 5] = [
    WEBHOOK_ID,
    IDEMPOTENCY_KEY,
    HeaderName::from_static("x-github-delivery"),
    HeaderName::from_static("x-shopify-webhook-id"),
    HeaderName::from_static("message-id"),
];
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

/// A field whose value is a secret, though it is not for one hop only.
const SECRET: &str = "x-gitlab-token";

/// Fields that say what this client of ours can read, or who it is.
const OUR_OWN: [&str; 3] = ["accept", "accept-encoding", "user-agent"];

/// Whether a header of this name, in lower case, is part of a message at all. Those that are not belong
/// to one hop (RFC 9110, section 7.6.1), to the framing of one message, or to one pair of client and
/// server.
pub(crate) fn is_forwardable(name: &str) -> bool {
    !matches!(
        name,
        "authorization"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "cookie"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "www-authenticate"
    )
}

/// Puts what the fields of a request or a response say into a message; tells whether they have given it
/// an id.
pub(crate) fn read_headers(fields: &HeaderMap, envelope: &mut Envelope) -> bool {
    let mut id = read_id(fields);
    let mut properties = Properties::NONE;
    let mut headers = Headers::default();
    let named: Vec<_> =
        fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let of_connection = |name: &HeaderName| {
        named.iter().flat_map(|list| list.split(',')).any(|token| token.trim() == name.as_str())
    };
    let mut all = fields.iter().peekable();
    while let Some((name, first)) = all.next() {
        // The values of one name come behind each other.
        let repeated = all.peek().is_some_and(|(next, _)| *next == name);
        if read_property(name, first, repeated, &mut properties) {
            continue;
        }
        let mut more =
            iter::from_fn(|| all.next_if(|(next, _)| *next == name)).map(|(_, value)| value);
        let values = iter::once(first).chain(&mut more);
        if *name == carrier::HEADER {
            for value in values {
                let (name, value) = carrier::read(value)
                    .unwrap_or_else(|| (name.as_str().into(), read_value(value)));
                if !stays_behind(&name) {
                    headers.push(name, value);
                }
            }
        } else if *name == carrier::PROPERTY {
            for value in values {
                if !read_carried(value, &mut id, &mut properties) {
                    headers.push(name.as_str(), read_value(value));
                }
            }
        } else if *name == HOPS {
            envelope.hops = parse(first).unwrap_or(envelope.hops);
        } else if is_forwardable(name.as_str()) && *name != SECRET && !of_connection(name) {
            let name = Text::from(name.as_str());
            let is_attribute = cloudevents::attribute(&name).is_some();
            let read = if is_attribute { read_attribute } else { read_value };
            for value in values {
                headers.push(name.clone(), read(value));
            }
        }
        // What was not wanted is passed over.
        more.for_each(drop);
    }
    if id.is_none() && cloudevents::is_event(&headers) {
        id = cloudevents::message_id(&headers);
    }
    let named = id.is_some();
    if let Some(id) = id {
        envelope.id = id;
    }
    envelope.headers = headers;
    envelope.set_properties(properties);
    named
}

/// Reads one field into the properties; false when it is not one or says nothing we understand.
fn read_property(
    name: &HeaderName,
    value: &HeaderValue,
    repeated: bool,
    into: &mut Properties,
) -> bool {
    if repeated {
        return false;
    }
    if let Some(place) = text_property(name.as_str(), into) {
        *place = std::str::from_utf8(value.as_bytes()).ok().map(Text::from);
        place.is_some()
    } else if *name == CORRELATION {
        into.correlation = Some(Bytes::copy_from_slice(value.as_bytes()));
        true
    } else if *name == CORRELATION_BYTES {
        let bytes = STANDARD.decode(value.as_bytes()).ok().map(Bytes::from);
        let understood = bytes.is_some();
        into.correlation = bytes.or(into.correlation.take());
        understood
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

/// The property that is text and has a field of this name.
fn text_property<'a>(name: &str, of: &'a mut Properties) -> Option<&'a mut Option<Text>> {
    let is = |field: HeaderName| *name == *field.as_str();
    if is(CONTENT_TYPE) {
        Some(&mut of.content_type)
    } else if is(CONTENT_ENCODING) {
        Some(&mut of.content_encoding)
    } else if is(KIND) {
        Some(&mut of.kind)
    } else if is(APP_ID) {
        Some(&mut of.app_id)
    } else if is(USER_ID) {
        Some(&mut of.user_id)
    } else {
        None
    }
}

/// Reads a property that did not fit its own field; false when it is none.
fn read_carried(value: &HeaderValue, id: &mut Option<MessageId>, into: &mut Properties) -> bool {
    let Some((name, Value::Text(text))) = carrier::read(value) else { return false };
    if *name == *WEBHOOK_ID.as_str() {
        let carried = usable_id(&text);
        let understood = carried.is_some();
        *id = carried.or(id.take());
        return understood;
    }
    match text_property(&name, into) {
        Some(place) => {
            *place = Some(text);
            true
        }
        None => false,
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
        let text = std::str::from_utf8(fields.get(name)?.as_bytes()).ok()?;
        usable_id(unquoted(text.trim()))
    })
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
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
    write_id(envelope.id.as_str(), &mut fields);
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

fn write_id(id: &str, into: &mut HeaderMap) {
    match carrier::intact(id.as_bytes()).filter(|_| unquoted(id) == id) {
        Some(value) => {
            for name in [WEBHOOK_ID, IDEMPOTENCY_KEY] {
                into.entry(name).or_insert_with(|| value.clone());
            }
        }
        None => carrier::write(into, carrier::PROPERTY, WEBHOOK_ID.as_str(), id.as_bytes()),
    }
}

fn write_headers(envelope: &Envelope, into: &mut HeaderMap) {
    let headers = envelope.headers.iter().filter(|header| !stays_behind(&header.name));
    let lines: Vec<_> = headers.take(HEADERS_MAX).map(|header| (header, line(header))).collect();
    // Where one value of a name has no field, none of that name has, so that repeats stay in order.
    let misfits = lines.iter().filter(|(_, line)| line.is_none());
    let misfits: HashSet<_> = misfits.map(|(one, _)| one.name.to_ascii_lowercase()).collect();
    for (header, line) in lines {
        match line.filter(|(name, _)| !misfits.contains(name.as_str())) {
            Some((name, value)) => drop(into.append(name, value)),
            None => {
                carrier::write(into, carrier::HEADER, &header.name, &write_value(&header.value));
            }
        }
    }
    let properties = envelope.properties();
    for (name, value) in [
        (CONTENT_TYPE, &properties.content_type),
        (CONTENT_ENCODING, &properties.content_encoding),
        (KIND, &properties.kind),
        (APP_ID, &properties.app_id),
        (USER_ID, &properties.user_id),
    ] {
        let Some(text) = value else { continue };
        match carrier::intact(text.as_bytes()) {
            Some(value) => drop(into.insert(name, value)),
            None => carrier::write(into, carrier::PROPERTY, name.as_str(), text.as_bytes()),
        }
    }
    if let Some(correlation) = &properties.correlation {
        let text = carrier::intact(correlation)
            .filter(|_| !correlation.is_empty() && std::str::from_utf8(correlation).is_ok());
        let base64 = || HeaderValue::from_str(&STANDARD.encode(correlation)).ok();
        if let Some(value) = text {
            into.insert(CORRELATION, value);
        } else if let Some(value) = base64() {
            into.insert(CORRELATION_BYTES, value);
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

/// Whether a header of a message is for one hop, whatever its letter case. The content's type and
/// coding are not: a header that has their name is not the property.
fn stays_behind(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !is_forwardable(&lower) && !is_property(&lower)
}

/// Whether a field of this name, in lower case, is a property of the message.
fn is_property(name: &str) -> bool {
    name == CONTENT_TYPE.as_str()
        || name == CONTENT_ENCODING.as_str()
        || name.starts_with("transload-")
}

/// The field for a header, if there is one that is read as that header.
fn line(header: &Header) -> Option<(HeaderName, HeaderValue)> {
    let lower = header.name.to_ascii_lowercase();
    let name = HeaderName::from_bytes(lower.as_bytes()).ok().filter(|_| !is_property(&lower))?;
    let bytes = match header.value.as_text().filter(|_| cloudevents::attribute(&lower).is_some()) {
        Some(text) => utf8_percent_encode(text, ATTRIBUTE).to_string().into(),
        None => write_value(&header.value),
    };
    Some((name, carrier::intact(&bytes)?))
}

/// A value as text, but for bytes, which a field can hold.
fn write_value(value: &Value) -> Bytes {
    match value {
        Value::Null => Bytes::new(),
        Value::Bool(truth) => truth.to_string().into(),
        Value::Int(number) => number.to_string().into(),
        Value::UInt(number) => number.to_string().into(),
        Value::Float(number) => number.to_string().into(),
        Value::Text(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Timestamp(time) => time.unix_ms.to_string().into(),
        Value::List(_) | Value::Map(_) => to_json(value).to_string().into(),
    }
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
