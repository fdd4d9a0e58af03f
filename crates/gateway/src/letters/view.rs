//! Dead letters as JSON. The names are an interface, described in `docs/OPERATIONS.md`.

use serde_json::{Map, Value as Json, json};
use transload_adapter::store::Position;
use transload_delivery::dead_letters::DeadLetter;

use crate::{
    message::{payload, properties, value},
    times,
};

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
        let (key, payload) = payload(envelope);
        view.insert(key.to_owned(), payload);
    }
    view
}

#[cfg(test)]
mod tests {
    use transload_envelope::{
        Arguments, Envelope, MessageId, Origin, Outgoing, Properties, Timestamp,
    };

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
            planned: true,
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
