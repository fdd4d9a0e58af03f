use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value as Json};
use transload_envelope::{Headers, Properties, Text, Timestamp, Value};
use transload_routing::Property;

use super::MessageFault;
use crate::times;

pub(super) fn fault(key: &str, reason: impl Into<String>) -> MessageFault {
    MessageFault { key: key.to_owned(), reason: reason.into() }
}

pub(super) fn text(key: &str, given: &Json) -> Result<String, MessageFault> {
    let text = given.as_str().map(str::to_owned);
    text.ok_or_else(|| fault(key, format!("expected a text, found {given}")))
}

pub(super) fn object<'a>(
    key: &str,
    given: &'a Json,
) -> Result<&'a Map<String, Json>, MessageFault> {
    given.as_object().ok_or_else(|| fault(key, format!("expected an object, found {given}")))
}

/// Headers by their names, where a list stands for repeats; or a list of names and values, which
/// keeps their order.
pub(super) fn headers(key: &str, given: &Json) -> Result<Headers, MessageFault> {
    let mut headers = Headers::default();
    if let Some(list) = given.as_array() {
        for entry in list {
            let name = entry.get("name").and_then(Json::as_str);
            let name = name.ok_or_else(|| {
                fault(key, format!("expected an object with `name` and `value`, found {entry}"))
            })?;
            headers.push(name, value(entry.get("value").unwrap_or(&Json::Null)));
        }
        return Ok(headers);
    }
    for (name, given) in object(key, given)? {
        match given.as_array() {
            Some(list) => list.iter().for_each(|given| headers.push(name.as_str(), value(given))),
            None => headers.push(name.as_str(), value(given)),
        }
    }
    Ok(headers)
}

/// A value of a header. An object with `base64` alone stands for bytes.
pub(super) fn value(given: &Json) -> Value {
    match given {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(list) => Value::List(list.iter().map(value).collect()),
        Json::Object(map) => match bytes_in(map) {
            Some(bytes) => Value::Bytes(bytes),
            None => Value::Map(
                map.iter().map(|(name, of)| (Text::from(name.as_str()), value(of))).collect(),
            ),
        },
    }
}

fn bytes_in(map: &Map<String, Json>) -> Option<Bytes> {
    let text = map.get("base64").filter(|_| map.len() == 1)?.as_str()?;
    STANDARD.decode(text).ok().map(Bytes::from)
}

/// Sets a property by its name.
pub(crate) fn property(
    properties: &mut Properties,
    name: &str,
    given: &Json,
) -> Result<(), MessageFault> {
    let Some((_, property)) = Property::ALL.iter().find(|(known, _)| *known == name) else {
        let all: Vec<_> = Property::ALL.iter().map(|(name, _)| *name).collect();
        let reason = format!("there is no such property; there are {}", all.join(", "));
        return Err(fault(name, reason));
    };
    let text = || Ok(Some(Text::from(text(name, given)?)));
    let truth = || {
        let truth = given.as_bool().or_else(|| given.as_str()?.parse().ok());
        truth.ok_or_else(|| fault(name, format!("expected true or false, found {given}")))
    };
    match property {
        Property::ContentType => properties.content_type = text()?,
        Property::ContentEncoding => properties.content_encoding = text()?,
        Property::ReplyTo => properties.reply_to = text()?,
        Property::Kind => properties.kind = text()?,
        Property::AppId => properties.app_id = text()?,
        Property::UserId => properties.user_id = text()?,
        Property::Correlation => {
            let bytes = given.as_object().and_then(bytes_in);
            properties.correlation = match bytes {
                Some(bytes) => Some(bytes),
                None => text()?.map(Text::into_bytes),
            };
        }
        Property::Priority => {
            let number = given.as_u64().or_else(|| given.as_str()?.parse().ok());
            let number = number.and_then(|number| u8::try_from(number).ok()).ok_or_else(|| {
                fault(name, format!("expected an integer from 0 to 255, found {given}"))
            });
            properties.priority = Some(number?);
        }
        Property::Durable => properties.durable = Some(truth()?),
        Property::Retain => properties.retain = truth()?,
        Property::ExpiresAt => properties.expires_at = Some(time(name, given)?),
        Property::Timestamp => properties.timestamp = Some(time(name, given)?),
    }
    Ok(())
}

fn time(name: &str, given: &Json) -> Result<Timestamp, MessageFault> {
    if let Some(unix_ms) = given.as_i64() {
        return Ok(Timestamp { unix_ms });
    }
    times::read(&text(name, given)?).map_err(|reason| fault(name, reason))
}
