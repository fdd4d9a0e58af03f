//! Values of the file as JSON.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};
use toml::de::{DeTable, DeValue};

use super::{
    document::{is_secret_key, password_in_url},
    schema_view::View,
};

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

/// What of a table is shown of a running gateway: what its schema knows and does not call a
/// secret, and what did not come from the environment. `***` stands for the rest.
pub(super) fn settings(
    table: &DeTable<'_>,
    view: Option<View<'_>>,
    expanded: &dyn Fn(usize) -> bool,
) -> Map<String, Json> {
    let entries = table.iter().map(|(key, value)| {
        let of = view.and_then(|view| view.property(key.get_ref()));
        let secret = is_secret_key(key.get_ref()) || of.is_some_and(View::is_secret);
        let shown = if secret { json!("***") } else { setting(value, of, expanded) };
        (key.get_ref().to_string(), shown)
    });
    entries.collect()
}

/// The same for a value that no schema describes: secrets are known by their keys only.
pub(super) fn written(
    value: &toml::Spanned<DeValue<'_>>,
    expanded: &dyn Fn(usize) -> bool,
) -> Json {
    match value.get_ref() {
        DeValue::String(text)
            if expanded(value.span().start) || password_in_url(text).is_some() =>
        {
            json!("***")
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<Cow<'_, str>>, _)| {
                let secret = is_secret_key(key.get_ref());
                let shown = if secret { json!("***") } else { written(value, expanded) };
                (key.get_ref().to_string(), shown)
            };
            Json::Object(table.iter().map(entry).collect())
        }
        DeValue::Array(list) => list.iter().map(|element| written(element, expanded)).collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => json(value.get_ref()),
    }
}

fn setting(
    value: &toml::Spanned<DeValue<'_>>,
    view: Option<View<'_>>,
    expanded: &dyn Fn(usize) -> bool,
) -> Json {
    match value.get_ref() {
        DeValue::String(text) => {
            let hidden = view.is_none_or(View::is_secret)
                || expanded(value.span().start)
                || password_in_url(text).is_some();
            match text.split_once('?').filter(|(before, _)| before.contains("://")) {
                _ if hidden => json!("***"),
                Some((before, _)) => json!(format!("{before}?***")),
                None => json!(text),
            }
        }
        DeValue::Table(table) => Json::Object(settings(table, view, expanded)),
        DeValue::Array(list) => {
            let of = view.and_then(View::element).or(view);
            list.iter().map(|element| setting(element, of, expanded)).collect()
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            json(value.get_ref())
        }
    }
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
