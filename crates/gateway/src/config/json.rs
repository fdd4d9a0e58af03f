//! Values of the file as JSON.

use serde_json::{Map, Value as Json, json};
use toml::de::{DeTable, DeValue};

use super::document::{is_secret_key, password_in_url};

/// A table without what is secret by its key or holds a password.
pub(super) fn without_secrets(table: &DeTable<'_>) -> Map<String, Json> {
    let entries = table.iter().filter(|(key, _)| !is_secret_key(key.get_ref()));
    entries
        .filter_map(|(key, value)| Some((key.get_ref().to_string(), shown(value.get_ref())?)))
        .collect()
}

fn shown(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) if password_in_url(text).is_some() => return None,
        DeValue::Table(table) => Json::Object(without_secrets(table)),
        DeValue::Array(list) => list.iter().filter_map(|value| shown(value.get_ref())).collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => json(value),
    })
}

/// A value as it is; dates and times become text.
pub(super) fn json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Boolean(truth) => json!(truth),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| json!(number.as_str()), |number| json!(number))
        }
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map_or_else(|_| json!(number.as_str()), |n| json!(n))
        }
        DeValue::Datetime(time) => json!(time.to_string()),
        DeValue::Array(list) => list.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => Json::Object(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())))
                .collect(),
        ),
    }
}
