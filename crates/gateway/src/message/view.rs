use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};
use transload_envelope::{Envelope, Headers, Timestamp, Value};

use crate::times;

/// A message in the form that [`Message::from_json`](super::Message::from_json) reads.
pub(crate) fn message(envelope: &Envelope) -> Map<String, Json> {
    let mut view = Map::new();
    let origin = &envelope.origin;
    view.insert("from".to_owned(), json!(&*origin.adapter));
    view.insert("address".to_owned(), json!(envelope.address.as_str()));
    view.insert("id".to_owned(), json!(envelope.id.as_str()));
    let (key, payload) = payload(envelope);
    view.insert(key.to_owned(), payload);
    view.insert("headers".to_owned(), headers(&envelope.headers));
    view.insert("properties".to_owned(), properties(envelope));
    if !origin.attributes.is_empty() {
        let attributes = origin.attributes.iter();
        let attributes = attributes.map(|(name, known)| (name.to_string(), value(known)));
        view.insert("attributes".to_owned(), Json::Object(attributes.collect()));
    }
    view
}

/// The payload and the key that it stands under: as text where it is text.
pub(crate) fn payload(envelope: &Envelope) -> (&'static str, Json) {
    match std::str::from_utf8(&envelope.payload) {
        Ok(text) => ("payload", json!(text)),
        Err(_) => ("payload_base64", json!(STANDARD.encode(&envelope.payload))),
    }
}

/// The headers by their names; what is repeated is a list.
pub(crate) fn headers(headers: &Headers) -> Json {
    let mut view: Map<String, Json> = Map::new();
    for header in headers {
        if view.contains_key(&*header.name) {
            continue;
        }
        let all: Vec<_> = headers
            .iter()
            .filter(|other| other.name == header.name)
            .map(|other| value(&other.value))
            .collect();
        let shown = match <[Json; 1]>::try_from(all) {
            // A single list would be taken for repeats.
            Ok([only]) if !only.is_array() => only,
            Ok([only]) => json!([only]),
            Err(several) => Json::Array(several),
        };
        view.insert(header.name.to_string(), shown);
    }
    Json::Object(view)
}

/// The properties that the message has.
pub(crate) fn properties(envelope: &Envelope) -> Json {
    let properties = envelope.properties();
    let text = |text: &Option<transload_envelope::Text>| text.as_ref().map(|text| json!(&**text));
    let time = |time: Option<Timestamp>| time.map(|time| json!(times::write(time)));
    let all = [
        ("content_type", text(&properties.content_type)),
        ("content_encoding", text(&properties.content_encoding)),
        ("correlation", properties.correlation.as_ref().map(|bytes| bytes_or_text(bytes))),
        ("reply_to", text(&properties.reply_to)),
        ("expires_at", time(properties.expires_at)),
        ("priority", properties.priority.map(|priority| json!(priority))),
        ("durable", properties.durable.map(|durable| json!(durable))),
        ("retain", properties.retain.then_some(Json::Bool(true))),
        ("kind", text(&properties.kind)),
        ("app_id", text(&properties.app_id)),
        ("user_id", text(&properties.user_id)),
        ("timestamp", time(properties.timestamp)),
    ];
    let known = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Json::Object(known.collect())
}

/// Bytes as text where they are text.
pub(crate) fn bytes_or_text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// A value of a header.
pub(crate) fn value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(number),
        Value::UInt(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(&**text),
        Value::Bytes(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
        Value::Timestamp(time) => json!(times::write(*time)),
        Value::List(list) => list.iter().map(self::value).collect(),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(name, of)| (name.to_string(), self::value(of))).collect())
        }
    }
}
