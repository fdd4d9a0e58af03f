//! Messages as people write them: in a test of the rules file, on the command line, in a JSON file.
//! The names are an interface, the same everywhere; they are described in `docs/TESTING-RULES.md`.

mod read;
mod view;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value as Json};
use transload_envelope::{Envelope, Headers, MessageId, Origin, Properties, Text, Value};

pub(crate) use self::{
    read::property,
    view::{bytes_or_text, headers, message, payload, properties, value},
};

/// What somebody says of a message that may come in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The name of the adapter where it comes in.
    pub from: Option<String>,
    /// Its address.
    pub address: String,
    /// Its id; one is made where there is none.
    pub id: Option<String>,
    /// Its payload.
    pub payload: Bytes,
    /// Its headers.
    pub headers: Headers,
    /// Its properties.
    pub properties: Properties,
    /// What the source's protocol knows beside the address.
    pub attributes: Vec<(Text, Value)>,
}

/// A fault in a message, and the key that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {reason}")]
pub struct MessageFault {
    /// The key.
    pub key: String,
    /// What is wrong, without a full stop.
    pub reason: String,
}

/// What a dead letter has beside the message in it, so that one can be used as it is shown.
const LETTER_KEYS: [&str; 11] = [
    "route",
    "position",
    "destination",
    "reason",
    "attempts",
    "first_failure_at",
    "last_failure_at",
    "payload_bytes",
    "hops",
    "arguments",
    "seen_at",
];

impl Message {
    /// Reads an object with `address` and, as far as they are known, `from`, `id`, one of `payload`,
    /// `json` and `payload_base64`, `headers`, `properties` and `attributes`.
    pub fn from_json(object: &Map<String, Json>) -> Result<Self, MessageFault> {
        let mut message = Self::default();
        for (key, given) in object {
            message.take(key, given)?;
        }
        Ok(message)
    }

    fn take(&mut self, key: &str, given: &Json) -> Result<(), MessageFault> {
        let text = || read::text(key, given);
        match key {
            "from" => self.from = Some(text()?),
            "address" => self.address = text()?,
            "id" => self.id = Some(text()?),
            "payload" => self.payload = text()?.into(),
            "json" => self.payload = given.to_string().into(),
            "payload_base64" => {
                let bytes = STANDARD.decode(text()?);
                self.payload = bytes.map_err(|_| read::fault(key, "this is no base64"))?.into();
            }
            "headers" => self.headers = read::headers(key, given)?,
            "properties" => {
                for (name, given) in read::object(key, given)? {
                    self.set_property(name, given)?;
                }
            }
            "attributes" => {
                for (name, given) in read::object(key, given)? {
                    self.attributes.push((name.as_str().into(), read::value(given)));
                }
            }
            "origin" => {
                if let Some(attributes) = given.get("attributes") {
                    self.take("attributes", attributes)?;
                }
            }
            _ if LETTER_KEYS.contains(&key) => {}
            _ => return Err(read::fault(key, "a message has no such key")),
        }
        Ok(())
    }

    /// Sets a property by its name.
    pub fn set_property(&mut self, name: &str, given: &Json) -> Result<(), MessageFault> {
        property(&mut self.properties, name, given)
    }

    /// The message as the adapter of this name and kind would hand it over.
    pub fn envelope(&self, adapter: &str, kind: &str) -> Envelope {
        let mut origin = Origin::new(adapter, kind, self.address.as_str());
        origin.attributes.clone_from(&self.attributes);
        let mut envelope =
            Envelope::new(origin, self.payload.clone()).with_properties(self.properties.clone());
        if let Some(id) = &self.id {
            envelope = envelope.with_id(MessageId::from_source(id.as_str()));
        }
        envelope.headers = self.headers.clone();
        envelope
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &Json) -> Result<Message, String> {
        Message::from_json(text.as_object().unwrap()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_shown_of_a_message_can_be_read_again() {
        let written = json!({
            "from": "devices",
            "address": "a/b",
            "id": "m-1",
            "payload_base64": "/wA=",
            "headers": { "n": 7, "repeated": ["x", "y"], "empty": null },
            "properties": {
                "content_type": "text/plain", "correlation": { "base64": "/w==" }, "priority": 3,
                "durable": false, "retain": true, "expires_at": "2026-05-04T03:02:01Z",
            },
            "attributes": { "qos": 1 },
        });
        let envelope = read(&written).unwrap().envelope("devices", "mqtt");
        assert_eq!(Json::Object(message(&envelope)), written);
    }

    #[test]
    fn json_is_the_payload_as_it_stands() {
        let message = read(&json!({ "address": "a", "json": { "b": 1, "a": [1.5] } })).unwrap();
        assert_eq!(message.payload, r#"{"b":1,"a":[1.5]}"#);
    }

    #[test]
    fn faults_say_what_was_meant() {
        for (written, expected) in [
            (json!({ "adress": "a" }), "`adress`: a message has no such key"),
            (json!({ "address": 5 }), "`address`: expected a text, found 5"),
            (json!({ "payload_base64": "?" }), "`payload_base64`: this is no base64"),
            (json!({ "headers": 5 }), "`headers`: expected an object, found 5"),
            (
                json!({ "properties": { "prio": 5 } }),
                "`prio`: there is no such property; there are content_type, content_encoding, \
                 correlation, reply_to, expires_at, priority, durable, retain, kind, app_id, \
                 user_id, timestamp",
            ),
            (
                json!({ "properties": { "priority": 500 } }),
                "`priority`: expected an integer from 0 to 255, found 500",
            ),
        ] {
            assert_eq!(read(&written).unwrap_err(), expected);
        }
    }
}
