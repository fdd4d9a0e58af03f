use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value as Json};
use transload_envelope::{Timestamp, Value};

use super::{Node, Tape};

/// One value that an expression reads, where the message has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Does not fit [`Fact::Int`].
    UInt(u64),
    Float(f64),
    Text(&'a str),
    /// Bytes that are no UTF-8.
    Bytes(&'a [u8]),
    /// A list or map of the payload: its tape, the payload, and its place.
    Json(&'a Tape, &'a [u8], u32),
    /// A list or map among headers or attributes.
    Header(&'a Value),
    /// Named values, made when they are asked for.
    Named(Named<'a>),
}

/// Whole roots that are maps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    Headers(&'a transload_envelope::Envelope),
    Properties(&'a transload_envelope::Envelope),
    Captures(&'a crate::Captures<'a, 'a>),
    Source(&'a transload_envelope::Origin),
}

impl<'a> Fact<'a> {
    pub(crate) fn of_node(tape: &'a Tape, payload: &'a [u8], at: u32) -> Self {
        let node = tape.node(at);
        match node {
            Node::Null => Self::Null,
            Node::Bool(truth) => Self::Bool(truth),
            Node::Int(number) => Self::Int(number),
            Node::UInt(number) => Self::UInt(number),
            Node::Float(number) => Self::Float(number),
            Node::Text { .. } | Node::Decoded { .. } => {
                Self::of_bytes(tape.text(node, payload).unwrap_or_default())
            }
            Node::List { .. } | Node::Map { .. } => Self::Json(tape, payload, at),
        }
    }

    pub(crate) fn of_value(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(number) => Self::Int(*number),
            Value::UInt(number) => i64::try_from(*number).map_or(Self::UInt(*number), Self::Int),
            Value::Float(number) => Self::Float(*number),
            Value::Text(text) => Self::Text(text),
            Value::Bytes(bytes) => Self::of_bytes(bytes),
            Value::Timestamp(Timestamp { unix_ms }) => Self::Int(*unix_ms),
            Value::List(_) | Value::Map(_) => Self::Header(value),
        }
    }

    /// Bytes are text where they can be.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Self {
        str::from_utf8(bytes).map_or(Self::Bytes(bytes), Self::Text)
    }

    /// What is under a key of this value, if it is a map that has the key.
    pub(crate) fn member(self, key: &str) -> Option<Self> {
        match self {
            Self::Json(tape, payload, at) => {
                tape.member(at, key, payload).map(|at| Self::of_node(tape, payload, at))
            }
            Self::Header(Value::Map(map)) => map
                .iter()
                .rfind(|(known, _)| **known == *key)
                .map(|(_, value)| Self::of_value(value)),
            Self::Named(named) => named.member(key),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Header(_) => None,
        }
    }

    /// An element of this value, if it is a list that is long enough.
    pub(crate) fn element(self, number: usize) -> Option<Self> {
        match self {
            Self::Json(tape, payload, at) => {
                tape.element(at, number).map(|at| Self::of_node(tape, payload, at))
            }
            Self::Header(Value::List(list)) => list.get(number).map(Self::of_value),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Header(_)
            | Self::Named(_) => None,
        }
    }

    /// What people call its type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::UInt(_) => "an integer",
            Self::Float(_) => "a decimal number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::Json(tape, _, at) if matches!(tape.node(at), Node::List { .. }) => "a list",
            Self::Header(Value::List(_)) => "a list",
            Self::Json(..) | Self::Header(_) | Self::Named(_) => "a map",
        }
    }

    /// A copy as JSON. Bytes that are no text become base64, and a number that JSON has not null.
    pub(crate) fn to_json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(truth) => Json::Bool(truth),
            Self::Int(number) => number.into(),
            Self::UInt(number) => number.into(),
            Self::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Self::Json(tape, payload, at) => node_to_json(tape, payload, at),
            Self::Header(value) => value_to_json(value),
            Self::Named(named) => Json::Object(named.to_map()),
        }
    }
}

impl<'a> Named<'a> {
    fn member(self, key: &str) -> Option<Fact<'a>> {
        match self {
            Self::Headers(envelope) => {
                let headers = &envelope.headers;
                headers.get(key).or_else(|| headers.get_ignoring_case(key)).map(Fact::of_value)
            }
            Self::Properties(envelope) => {
                let known = crate::Property::ALL.iter().find(|(name, _)| *name == key);
                known.and_then(|(_, property)| property.fact(envelope))
            }
            Self::Captures(captures) => captures.get(key).map(Fact::Text),
            Self::Source(origin) => match key {
                "name" => Some(Fact::Text(&origin.adapter)),
                "kind" => Some(Fact::Text(&origin.protocol)),
                "address" => Some(Fact::Text(&origin.address)),
                _ => origin.attribute(key).map(Fact::of_value),
            },
        }
    }

    /// All of it; of repeated headers the first.
    fn to_map(self) -> Map<String, Json> {
        let mut map = Map::new();
        let mut add = |name: &str, fact: Option<Fact<'_>>| {
            if let Some(fact) = fact
                && !map.contains_key(name)
            {
                map.insert(name.to_owned(), fact.to_json());
            }
        };
        match self {
            Self::Headers(envelope) => {
                let headers = envelope.headers.iter();
                headers.for_each(|header| add(&header.name, Some(Fact::of_value(&header.value))));
            }
            Self::Properties(envelope) => {
                let all = crate::Property::ALL.iter();
                all.for_each(|(name, property)| add(name, property.fact(envelope)));
            }
            Self::Captures(captures) => {
                captures.iter().for_each(|(name, text)| add(name, Some(Fact::Text(text))));
            }
            Self::Source(origin) => {
                for key in ["name", "kind", "address"] {
                    add(key, self.member(key));
                }
                let attributes = origin.attributes.iter();
                attributes.for_each(|(name, value)| add(name, Some(Fact::of_value(value))));
            }
        }
        map
    }
}

fn node_to_json(tape: &Tape, payload: &[u8], at: u32) -> Json {
    match tape.node(at) {
        Node::List { .. } => tape.elements(at).map(|at| node_to_json(tape, payload, at)).collect(),
        Node::Map { .. } => {
            let text = |key| {
                String::from_utf8_lossy(tape.text(tape.node(key), payload).unwrap_or_default())
            };
            let entries = tape
                .keys(at)
                .map(|key| (text(key).into_owned(), node_to_json(tape, payload, key + 1)));
            Json::Object(entries.collect())
        }
        Node::Null
        | Node::Bool(_)
        | Node::Int(_)
        | Node::UInt(_)
        | Node::Float(_)
        | Node::Text { .. }
        | Node::Decoded { .. } => Fact::of_node(tape, payload, at).to_json(),
    }
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::List(list) => list.iter().map(value_to_json).collect(),
        Value::Map(map) => {
            let entries = map.iter().map(|(name, value)| (name.to_string(), value_to_json(value)));
            Json::Object(entries.collect())
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Timestamp(_) => Fact::of_value(value).to_json(),
    }
}

/// Bytes as JSON: text where they can be, else base64.
pub(crate) fn bytes_to_json(bytes: &[u8]) -> Json {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(_) => STANDARD.encode(bytes).into(),
    }
}
