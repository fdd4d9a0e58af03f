//! Dead letters as JSON. The names are an interface, described in `docs/OPERATIONS.md`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};
use transload_adapter::store::Position;
use transload_delivery::dead_letters::DeadLetter;
use transload_envelope::{Envelope, Timestamp, Value};

use crate::times;

/// What is known about a letter, without what is in it.
pub(super) fn head(route: &str, position: Position, letter: &DeadLetter) -> Json {
    let envelope = &letter.outgoing.envelope;
    json!({
        "route": route,
        "position": position.0,
        "id": envelope.id.as_str(),
        "address": envelope.address.as_str(),
        "from": &*envelope.origin.adapter,
        "destination": &*letter.destination,
        "reason": &*letter.reason,
        "attempts": letter.attempts,
        "first_failure_at": times::write(letter.first_failure_at),
        "last_failure_at": times::write(letter.last_failure_at),
        "payload_bytes": envelope.payload.len(),
    })
}

/// The same with payload, headers and properties.
pub(super) fn whole(route: &str, position: Position, letter: &DeadLetter) -> Json {
    let mut view = head(route, position, letter);
    let envelope = &letter.outgoing.envelope;
    let headers: Vec<_> = envelope
        .headers
        .iter()
        .map(|header| json!({ "name": &*header.name, "value": value(&header.value) }))
        .collect();
    let arguments: Map<_, _> = letter
        .outgoing
        .arguments
        .iter()
        .map(|(key, text)| (key.to_string(), json!(&**text)))
        .collect();
    let origin = &envelope.origin;
    let attributes: Map<_, _> =
        origin.attributes.iter().map(|(name, known)| (name.to_string(), value(known))).collect();
    if let Some(view) = view.as_object_mut() {
        let origin = json!({
            "adapter": &*origin.adapter,
            "protocol": &*origin.protocol,
            "address": origin.address.as_str(),
            "attributes": attributes,
        });
        view.insert("origin".to_owned(), origin);
        view.insert("hops".to_owned(), json!(envelope.hops));
        view.insert("properties".to_owned(), properties(envelope));
        view.insert("headers".to_owned(), json!(headers));
        view.insert("arguments".to_owned(), Json::Object(arguments));
        let (key, payload) = match std::str::from_utf8(&envelope.payload) {
            Ok(text) => ("payload", text.to_owned()),
            Err(_) => ("payload_base64", STANDARD.encode(&envelope.payload)),
        };
        view.insert(key.to_owned(), json!(payload));
    }
    view
}

/// The properties that the message has.
fn properties(envelope: &Envelope) -> Json {
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

fn bytes_or_text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn value(value: &Value) -> Json {
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

#[cfg(test)]
mod tests {
    use transload_envelope::{Arguments, MessageId, Origin, Outgoing, Properties};

    use super::*;

    #[test]
    fn the_names_are_an_interface() {
        let mut envelope = Envelope::new(Origin::new("devices", "mqtt", "a/b"), vec![0xff, 0])
            .with_id(MessageId::from_source("m-1"))
            .with_properties(Properties { priority: Some(3), ..Properties::NONE });
        envelope.headers.push("n", 7_i64);
        let letter = DeadLetter {
            destination: "r/t".into(),
            reason: "no".into(),
            attempts: 2,
            first_failure_at: Timestamp { unix_ms: 0 },
            last_failure_at: Timestamp { unix_ms: 1 },
            outgoing: Outgoing {
                envelope,
                arguments: [("key".into(), "k".into())].into_iter().collect::<Arguments>(),
            },
        };
        let expected = json!({
            "route": "r", "position": 9, "id": "m-1", "address": "a/b", "from": "devices",
            "destination": "r/t", "reason": "no", "attempts": 2,
            "first_failure_at": "1970-01-01T00:00:00Z",
            "last_failure_at": "1970-01-01T00:00:00.001Z",
            "payload_bytes": 2,
            "origin": {
                "adapter": "devices", "protocol": "mqtt", "address": "a/b", "attributes": {},
            },
            "hops": 0,
            "properties": { "priority": 3 },
            "headers": [{ "name": "n", "value": 7 }],
            "arguments": { "key": "k" },
            "payload_base64": "/wA=",
        });
        assert_eq!(whole("r", Position(9), &letter), expected);
    }
}
