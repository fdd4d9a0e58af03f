use bytes::Bytes;

use crate::{Text, Timestamp};

/// A typed header value: the union of what the protocols can carry.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value (AMQP void).
    Null,
    /// Truth value.
    Bool(bool),
    /// Signed integer.
    Int(i64),
    /// Unsigned integer that does not fit [`Value::Int`].
    UInt(u64),
    /// Floating point number.
    Float(f64),
    /// Text.
    Text(Text),
    /// Bytes that are not text.
    Bytes(Bytes),
    /// Point in time.
    Timestamp(Timestamp),
    /// Values in order.
    List(Vec<Value>),
    /// Named values in order.
    Map(Vec<(Text, Value)>),
}

impl Value {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&Text> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A measure of the memory and disk that the value takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Timestamp(_) => 9,
            Self::Text(text) => text.len() + 5,
            Self::Bytes(bytes) => bytes.len() + 5,
            Self::List(list) => 5 + list.iter().map(Self::size).sum::<usize>(),
            Self::Map(map) => {
                5 + map.iter().map(|(name, value)| name.len() + 4 + value.size()).sum::<usize>()
            }
        }
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    /// Takes the signed form where the number fits it, so that a number has one form only.
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::UInt(number), Self::Int)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}
