//! Values of the file as JSON, written at once: a large file has very many, and hardly anybody asks
//! for one of them.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value as Json, value::RawValue};
use toml::de::{DeTable, DeValue};

use super::{
    document::{SecretKeys, password_in_url},
    schema_view::View,
    tree::Value,
};

/// Stands for what is not shown.
const HIDDEN: &str = "***";

/// A table in its written form. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonTable(Arc<str>);

impl JsonTable {
    pub(super) fn of(table: &impl Serialize) -> Self {
        // What comes of a file has keys that are texts, so that it can be written.
        Self(serde_json::to_string(table).unwrap_or_default().into())
    }

    /// The same as a table, or `other` where that is no different, so that the text is there once.
    pub(super) fn or_same(self, other: &Self) -> Self {
        if self == *other { other.clone() } else { self }
    }

    /// The table as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The table with a text before its own entries, as it is written.
    pub(super) fn with_first(&self, key: &'static str, value: &str) -> Option<Box<RawValue>> {
        let value = serde_json::to_string(value).ok()?;
        let own = self.0.strip_prefix('{')?;
        let comma = if own == "}" { "" } else { "," };
        RawValue::from_string(["{\"", key, "\":", &value, comma, own].concat()).ok()
    }

    /// The table.
    pub fn to_map(&self) -> Map<String, Json> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// The keys of a target without what is secret by its key or by its schema, or holds a password.
pub(super) struct WithoutSecrets<'a> {
    pub(super) table: &'a DeTable<'a>,
    pub(super) view: View<'a>,
    pub(super) secret_keys: &'a SecretKeys,
}

impl Serialize for WithoutSecrets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let secret = |key: &str| self.view.property(key).is_some_and(View::is_secret);
        let table = self.table.iter().filter(|(key, _)| !secret(key.get_ref()));
        let entries = table.filter_map(|(key, value)| {
            let kept = Kept::of(value, self.secret_keys)?;
            (!self.secret_keys.has(key.get_ref())).then_some((key.get_ref(), kept))
        });
        serializer.collect_map(entries)
    }
}

/// A value that holds no password, without what is in it that is one or a secret.
struct Kept<'a> {
    value: &'a DeValue<'a>,
    secret_keys: &'a SecretKeys,
}

impl<'a> Kept<'a> {
    fn of(value: &'a Value<'a>, secret_keys: &'a SecretKeys) -> Option<Self> {
        let value = value.get_ref();
        let password = value.as_str().is_some_and(|text| password_in_url(text).is_some());
        (!password).then_some(Self { value, secret_keys })
    }
}

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = |value| Kept::of(value, self.secret_keys);
        match self.value {
            DeValue::Table(table) => {
                let table = table.iter().filter(|(key, _)| !self.secret_keys.has(key.get_ref()));
                serializer.collect_map(
                    table.filter_map(|(key, value)| Some((key.get_ref(), kept(value)?))),
                )
            }
            DeValue::Array(list) => {
                serializer.collect_seq(list.iter().filter_map(kept).collect::<Vec<_>>())
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Plain(self.value).serialize(serializer),
        }
    }
}

/// What must not be shown of a file, besides what its schemas say.
#[derive(Clone, Copy)]
pub(super) struct Hidden<'a> {
    pub(super) secret_keys: &'a SecretKeys,
    /// Whether the text at this place came from the environment.
    pub(super) expanded: &'a dyn Fn(usize) -> bool,
}

/// What of a table is shown of a running gateway: what its schema knows and does not call a
/// secret, and what did not come from the environment. `***` stands for the rest.
pub(super) struct Settings<'a> {
    pub(super) table: &'a DeTable<'a>,
    pub(super) view: Option<View<'a>>,
    pub(super) hidden: Hidden<'a>,
    /// The shape of a target, which stands in its table too.
    pub(super) shape: Option<Json>,
}

