use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// A message for a foreign client to publish.
#[derive(Clone, Debug)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message to a topic, routing key, subject or path.
    pub fn new(address: &str, payload: impl AsRef<[u8]>) -> Self {
        let mut fields = Map::new();
        fields.insert("address".into(), address.into());
        fields.insert("payload".into(), STANDARD.encode(payload).into());
        Self(fields)
    }

    /// Adds a field that the protocol's client knows: `headers`, `properties`, `qos`, `retain`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.into(), value);
        self
    }

    pub(crate) fn line(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

/// What a foreign client has received.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Topic, routing key, subject, path or event.
    pub address: String,
    /// The body.
    pub payload: Vec<u8>,
    /// Everything that the client printed about it.
    pub fields: Value,
}

impl Received {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(line).ok()?;
        let address = fields.get("address")?.as_str()?.to_owned();
        let payload = STANDARD.decode(fields.get("payload")?.as_str()?).ok()?;
        Some(Self { address, payload, fields })
    }

    pub(crate) fn new(address: &str, payload: Vec<u8>) -> Self {
        Self { address: address.to_owned(), payload, fields: json!({}) }
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// A property by the client's name for it.
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.fields.get("properties")?.get(name)
    }

    /// The first value of a header, whether the client prints headers as pairs or as an object.
    pub fn header(&self, name: &str) -> Option<&Value> {
        match self.fields.get("headers")? {
            Value::Object(headers) => headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value),
            Value::Array(pairs) => pairs.iter().find_map(|pair| {
                let key = pair.get(0)?.as_str()?;
                key.eq_ignore_ascii_case(name).then(|| pair.get(1))?
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
}

/// The payloads as texts, for comparisons.
pub fn texts(messages: &[Received]) -> Vec<String> {
    messages.iter().map(Received::text).collect()
}
