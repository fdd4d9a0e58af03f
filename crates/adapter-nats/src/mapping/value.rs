//! Typed header values as text, which is all that a NATS header holds.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value as Json};
use transload_envelope::Value;

/// The text of a value: numbers and truth values as JSON writes them, a point in time as
/// milliseconds since the epoch, bytes as base64 behind
/// `base64:` unless they are text, lists and maps as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Timestamp(time) => time.unix_ms.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("base64:{}", STANDARD.encode(bytes)),
        },
        Value::List(_) | Value::Map(_) => json(value).to_string(),
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => Json::Number((*number).into()),
        Value::UInt(number) => Json::Number((*number).into()),
        // JSON has no infinity and no NaN.
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Timestamp(time) => Json::Number(time.unix_ms.into()),
        Value::Text(_) | Value::Bytes(_) => Json::String(text(value)),
        Value::List(list) => Json::Array(list.iter().map(json).collect()),
        Value::Map(map) => Json::Object(
            map.iter().map(|(name, value)| (name.to_string(), json(value))).collect::<Map<_, _>>(),
        ),
    }
}