impl Settings<'_> {
    pub(super) fn to_map(&self) -> Map<String, Json> {
        match serde_json::to_value(self) {
            Ok(Json::Object(map)) => map,
            Ok(_) | Err(_) => Map::new(),
        }
    }
}

impl Serialize for Settings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.table {
            let view = self.view.and_then(|view| view.property(key.get_ref()));
            let secret_key = self.hidden.secret_keys.has(key.get_ref());
            if secret_key || view.is_some_and(View::is_secret) {
                map.serialize_entry(key.get_ref(), HIDDEN)?;
            } else {
                let setting = Setting { value, view, hidden: self.hidden };
                map.serialize_entry(key.get_ref(), &setting)?;
            }
        }
        if let Some(shape) = &self.shape {
            map.serialize_entry("shape", shape)?;
        }
        map.end()
    }
}

struct Setting<'a> {
    value: &'a Value<'a>,
    view: Option<View<'a>>,
    hidden: Hidden<'a>,
}

impl Serialize for Setting<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, view, hidden } = *self;
        match value.get_ref() {
            DeValue::String(text) => {
                let secret = view.is_none_or(View::is_secret) || hidden.hides(value, text);
                match text.split_once('?').filter(|(before, _)| before.contains("://")) {
                    _ if secret => serializer.serialize_str(HIDDEN),
                    Some((before, _)) => serializer.collect_str(&format_args!("{before}?{HIDDEN}")),
                    None => serializer.serialize_str(text),
                }
            }
            DeValue::Table(table) => {
                Settings { table, view, hidden, shape: None }.serialize(serializer)
            }
            DeValue::Array(list) => {
                let view = view.and_then(View::element).or(view);
                serializer.collect_seq(list.iter().map(|value| Setting { value, view, hidden }))
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Plain(value.get_ref()).serialize(serializer),
        }
    }
}

impl Hidden<'_> {
    fn hides(self, value: &Value<'_>, text: &str) -> bool {
        (self.expanded)(value.span().start) || password_in_url(text).is_some()
    }
}

/// What is shown of a value that no schema describes: secrets are known by their keys only.
pub(super) fn written(value: &Value<'_>, hidden: Hidden<'_>) -> Json {
    serde_json::to_value(Written { value, hidden }).unwrap_or_default()
}

struct Written<'a> {
    value: &'a Value<'a>,
    hidden: Hidden<'a>,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, hidden } = *self;
        match value.get_ref() {
            DeValue::String(text) if hidden.hides(value, text) => serializer.serialize_str(HIDDEN),
            DeValue::Table(table) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in table {
                    if hidden.secret_keys.has(key.get_ref()) {
                        map.serialize_entry(key.get_ref(), HIDDEN)?;
                    } else {
                        map.serialize_entry(key.get_ref(), &Written { value, hidden })?;
                    }
                }
                map.end()
            }
            DeValue::Array(list) => {
                serializer.collect_seq(list.iter().map(|value| Written { value, hidden }))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Plain(value.get_ref()).serialize(serializer),
        }
    }
}

/// A value as it is; dates and times become text.
pub(super) fn json(value: &DeValue<'_>) -> Json {
    serde_json::to_value(Plain(value)).unwrap_or_default()
}

struct Plain<'a>(&'a DeValue<'a>);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            DeValue::String(text) => serializer.serialize_str(text),
            DeValue::Boolean(truth) => serializer.serialize_bool(*truth),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => serializer.serialize_i64(number),
                    Err(_) => serializer.serialize_str(number.as_str()),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => serializer.serialize_f64(number),
                Err(_) => serializer.serialize_str(number.as_str()),
            },
            DeValue::Datetime(time) => serializer.collect_str(time),
            DeValue::Array(list) => {
                serializer.collect_seq(list.iter().map(|value| Plain(value.get_ref())))
            }
            DeValue::Table(table) => {
                let entries = table.iter();
                serializer.collect_map(
                    entries.map(|(key, value)| (key.get_ref(), Plain(value.get_ref()))),
                )
            }
        }
    }
}
